"""JAX's cache of compiled programs on disk, on by default: later starts of a command skip compilation.

JAX's own settings win. `JAX_COMPILATION_CACHE_DIR` names another folder; `JAX_ENABLE_COMPILATION_CACHE=false`
turns the cache off. Programs that compile in less than `JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS` (1 s) are
not kept. Cached programs are executed: keep the folder where nobody else may write.
"""

import contextlib
import hashlib
import os
import platform
import sys
import tempfile
import warnings
from pathlib import Path

from a2j_jax.errors import printable
from a2j_jax.files import is_private, private_umask

LARGEST = 4 * 2**30  # bytes, for each kind of CPU
_FOLDER = "JAX_COMPILATION_CACHE_DIR"


def use_compilation_cache() -> None:
    """Sets JAX's cache folder to `~/.cache/a2j_jax/xla/` unless its own variables say otherwise.

    Call it before anything is compiled; it does not import JAX. Without a home, or where the folder cannot be written,
    nothing is cached. A folder that belongs to another user, or that others may write to, is not used, with one log
    line. New folders are private to this user, whatever the umask.
    """
    # A cache that cannot be read or written only costs time: not worth a line per program.
    warnings.filterwarnings(
        "ignore", message="Error (reading|writing) persistent compilation cache entry"
    )
    if _FOLDER in os.environ:
        return
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        # Code for one CPU may crash another one, and machines of many kinds share home directories.
        folder = caches / "a2j_jax" / "xla" / _cpu_kind()
        with private_umask():  # `mode` of mkdir does not apply to the parents that it creates
            folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        shared = [path for path in (folder, *folder.parents[:2]) if not is_private(path)]
    except (OSError, RuntimeError):  # no home, no permission
        return
    if shared:
        from a2j_jax.log import logger

        logger.info(
            f"no compilation cache: {printable(str(shared[0]))} belongs to somebody else, or others may write to it "
            "(chmod go-w makes it private)"
        )
        return
    shrink(folder, LARGEST)
    os.environ[_FOLDER] = str(folder)  # read when JAX is imported, here and in child processes
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_compilation_cache_dir", str(folder))


def shrink(folder: Path, largest: int) -> None:
    """Deletes the least recently used files until the rest is no larger than `largest` bytes.

    JAX's own limit (`jax_compilation_cache_max_size`, jax 0.10) writes nothing to a folder that holds an entry without
    a time stamp: one written without the limit, or by a process killed in between.
    """
    files = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # another process may be deleting, too
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


def _cpu_kind() -> str:
    """A hash of the model and the instruction set of this machine's CPU."""
    about = [platform.machine(), platform.processor()]
    with contextlib.suppress(OSError):
        first_core = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
        wanted = ("model name", "flags", "features", "cpu part")  # of x86, of Arm
        about += [line for line in first_core.splitlines() if line.lower().startswith(wanted)]
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:12]
