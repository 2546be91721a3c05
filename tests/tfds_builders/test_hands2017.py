"""HANDS 2017 as shipped: xyz labels, a test set with boxes and without labels, or with yours."""

import numpy as np
import pytest

from a2j_jax import geometry
from a2j_jax.errors import UserError
from a2j_jax.tracks import get_track
from tests.distributions import hands2017 as fixture
from tfds_builders.hands2017 import Hands2017, read_boxes, to_corners

TRACK = get_track("hands2017")
# Labels are printed with four decimals of a mm: a thousandth of a px, or of a mm.
PRINTED = 1e-3


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"Test_Annotation.txt": [2, 0]}, "Test_Annotation.txt"),
        ({"seen.txt": [2], "unseen.txt": [0]}, "seen.txt + unseen.txt"),
    ],
)
def test_labels_of_the_test_set_in_any_order(tmp_path, files, name):
    labels = fixture.write(tmp_path, {"test": 3}, test_labels=True)["test"]
    path = tmp_path / "frame" / "Test_Annotation.txt"
    lines = path.read_text().splitlines(keepends=True)
    path.unlink()
    for file, rows in files.items():
        prefixed = [("frame\\images\\", "", "frame/images/")[row] + lines[row] for row in rows]
        path.with_name(file).write_text("".join(prefixed))
    split = Hands2017(tmp_path, TRACK).splits()["test"]
    np.testing.assert_allclose(split.joints_uvd[[0, 2]], labels[[0, 2]], atol=PRINTED)
    assert np.isnan(split.joints_uvd[1]).all()
    assert f"{name}: 1 of 3 frames without a label" in split.notes


def test_a_label_of_no_test_frame(tmp_path):
    labels = fixture.write(tmp_path, {"test": 3}, test_labels=True)["test"]
    path = tmp_path / "frame" / "Test_Annotation.txt"
    line = path.read_text().split("\n")[0]
    path.write_text(path.read_text() + line.replace("00000001", "00000009"))
    split = Hands2017(tmp_path, TRACK).splits()["test"]
    np.testing.assert_allclose(split.joints_uvd, labels, atol=PRINTED)
    assert split.faults == ("Test_Annotation.txt: 1 line of no test frame",)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("training/Training_Annotation.txt", "Training_Annotation.txt"),
        ("training/Training_Annotation.txt", "training/Annotations.txt"),
        ("frame/BoundingBox.txt", "frame/BBox.TXT"),
        ("frame/BoundingBox.txt", "frame/images/b.txt"),
        ("frame/BoundingBox.txt", "frame_bbox.txt"),
        ("frame/Test_Annotation.txt", "frame/Annotation.txt"),
        ("frame/Test_Annotation.txt", "frame/labels.txt"),
        ("frame/Test_Annotation.txt", "frame/images/x.txt"),
        ("frame/Test_Annotation.txt", "frame_test_annotation.txt"),
    ],
)
def test_text_files_are_recognized_by_their_lines(tmp_path, old, new):
    labels = fixture.write(tmp_path, {"train": 1, "test": 2}, test_labels=True)
    (tmp_path / "training" / "readme.txt").write_text("Thank you for your interest.")
    # The other split's labels may lie beside the test set's.
    moves = {"training/Training_Annotation.txt": "Training_Annotation.txt"} | {old: new}
    for before, after in moves.items():
        (tmp_path / before).rename(tmp_path / after)
    distribution = Hands2017(tmp_path, TRACK)
    splits = distribution.splits()
    assert splits["test"].boxes_px is not None
    name = moves.get("frame/Test_Annotation.txt", "Test_Annotation.txt").rsplit("/", 1)[-1]
    assert f"{name}: read as labels of the test frames" in splits["test"].notes
    for name, split in splits.items():
        np.testing.assert_allclose(split.joints_uvd, labels[name], atol=PRINTED)
        assert distribution.read_depth(split.sources[0]).shape == (480, 640)


def test_boxes_alone_make_no_test_frames_of_the_training_set(tmp_path):
    fixture.write(tmp_path, {"train": 1, "test": 1})
    (tmp_path / "frame" / "BoundingBox.txt").rename(tmp_path / "BoundingBox.txt")
    (tmp_path / "frame").rename(tmp_path / "kept elsewhere")
    assert list(Hands2017(tmp_path, TRACK).splits()) == ["train"]


TRAINING = "training/Training_Annotation.txt"
LABELS = "image_D00000001.png\t" + "300.0\t" * 63 + "\n"
BOX = "image_D00000001.png\t1\t2\t30\t40\n"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"frame/images/copy.txt": BOX}, r"BoundingBox\.txt and .*copy\.txt: both hold boxes"),
        ({"frame/BoundingBox.txt": 2 * BOX}, r"BoundingBox\.txt: expected every frame once"),
        ({"frame/a.txt": LABELS.replace("01.png", "09.png")}, "labels none of the test frames"),
        (
            dict.fromkeys(("frame/a.txt", "frame/b.txt"), LABELS),
            "a.txt .*b.txt: label 1 frame twice",
        ),
        ({TRAINING: "", "training/a.txt": LABELS, "training/b.txt": LABELS}, "both hold labels"),
    ],
)
def test_mistakes_are_named(tmp_path, files, message):
    fixture.write(tmp_path, {"train": 1, "test": 1})
    for path, text in files.items():
        (tmp_path / path).write_text(text)
        if not text:
            (tmp_path / path).unlink()
    with pytest.raises(UserError, match=message):
        Hands2017(tmp_path, TRACK).splits()


def test_text_files_that_are_neither_are_named(tmp_path):
    fixture.write(tmp_path, {"test": 1}, test_labels=True)
    labels = tmp_path / "frame" / "Test_Annotation.txt"
    labels.rename(tmp_path / "frame" / "submission.txt")  # predictions, not labels
    (tmp_path / "frame" / "readme.txt").write_text("Thank you for your interest.")
    split = Hands2017(tmp_path, TRACK).splits()["test"]
    assert split.joints_uvd is None
    assert split.notes[0].startswith("readme.txt, submission.txt: not read; expected lines of")


def cut(path, rows):
    """Keeps some lines of a file, in that order."""
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[row] for row in rows))


@pytest.mark.parametrize("rows", [[4, 5, 6], [3, 0, 6, 1, 5, 2, 4], None])
def test_test_frames_keep_their_numbers(tmp_path, rows):
    """A part of the box file, all of it in another order, or a part of the images without boxes."""
    labels = fixture.write(tmp_path, {"test": 7}, test_labels=True)["test"]
    boxes = fixture.boxes_around(labels)
    if rows is None:
        (tmp_path / "frame" / "BoundingBox.txt").unlink()
        for number in (1, 2, 3, 4):
            (tmp_path / "frame" / "images" / f"image_D0000000{number}.png").unlink()
    else:
        cut(tmp_path / "frame" / "BoundingBox.txt", rows)
    expected = sorted(rows or [4, 5, 6])
    split = Hands2017(tmp_path, TRACK).splits()["test"]
    assert split.numbers.tolist() == expected
    assert split.frame_ids == [f"frame/images/image_D0000000{row + 1}.png" for row in expected]
    np.testing.assert_allclose(split.joints_uvd, labels[expected], atol=PRINTED)
    if rows is None:
        assert split.boxes_px is None
        assert "no BoundingBox.txt" in split.notes[0]
    else:
        np.testing.assert_allclose(split.boxes_px, boxes[expected], atol=0.02)


def test_training_frames_in_any_order(tmp_path):
    labels = fixture.write(tmp_path, {"train": 4})["train"]
    cut(tmp_path / "training" / "Training_Annotation.txt", [3, 0, 2, 0])
    split = Hands2017(tmp_path, TRACK).splits()["train"]
    assert (split.numbers.tolist(), split.rows.tolist(), split.total) == ([0, 2, 3], [1, 2, 0], 4)
    assert any("1 repeated line left out" in note for note in split.notes)
    np.testing.assert_allclose(split.joints_uvd, labels[[0, 2, 3]], atol=PRINTED)


def test_frames_without_numbers_keep_the_order_of_the_file(tmp_path):
    fixture.write(tmp_path, {"test": 2})
    path = tmp_path / "frame" / "BoundingBox.txt"
    path.write_text(path.read_text().replace("image_D00000001", "other"))
    split = Hands2017(tmp_path, TRACK).splits()["test"]
    assert split.numbers is None
    assert split.frame_ids[0] == "frame/images/other.png"
    assert any("numbered in their order" in note for note in split.notes)


def test_labels_are_projected_with_the_tracks_camera(tmp_path):
    fixture.write(tmp_path, {"train": 1})
    xyz = np.tile([10.0, -20.0, 500.0], (21, 1))
    xyz[3, 2] = 0.0  # behind or in the camera: no label
    path = tmp_path / "training" / "Training_Annotation.txt"
    path.write_text("image_D00000001.png\t" + "\t".join(f"{x:.4f}" for x in xyz.ravel()) + "\t\n")
    split = Hands2017(tmp_path, TRACK).splits()["train"]
    expected = geometry.xyz_to_uvd([10, -20, 500], TRACK.camera)
    assert expected[1] < TRACK.camera.v0  # y points down
    np.testing.assert_allclose(split.joints_uvd[0, 0], expected, rtol=1e-6)
    assert np.flatnonzero(np.isnan(split.joints_uvd[0]).any(-1)).tolist() == [3]
    assert "1 joint of 1 frame not labeled" in split.notes[0]


SIZE = (640, 480)
CORNERS = np.array(
    [[100, 80, 260, 250], [300, 200, 420, 330], [0, 0, 90, 70], [500, 300, 640, 480.0]]
)
SIZES = np.concatenate([CORNERS[:, :2], CORNERS[:, 2:] - CORNERS[:, :2]], axis=1)
INSIDE = np.minimum(CORNERS, [639, 479, 639, 479])


ODD = [[np.nan, 0, 1, 1], [50, 50, 0, 0], [900, 900, 950, 950]]  # a few lines do not decide


@pytest.mark.parametrize("odd", [[], ODD])
@pytest.mark.parametrize(
    ("values", "form", "expected"),
    [
        (CORNERS, "x0 y0 x1 y1", INSIDE),
        (SIZES, "x y width height", INSIDE),
        # Fits both: a hand in the upper left.
        (np.tile([[100, 80, 220, 190.0]], (4, 1)), "x0 y0 x1 y1", [[100, 80, 220, 190]] * 4),
    ],
)
def test_the_format_of_boxes_is_recognized(values, form, expected, odd):
    boxes, found = to_corners(np.array([*values, *odd]), SIZE)
    assert found == form
    np.testing.assert_array_equal(boxes[:4], expected)
    assert np.isnan(boxes[4::2]).all()


def test_names_lose_their_folder_and_bad_lines_are_counted(tmp_path):
    path = tmp_path / "BoundingBox.txt"
    path.write_text("a.png 700 700 900 900\nb.png 0 0 2000 2000\nc.png 1 1 5 5\n")
    with pytest.raises(UserError, match="most lines lie in the 640x480 frame"):
        read_boxes(path, SIZE)
    path.write_text("frame/images/a.png 1 2 30 40\nb.png\t5\t5\t5\t5\t\nc.png 300 300 350 360\n")
    names, boxes, notes = read_boxes(path, SIZE)
    assert names == ["a.png", "b.png", "c.png"]
    expected = [[1, 2, 30, 40], [0, 0, 639, 479], [300, 300, 350, 360]]
    np.testing.assert_array_equal(boxes, expected)
    assert notes == (
        "BoundingBox.txt: read as x0 y0 x1 y1",
        "BoundingBox.txt: 1 line without a box; the entire frame is taken",
    )
