"""Several processes of one job: joining, identity, barriers, failures and the order of exits.

JAX aborts a process (C++ stack, status -6) when the coordination service it is connected to goes away. The service
therefore runs in a separate small process (`serve`), which outlives all connections, so that no process that
finishes, fails or is killed aborts the others. Each publishes how it ended, and disconnects before it exits.

Importing this module does not import JAX.
"""

import contextlib
import itertools
import json
import math
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2j_jax.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

JOIN_SECONDS = 300  # nodes of a cluster do not start at once
_BARRIER_SECONDS = 24 * 3600
_LAST_WORDS_SECONDS = 10
_END_SECONDS = 60
_DISCONNECT_SECONDS = 30
_SERVICE_SECONDS = 10
_BEAT_SECONDS = 5
_SILENCE_SECONDS = 60  # less than JAX's limit, at which it aborts the process with a stack trace
_JAX_SILENCE_SECONDS = 600
_ALIVE, _ENDED = "a2j alive/", "a2j ended/"  # + index: keys that processes publish
_SHARED_SECONDS = 30  # a network file system may remember for that long what was not there
_told = itertools.count()
_preempted = threading.Event()
_parted = threading.Event()
_has_failed = threading.Event()
_threads: list[threading.Thread] = []
_last_word = threading.Lock()  # held by the thread that prints why this process ends


def initialize(
    coordinator_address: str | None,
    num_processes: int | None,
    process_id: int | None,
    detect: bool,
    timeout_seconds: int = JOIN_SECONDS,
) -> None:
    """Joins the other processes of this job, before anything touches a device.

    Args:
      coordinator_address: "HOST:PORT" of process 0, the same for all; the port must be free there.
      num_processes: of the job.
      process_id: of this process, from 0.
      detect: let JAX detect missing values from the cluster (Slurm, Open MPI, TPU, Kubernetes).
      timeout_seconds: the process ends with status 2 where not all have joined by then; JAX would abort it.

    Raises:
      UserError: values that are missing or contradict each other, or no cluster to detect.
    """
    import jax

    _check(coordinator_address, num_processes, process_id, detect)
    from jaxlib import _jax

    from a2j_jax.log import logger

    _jax.get_distributed_runtime_service = _Service  # JAX calls it in process 0
    who = "this process" if process_id is None else f"process {process_id}"
    where = coordinator_address or "the cluster's coordinator"
    if process_id == 0 and coordinator_address is not None:
        _check_port(coordinator_address)
    logger.info(f"{who} joins {num_processes or 'the'} processes at {where}")
    end = threading.Timer(timeout_seconds, _give_up, (who, where, timeout_seconds))
    end.daemon = True
    end.start()
    try:
        jax.distributed.initialize(
            coordinator_address,
            num_processes,
            process_id,
            # Otherwise values given here would be mixed with Slurm's local devices.
            cluster_detection_method=None if detect else "deactivate",
            initialization_timeout=timeout_seconds + 60,
            heartbeat_timeout_seconds=_JAX_SILENCE_SECONDS,
            shutdown_timeout_seconds=0,  # `leave` waits for the others, disconnecting does not
        )
    except Exception as error:  # JAX, its client and every kind of cluster raise different ones
        reason = " ".join(str(error).split())
        if detect and not coordinator_address:
            raise UserError(
                f"--distributed: no cluster found ({reason}); expected Slurm, Open MPI, a TPU slice or Kubernetes; "
                "else give --coordinator_address HOST:PORT, --num_processes N and --process_id I"
            ) from error
        raise UserError(f"{who} cannot join the others at {where}: {reason}") from error
    finally:
        end.cancel()
    if jax.default_backend() == "cpu":
        # Only process 0 would have cache hits, and gloo waits at most 30 s for others that still compile.
        jax.config.update("jax_enable_compilation_cache", False)
    if is_multiprocess():
        _start(_watch, _client(), jax.process_index(), jax.process_count())


def _check(address: str | None, count: int | None, index: int | None, detect: bool) -> None:
    given = {"--coordinator_address": address, "--num_processes": count, "--process_id": index}
    missing = [name for name, value in given.items() if value is None]
    if missing and not detect:
        raise UserError(
            f"several processes need {', '.join(given)} on each of them; missing here: {', '.join(missing)} "
            "(or --distributed, to detect them from the cluster)"
        )
    if address is not None and not address.rpartition(":")[2].isdecimal():
        raise UserError(f"--coordinator_address {address}: expected HOST:PORT, e.g. 10.0.0.1:9876")
    if count is not None and index is not None and index >= count:
        raise UserError(
            f"--process_id {index} of --num_processes {count}: expected 0 to {count - 1}, each once"
        )


def _check_port(address: str) -> None:
    """Rejects a port in use, on which JAX would wait in vain; the service of a job that just ended frees its port."""
    for attempts_left in (3, 2, 1, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", int(address.rpartition(":")[2])))
                return
            except (OSError, OverflowError) as error:
                if attempts_left and isinstance(error, OSError):
                    time.sleep(1)
                    continue
                raise UserError(
                    f"--coordinator_address {address}: process 0 cannot listen at that port ({error}); "
                    "name another one, the same for all"
                ) from error


def _give_up(who: str, where: str, seconds: int) -> None:
    _print_last(
        f"{who}: not all processes came to {where} within {seconds} s; check that the address is process 0's and "
        "can be reached from here, and that every process was started with its own --process_id"
    )
    os._exit(2)


def is_multiprocess() -> bool:
    """Whether this process has joined others."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1


def count() -> int:
    """The number of processes; 1 without `initialize`."""
    return sys.modules["jax"].process_count() if is_multiprocess() else 1


def index() -> int:
    """The number of this process, from 0."""
    return sys.modules["jax"].process_index() if is_multiprocess() else 0


def is_primary() -> bool:
    """Whether this is process 0, which writes, builds and reports."""
    return not is_multiprocess() or sys.modules["jax"].process_index() == 0


def name() -> str:
    """The name of this process, as in `process 1 of 4`; empty for a single process."""
    if not is_multiprocess():
        return ""
    jax = sys.modules["jax"]
    return f"process {jax.process_index()} of {jax.process_count()}"


def leave(failed: bool = False, wait: bool = True) -> None:
    """Publishes how this process ended, waits for the others to end, and disconnects.

    Call it when everything is printed and saved, and exit afterward. It waits 10 s after a failure, as the others may
    report the same mistake themselves, otherwise 60 s, since they may still receive data from here.
    """
    if not is_multiprocess():
        return
    _parted.set()
    if failed:
        _has_failed.set()
    index, processes = sys.modules["jax"].process_index(), count()
    with contextlib.suppress(Exception):  # the coordinator may be out of reach
        _client().key_value_set(f"{_ENDED}{index}", str(int(failed)), allow_overwrite=True)
        end = time.monotonic() + (_LAST_WORDS_SECONDS if failed else _END_SECONDS)
        while wait and time.monotonic() < end:
            ended = _ended(_client())
            if len(ended) == processes or (not failed and any(ended.values())):
                break
            time.sleep(0.1)
    for thread in _threads:  # the watching thread ends on `_parted`, unless a call takes long
        thread.join(_DISCONNECT_SECONDS)
    _start(sys.modules["jax"].distributed.shutdown).join(_DISCONNECT_SECONDS)


def _start(target: Callable[..., None], *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    _threads.append(thread)
    thread.start()
    return thread


def in_a_call() -> bool:
    """Whether a thread of this module is still in a call of JAX: taking down the interpreter would then abort."""
    return any(thread.is_alive() for thread in _threads)


def claim_last_word() -> None:
    """Keeps the watching thread from printing another reason; call it before printing why this process ends."""
    if not is_multiprocess():
        return  # there is no such thread, and `main` may be called again
    if not _last_word.acquire(blocking=False) and not _parted.is_set():
        time.sleep(_LAST_WORDS_SECONDS)  # that thread is printing, and ends the process


def report_failure(error: Exception) -> int:
    """Prints why one of several processes fails; returns its exit status.

    One line where another process failed or contact with it was lost; otherwise a traceback, for a bug.
    """
    reason = _lost(error)
    claim_last_word()
    if not reason:
        traceback.print_exception(error)
        reason = f"{type(error).__name__} ended it"
    _print_last(f"{name()}: {_last_line(reason)}")
    return 1


def _lost(error: Exception) -> str:
    """How another process caused this error; empty where none did."""
    end = time.monotonic() + 2  # it may need a moment to publish its failure
    while time.monotonic() < end:
        try:
            failed = [index for index, has_failed in _ended(_client()).items() if has_failed]
        except Exception:  # JAX's client raises many kinds
            return "the coordination service cannot be reached"
        if failed:
            return f"process {failed[0]} failed"
        time.sleep(0.1)
    text = " ".join(str(error).split())
    if any(sign in text for sign in ("Gloo", "gloo", "UNAVAILABLE", "onnection", "NCCL", "peer")):
        return f"contact with another process was lost ({text[:200]})"
    return ""


def _last_line(reason: str) -> str:
    return f"{reason}; see the last lines of that process. The same command resumes from the last complete checkpoint"


def wait_for_all(barrier: str) -> None:
    """Waits until every process is here, for up to a day; `barrier` is a name that is used once."""
    if is_multiprocess():
        # JAX's public barrier is a computation, which times out.
        _client().wait_at_barrier(f"a2j {barrier}", _BARRIER_SECONDS * 1000)


def from_primary(value: str) -> str:
    """Process 0's value, in all of them; every process calls this as often as the others, in the same order."""
    if not is_multiprocess():
        return value
    key = f"a2j told/{next(_told)}"
    if is_primary():
        _client().key_value_set(key, value)
    return str(_client().blocking_key_value_get(key, _BARRIER_SECONDS * 1000))


def require_same(what: str, value: str, where: str) -> None:
    """Checks that every process has the same of something; waits until all have come.

    Args:
      what: a name that is used once, in words.
      value: to compare.
      where: this process has it from, for the message: a path.

    Raises:
      UserError: in every process, with the hosts and places of those that differ from process 0.
    """
    if not is_multiprocess():
        return
    key, client = f"a2j same/{what}/", _client()
    mine = json.dumps([value, f"on {socket.gethostname()}: {where}"])
    client.key_value_set(f"{key}{sys.modules['jax'].process_index()}", mine)
    waited = _BARRIER_SECONDS * 1000
    found = [json.loads(client.blocking_key_value_get(f"{key}{i}", waited)) for i in range(count())]
    others = [i for i, (other, _) in enumerate(found) if other != found[0][0]]
    if others:
        listed = "; ".join(f"process {i} {found[i][1]}" for i in [0, *others])
        raise UserError(f"{what} is not the same for all processes: {listed}")


def require_shared(folder: Path, what: str) -> None:
    """Checks that a folder is one and the same for all processes: process 0, which makes it, leaves a token there.

    Raises:
      UserError: in every process, where one of them has not seen the token after half a minute; in process 0, where it
        cannot be written.
    """
    if not is_multiprocess():
        return
    token = folder / f".token-{secrets.token_hex(8)}"
    if is_primary():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            token.touch()
        except OSError as error:
            raise UserError(f"{what} {folder} cannot be written: {error.strerror}") from error
    token = folder / from_primary(token.name)
    end = time.monotonic() + _SHARED_SECONDS
    while not (seen := token.exists()) and time.monotonic() < end:
        with contextlib.suppress(OSError):  # a network file system may remember what was not there
            os.listdir(folder)
        time.sleep(0.2)
    try:
        require_same(f"{what} (a folder that all see)", str(seen), str(folder.absolute()))
    finally:
        if is_primary():
            token.unlink(missing_ok=True)


def preempted() -> bool:
    """Whether a process of this job got SIGTERM, which JAX's preemption service hears; known some seconds later."""
    return _preempted.is_set()


def _client() -> Any:
    """JAX's client of the coordination service."""
    from jax._src.distributed import global_state

    assert global_state.client is not None
    return global_state.client


def _ended(client: Any) -> dict[int, bool]:
    """Processes that have ended -> whether they failed."""
    found = client.key_value_dir_get(_ENDED)
    return {int(key.rpartition("/")[2]): value == "1" for key, value in found}


def _watch(client: Any, index: int, processes: int) -> None:
    """Sends heartbeats, and ends this process where another has failed or its heartbeats stop.

    Otherwise it would wait forever in a save or a collective operation, where Python cannot interrupt it; JAX's own
    heartbeat aborts the process.
    """
    who = f"process {index} of {processes}"
    reached_at = start = time.monotonic()
    # Process -> its last heartbeat, and when that was first seen.
    last = dict.fromkeys(range(processes), ("", start))
    failed_at: dict[int, float] = {}
    for beat in itertools.count():
        with contextlib.suppress(Exception):
            client.key_value_set(f"{_ALIVE}{index}", str(beat), allow_overwrite=True)
            ended = _ended(client)
            if not _preempted.is_set():
                _look_for_preemption(client)
            reached_at = now = time.monotonic()
            for key, seen in client.key_value_dir_get(_ALIVE):
                other = int(key.rpartition("/")[2])
                if last[other][0] != seen:
                    last[other] = seen, now
            for other, (_, at) in last.items():
                if ended.get(other):
                    failed_at.setdefault(other, now)
                    # This process may be about to find and report the same mistake.
                    if now - failed_at[other] > 2 * _LAST_WORDS_SECONDS:
                        _end_alone(who, f"process {other} failed")
                elif other not in ended and now - at > _SILENCE_SECONDS:
                    _end_alone(
                        who, f"nothing was heard of process {other} for {_SILENCE_SECONDS} s"
                    )
        if time.monotonic() - reached_at > 2 * _SILENCE_SECONDS:
            _end_alone(who, "the coordination service cannot be reached")
        if _parted.wait(_BEAT_SECONDS):
            return


def _look_for_preemption(client: Any) -> None:
    with contextlib.suppress(Exception):  # not found
        client.key_value_try_get("RECEIVED_PREEMPTION_NOTICE")
        _preempted.set()


def _end_alone(who: str, reason: str) -> None:
    if not _parted.is_set():
        end_now(f"{who}: {_last_line(reason)}", 1)


def end_now(reason: str, status: int) -> None:
    """Ends this process from any thread, with a last line; the others learn of it. Does nothing if it is ending."""
    if not _last_word.acquire(blocking=False):
        return
    _print_last(reason)
    if is_multiprocess():
        with contextlib.suppress(Exception):
            index = sys.modules["jax"].process_index()
            _client().key_value_set(f"{_ENDED}{index}", "1", allow_overwrite=True)
    os._exit(status)


def _print_last(text: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # stderr may be closed
        print(f"a2j: error: {text}", file=sys.stderr, flush=True)


class _Service:
    """Replaces JAX's coordination service in process 0: starts `serve`, which ends by itself."""

    def __init__(self, address: str, processes: int, **_: Any) -> None:
        program = "import sys; from a2j_jax.distributed import serve; serve(*sys.argv[1:])"
        path = os.pathsep.join([str(Path(__file__).resolve().parent.parent), *sys.path])
        started = subprocess.Popen(
            [sys.executable, "-c", program, address, str(processes), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C in a terminal must not reach it
        )
        assert started.stdin is not None
        assert started.stdout is not None
        self._hold, self._ended = started.stdin, started.stdout
        if not self._ended.read(1):
            raise RuntimeError(f"its coordination service cannot listen at {address}")
        started.returncode = 0  # it may outlive this process

    def shutdown(self) -> None:
        """Lets the service end, and waits for that while others disconnect.

        A process of the next job at this address would connect to a service that is about to end, which JAX answers
        with an abort. After a failure the service outlives this process: others still learn of it there.
        """
        if _has_failed.is_set():
            return
        self._hold.close()
        select.select([self._ended], [], [], _SERVICE_SECONDS)


def serve(address: str, processes: str, parent: str) -> None:
    """Runs JAX's coordination service until process 0 (`parent`) has left and all connections are closed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    from jaxlib import _jax

    service = _jax.get_distributed_runtime_service(
        address,
        int(processes),
        heartbeat_timeout=_JAX_SILENCE_SECONDS,
        shutdown_timeout=0,
    )
    os.write(1, b".")
    # Standard input ends when process 0 leaves; a process that it forked may hold it open.
    while os.getppid() == int(parent) and not select.select([0], [], [], 0.2)[0]:
        pass
    # A host may be gone without closing its connection. One look may miss a connection: the table is no snapshot.
    end, port, looks = time.monotonic() + 3 * _SILENCE_SECONDS, int(address.rpartition(":")[2]), 0
    while time.monotonic() < end and looks < 3:
        looks = 0 if _connected(port, but=int(parent)) else looks + 1
        time.sleep(0.1)
    del service
    os._exit(0)


def _connected(port: int, but: int) -> bool:
    """Whether any process is connected to this port of this machine; True where the system does not tell.

    The process `but` does not count: JAX keeps its connection open until the process ends.
    """
    rows: list[list[str]] = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            rows += [line.split() for line in Path(table).read_text().splitlines()[1:]]
    sockets: set[str] = set()
    with contextlib.suppress(OSError):  # that process may be gone
        sockets = {os.readlink(fd) for fd in Path(f"/proc/{but}/fd").iterdir()}
    # ADDRESS:PORT in hexadecimal; the same IPv4 address ends alike in both tables.
    own = {row[1][-13:] for row in rows if f"socket:[{row[9]}]" in sockets}
    return not rows or any(
        row[3] == "01" and int(row[1][-4:], 16) == port and row[2][-13:] not in own for row in rows
    )


def rows_of_all(columns: "dict[str, NDArray[Any]]") -> "dict[str, NDArray[Any]]":
    """Concatenates rows (N, ...) of all processes in their order, bit for bit; only N may differ between processes."""
    if not is_multiprocess() or not columns:
        return columns
    import numpy as np
    from jax.experimental.multihost_utils import process_allgather

    counts = process_allgather(np.array(len(next(iter(columns.values())))))
    gathered = {}
    for name, rows in columns.items():
        # As bytes: JAX would convert 64-bit values to 32 bits.
        flat = np.ascontiguousarray(rows).reshape(len(rows), math.prod(rows.shape[1:]))
        padded = np.zeros((counts.max(), flat.shape[1] * rows.itemsize), np.uint8)
        padded[: len(rows)] = flat.view(np.uint8)
        parts = [part[:n] for part, n in zip(process_allgather(padded), counts, strict=True)]
        whole = np.ascontiguousarray(np.concatenate(parts)).view(rows.dtype)
        gathered[name] = whole.reshape(-1, *rows.shape[1:])
    return gathered
