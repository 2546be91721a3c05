"""One run at a time in a run directory; and a folder of runs is not one itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from a2j_jax.errors import UserError
from a2j_jax.runs.run_dir import claimed, read_config

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
