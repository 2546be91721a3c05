"""Several processes of one job: two of them on this machine, and what is said where they cannot meet."""

import signal
import socket
from pathlib import Path

import pytest

from a2j_jax import distributed
from a2j_jax.errors import UserError
from tests.processes_on_loopback import Ended, free_port, run

JOINED = """
import os, sys, time
from pathlib import Path
from a2j_jax import distributed
index = int(os.environ["JAX_PROCESS_ID"])
def join(**options):
    distributed.initialize(os.environ["JAX_COORDINATOR_ADDRESS"], 2, index, False, **options)
"""

PROGRAM = """
join()
print(distributed.name(), distributed.is_primary())
folder = Path(sys.argv[1])
if distributed.is_primary():
    time.sleep(0.5)
    (folder / "built").touch()
distributed.wait_for_all("built")
print((folder / "built").exists())
distributed.leave()
print(distributed.is_multiprocess())
"""

ALONE = """
if index == int(sys.argv[1]):
    join(timeout_seconds=2)
"""

MISTAKEN = """
join()
time.sleep(2 * index)
print("mine too", flush=True)
distributed.leave(failed=True)
os._exit(2)
"""

# One of them ends in the midst; the other waits for it, or for it to part.
WATCHED = """
distributed._BEAT_SECONDS, distributed._SILENCE_SECONDS, distributed._LAST_WORDS_SECONDS = 0.2, 4, 2
how, ends = sys.argv[1], int(sys.argv[2])
join()
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


def two(program: str, *arguments: object, port: int | None = None) -> list[Ended]:
    """How two processes of a program end."""
    return run(2, 1, *arguments, program=JOINED + program, port=port)


@pytest.mark.slow
def test_two_processes_meet_wait_and_part_and_leave_the_port_free(tmp_path: Path) -> None:
    """A second job, right after the first, at the same address, meets nothing of the first."""
    port = free_port()
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        told = two(PROGRAM, tmp_path / str(number), port=port)
        assert [each.status for each in told] == [0, 0], told
        for index, first in enumerate([True, False]):
            said = [f"process {index} of 2 {first}", "True", "False"]
            assert told[index].out.splitlines() == said
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("localhost", port))


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_one_that_is_left_alone_says_so(index: int) -> None:
    port = free_port()
    left = two(ALONE, index, port=port)[index]
    assert left.status == 2
    said = f"a2j: error: process {index}: not all processes came to localhost:{port}"
    assert said in left.last


@pytest.mark.slow
def test_the_first_does_not_end_before_all_have_told_of_the_same_mistake() -> None:
    told = two(MISTAKEN)
    assert [(each.status, each.out) for each in told] == [(2, "mine too\n")] * 2, told


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
    told = two(WATCHED, how, ends)
    assert [each.status for each in told] == ([status, 1] if ends == 0 else [1, status]), told
    other = told[1 - ends]
    assert other.out == ""
    said = f"a2j: error: process {1 - ends} of 2: {reason.format(ends)}"
    assert other.last.startswith(said)
    assert "***" not in other.err  # as over the stack of an abort


@pytest.mark.slow
def test_one_that_waits_for_the_others_to_part_is_alive() -> None:
    told = two(WATCHED, "slow", 1)
    assert [(each.status, each.out) for each in told] == [(0, "parted\n")] * 2, told


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
