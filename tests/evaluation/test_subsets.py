"""Subsets of frames: their lists, and their scores."""

from pathlib import Path

import numpy as np
import pytest

from a2j_jax.errors import UserError
from a2j_jax.evaluation.pairing import frame_numbers, read_subsets
from a2j_jax.evaluation.scores import score_errors, with_subsets
from a2j_jax.evaluation.tables import paper_table, score_tables
from a2j_jax.tracks import get_track

HANDS = get_track("hands2017")


def test_lists_are_names_or_numbers(tmp_path: Path) -> None:
    (tmp_path / "seen.txt").write_text(
        "frame/images/image_D00000003.png\t1.0\t2.0\nimage_D00000001.png\n\n"
    )
    (tmp_path / "unseen.txt").write_text("\ufeff4\n1,\n")
    lists = read_subsets({"seen": tmp_path / "seen.txt", "unseen": tmp_path / "unseen.txt"})
    index = np.arange(2, 5)  # frames may have been left out of the data set
    named = np.array([f"image_D{n + 1:08d}.png" for n in index])
    for names in (None, named):
        subsets = frame_numbers(lists, index, names)
        assert {name: numbers.tolist() for name, numbers in subsets.items()} == {
            "seen": [0, 2],
            "unseen": [1, 4],
        }


NAMES = np.array(["a/0.png", "a/1.png", "b c/0.png", "b c/2.PNG", "image_D00000001.png"])


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1.png\n", [20]),
        ("a/0.png 1.5 2\na/0.png 3 4\n", [10]),
        ("2.png,1.5,2\n/data/b c/0.png\t7\n", [30, 40]),
        ("/data/mine/b c/2.png\na/1\n", [20, 40]),
        ("image_D00000001.png\n", [50]),  # a custom track's: its name is no number
        ("10\n30\n", [10, 30]),
    ],
)
def test_names_are_joined_with_those_of_the_data_set(
    tmp_path: Path, text: str, numbers: list[int]
) -> None:
    (tmp_path / "list.txt").write_text(text)
    lists = read_subsets({"some": tmp_path / "list.txt"})
    found = frame_numbers(lists, np.arange(10, 60, 10), NAMES)
    assert found["some"].tolist() == numbers


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a/0.png\nc/9.png\nc/8.png\n", r"list\.txt: 2 of its names .* 5 frames .* 'c/9\.png'"),
        ("image_D00000002.png\n", r"1 of its names .* 'image_D00000002\.png'"),
        ("0.png\n", r"list\.txt: frame '0\.png' may be .*'a/0\.png' .*'b c/0\.png'"),
        ("7\na/0.png\n", "1 of its names .* '7'"),
        ("-1\n", "names .* '-1'"),
    ],
)
def test_names_of_no_frame_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    lists = read_subsets({"some": tmp_path / "list.txt"})
    with pytest.raises(UserError, match=said):
        frame_numbers(lists, np.arange(5), NAMES)


def test_a_listed_frame_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a/0.png\na/1.png\n")
    lists = read_subsets({"some": tmp_path / "list.txt"})
    found = frame_numbers(lists, np.arange(1, 5), NAMES[1:], unreadable=1)
    assert found["some"].tolist() == [1]
    with pytest.raises(UserError, match=r"'a/0\.png'"):
        frame_numbers(lists, np.arange(1, 5), NAMES[1:])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("a.png 1 2\n", "line begins with 'a.png'"),
        ("-1\n", "a number from 0"),
        ("9" * 40, "a number from 0"),
        ("٣\n", "a number from 0"),
    ],
)
def test_other_lists_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(UserError, match=said):
        frame_numbers(read_subsets({"seen": tmp_path / "list.txt"}), np.arange(3), None)


def test_a_subset_is_scored_by_frame_number() -> None:
    errors = np.repeat([[1.0], [2.0], [6.0]], 21, axis=1)
    labels = np.zeros((3, 21, 3))
    index = np.array([10, 20, 30])
    subsets = {"seen": np.array([10, 30, 99]), "unseen": np.array([20])}
    scores = with_subsets({"A2J": score_errors(errors, HANDS)}, subsets, index, HANDS, labels)
    told = scores["A2J"].to_json()
    assert told["mean_error_mm"] == 3.0
    assert told["subsets"]["seen"]["mean_error_mm"] == 3.5
    assert told["subsets"]["seen"]["frames"] == 2
    assert told["subsets"]["unseen"]["mean_error_mm"] == 2.0
    labels_of_rows = [row[0] for row in score_tables(scores)[0][0].rows]
    assert "mean error, seen (2 frames)" in labels_of_rows
    paper = paper_table("hands2017", scores)
    assert paper is not None
    assert paper.rows[-1][:4] == ("A2J (here)", "3.00", "3.50", "2.00")  # beside Table 2's columns
    with pytest.raises(UserError, match=r"subset 'other': none of its 1 frames is among the 3"):
        with_subsets(scores, {"other": np.array([5])}, index, HANDS, labels)


def test_without_subsets_the_json_has_none() -> None:
    scores = {"A2J": score_errors(np.ones((3, 21)), HANDS)}
    same = with_subsets(scores, {}, np.arange(3), HANDS, np.zeros((3, 21, 3)))
    assert "subsets" not in same["A2J"].to_json()
