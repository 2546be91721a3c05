"""What XLA compiled is kept on disk: the second start of a command does without compiling.

JAX's own settings win. `JAX_COMPILATION_CACHE_DIR` names another folder; `JAX_ENABLE_COMPILATION_CACHE=false`
turns the cache off. Programs that compiled in less than `JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS` (1 s) are
not kept. A cache runs as code: keep it where nobody else may write.
"""

import contextlib
import hashlib
import os
import platform
import sys
import tempfile
import warnings
from pathlib import Path

from a2j_jax.files import is_private, private_umask

LARGEST = 4 * 2**30  # bytes, on every kind of CPU
_FOLDER = "JAX_COMPILATION_CACHE_DIR"


def use_compilation_cache() -> None:
    """Let JAX keep compiled programs, in `~/.cache/a2j_jax/xla/` unless its own variables say otherwise.

    To be called before anything is compiled. It does not import JAX. Where there is no home, or the folder cannot be
    written or is full, nothing is kept and nothing is said. A cache runs as code: one that belongs to somebody else, or
    that others may write to, is not used, which is said in one line. What is made here is this user's alone, whatever
    the umask.
    """
    # A cache that cannot be read or written costs time, no more: not worth a line per program.
    warnings.filterwarnings(
        "ignore", message="Error (reading|writing) persistent compilation cache entry"
    )
    if _FOLDER in os.environ:
        return
    try:
        folder = _cache_folder()
        with private_umask():  # `mode` of mkdir is not for the parents that it makes
            folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        theirs = next(
            (path for path in (folder, *folder.parents[:2]) if not is_private(path)), None
        )
    except (OSError, RuntimeError):  # no home, no permission
        return
    if theirs is not None:
        from a2j_jax.errors import printable
        from a2j_jax.log import logger

        logger.info(
            f"no compilation cache: {printable(str(theirs))} belongs to somebody else, or others may write to it "
            "(chmod go-w makes it private)"
        )
        return
    shrink(folder, LARGEST)
    os.environ[_FOLDER] = str(
        folder
    )  # read when JAX is imported, here and in processes started from here
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_compilation_cache_dir", str(folder))


def shrink(folder: Path, largest: int) -> None:
    """Delete the files that were used longest ago until the rest is no larger than `largest` bytes.

    JAX's own limit (`jax_compilation_cache_max_size`) needs another package, locks the folder for every read,
    and gives up for good once a process was killed between the two files of an entry.
    """
    files = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # another process is at it, too
            if path.is_file():
                about = path.stat()
                files.append((max(about.st_atime, about.st_mtime), about.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= largest:
            return
        total -= size
        with contextlib.suppress(OSError):
            path.unlink()


def _cache_folder() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    # Code for one CPU may crash another one; home directories are shared by machines of many kinds.
    return Path(caches).expanduser() / "a2j_jax" / "xla" / _cpu_kind()


def _cpu_kind() -> str:
    """A short word for the model and the instruction set of this machine's CPU."""
    about = [platform.machine(), platform.processor()]
    with contextlib.suppress(OSError):
        first_core = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
        wanted = ("model name", "flags", "features", "cpu part")  # of x86, of Arm
        about += [line for line in first_core.splitlines() if line.lower().startswith(wanted)]
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:12]
