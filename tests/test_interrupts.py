"""The hook that raises lost interrupts again, among others."""

import signal
import subprocess
import sys
import time

import pytest

from a2j_jax.interrupts import lasting_interrupts


def test_the_hook_leaves_those_alone_that_were_installed_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a failed save, one keeps Orbax's threads quiet until the process ends."""

    def before(_: object) -> None: ...

    def within(_: object) -> None: ...

    monkeypatch.setattr(sys, "unraisablehook", before)
    with lasting_interrupts():
        assert sys.unraisablehook is not before
    assert sys.unraisablehook is before
    with lasting_interrupts():
        sys.unraisablehook = within
    assert sys.unraisablehook is within


@pytest.mark.parametrize(("number", "status"), [("SIGTERM", 143), ("SIGINT", 1)])
def test_a_signal_in_a_callback_is_not_lost(number: str, status: int) -> None:
    script = """
import gc, signal, sys, time
from a2j_jax.interrupts import terminable

def callback(phase, info):
    gc.callbacks.remove(callback)
    signal.raise_signal(getattr(signal, sys.argv[1]))  # no exception leaves a callback of the garbage collector

with terminable():
    gc.callbacks.append(callback)
    gc.collect()
    try:
        time.sleep(60)
    except KeyboardInterrupt as interrupt:
        raise SystemExit(1 if type(interrupt) is KeyboardInterrupt else 143)
"""
    command = [sys.executable, "-c", script, number]
    program = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (program.returncode, program.stderr) == (status, "")


STUCK = """
import os, signal, sys, threading, time
from a2j_jax import distributed
from a2j_jax.interrupts import Watchdog
from a2j_jax.training.run import _end_stuck
def hang():
    # No step of the interpreter in the main thread, as in a save to a file system that is gone.
    os.read(os.pipe()[0], 1)
seconds, grace = map(float, sys.argv[1:3])
signal.signal(signal.SIGTERM, lambda *_: None)  # noted, as in training
with Watchdog(seconds, grace, _end_stuck) as dog:
    for _ in range(4):
        time.sleep(0.2)
        dog.beat()
    if sys.argv[3] == "SIGTERM":
        os.kill(os.getpid(), signal.SIGTERM)
    hang()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seconds", "grace", "number", "status"), [(1, 9, "none", 1), (30, 1, "SIGTERM", 143)]
)
def test_a_process_in_which_nothing_moves_ends_and_shows_where(
    seconds: int, grace: int, number: str, status: int
) -> None:
    words = [sys.executable, "-c", STUCK, str(seconds), str(grace), number]
    started = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done
    assert time.monotonic() - started < 25
    assert " in hang" in done.stderr
    *_, last = done.stderr.splitlines()
    assert last.startswith("a2j: error: no progress for ")
    assert ("after SIGTERM" in last) == (status == 143)
    assert "the same command resumes" in last


@pytest.mark.slow
def test_a_process_that_was_stopped_does_not_count_as_stuck() -> None:
    program = """
import os, time
from a2j_jax.interrupts import Watchdog
with Watchdog(3, 9, lambda *_: os._exit(1)) as dog:
    print("ready", flush=True)
    for _ in range(20):
        time.sleep(0.1)
        dog.beat()
"""
    started = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert started.stdout is not None
    started.stdout.readline()
    started.send_signal(signal.SIGSTOP)
    time.sleep(5)
    started.send_signal(signal.SIGCONT)
    assert started.wait(60) == 0
