"""The hook that raises lost interrupts again, among others."""

import subprocess
import sys

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
