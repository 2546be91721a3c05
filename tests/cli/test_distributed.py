"""How a process is told who it is: by options, by environment, by the cluster."""

import argparse
from typing import Any

import pytest

from a2j_jax import distributed, log
from a2j_jax.cli.arguments import add_process_arguments, join_processes
from a2j_jax.errors import UserError

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


@pytest.fixture
def joined(monkeypatch):
    """What would be joined."""
    calls: list[tuple] = []

    def initialize(*who: Any) -> None:
        calls.append(who)

    monkeypatch.setattr(distributed, "initialize", initialize)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return calls


def join(line: str) -> None:
    parser = argparse.ArgumentParser()
    add_process_arguments(parser)
    join_processes(parser.parse_args(line.split()))


def test_one_process_joins_nothing(joined, monkeypatch):
    join("")
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "here:1")  # JAX's own, for a cluster
    join("")
    assert joined == []


def test_options(joined):
    join("--coordinator_address here:1 --num_processes 4 --process_id 0")
    join("--num_processes 4")  # what is missing is for `initialize` to tell
    join("--distributed")
    join("--distributed --coordinator_address here:1")
    assert joined == [
        ("here:1", 4, 0, False),
        (None, 4, None, False),
        (None, None, None, True),
        ("here:1", None, None, True),
    ]


def test_the_environment_stands_in(joined, monkeypatch):
    for name, value in zip(VARIABLES, ("here:1", "2", "1"), strict=True):
        monkeypatch.setenv(name, value)
    join("")
    join("--process_id 0")
    assert joined == [("here:1", 2, 1, False), ("here:1", 2, 0, False)]
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(UserError, match="JAX_NUM_PROCESSES: 'two': expected a whole number"):
        join("")


@pytest.mark.usefixtures("joined")
def test_the_first_one_speaks(monkeypatch):
    monkeypatch.setattr(log.console, "quiet", False)
    join("--distributed")
    assert not log.console.quiet
    monkeypatch.setattr(distributed, "is_primary", lambda: False)
    join("--distributed")
    assert log.console.quiet


@pytest.mark.parametrize("absent", VARIABLES)
def test_a_variable_that_was_forgotten_is_named(joined, monkeypatch, absent):
    """Processes that were not told of each other would all train in the same directory."""
    for name, value in zip(VARIABLES, ("here:1", "2", "0"), strict=True):
        if name != absent:
            monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"^{absent} not set, where the other JAX_"):
        join("")
    assert joined == []
