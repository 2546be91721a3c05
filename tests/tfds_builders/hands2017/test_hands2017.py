"""HANDS 2017 as shipped: xyz labels, a test set with boxes and without labels, or with yours."""

import pickle

import numpy as np
import pytest

from a2j_jax import geometry
from a2j_jax.errors import UserError
from a2j_jax.tracks import get_track
from tests.distributions import hands2017 as fixture
from tests.distributions.drawing import draw_depth
from tfds_builders.hands2017 import hands2017
from tfds_builders.hands2017.hands2017 import Hands2017Distribution
from tfds_builders.raw import UnreadableFrame

TRACK = get_track("hands2017")
FRAMES = {"train": 4, "test": 3}
# Labels are printed with four decimals of a mm: a thousandth of a px, or of a mm.
PRINTED = 1e-3


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hands2017")
    return folder, fixture.write(folder, FRAMES)


def test_frames_and_labels(written):
    folder, labels = written
    distribution = pickle.loads(pickle.dumps(Hands2017Distribution(folder)))
    splits = distribution.splits()
    assert {name: len(split) for name, split in splits.items()} == FRAMES
    train, test = splits["train"], splits["test"]
    np.testing.assert_allclose(train.joints_uvd, labels["train"], atol=PRINTED)
    assert train.joints_uvd.dtype == np.float32
    assert train.boxes_px is None
    assert train.frame_ids[2] == "training/images/image_D00000003.png"
    assert test.joints_uvd is None
    assert test.frame_ids[0] == "frame/images/image_D00000001.png"
    for name, split in splits.items():
        for row, (source, joints) in enumerate(zip(split.sources, labels[name], strict=True)):
            if name == "train" and row == fixture.MISSING_TRAIN_ROW:
                with pytest.raises(UnreadableFrame, match=r"image_D00000002\.png: no such file"):
                    distribution.read_depth(source)
                continue
            np.testing.assert_array_equal(
                distribution.read_depth(source), draw_depth(joints, TRACK)
            )
    assert ["at least 1 are missing" in note for note in train.notes] == [True]


@pytest.mark.parametrize("box_format", ["sizes", "corners"])
def test_boxes_whatever_their_format(tmp_path, box_format):
    labels = fixture.write(tmp_path, {"test": 4}, box_format=box_format)["test"]
    split = Hands2017Distribution(tmp_path).splits()["test"]
    np.testing.assert_allclose(split.boxes_px, fixture.boxes_around(labels), atol=0.02)
    said = "x y width height" if box_format == "sizes" else "x0 y0 x1 y1"
    assert split.notes == (f"BoundingBox.txt: read as {said}",)


def test_labels_of_the_test_set_in_any_order(tmp_path):
    labels = fixture.write(tmp_path, {"test": 3}, test_labels=True)["test"]
    path = tmp_path / "frame" / "Test_Annotation.txt"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("frame\\images\\" + lines[2] + "frame/images/" + lines[0])
    split = Hands2017Distribution(tmp_path).splits()["test"]
    np.testing.assert_allclose(split.joints_uvd[[0, 2]], labels[[0, 2]], atol=PRINTED)
    assert np.isnan(split.joints_uvd[1]).all()
    assert any("1 of 3 frames have no label" in note for note in split.notes)

    path.write_text("".join(lines) + lines[0].replace("00000001", "00000009"))
    split = Hands2017Distribution(tmp_path).splits()["test"]
    np.testing.assert_allclose(split.joints_uvd, labels, atol=PRINTED)
    assert any("1 lines are of no test frame" in note for note in split.notes)

    path.write_text(lines[0].replace("00000001", "00000009"))
    with pytest.raises(UserError, match="labels none of the test frames"):
        Hands2017Distribution(tmp_path).splits()


@pytest.mark.parametrize("inside", ["training", "frame", "hands2017"])
def test_the_data_lie_where_people_put_them(tmp_path, inside):
    below = inside if inside == "hands2017" else ""
    fixture.write(tmp_path / below, {"train": 1, "test": 1})
    folder = tmp_path if below else tmp_path / inside
    distribution = Hands2017Distribution(folder)
    splits = distribution.splits()
    expected = {"training": ["train"], "frame": ["test"], "hands2017": ["train", "test"]}[inside]
    assert list(splits) == expected
    for name, split in splits.items():
        prefix = {"train": "training", "test": "frame"}[name]
        assert split.frame_ids == [f"{prefix}/images/image_D00000001.png"]
        assert distribution.read_depth(split.sources[0]).shape == (480, 640)


def test_the_label_file_beside_the_training_folder(tmp_path):
    fixture.write(tmp_path, {"train": 1})
    (tmp_path / "training" / "Training_Annotation.txt").rename(tmp_path / "Training_Annotation.txt")
    distribution = Hands2017Distribution(tmp_path)
    split = distribution.splits()["train"]
    assert distribution.read_depth(split.sources[0]).shape == (480, 640)


@pytest.mark.parametrize("name", ["boundingbox.txt", "bounding_boxes.txt", "BBox.TXT"])
def test_spellings_of_the_box_file(tmp_path, name):
    fixture.write(tmp_path, {"test": 1})
    (tmp_path / "frame" / "BoundingBox.txt").rename(tmp_path / "frame" / name)
    assert Hands2017Distribution(tmp_path).splits()["test"].boxes_px is not None


def test_test_frames_without_boxes_come_in_name_order(tmp_path):
    fixture.write(tmp_path, {"test": 3})
    (tmp_path / "frame" / "BoundingBox.txt").unlink()
    split = Hands2017Distribution(tmp_path).splits()["test"]
    assert split.boxes_px is None
    assert split.frame_ids == [f"frame/images/image_D0000000{i}.png" for i in (1, 2, 3)]
    assert "no BoundingBox.txt" in split.notes[0]


def test_labels_are_projected_with_the_tracks_camera(tmp_path):
    fixture.write(tmp_path, {"train": 1})
    xyz = np.tile([10.0, -20.0, 500.0], (21, 1))
    xyz[3, 2] = 0.0  # behind or in the camera: no label
    path = tmp_path / "training" / "Training_Annotation.txt"
    path.write_text("image_D00000001.png\t" + "\t".join(f"{x:.4f}" for x in xyz.ravel()) + "\t\n")
    split = Hands2017Distribution(tmp_path).splits()["train"]
    expected = geometry.xyz_to_uvd([10, -20, 500], TRACK.camera)
    assert expected[1] < TRACK.camera.v0  # y points down
    np.testing.assert_allclose(split.joints_uvd[0, 0], expected, rtol=1e-6)
    assert np.flatnonzero(np.isnan(split.joints_uvd[0]).any(-1)).tolist() == [3]
    assert "1 joints of 1 frames" in split.notes[0]


def test_labels_and_frames_of_different_number(tmp_path):
    labels = fixture.write(tmp_path, {"train": 2, "test": 3})
    fixture.write_labels(tmp_path / "training/Training_Annotation.txt", labels["train"][:1])
    boxes = fixture.boxes_around(labels["test"])[:2]
    fixture.write_boxes(tmp_path / "frame/BoundingBox.txt", boxes, "sizes")
    splits = Hands2017Distribution(tmp_path).splits()
    assert (len(splits["train"]), len(splits["test"])) == (1, 2)
    for split in splits.values():
        assert any("1 without a label" in note for note in split.notes)


def test_repeated_lines(tmp_path):
    labels = fixture.write(tmp_path, {"train": 2, "test": 1})["train"]
    for path in ("training/Training_Annotation.txt", "frame/BoundingBox.txt"):
        text = (tmp_path / path).read_text()
        (tmp_path / path).write_text(text + text)
    with pytest.raises(UserError, match=r"BoundingBox\.txt: expected every frame once"):
        Hands2017Distribution(tmp_path).splits()
    split = Hands2017Distribution(tmp_path / "training").splits()["train"]
    assert (len(split), split.total, split.rows.tolist()) == (2, 4, [0, 1])
    np.testing.assert_allclose(split.joints_uvd, labels, atol=PRINTED)


def test_labels_of_another_data_set(tmp_path):
    fixture.write(tmp_path, {"train": 1})
    path = tmp_path / "training" / "Training_Annotation.txt"
    path.write_text("image_D00000001.png\t" + "1.0\t" * 42 + "\n")
    with pytest.raises(UserError, match=r"line 1: .*63 numbers \(21 joints x \(x y z mm\)\)"):
        Hands2017Distribution(tmp_path).splits()


def test_labels_without_frames(tmp_path):
    fixture.write_labels(tmp_path / "training/Training_Annotation.txt", np.full((1, 21, 3), 300.0))
    with pytest.raises(UserError, match="images: no such folder"):
        Hands2017Distribution(tmp_path).splits()


def test_nothing_there(tmp_path):
    with pytest.raises(UserError) as error:
        Hands2017Distribution(tmp_path).splits()
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.instructions == hands2017.DOWNLOAD
    for needed in (hands2017.HOMEPAGE, "--manual_dir", "training/Training_Annotation.txt"):
        assert needed in hands2017.DOWNLOAD


def test_the_builder_is_called_as_the_track():
    assert hands2017.Hands2017.name == "hands2017"
