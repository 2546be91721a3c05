"""`a2j` as several processes of one job, all on this machine: what a cluster does on its hosts.

Each process has simulated CPU devices, and they talk to each other over the loopback interface (gloo).
"""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.programs import A2J, Program

SECONDS = 300  # more than any of them takes on a busy machine; a job that hangs fails then


class Ended(NamedTuple):
    """How one process ended and what it printed."""

    status: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line it had to say."""
        return self.err.splitlines()[-1]


class Job:
    """Processes that were started together; process 0 is the first."""

    def __init__(self, started: list[Program], folder: Path):
        self._processes, self._folder = started, folder

    def send(self, number: signal.Signals, *to: int) -> None:
        """Send a signal to some of the processes."""
        for index in to:
            self._processes[index].send_signal(number)

    def wait_until(self, happened: Callable[[], bool]) -> None:
        """Wait for something that the job does while it runs."""
        end = time.monotonic() + SECONDS
        while not happened():
            assert all(process.poll() is None for process in self._processes), self._printed()
            assert time.monotonic() < end, self._printed()
            time.sleep(0.02)

    def ended(self) -> list[Ended]:
        """Wait for all of them."""
        end = time.monotonic() + SECONDS
        for process in self._processes:
            try:
                process.wait(max(end - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                raise AssertionError(f"the job hangs: {self._printed()}") from None
        statuses = [process.wait() for process in self._processes]
        return [
            Ended(*one) for one in zip(statuses, *zip(*self._printed(), strict=True), strict=True)
        ]

    def _printed(self) -> list[tuple[str, str]]:
        count = range(len(self._processes))
        return [
            ((self._folder / f"{i}.out").read_text(), (self._folder / f"{i}.err").read_text())
            for i in count
        ]


@contextmanager
def job(
    processes: int,
    devices: int,
    *arguments: object,
    program: str = A2J,
    own: Mapping[int, Sequence[str]] | None = None,
    port: int | None = None,
) -> Iterator[Job]:
    """Start a job; what still runs at the end of the context is killed.

    Args:
      processes: how many; one is told nothing of others.
      devices: simulated in each.
      arguments: of the program. Who is who is said by environment variables.
      program: its code.
      own: process -> more arguments, for it alone.
      port: at which they meet; None: any that is free.
    """
    address = f"localhost:{port or free_port()}"
    started: list[Program] = []
    with tempfile.TemporaryDirectory() as named:
        folder = Path(named)
        try:
            for index in range(processes):
                words = [*arguments, *(own or {}).get(index, ())]
                about = _environment(address, processes, index, devices)
                out, err = folder / f"{index}.out", folder / f"{index}.err"
                started.append(Program(program, words, about, out, err))
            yield Job(started, folder)
        finally:
            for process in started:
                process.kill()
                process.wait()


def run(processes: int, devices: int, *arguments: object, **options: Any) -> list[Ended]:
    """Start a job and wait for its end."""
    with job(processes, devices, *arguments, **options) as started:
        return started.ended()


def _environment(address: str, processes: int, index: int, devices: int) -> dict[str, str]:
    about = {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
    }
    if processes > 1:
        about |= {
            "JAX_COORDINATOR_ADDRESS": address,
            "JAX_NUM_PROCESSES": str(processes),
            "JAX_PROCESS_ID": str(index),
        }
    return os.environ | about


def free_port() -> int:
    """A port of this machine that no process uses."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port
