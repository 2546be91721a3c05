"""Argument types, and config overrides taken out of a command line."""

import argparse

import pytest

from a2j_jax.cli.arguments import (
    command_line,
    config_with_overrides,
    join_negative_numbers,
    numbers,
    split_overrides,
    step,
    whole,
)
from a2j_jax.errors import UserError


def test_numbers() -> None:
    parse = numbers(3, "U,V,D")
    assert parse("217.1,-5,7e2") == (217.1, -5.0, 700.0)
    for text in ("1,2", "1,2,3,4", "a,b,c", "", "1 2 3"):
        with pytest.raises(argparse.ArgumentTypeError, match="U,V,D: expected 3"):
            parse(text)


def test_the_command_as_it_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/a2j", "eval", "--out", "my report"])
    assert command_line(["eval", "--out", "my report"]) == "a2j eval --out 'my report'"
    monkeypatch.setattr("sys.argv", ["eval.py", "--out", "my report"])
    assert command_line(["eval", "--out", "my report"]) == "python eval.py --out 'my report'"
    assert command_line(["eval", "--json"]) == "a2j eval --json"  # called from somebody's code


def test_whole_and_step() -> None:
    assert whole(1)("7") == 7
    for text in ("0", "-1", "1.5", "x"):
        with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
            whole(1)(text)
    assert [step(text) for text in ("best", "latest", "120")] == ["best", "latest", 120]
    with pytest.raises(argparse.ArgumentTypeError):
        step("-1")


def test_negative_numbers_are_values_not_options() -> None:
    line = ["--box", "-5,0,90,80", "--fy", "-587.07", "--cx", "-.5", "--json", "--out", "x.png"]
    assert join_negative_numbers(line) == [
        "--box=-5,0,90,80",
        "--fy=-587.07",
        "--cx=-.5",
        "--json",
        "--out",
        "x.png",
    ]
    assert join_negative_numbers(["-5", "--a=1", "-2", "-h"]) == ["-5", "--a=1", "-2", "-h"]


def test_overrides_are_split_off() -> None:
    line = ["--config", "quickstart", "--config.a.b=1", "--workdir", "w", "--config.c", "-2"]
    assert split_overrides(line) == (
        ["--config", "quickstart", "--workdir", "w"],
        [("a.b", "1"), ("c", "-2")],
    )
    assert split_overrides(["--config.a=b=c"]) == ([], [("a", "b=c")])
    for line in (["--config.a"], ["--config.a", "--workdir"]):
        with pytest.raises(UserError, match=r"--config\.a=VALUE"):
            split_overrides(line)


def test_a_row_of_a_table_on_another_base() -> None:
    config = config_with_overrides("table7/no_proposals", [], "itop_front")
    assert (config.track, config.optim.batch_size, config.loss.alpha) == ("itop_front", 256, 1.0)
    assert not config.model.proposals
    for name in ("quickstart", "runs/x/config.json"):
        with pytest.raises(UserError, match="is no row of a table"):
            config_with_overrides(name, [], "itop_front")


def test_later_overrides_win() -> None:
    config = config_with_overrides(
        "quickstart", [("optim.steps", "3"), ("optim.epochs", "2"), ("optim.steps", "5")]
    )
    assert (config.optim.steps, config.optim.epochs) == (5, 2.0)
