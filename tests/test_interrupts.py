"""The hook that raises lost interrupts again, among others."""

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
