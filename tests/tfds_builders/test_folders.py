"""Where data sets are looked for, and how labels and frames are counted against each other."""

import pytest

from a2j_jax.errors import UserError
from tfds_builders import raw_files

CANDIDATES = ("set/train/labels.txt", "train/labels.txt")


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize(
    "there",
    [
        "set/train/labels.txt",
        "train/labels.txt",
        "Train/LABELS.txt",
        "some name/train/labels.txt",
        "some name/SET/Train/labels.txt",
    ],
)
def test_in_the_folder_or_one_below_in_any_case(tmp_path, there):
    path = touch(tmp_path / there)
    (tmp_path / "another").mkdir()
    assert raw_files.find(tmp_path, CANDIDATES) == path


def test_no_deeper_and_nowhere_else(tmp_path):
    touch(tmp_path / "a" / "b" / "train" / "labels.txt")
    touch(tmp_path / "train")  # a file
    assert raw_files.find(tmp_path, CANDIDATES) is None
    assert raw_files.find(tmp_path / "absent", CANDIDATES) is None
    assert raw_files.find_in(tmp_path / "a", CANDIDATES) is None


def test_the_folder_itself_and_the_exact_spelling_come_first(tmp_path):
    touch(tmp_path / "set" / "train" / "labels.txt")
    for name in ("TRAIN", "train", "below/train"):
        touch(tmp_path / name / "labels.txt")
    assert raw_files.find(tmp_path, CANDIDATES[1:]) == tmp_path / "train" / "labels.txt"
    assert raw_files.find(tmp_path, CANDIDATES) == tmp_path / "set" / "train" / "labels.txt"


def test_several_folders_below_are_named(tmp_path):
    for name in ("v1", "v2"):
        touch(tmp_path / name / "train" / "labels.txt")
    with pytest.raises(UserError, match=r"set/train/labels\.txt is in several folders \(v1, v2\)"):
        raw_files.find(tmp_path, CANDIDATES)
    assert raw_files.find(tmp_path / "v2", CANDIDATES) is not None


def test_counting_files(tmp_path):
    for name in ("a_1.png", "A_2.PNG", "b_1.png", "sub/a_3.png", "sub/deeper/a_4.png", "a.txt"):
        touch(tmp_path / name)
    for name in ("._a_1.png", "sub/._a_3.png", "__MACOSX/a_1.png", ".DS_Store", "Thumbs.db"):
        touch(tmp_path / name)
    assert raw_files.count_files(tmp_path) == 5
    assert raw_files.count_files(tmp_path, "a_") == 4


def test_names_in_tables_find_files_in_other_letter_case(tmp_path):
    for name in ("Sub/A.PNG", "b.png", "B.PNG"):
        touch(tmp_path / name)
    for name, there in {"sub/a.png": "Sub/A.PNG", "b.png": "b.png", "c.png": "c.png"}.items():
        assert raw_files.spelled(tmp_path, name) == tmp_path / there
    for name in ("../b.png", "sub/../../b.png", "/b.png"):
        with pytest.raises(UserError, match="leads out"):
            raw_files.spelled(tmp_path / "Sub", name)


def test_companion_folders_hold_no_data_set(tmp_path):
    path = touch(tmp_path / "a" / "train" / "labels.txt")
    touch(tmp_path / "__MACOSX" / "train" / "labels.txt")
    assert raw_files.find(tmp_path, CANDIDATES) == path


def test_relative_names(tmp_path):
    assert raw_files.relative(tmp_path, tmp_path) == ""
    assert raw_files.relative(tmp_path / ".hidden" / "train", tmp_path) == ".hidden/train"


def test_counts_are_compared_both_ways():
    assert raw_files.compare_counts("l", 5, "f", 5) == ()
    assert "2 that it does not list" in raw_files.compare_counts("l", 5, "f", 7)[0]
    assert "at least 3 missing" in raw_files.compare_counts("l", 5, "f", 2)[0]
    with pytest.raises(UserError, match="f holds no frames, l lists 5"):
        raw_files.compare_counts("l", 5, "f", 0)
