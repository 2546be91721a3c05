"""Files of raw data sets: where they are found, what lines of numbers hold, which joints are labeled."""

import numpy as np
import pytest

from a2j_jax.errors import UserError
from tfds_builders import raw_files

# --- label lines; tests/data/test_array_files.py has what the lines of all files of numbers may hold


@pytest.mark.parametrize("rows", [2**14 - 1, 2**14, 2**15 + 1])
def test_blocks_join_to_the_whole_file(tmp_path, rows):
    expected = np.arange(2.0 * rows).reshape(-1, 2)
    path = tmp_path / "l.txt"
    path.write_text("".join(f"n\\{a} {a},({b})\n" for a, b in expected))
    names, values = raw_files.read_numbers(path, 2, "a point", convert=np.negative)
    assert names == [f"n/{a}" for a in expected[:, 0]]
    np.testing.assert_array_equal(values, -expected)


# --- rows


def test_a_joint_without_all_its_numbers_is_not_labeled():
    joints = np.ones((2, 3, 3), np.float32)
    assert raw_files.unlabeled_to_nan(joints, "l") == ()
    joints[1, 2, 0] = np.nan
    joints[1, 0, 2] = np.inf
    (note,) = raw_files.unlabeled_to_nan(joints, "l")
    assert "2 joints of 1 frame not labeled" in note
    assert np.isnan(joints).all(-1).tolist() == [[False] * 3, [True, False, True]]
    assert np.isnan(joints).sum() == 6


def test_other_ways_to_write_an_unlabeled_joint():
    flat = np.array([[[0, 0], [-1, -1], [-5, 40], [1e300, 3]]], np.float64)
    (note,) = raw_files.unlabeled_to_nan(flat, "l")
    assert "2 at 0,0 or negative pixels" in note
    assert "1 too large" in note
    assert np.isnan(flat).all(-1).tolist() == [[True, True, False, True]]
    joints = np.full((1, 3, 3), 5.0)
    joints[0, 0], joints[0, 1, 0] = 0, np.nan
    (note,) = raw_files.unlabeled_to_nan(joints, "l")
    assert "2 joints of 1 frame not labeled (1 with some numbers only, 1 with a depth of 0" in note
    assert np.isfinite(joints).all(-1).tolist() == [[False, False, True]]
    with pytest.raises(UserError, match="z points backwards"):
        raw_files.unlabeled_to_nan(np.full((4, 3, 3), -600.0), "l")
    with pytest.raises(UserError, match="12 of 12 joints have numbers above"):
        raw_files.unlabeled_to_nan(np.full((4, 3, 3), 1e300), "l")


CANDIDATES = ("set/train/labels.txt", "train/labels.txt")


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (["set/train/labels.txt"], 0),
        (["train/labels.txt"], 0),
        (["Train/LABELS.txt"], 0),
        (["some name/train/labels.txt"], 0),
        (["some name/SET/Train/labels.txt"], 0),
        (["a/b/train/labels.txt", "train"], None),  # too deep, and a file
        (["TRAIN/labels.txt", "train/labels.txt", "below/train/labels.txt"], 1),
        (["train/labels.txt", "set/train/labels.txt"], 1),
        (["SET/train/labels.txt", "train/labels.txt"], 1),  # the exact spelling of any comes first
    ],
)
def test_in_the_folder_or_one_below_in_any_case(tmp_path, there, found):
    paths = [touch(tmp_path / name) for name in there]
    (tmp_path / "another").mkdir()
    touch(tmp_path / "__MACOSX" / "train" / "labels.txt")  # holds no data set
    assert raw_files.find(tmp_path, CANDIDATES) == (None if found is None else paths[found])
    assert raw_files.find(tmp_path / "absent", CANDIDATES) is None


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


def test_counts_are_compared_both_ways():
    assert raw_files.compare_counts("l", 5, "f", 5) == ()
    assert "2 that it does not list" in raw_files.compare_counts("l", 5, "f", 7)[0]
    assert "at least 3 missing" in raw_files.compare_counts("l", 5, "f", 2)[0]
