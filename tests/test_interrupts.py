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


def test_sigterm_in_a_callback_is_not_lost() -> None:
    script = """
import gc, signal, time
from a2j_jax.interrupts import terminable

def callback(phase, info):
    gc.callbacks.remove(callback)
    signal.raise_signal(signal.SIGTERM)  # no exception leaves a callback of the garbage collector

with terminable():
    gc.callbacks.append(callback)
    gc.collect()
    time.sleep(60)
"""
    command = [sys.executable, "-c", script]
    program = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (program.returncode, program.stderr) == (143, "")
