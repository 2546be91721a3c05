"""JSON Lines: appended to and read after a kill; a file that cannot be written is named."""

from pathlib import Path

import pytest

from a2j_jax.errors import UserError
from a2j_jax.runs import run_dir


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
