"""SIGTERM, Ctrl-C and a terminal that is closed end a run between two steps, once its state is saved.

Of several processes all have to stop after the same step, whichever of them is told to: JAX's preemption service
agrees on it. It listens for SIGTERM, as Slurm and cloud machines send it; Ctrl-C is passed on to it.
"""

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from jax.experimental import multihost_utils

from a2j_jax import distributed
from a2j_jax.errors import Stopped
from a2j_jax.log import logger

#: Set once a step was taken that no checkpoint may hold: until then, compiling, a run may end at once.
SOMETHING_TO_SAVE = threading.Event()
_SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)


class StopRequests:
    """A context in which the signals only leave a note. A second Ctrl-C interrupts at once.

    Python hears signals in its main thread alone: entered in another, this changes nothing. One that is ignored
    (`nohup`) stays so. Within another such context, what that one has noted counts here as well, and what came too late
    to be acted on here is left to that one.
    """

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequests":
        if threading.current_thread() is threading.main_thread():
            # SIGTERM is the preemption service's own where there are several processes.
            heard = _SIGNALS[:2] if distributed.is_multiprocess() else _SIGNALS
            self._before = {
                number: signal.signal(number, self._note)
                for number in heard
                if signal.getsignal(number) is not signal.SIG_IGN
            }
            noted = (outer._received for outer in map(_context_of, self._before.values()) if outer)
            self._received = next(filter(None, noted), None)
        return self

    @property
    def received(self) -> signal.Signals | None:
        """The signal that came, in this process."""
        return self._received

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
            outer = _context_of(handler)
            if kind is None and number == self._received and outer is not None:
                outer._received = self._received

    def after(self, step: int) -> signal.Signals | None:
        """The signal by which to stop after this step, or None; the same answer in every process."""
        if not distributed.is_multiprocess():
            return self._received
        if multihost_utils.reached_preemption_sync_point(step):
            return self._received or signal.SIGTERM
        return None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = signal.Signals(number)
        if distributed.is_multiprocess():
            os.kill(os.getpid(), signal.SIGTERM)
        # The note counts. Telling may fail: nobody listens any more, or we are in the midst of another line.
        with contextlib.suppress(OSError, RuntimeError):
            logger.info(
                f"{self._received.name}: this step is finished and saved first (Ctrl-C again: at once)"
            )


def _context_of(handler: Any) -> StopRequests | None:
    """The context whose handler this is."""
    owner = getattr(handler, "__self__", None)
    return owner if isinstance(owner, StopRequests) else None


def stopped(by: signal.Signals, step: int, total: int, what: str = "step") -> Stopped:
    """The exception that ends the run, with the exit status of a shell for that signal."""
    return Stopped(
        f"{by.name}: stopped after {what} {step} of {total}; checkpoint saved; rerun the same command to resume",
        128 + by,
    )
