"""What Orbax and TensorStore raise, made sense of."""

import asyncio
import contextlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any

# What other reads and writes raise when one has failed and nobody waits for them any more.
_CONSEQUENCES = ("Event loop is closed", "Encountered error while reading array")


@contextlib.contextmanager
def quiet_after_failure() -> Iterator[None]:
    """Once a restore or a save has failed, what was started with it ends in an event loop that is closed.

    Each read or write, or that it was never begun, would be told at length and out of turn, from wherever the
    interpreter happens to be; only the failure itself is told. Nothing changes where all goes well.
    """
    before, logger = sys.unraisablehook, logging.getLogger("asyncio")
    level = logger.level

    def hook(unraisable: Any) -> None:
        if not any(text in str(unraisable.exc_value) for text in _CONSEQUENCES):
            before(unraisable)

    sys.unraisablehook = hook
    logger.setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    never_awaited = warnings.filters[0]
    yield
    sys.unraisablehook = before
    logger.setLevel(level)
    with contextlib.suppress(ValueError):  # whoever called has put back the filters of before
        warnings.filters.remove(never_awaited)  # type: ignore[attr-defined]


def reason(error: BaseException) -> str:
    """Why a save failed: of what was raised on the way, what the file system said."""
    found: BaseException | None = error
    while found is not None:
        code = re.search(r"os_error_code='(\d+)'", str(found))  # as TensorStore tells it
        if code:
            return os.strerror(int(code[1]))
        if isinstance(found, OSError) and found.strerror:
            return found.strerror
        found = found.__cause__ or found.__context__
    return first_line(error) if isinstance(error, Exception) else type(error).__name__


def was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an exception: Orbax makes one of its own of whatever stops a read."""
    while error is not None:
        if isinstance(error, (KeyboardInterrupt, asyncio.CancelledError)):
            return True
        error = error.__cause__ or error.__context__
    return False


def first_line(error: Exception) -> str:
    """What an exception of Orbax or TensorStore says, without its pointers to more."""
    text = str(error).partition(". See full TensorStore details")[0].strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
