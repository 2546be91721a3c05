"""Several processes of one job: how they find each other, who speaks for them, and where they wait.

Importing this does not import JAX: the command line asks here who it is before it knows what it will do.
"""

import contextlib
import itertools
import math
import os
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from a2j_jax.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

JOIN_SECONDS = 300  # nodes of a cluster do not start at once
_BARRIER_SECONDS = 24 * 3600
_LAST_WORDS_SECONDS = 10
_BEAT_SECONDS = 5
_SILENCE_SECONDS = 60  # less than the 100 s after which JAX aborts the process with a stack trace
_parted = threading.Event()


def initialize(
    coordinator_address: str | None,
    num_processes: int | None,
    process_id: int | None,
    detect: bool,
    timeout_seconds: int = JOIN_SECONDS,
) -> None:
    """Join the other processes of this job, before anything touches a device.

    Args:
      coordinator_address: "HOST:PORT" of process 0; the port is free there and the same for all.
      num_processes: how many there are.
      process_id: which one this is, from 0.
      detect: let JAX find what is not given from the cluster (Slurm, Open MPI, TPU, Kubernetes).
      timeout_seconds: where not all have come by then, the process ends with status 2: JAX would abort it
        in the midst of a call that nothing can interrupt.

    Raises:
      UserError: values that are missing or contradict each other, or no cluster to detect.
    """
    import jax

    from a2j_jax.progress import say

    _check(coordinator_address, num_processes, process_id, detect)
    who = "this process" if process_id is None else f"process {process_id}"
    where = coordinator_address or "the coordinator that the cluster named"
    if process_id == 0 and coordinator_address is not None:
        _check_port(coordinator_address)
    say(f"{who} joins {num_processes or 'the'} processes at {where}")
    end = threading.Timer(timeout_seconds, _give_up, (who, where, timeout_seconds))
    end.daemon = True
    end.start()
    try:
        jax.distributed.initialize(
            coordinator_address,
            num_processes,
            process_id,
            # Without it Slurm's idea of local devices would be mixed with what was said here.
            cluster_detection_method=None if detect else "deactivate",
            initialization_timeout=timeout_seconds + 60,
        )
    except Exception as error:  # of JAX, of its client and of every kind of cluster
        said = " ".join(str(error).split())
        if detect and not coordinator_address:
            raise UserError(
                f"--distributed: no cluster was found that says who takes part ({said}); expected Slurm, Open "
                "MPI, a TPU slice or Kubernetes; else give --coordinator_address HOST:PORT, --num_processes N "
                "and --process_id I"
            ) from error
        raise UserError(f"{who} cannot join the others at {where}: {said}") from error
    finally:
        end.cancel()
    if jax.default_backend() == "cpu":
        # Process 0 alone would find its programs there, and gloo waits 30 s at most for others that still compile.
        jax.config.update("jax_enable_compilation_cache", False)
    if several():
        own = _client(), jax.process_index(), jax.process_count()
        threading.Thread(target=_watch, args=own, daemon=True).start()


def _check(address: str | None, count: int | None, index: int | None, detect: bool) -> None:
    given = {"--coordinator_address": address, "--num_processes": count, "--process_id": index}
    missing = [name for name, value in given.items() if value is None]
    if missing and not detect:
        raise UserError(
            f"several processes need {', '.join(given)} on each of them; missing here: {', '.join(missing)} "
            "(or --distributed, where the cluster says it)"
        )
    if address is not None and not address.rpartition(":")[2].isdigit():
        raise UserError(f"--coordinator_address {address}: expected HOST:PORT, e.g. 10.0.0.1:9876")
    if count is not None and index is not None and index >= count:
        raise UserError(
            f"--process_id {index} of --num_processes {count}: expected 0 to {count - 1}, each once"
        )


def _check_port(address: str) -> None:
    """JAX crashes where another program has the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", int(address.rpartition(":")[2])))
        except (OSError, OverflowError) as error:
            raise UserError(
                f"--coordinator_address {address}: process 0 cannot listen at that port ({error}); "
                "name another one, the same for all"
            ) from error


def _give_up(who: str, where: str, seconds: int) -> None:
    print(
        f"a2j: error: {who}: not all processes came to {where} within {seconds} s; check that the address is "
        "process 0's and can be reached from here, that every process was started, and with its own "
        "--process_id",
        file=sys.stderr,
        flush=True,
    )
    os._exit(2)


def several() -> bool:
    """Whether this process has joined others."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1


def count() -> int:
    """How many processes take part; 1 for one on its own."""
    return sys.modules["jax"].process_count() if several() else 1


def is_first() -> bool:
    """Whether this is process 0, which writes, builds and tells what is to be done once."""
    return not several() or sys.modules["jax"].process_index() == 0


def name() -> str:
    """Who this is, as in `process 1 of 4`; empty for a process on its own."""
    if not several():
        return ""
    jax = sys.modules["jax"]
    return f"process {jax.process_index()} of {jax.process_count()}"


def leave() -> None:
    """Part from the others once all have come to their end, rather than pull the rug from under them."""
    if several():
        sys.modules["jax"].distributed.shutdown()  # those who wait there are still to be heard of
        _parted.set()


def wait_for_all(barrier: str) -> None:
    """Block until every process is here; any work one of them does before may take its time.

    Args:
      barrier: a name that is used once.
    """
    if several():
        _wait_at(barrier, _BARRIER_SECONDS)


def wait_for_last_words() -> None:
    """Give the others a moment to tell of a mistake that is theirs as well.

    They talk through process 0: what one of them is doing when that ends fails for no other reason.
    """
    if several():
        with contextlib.suppress(Exception):  # those without a mistake do not come
            _wait_at("a mistake", _LAST_WORDS_SECONDS)


def _wait_at(barrier: str, seconds: int) -> None:
    # JAX's public barrier is a computation, and those give up after a while.
    _client().wait_at_barrier(f"a2j {barrier}", seconds * 1000)


def _client() -> Any:
    """JAX's line to process 0."""
    from jax._src.distributed import global_state

    assert global_state.client is not None
    return global_state.client


def _watch(client: Any, index: int, processes: int) -> None:
    """Give signs of life, and end this process where another has stopped giving them.

    One that died leaves the others waiting, in a save or for what a device is to send. Python is not asked there, and
    JAX's own heartbeat aborts the process.
    """
    # Process -> its last sign, and when that was first seen.
    last = {f"a2j alive/{other}": ("", time.monotonic()) for other in range(processes)}
    for sign in itertools.count():
        # Where process 0 cannot be reached, nothing is known of the others; if that lasts, JAX tells.
        with contextlib.suppress(Exception):
            client.key_value_set(f"a2j alive/{index}", str(sign), allow_overwrite=True)
            now = time.monotonic()
            for key, seen in client.key_value_dir_get("a2j alive/"):
                if last[key][0] != seen:
                    last[key] = seen, now
            silent = [key for key, (_, seen_at) in last.items() if now - seen_at > _SILENCE_SECONDS]
            if silent:
                numbers = ", ".join(key.rpartition("/")[2] for key in silent)
                _end_alone(f"process {index} of {processes}", numbers)
        if _parted.wait(_BEAT_SECONDS):
            return


def _end_alone(who: str, silent: str) -> None:
    print(
        f"a2j: error: {who}: nothing was heard of process {silent} for {_SILENCE_SECONDS} s; what it printed last may "
        "say why. The same command goes on from the last complete checkpoint",
        file=sys.stderr,
        flush=True,
    )
    os._exit(2)


def rows_of_all(columns: "dict[str, NDArray[Any]]") -> "dict[str, NDArray[Any]]":
    """Rows that each process has, put together in the order of the processes, bit for bit.

    Args:
      columns: name -> (N, ...) array; N may differ between processes, the rest may not.

    Returns:
      name -> (sum of all N, ...), the same in every process.
    """
    if not several() or not columns:
        return columns
    import numpy as np
    from jax.experimental.multihost_utils import process_allgather

    counts = process_allgather(np.array(len(next(iter(columns.values())))))
    gathered = {}
    for name, rows in columns.items():
        # As bytes: what travels between devices is cut to 32 bits.
        flat = np.ascontiguousarray(rows).reshape(len(rows), math.prod(rows.shape[1:]))
        padded = np.zeros((counts.max(), flat.shape[1] * rows.itemsize), np.uint8)
        padded[: len(rows)] = flat.view(np.uint8)
        parts = [part[:n] for part, n in zip(process_allgather(padded), counts, strict=True)]
        whole = np.ascontiguousarray(np.concatenate(parts)).view(rows.dtype)
        gathered[name] = whole.reshape(-1, *rows.shape[1:])
    return gathered
