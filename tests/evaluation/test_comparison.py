"""Where joints are: depth, and the distance from the crop's centre in the three cases there are."""

import dataclasses

import numpy as np

from a2j_jax import geometry
from a2j_jax.evaluation.evaluate import center_distances, joint_depths_mm
from a2j_jax.tracks import get_track, with_crop_size
from tests.evaluation import made_up


def test_depths_are_the_labels() -> None:
    depths = joint_depths_mm(made_up.comparison())
    assert depths is not None
    np.testing.assert_allclose(depths[0], np.linspace(690, 710, 21), atol=1e-3)
    assert joint_depths_mm(made_up.comparison(with_crop_size(get_track("k2hpd"), 64))) is None


def test_around_a_centre_the_distance_is_in_space() -> None:
    one = made_up.comparison()
    one.valid[2, 5] = False
    distance, label = center_distances(one)
    assert label == "distance from the crop center (mm)"
    camera = made_up.TRACK.camera
    assert camera is not None
    points = geometry.uvd_to_xyz(one.labels_uvd[3], camera)
    center = geometry.uvd_to_xyz([320, 320, 700], camera)
    np.testing.assert_allclose(distance[3], np.linalg.norm(points - center, axis=-1), rtol=1e-5)
    assert np.isnan(distance[2, 5])
    assert np.isfinite(distance).sum() == distance.size - 1


def test_of_a_box_the_distance_is_in_the_crop() -> None:
    distance, label = center_distances(made_up.comparison(with_crop_size(get_track("k2hpd"), 64)))
    assert label == "distance from the crop center (px of the crop)"
    np.testing.assert_allclose(distance, 20 * 64 / 80, rtol=1e-4)


def test_without_a_data_set_the_mean_joint_stands_in() -> None:
    bare = dataclasses.replace(made_up.comparison(), frames=None, fetch=None)
    bare.valid[0, :10] = False
    distance, label = center_distances(bare)
    assert label == "distance from the mean labeled joint (mm)"
    assert np.isnan(distance[0, :10]).all()
    assert made_up.TRACK.camera is not None
    points = geometry.uvd_to_xyz(bare.labels_uvd[0, 10:], made_up.TRACK.camera)
    expected = np.linalg.norm(points - points.mean(0), axis=-1)
    np.testing.assert_allclose(distance[0, 10:], expected)
