"""Run directories: JSON Lines that outlive a kill, one run at a time, and a folder of runs."""

import subprocess
import sys
from pathlib import Path

import pytest

from a2j_jax.errors import UserError
from a2j_jax.runs import run_dir
from a2j_jax.runs.run_dir import claimed, read_config


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    assert run_dir.read(path) == []
    for number in range(3):
        run_dir.append(path, {"number": number})
    assert run_dir.read(path) == [{"number": number} for number in range(3)]
    assert path.read_bytes().count(b"\n") == 3


@pytest.mark.parametrize("cut", [1, 2, 6])
def test_a_line_that_was_cut_harms_no_other(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "lines.jsonl"
    for number in range(2):
        run_dir.append(path, {"number": number})
    path.write_bytes(path.read_bytes()[:-cut])
    run_dir.append(path, {"number": 2})
    numbers = [line["number"] for line in run_dir.read(path)]
    assert numbers == ([0, 1, 2] if cut == 1 else [0, 2])  # of 1: only the end of its line was lost


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.symlink_to("/dev/full")
    with pytest.raises(UserError, match="No space left on device") as caught:
        run_dir.append(path, {"number": 0})
    assert str(path) in str(caught.value)


HOLD = """
import sys, time
from pathlib import Path
from a2j_jax.runs.run_dir import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_another_process_is_refused_until_this_one_ends_even_if_killed(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with (
            pytest.raises(UserError, match=f"{tmp_path}: another process is training there"),
            claimed(tmp_path),
        ):
            pass
    finally:
        other.kill()
        other.communicate()
    with claimed(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []  # it leaves nothing behind


def test_the_folder_of_a_table_names_a_run_that_is_in_it(tmp_path: Path) -> None:
    run = tmp_path / "a2j" / "seed_0"
    run.mkdir(parents=True)
    (run / "config.json").touch()
    with pytest.raises(UserError, match=f"is not a run .*; {run} in it is one"):
        read_config(tmp_path)
    with pytest.raises(UserError, match=r"of a2j_jax$"):
        read_config(tmp_path / "a2j")
