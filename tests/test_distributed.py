"""Several processes of one job: two of them on this machine, and what is said where they cannot meet."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from a2j_jax import distributed
from a2j_jax.errors import UserError
from tests.processes_on_loopback import free_port

PROGRAM = """
import sys, time
from pathlib import Path
from a2j_jax import distributed
index, address, folder, seconds = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
distributed.initialize(address, 2, index, False, timeout_seconds=seconds)
print(distributed.name(), distributed.is_primary())
if distributed.is_primary():
    time.sleep(0.5)
    (folder / "built").touch()
distributed.wait_for_all("built")
print((folder / "built").exists())
distributed.leave()
print(distributed.is_multiprocess())
"""

MISTAKEN = """
import os, sys, time
from a2j_jax import distributed
distributed.initialize(sys.argv[2], 2, int(sys.argv[1]), False)
time.sleep(2 * int(sys.argv[1]))
print("mine too", flush=True)
distributed.leave(failed=True)
os._exit(2)
"""

# One of them ends in the midst; the other waits for it, or for it to part.
WATCHED = """
import os, sys, time
from a2j_jax import distributed
distributed._BEAT_SECONDS, distributed._SILENCE_SECONDS, distributed._LAST_WORDS_SECONDS = 0.2, 4, 2
index, how, ends = int(sys.argv[1]), sys.argv[3], int(sys.argv[4])
distributed.initialize(sys.argv[2], 2, index, False)
distributed.wait_for_all("begin")
if index == ends:
    if how == "killed":
        os.kill(os.getpid(), 9)
    if how == "failed":
        distributed.leave(failed=True, wait=False)
        os._exit(2)
    time.sleep(6)
elif how != "slow":
    try:
        distributed.wait_for_all("end")
    except Exception as error:  # as the command line has it
        os._exit(distributed.report_failure(error))
distributed.leave()
print("parted")
"""


def start(index: int, *arguments: object, program: str = PROGRAM) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, str(index), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_meet_wait_and_part(tmp_path: Path) -> None:
    address = f"localhost:{free_port()}"
    both = [start(index, address, tmp_path, 100) for index in range(2)]
    (first, _), (second, _) = (process.communicate(timeout=120) for process in both)
    assert first.splitlines() == ["process 0 of 2 True", "True", "False"]
    assert second.splitlines() == ["process 1 of 2 False", "True", "False"]
    assert [process.returncode for process in both] == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_one_that_is_left_alone_says_so(tmp_path: Path, index: int) -> None:
    address = f"localhost:{free_port()}"
    process = start(index, address, tmp_path, 2)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    complaint = said.splitlines()[-1]
    assert f"a2j: error: process {index}: not all processes came to {address}" in complaint


@pytest.mark.slow
def test_the_first_does_not_end_before_all_have_told_of_the_same_mistake() -> None:
    address = f"localhost:{free_port()}"
    both = [start(index, address, program=MISTAKEN) for index in range(2)]
    told = [process.communicate(timeout=120) for process in both]
    assert [out for out, _ in told] == ["mine too\n"] * 2, told
    assert [process.returncode for process in both] == [2, 2], told


@pytest.mark.slow
@pytest.mark.parametrize("ends", [0, 1])
@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        ("killed", -signal.SIGKILL, "nothing was heard of process {} for 4 s"),
        ("failed", 2, "process {} failed"),
    ],
)
def test_the_others_end_where_one_was_killed_or_failed(
    how: str, status: int, reason: str, ends: int
) -> None:
    """Process 0 too, which JAX would have take the others along."""
    address = f"localhost:{free_port()}"
    both = [start(index, address, how, ends, program=WATCHED) for index in range(2)]
    told = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == (
        [status, 1] if ends == 0 else [1, status]
    ), told
    out, said = told[1 - ends]
    assert out == ""
    assert said.splitlines()[-1].startswith(
        f"a2j: error: process {1 - ends} of 2: {reason.format(ends)}"
    )
    assert "***" not in said  # as over the stack of an abort


@pytest.mark.slow
def test_one_that_waits_for_the_others_to_part_is_alive() -> None:
    address = f"localhost:{free_port()}"
    both = [start(index, address, "slow", 1, program=WATCHED) for index in range(2)]
    told = [process.communicate(timeout=120) for process in both]
    assert [out for out, _ in told] == ["parted\n"] * 2, told
    assert [process.returncode for process in both] == [0, 0], told


@pytest.mark.slow
def test_the_port_is_free_again_when_all_have_ended(tmp_path: Path) -> None:
    """A second job, right after the first, at the same address, meets nothing of the first."""
    port = free_port()
    address = f"localhost:{port}"
    for _ in range(2):
        both = [start(index, address, tmp_path, 100) for index in range(2)]
        told = [process.communicate(timeout=120) for process in both]
        assert [process.returncode for process in both] == [0, 0], told
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("localhost", port))


def test_on_its_own_a_process_is_the_first() -> None:
    assert distributed.is_primary()
    assert not distributed.is_multiprocess()
    assert distributed.name() == ""
    distributed.wait_for_all("nobody")
    distributed.leave()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("here:1", None, 0), "missing here: --num_processes"),
        ((None, 2, None), "missing here: --coordinator_address, --process_id"),
        (("here", 2, 0), "--coordinator_address here: expected HOST:PORT"),
        (("here:1", 2, 2), "--process_id 2 of --num_processes 2: expected 0 to 1"),
        (("localhost:99999", 2, 0), "cannot listen at that port"),
    ],
)
def test_values_that_lead_nowhere(given: tuple, said: str) -> None:
    with pytest.raises(UserError) as caught:
        distributed.initialize(*given, detect=False)
    assert said in str(caught.value)


def test_a_port_that_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"localhost:{port}: process 0 cannot listen"):
            distributed.initialize(f"localhost:{port}", 2, 0, False)
