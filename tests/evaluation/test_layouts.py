"""Units and columns are told from the numbers, or refused."""

import numpy as np
import pytest

from a2j_jax import geometry
from a2j_jax.errors import UserError
from a2j_jax.evaluation import joint_formats
from a2j_jax.evaluation.joint_formats import split_columns
from a2j_jax.tracks import get_track

NYU, ICVL, ITOP, K2HPD = (get_track(name) for name in ("nyu", "icvl", "itop_front", "k2hpd"))
RNG = np.random.default_rng(0)
HAND = RNG.uniform([100, 100, 600], [540, 380, 900], (20, 14, 3))
BODY = RNG.uniform([40, 20, 2000], [280, 220, 3500], (20, 15, 3))


def to_uvd_mm(joints: np.ndarray, track, coordinates="unknown"):
    return joint_formats.to_uvd_mm(joints, track, "p.txt", coordinates)


def xyz_of(uvd: np.ndarray, track) -> np.ndarray:
    return geometry.uvd_to_xyz(uvd, track.camera)


def test_columns() -> None:
    confidence = RNG.random((20, 14))
    plain, nothing = split_columns(HAND.reshape(20, -1), NYU, "p.txt")
    np.testing.assert_array_equal(plain, HAND)
    assert nothing is None
    beside = np.concatenate([HAND, confidence[..., None]], -1).reshape(20, -1)
    behind = np.concatenate([HAND.reshape(20, -1), confidence], -1)
    for values in (beside, behind):
        joints, found = split_columns(values, NYU, "p.txt")
        np.testing.assert_array_equal(joints, HAND)
        np.testing.assert_array_equal(found, confidence)


def test_other_columns_are_refused() -> None:
    with pytest.raises(UserError, match=r"expected 42 numbers \(14 joints × 3\), found 63"):
        split_columns(np.ones((2, 63)), NYU, "p.txt")
    with pytest.raises(UserError, match="found 56: one more per joint, but neither"):
        split_columns(np.full((2, 56), 30.0), NYU, "p.txt")


def test_pixels_pass_through() -> None:
    joints, notes = to_uvd_mm(HAND, NYU)
    np.testing.assert_array_equal(joints, HAND)
    assert notes == ()
    flat = RNG.uniform(0, 1, (3, 19, 2))
    np.testing.assert_array_equal(to_uvd_mm(flat, K2HPD)[0], flat)


def test_metres_are_told_by_their_size() -> None:
    for uvd, track in ((HAND, NYU), (BODY, ITOP)):
        joints, notes = to_uvd_mm(uvd * [1, 1, 1e-3], track)
        np.testing.assert_allclose(joints, uvd)
        assert notes == ("depth read as meters",)
        joints, notes = to_uvd_mm(xyz_of(uvd, track) / 1000, track)
        np.testing.assert_allclose(joints, uvd)
        assert len(notes) == 2


def test_camera_coordinates_where_the_file_says_so() -> None:
    joints, notes = to_uvd_mm(xyz_of(HAND, NYU), NYU, "xyz")
    np.testing.assert_allclose(joints, HAND)
    assert "588.03" in notes[0]
    backwards, notes = to_uvd_mm(xyz_of(HAND, NYU) * [1, -1, -1], NYU, "xyz")
    np.testing.assert_allclose(backwards, HAND)
    assert any("backwards" in note for note in notes)


@pytest.mark.parametrize("y_sign", [1, -1])
def test_camera_coordinates_in_place_of_pixels_are_refused(y_sign: int) -> None:
    with pytest.raises(UserError, match=r"look like camera coordinates.*588\.03"):
        to_uvd_mm(xyz_of(HAND, NYU) * [1, y_sign, 1], NYU)


def test_poor_predictions_are_not_refused() -> None:
    far_off = HAND + np.array([2000.0, -900.0, 50.0])
    np.testing.assert_array_equal(to_uvd_mm(far_off, NYU)[0], far_off)
    zeros = np.zeros((2, 14, 3))
    np.testing.assert_array_equal(to_uvd_mm(zeros, NYU)[0], zeros)


def test_points_that_have_no_pixel() -> None:
    xyz = xyz_of(HAND, NYU)
    xyz[3, 4, 2] = 0
    with pytest.raises(UserError, match="z = 0"):
        to_uvd_mm(xyz, NYU, "xyz")
