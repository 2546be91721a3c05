"""A build while it is under way: alone in its folder, and cleanly ended by the system too."""

import contextlib
import fcntl
import multiprocessing
import os
import shutil
import stat
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing import util as multiprocessing_util
from pathlib import Path
from typing import NoReturn

from a2j_jax.errors import UserError
from a2j_jax.interrupts import after_sigterm, end_terminated
from a2j_jax.log import logger

_PATIENCE_SECONDS = 1.0  # for Python's own way out


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
    nowhere = [
        place for place in (folder, *folder.parents) if place.is_symlink() and not place.exists()
    ]
    if nowhere:
        raise UserError(f"{nowhere[0]}: is a symbolic link that leads nowhere; remove it")
    made = [place for place in (parent, *parent.parents) if not place.exists()]
    lock = None
    try:
        lock = _lock(parent)
        if lock is None:
            yield
            return
        _remove_leftovers(folder)
        with _ends_soon(folder, made):
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
    """Removes the temporary folders that dead builds of this data set have left.

    Raises:
      UserError: one is a link, or belongs to another user.
    """
    for leftover in sorted(_temporary(folder)):
        found = leftover.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise UserError(
                f"{leftover}: is a symbolic link or belongs to another user, where a build keeps its temporary files; "
                "remove it, or name another --data_dir"
            )
        shutil.rmtree(leftover)
        logger.info(f"note: removed {leftover}, left of a build that did not finish")


def _temporary(folder: Path) -> Iterator[Path]:
    return folder.parent.glob(f"incomplete.*_{folder.name}")


@contextlib.contextmanager
def _ends_soon(folder: Path, made: Sequence[Path]) -> Iterator[None]:
    """Within, SIGTERM ends the program in time even in a compilation; temporary files are removed first.

    Args:
      folder: as of `claimed`.
      made: folders that were made for the build, the innermost first.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with after_sigterm(_PATIENCE_SECONDS, partial(_end_at_once, folder, made)):
        yield


def _end_at_once(folder: Path, made: Sequence[Path]) -> NoReturn:
    complete = folder.exists()
    for process in multiprocessing.active_children():
        process.kill()
    for leftover in _temporary(folder):
        shutil.rmtree(leftover, ignore_errors=True)
    for place in made:
        with contextlib.suppress(OSError):  # it is not empty
            place.rmdir()
    left = "but it is complete" if complete else "nothing was kept; rerun the same command"
    with contextlib.suppress(OSError):
        os.write(
            2, f"building {folder} was interrupted; {left}\n".encode("utf-8", "backslashreplace")
        )
    # Semaphores: their tracker would complain of those left over.
    with contextlib.suppress(Exception):
        multiprocessing_util._run_finalizers(0)  # type: ignore[attr-defined]
    end_terminated()
