"""Signals leave a note until the step is over; of many processes: `tests/test_many_processes.py`."""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from a2j_jax.log import logger
from a2j_jax.training.loop import SOMETHING_TO_SAVE, StopRequests, stopped

NUMBERS = pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)


@pytest.fixture(autouse=True)
def _hangups_are_noticed() -> Iterator[None]:
    """Under nohup they are ignored, which `StopRequests` respects."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(params=[True, False], ids=["something to save", "nothing to save"])
def to_save(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether a step was taken since the run started or resumed."""
    if request.param:
        SOMETHING_TO_SAVE.set()
    yield request.param
    SOMETHING_TO_SAVE.clear()


@NUMBERS
def test_a_signal_is_noted_and_logged(
    number: signal.Signals, status: int, to_save: bool, logged: list[str]
) -> None:
    before = signal.getsignal(number)
    with StopRequests() as stop:
        assert stop.after(1) is None
        signal.raise_signal(number)
        assert stop.after(2) is number
        assert stop.after(3) is number  # until somebody stops
    assert signal.getsignal(number) is before
    (line,) = logged
    assert line.startswith(f"{number.name}: ")
    assert ("saved first" in line) == to_save
    error = stopped(number, 7, 20)
    assert error.status == status
    assert f"{number.name}: stopped after step 7 of 20" in str(error)


@NUMBERS
def test_a_second_ctrl_c_interrupts_at_once_but_not_a_second_sigterm(
    number: signal.Signals, status: int
) -> None:
    with StopRequests() as stop:
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGTERM)  # some batch systems send it every few seconds
        assert stop.after(1) is not None
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_handlers_are_put_back_even_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with contextlib.suppress(ValueError), StopRequests():
        assert signal.getsignal(signal.SIGTERM) != before
        raise ValueError
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), RuntimeError("reentrant call inside a buffered writer")]
)
def test_a_note_that_cannot_be_logged_still_counts(error: Exception) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise error

    logger.addHandler(handler := Broken())
    try:
        with StopRequests() as stop:
            signal.raise_signal(signal.SIGTERM)
            assert stop.after(1) is signal.SIGTERM
    finally:
        logger.removeHandler(handler)


def test_contexts_within_each_other() -> None:
    """A table's Ctrl-C while data are rendered ends the run that begins then, after its first step."""
    with StopRequests() as table:
        signal.raise_signal(signal.SIGINT)
        with StopRequests() as run:
            assert run.after(1) is signal.SIGINT
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert table.received is signal.SIGINT
    # A run that was told to stop in its last step is through; those after it are not to begin.
    with StopRequests() as table:
        with StopRequests():
            signal.raise_signal(signal.SIGTERM)
        assert table.received is signal.SIGTERM
    with StopRequests() as table:
        with contextlib.suppress(ValueError), StopRequests():
            signal.raise_signal(signal.SIGTERM)
            raise ValueError  # it was acted on
        assert table.received is None


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


def test_a_closed_terminal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        with StopRequests() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.received is None
    finally:
        signal.signal(signal.SIGHUP, before)
