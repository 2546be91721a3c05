"""Python programs in processes of their own, forked from one that has imported the libraries, which takes 1.5 s of CPU.

They import the modules of this repository themselves, and end as any Python process does.
"""

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
A2J = "from a2j_jax.cli import console; console()"

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "flax.linen",
        "grain.python",
        "jax",
        "optax",
        "orbax.checkpoint",
        "pydantic.dataclasses",
        "rich.progress",
        "scipy.io",
        "scipy.sparse",
        "tensorflow_datasets",
    ]
)


class Program:
    """A program that runs, with the methods of `subprocess.Popen` that tests use."""

    def __init__(
        self,
        code: str,
        arguments: Sequence[object],
        environment: Mapping[str, str],
        out: Path,
        err: Path,
    ):
        """Starts code with sys.argv[1:], all its environment variables, and files for its output and errors."""
        for file in (out, err):
            file.touch()
        words = [str(word) for word in arguments]
        self._process = _FORKS.Process(target=_run, args=(code, words, {**environment}, out, err))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Its status, negative where a signal ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float | None = None) -> int:
        """Waits for its end; returns its status."""
        self._process.join(seconds)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired("program", seconds or 0)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()


def _run(
    code: str, arguments: list[str], environment: dict[str, str], out: Path, err: Path
) -> None:
    import jax

    os.environ.clear()
    os.environ.update(environment)
    # JAX reads these when it is imported.
    jax.config.update("jax_platforms", environment.get("JAX_PLATFORMS"))
    jax.config.update("jax_compilation_cache_dir", environment.get("JAX_COMPILATION_CACHE_DIR"))
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    sys.argv = ["-c", *arguments]
    status = 0
    try:
        exec(code, {"__name__": "__main__"})
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    ctypes.pythonapi.Py_Exit(status)  # multiprocessing would leave out what happens at exit
