"""Which of two formats a file of boxes has, and what happens to lines that are no box."""

import numpy as np
import pytest

from a2j_jax.errors import UserError
from tfds_builders.hands2017 import read_boxes, to_corners

SIZE = (640, 480)
CORNERS = np.array(
    [[100, 80, 260, 250], [300, 200, 420, 330], [0, 0, 90, 70], [500, 300, 640, 480.0]]
)
SIZES = np.concatenate([CORNERS[:, :2], CORNERS[:, 2:] - CORNERS[:, :2]], axis=1)
INSIDE = np.minimum(CORNERS, [639, 479, 639, 479])


def test_corners():
    boxes, found = to_corners(CORNERS, SIZE)
    assert found == "x0 y0 x1 y1"
    np.testing.assert_array_equal(boxes, INSIDE)


def test_sizes():
    boxes, found = to_corners(SIZES, SIZE)
    assert found == "x y width height"
    np.testing.assert_array_equal(boxes, INSIDE)


def test_hands_in_the_upper_left_are_read_as_corners():
    """Every box fits both readings."""
    boxes, found = to_corners(np.array([[100, 80, 220, 190.0]]), SIZE)
    assert found == "x0 y0 x1 y1"
    np.testing.assert_array_equal(boxes, [[100, 80, 220, 190]])


@pytest.mark.parametrize("values", [CORNERS, SIZES])
def test_a_few_odd_lines_do_not_decide(values):
    odd = [[np.nan, 0, 1, 1], [50, 50, 0, 0], [900, 900, 950, 950]]
    boxes, found = to_corners(np.concatenate([values, odd]), SIZE)
    assert found == to_corners(values, SIZE)[1]
    np.testing.assert_array_equal(boxes[:4], INSIDE)
    assert np.isnan(boxes[4]).all()
    assert np.isnan(boxes[6]).all()


def test_a_file_of_something_else(tmp_path):
    path = tmp_path / "BoundingBox.txt"
    path.write_text("a.png 700 700 900 900\nb.png 0 0 2000 2000\nc.png 1 1 5 5\n")
    with pytest.raises(UserError, match="most lines lie in the 640x480 frame"):
        read_boxes(path, SIZE)


def test_names_lose_their_folder_and_bad_lines_are_counted(tmp_path):
    path = tmp_path / "BoundingBox.txt"
    path.write_text("frame/images/a.png 1 2 30 40\nb.png\t5\t5\t5\t5\t\nc.png 300 300 350 360\n")
    names, boxes, notes = read_boxes(path, SIZE)
    assert names == ["a.png", "b.png", "c.png"]
    expected = [[1, 2, 30, 40], [0, 0, 639, 479], [300, 300, 350, 360]]
    np.testing.assert_array_equal(boxes, expected)
    assert notes == (
        "BoundingBox.txt: read as x0 y0 x1 y1",
        "BoundingBox.txt: 1 line without a box; the whole frame is taken",
    )
