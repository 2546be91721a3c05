"""A build while it is under way: alone in its folder, and cleanly ended by the system too."""

import contextlib
import fcntl
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from a2j_jax.errors import UserError
from a2j_jax.progress import say

_TERMINATED = 143  # as a shell reports SIGTERM


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Makes the folder that a data set's will be in, for one build at a time.

    The claim is a lock on the directory itself: the system gives it back when the process ends, even if
    killed, and it leaves no file behind. Whoever holds it removes what killed builds have left. At the
    end, folders that were made here and hold nothing go again.

    Args:
      folder: of the data set, `<data_dir>/<track>/crop<S>/<version>`; TFDS makes it when all is done.

    Raises:
      UserError: another build is under way there.
    """
    parent = folder.parent
    made = [place for place in (parent, *parent.parents) if not place.exists()]
    lock = None
    try:
        lock = _lock(parent)
        if lock is not None:
            _remove_leftovers(folder)
        yield
    finally:
        for place in made:
            with contextlib.suppress(OSError):  # it is not empty
                place.rmdir()
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None where the file system has no locks."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # removed in between, by a build that kept nothing
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
                return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise UserError(
                f"{folder}: another build is under way there; wait until it has ended, or name "
                "another --data_dir"
            ) from error
        except FileNotFoundError:
            pass
        except OSError:
            os.close(descriptor)
            return None
        os.close(descriptor)


def _remove_leftovers(folder: Path) -> None:
    """Removes the temporary folders of TFDS that dead builds of this data set have left."""
    for leftover in sorted(folder.parent.glob(f"incomplete.*_{folder.name}")):
        shutil.rmtree(leftover)
        say(f"note: removed {leftover}, left of a build that did not finish")


class _Terminated(KeyboardInterrupt):
    """SIGTERM, for whoever cleans up after Ctrl-C."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Within, SIGTERM ends the program as Ctrl-C would, cleaning up, with exit status 143.

    Python runs signal handlers in its main thread only: in another one nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except _Terminated:
        raise SystemExit(_TERMINATED) from None
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
