import numpy as np
import pytest

from a2j_jax import geometry
from a2j_jax.tracks import get_track
from tfds_builders.crop_plan import boxes_from_labels, centers_from_labels

NYU = get_track("nyu")


def joints_of(frames: int) -> np.ndarray:
    """(N, 14, 3) uvd labels around a different point in every frame."""
    middle = np.array([150.0, 110.0, 900.0]) + 5 * np.arange(frames)[:, None]
    return middle[:, None] + np.random.default_rng(0).uniform(-20, 20, (frames, 14, 3))


def test_centers_from_labels_ignore_what_is_not_labelled() -> None:
    joints = joints_of(6)
    joints[0, 3:] = np.nan
    joints[1] = np.nan
    joints[2, 0, 2] = np.nan
    centers = centers_from_labels(joints, NYU.camera)
    mean = np.nanmean(geometry.uvd_to_xyz(joints, NYU.camera)[[0, 3, 4, 5]], axis=1)
    np.testing.assert_allclose(geometry.uvd_to_xyz(centers[[0, 3, 4, 5]], NYU.camera), mean)
    assert np.isnan(centers[1]).all()
    mean = geometry.uvd_to_xyz(joints[2, 1:], NYU.camera).mean(axis=0)
    np.testing.assert_allclose(geometry.uvd_to_xyz(centers[2], NYU.camera), mean)


def test_many_frames_are_worked_through_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    joints = joints_of(50)
    whole = centers_from_labels(joints, NYU.camera)
    monkeypatch.setattr("tfds_builders.crop_plan._CHUNK", 7)
    np.testing.assert_array_equal(centers_from_labels(joints, NYU.camera), whole)


def test_boxes_from_labels_in_two_and_three_dimensions() -> None:
    joints = np.array([[[10, 20], [30, 60], [np.nan, np.nan]], np.full((3, 2), np.nan)])
    boxes = boxes_from_labels(joints, 15.0)
    np.testing.assert_array_equal(boxes[0], [-5, 5, 45, 75])
    assert np.isnan(boxes[1]).all()
    deep = np.concatenate([joints, np.zeros((2, 3, 1))], axis=-1)
    np.testing.assert_array_equal(boxes_from_labels(deep, 15.0), boxes)
