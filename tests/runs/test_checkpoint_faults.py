"""What is made of Orbax's exceptions."""

import errno
import gc
import logging
import sys
import warnings
from types import SimpleNamespace

import pytest

from a2j_jax.runs.checkpoints import quiet_after_failure, reason

CONSEQUENCES = [
    "Event loop is closed",
    "Encountered error while reading array index: (slice(0, 3, 1),)",
]


def test_reads_that_end_after_a_failure_stay_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("sys.unraisablehook", lambda args: told.append(str(args.exc_value)))

    def tell() -> None:
        for text in [*CONSEQUENCES, "something else"]:
            sys.unraisablehook(SimpleNamespace(exc_value=RuntimeError(text)))  # type: ignore[arg-type]

    with quiet_after_failure():
        pass
    tell()
    assert told == [*CONSEQUENCES, "something else"]  # nothing has failed
    told.clear()
    with pytest.raises(ValueError), quiet_after_failure():
        raise ValueError
    tell()
    assert told == ["something else"]
    logging.getLogger("asyncio").setLevel(logging.NOTSET)


def test_writes_that_a_failure_left_unbegun_stay_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.unraisablehook", sys.unraisablehook)  # to be put back

    async def write() -> None:
        pass

    def forget() -> None:
        write()  # type: ignore[unused-coroutine]
        gc.collect()

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with quiet_after_failure():
            pass
        forget()
        assert len(told) == 1  # nothing has failed
        with pytest.raises(ValueError), quiet_after_failure():
            raise ValueError
        forget()
        assert len(told) == 1
    logging.getLogger("asyncio").setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (
            ValueError("RESOURCE_EXHAUSTED: Error writing: No space [os_error_code='28']"),
            "No space left on device",
        ),
        (ValueError("something else"), "something else"),
        (
            ValueError("Encountered error. See full TensorStore details: <bound method x of y>"),
            "Encountered error",
        ),
        (KeyError(), "KeyError"),
    ],
)
def test_the_reason_of_a_failure_is_what_the_file_system_said(
    error: Exception, expected: str
) -> None:
    assert reason(error) == expected
    around = RuntimeError("the save failed")
    around.__cause__ = error
    assert reason(around) == (expected if "No space" in expected else "the save failed")
