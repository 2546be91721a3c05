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


def test_reads_and_writes_that_end_after_a_failure_stay_quiet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    monkeypatch.setattr("sys.unraisablehook", lambda args: told.append(str(args.exc_value)))

    async def write() -> None:
        pass

    def end() -> list[str]:
        """What is printed when reads fail and a write has not begun."""
        told.clear()
        for text in [*CONSEQUENCES, "something else"]:
            sys.unraisablehook(SimpleNamespace(exc_value=RuntimeError(text)))  # type: ignore[arg-type]
        with warnings.catch_warnings(record=True) as warned:
            write()  # type: ignore[unused-coroutine]
            gc.collect()
        return told + [str(each.message) for each in warned]

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with quiet_after_failure():
            pass
        *others, last = end()
        assert others == [*CONSEQUENCES, "something else"]  # nothing has failed
        assert "never awaited" in last
        with pytest.raises(ValueError), quiet_after_failure():
            raise ValueError
        assert end() == ["something else"]
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
