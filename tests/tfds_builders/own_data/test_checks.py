"""Tables that are wrong as a whole, and single rows that are left out and counted."""

import numpy as np
import pytest

from a2j_jax.errors import UserError
from a2j_jax.track_files import track_from_dict
from tests.distributions import own_data as fixture
from tfds_builders import folder_tables

TRACK = track_from_dict(fixture.TRACK)
BODY = track_from_dict({**fixture.TRACK, "like": "itop_front"})
NO_CROPS = np.full((3, 3), np.nan)
NAN = np.nan


@pytest.mark.parametrize(
    ("name", "meant"),
    [("Train", "train"), ("trian", "train"), ("training", "train"), ("tets", "test"),
     ("TEST", "test"), ("validaton", "validation"), ("Validation", "validation")],
)  # fmt: skip
def test_slips_in_the_names_of_splits_are_named(name: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"^line 7: split {name!r}; did you mean {meant!r}"):
        folder_tables.check_split_name(name, "line 7")


def test_other_plain_words_are_names_of_splits() -> None:
    for name in ("train", "validation", "test", "test_seen", "train2", "val", "eval", "subject_3"):
        folder_tables.check_split_name(name, "line 7")
    for name in ("my test", "3d", "", "train[:10]", "Subject", "all"):
        with pytest.raises(UserError, match=r"not a plain word|small letters"):
            folder_tables.check_split_name(name, "line 7")


def test_a_folder_without_training_frames_is_noted() -> None:
    assert folder_tables.no_training_note(["test", "train"]) == ()
    (note,) = folder_tables.no_training_note(["test", "val"])
    assert note.startswith("warning: no frames are of split 'train' (splits: test, val)")


def test_metres_and_other_cameras_are_errors() -> None:
    folder_tables.check_units(fixture.UVD, NO_CROPS, TRACK, "joints.csv")
    for scale, message in (
        ([1, 1, 0.001], r"^joints\.csv: the depths of all joints .*\(0\.58 to 0\.602\).* meters"),
        ([1, 1, -1], "z points backwards"),
        ([10, 10, 1], "9 of 9 labeled joints lie outside their 160x120 frames"),
    ):
        with pytest.raises(UserError, match=message):
            folder_tables.check_units(fixture.UVD * scale, NO_CROPS, TRACK, "joints.csv")
    with pytest.raises(UserError, match=r"the depths of all centers .* are these meters"):
        folder_tables.check_units(fixture.UVD, np.array([[80, 60, 0.6]] * 3), TRACK, "joints.csv")


def test_single_odd_joints_and_no_labels_at_all_are_no_error() -> None:
    joints = fixture.UVD.copy()
    joints[0, 0] = (-500, 60, 0.6)
    folder_tables.check_units(joints, NO_CROPS, TRACK, "joints.csv")
    folder_tables.check_units(joints * NAN, NO_CROPS, TRACK, "joints.csv")
    folder_tables.check_units(joints[..., :2], np.full((3, 4), NAN), BODY, "joints.csv")


def test_centres_that_cannot_be_used_are_counted() -> None:
    crops = np.array(
        [[80, 60, 600], [5000, 5000, 700], [80, NAN, 600], [NAN] * 3, [80, 60, 0], [-9, 60, 600]]
    )
    usable, notes = folder_tables.usable_crops(crops, TRACK, "joints.csv")
    # A window around a point off the frame may still reach into it.
    assert np.isfinite(usable).all(axis=1).tolist() == [True, False, False, False, False, True]
    assert notes[0].startswith("warning: joints.csv: 1 of 5 centers not used, some numbers missing")
    assert notes[1].startswith("warning: joints.csv: 2 of 5 centers not used, outside the frame or")
    assert all("used instead for training, else the depth frame" in note for note in notes)


def test_boxes_that_cannot_be_used_are_counted() -> None:
    boxes = np.array([[10, 10, 90, 90.0], [500, 10, 600, 90], [90, 10, 10, 90]])
    usable, (note,) = folder_tables.usable_crops(boxes, BODY, "joints.csv")
    assert np.isfinite(usable).all(axis=1).tolist() == [True, False, False]
    assert note.startswith(
        "warning: joints.csv: 2 of 3 boxes not used, outside the frame or without ext"
    )
