"""Ctrl-C and SIGTERM as exceptions that clean up, wherever they interrupt the program.

Python runs signal handlers in the main thread, between two steps of the interpreter. That leaves two gaps. An exception
raised inside a callback (a finalizer, or JAX's callback of the garbage collector) is printed and lost:
`lasting_interrupts` raises it again. And one step may be a compilation of a minute, or a save to a disk that is gone:
`after_signal` acts in another thread, and `Watchdog` there where nothing moves any more.
"""

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

# Exit statuses, as a shell reports a program ended by these signals.
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM

_LOOK_SECONDS = 0.5
#: Printed by `end_at_once`, by signal; the command line sets them.
last_lines: dict[int, str] = {}


class Terminated(KeyboardInterrupt):
    """SIGTERM, for code that cleans up after a Ctrl-C."""

    came = threading.Event()


def raise_terminated(*_: object) -> NoReturn:
    """A handler of SIGTERM where nothing needs to be saved first."""
    Terminated.came.set()
    raise Terminated


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Within, SIGTERM raises `Terminated`, and neither it nor Ctrl-C is lost in a callback; exit status 143.

    Does nothing outside the main thread, or where the program has its own handler.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, raise_terminated)
    try:
        with lasting_interrupts():
            yield
    except Terminated:
        raise SystemExit(TERMINATED) from None
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def end_at_once(number: int) -> NoReturn:
    """Ends the program from any thread, with the status of a signal and its last line."""
    if number in last_lines:
        with contextlib.suppress(OSError):  # stderr may be closed
            os.write(2, f"{last_lines[number]}\n".encode())
    os._exit(128 + number)


@contextlib.contextmanager
def after_signal(
    seconds: float, act: Callable[[int], None], ctrl_c: bool = False
) -> Iterator[None]:
    """Within, `act` is called in a thread if the block has not ended `seconds` after SIGTERM; for the main thread.

    `ctrl_c`: after Ctrl-C, too, in the command line: a notebook lives on after it.
    """
    numbers = (signal.SIGTERM, *last_lines) if ctrl_c else (signal.SIGTERM,)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    left = threading.Event()

    def watch() -> None:
        while number := os.read(reader, 1):
            if before != -1:  # pass it on to whoever waited for signals before
                with contextlib.suppress(OSError):
                    os.write(before, number)
            if number[0] in numbers and not left.wait(seconds):
                act(number[0])
        os.close(reader)

    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(before)
        os.close(writer)


class Watchdog:
    """A context that ends the process if it hangs, even in code that Python cannot interrupt.

    Call `beat` whenever something was done. If there was no beat for too long, the stacks of all threads are printed
    and the process ends.

    Attributes:
      seconds: the longest time without a beat; the exit status is then 1.
      grace: the same after SIGTERM, unless three of the longest steps so far take longer; the status is SIGTERM's.
    """

    def __init__(
        self,
        seconds: float,
        grace: float,
        end: Callable[[str, int], None],
        signaled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Ends the process by `end(reason, status)`; `signaled` tells of a SIGTERM that Python did not see."""
        self.seconds, self.grace = seconds, grace
        self._end, self._signaled = end, signaled
        self._beat, self._longest = time.monotonic(), 0.0
        self._signal_at: float | None = None
        self._left = threading.Event()
        self._stack = contextlib.ExitStack()

    def beat(self, usual: bool = False) -> None:
        """Something was done; `usual`: a step, whose time says how long the next ones may take."""
        now = time.monotonic()
        if usual:
            self._longest = max(self._longest, now - self._beat)
        self._beat = now

    def __enter__(self) -> "Watchdog":
        self._beat = time.monotonic()
        self._left.clear()
        threading.Thread(target=self._watch, daemon=True).start()
        if threading.current_thread() is threading.main_thread():
            self._stack.enter_context(after_signal(0, lambda _: self._note()))
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._stack.close()

    def _note(self) -> None:
        self._signal_at = self._signal_at or time.monotonic()

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._left.wait(_LOOK_SECONDS):
            if self._signaled():
                self._note()
            now = time.monotonic()
            paused = now - looked - _LOOK_SECONDS
            if paused > _LOOK_SECONDS:  # the whole process: Ctrl-Z and fg, or a very busy machine
                self._beat += paused
            looked = now
            since, patience, status, why = self._beat, self.seconds, 1, ""
            if self._signal_at is not None:
                since, patience = max(since, self._signal_at), max(self.grace, 3 * self._longest)
                status, why = TERMINATED, " after SIGTERM"
            quiet = now - since
            if quiet > patience:
                with contextlib.suppress(Exception):  # stderr may be closed, or no file
                    faulthandler.dump_traceback(sys.stderr, all_threads=True)
                self._end(f"no progress for {quiet:.0f} s{why}", status)
                return


@contextlib.contextmanager
def lasting_interrupts() -> Iterator[None]:
    """Within, a `KeyboardInterrupt` that was lost in a callback is raised again outside of it."""
    before = sys.unraisablehook
    sys.unraisablehook = _raise_again
    try:
        yield
    finally:
        if sys.unraisablehook is _raise_again:  # a hook that was installed within is to last
            sys.unraisablehook = before


def _raise_again(unraisable: Any) -> None:
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    terminated = isinstance(unraisable.exc_value, Terminated)

    def again() -> None:
        while True:
            time.sleep(0.05)
            frame = sys._current_frames().get(main_thread)
            while frame is not None and frame.f_code is not _raise_again.__code__:
                frame = frame.f_back
            if frame is None:  # inside this hook it would be lost again
                break
        signal.pthread_kill(main_thread, signal.SIGTERM if terminated else signal.SIGINT)
        for _ in range(20):  # a thread about to wait has not noticed the signal: wake it
            time.sleep(0.2)
            signal.pthread_kill(main_thread, signal.SIGURG)

    signal.signal(signal.SIGURG, lambda *_: None)
    threading.Thread(target=again, daemon=True).start()
