"""Signals leave a note until the step is over; a second Ctrl-C does not wait."""

import contextlib
import os
import signal
import threading
from typing import Any

import pytest

from a2j_jax.training import preemption
from a2j_jax.training.preemption import StopRequests, stopped


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_told(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    with StopRequests() as stop:
        assert stop.after(1) is None
        signal.raise_signal(number)
        assert stop.after(2) is number
        assert stop.after(3) is number  # until somebody stops
    told = f"{number.name}: this step is finished and saved first (Ctrl-C again: at once)\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_ctrl_c_interrupts_at_once(first: signal.Signals) -> None:
    with StopRequests():
        signal.raise_signal(first)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_second_sigterm_changes_nothing() -> None:
    """Some batch systems send it every few seconds."""
    with StopRequests() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stop.after(1) is signal.SIGTERM


def test_handlers_are_put_back_even_after_an_error() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    with contextlib.suppress(ValueError), StopRequests():
        assert [signal.getsignal(number) for number in numbers] != before
        raise ValueError
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), RuntimeError("reentrant call inside a buffered writer")]
)
def test_a_note_that_cannot_be_told_still_counts(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(preemption.logger, "info", fail)
    with StopRequests() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.after(1) is signal.SIGTERM


def test_what_was_noted_before_counts_within() -> None:
    """A table's Ctrl-C while data are rendered ends the run that begins then, after its first step."""
    with StopRequests() as table:
        signal.raise_signal(signal.SIGINT)
        with StopRequests() as run:
            assert run.after(1) is signal.SIGINT
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert table.received is signal.SIGINT


def test_in_another_thread_nothing_is_heard_and_nothing_fails() -> None:
    found: list[Any] = []
    before = signal.getsignal(signal.SIGTERM)

    def enter() -> None:
        with StopRequests() as stop:
            found.append((signal.getsignal(signal.SIGTERM), stop.after(1)))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [(before, None)]


def test_of_several_processes_the_preemption_service_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It hears SIGTERM; Ctrl-C is passed on to it, and no process stops before all agree."""
    agreed = [False, True]
    passed_on: list[int] = []
    monkeypatch.setattr(preemption.distributed, "is_multiprocess", lambda: True)
    monkeypatch.setattr(
        preemption.multihost_utils, "reached_preemption_sync_point", lambda step: agreed[step]
    )
    monkeypatch.setattr(os, "kill", lambda _, number: passed_on.append(number))
    before = signal.getsignal(signal.SIGTERM)
    with StopRequests() as stop:
        assert signal.getsignal(signal.SIGTERM) == before
        signal.raise_signal(signal.SIGINT)
        assert passed_on == [signal.SIGTERM]
        assert stop.after(0) is None
        assert stop.after(1) is signal.SIGINT
    with StopRequests() as stop:
        assert stop.after(1) is signal.SIGTERM  # another process was told


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_what_ends_the_run_says_how_to_go_on(number: signal.Signals, status: int) -> None:
    error = stopped(number, 7, 20)
    assert error.status == status
    assert str(error) == (
        f"{number.name}: stopped after step 7 of 20; checkpoint saved; rerun the same command to resume"
    )


def test_a_closed_terminal_is_as_sigterm_unless_it_is_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with StopRequests() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.after(1) is signal.SIGHUP
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
        with StopRequests() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.received is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_came_too_late_is_left_to_the_context_around() -> None:
    """A run that was told to stop in its last step is through; those after it are not to begin."""
    with StopRequests() as outer:
        with StopRequests():
            signal.raise_signal(signal.SIGTERM)
        assert outer.received is signal.SIGTERM
    with StopRequests() as outer:
        with contextlib.suppress(ValueError), StopRequests():
            signal.raise_signal(signal.SIGTERM)
            raise ValueError  # it was acted on
        assert outer.received is None
