"""Cutting and mapping back, against the official preprocessing of all six tracks."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2j_jax import geometry
from a2j_jax.data import augment, crops
from a2j_jax.errors import UserError
from a2j_jax.tracks import TRACKS, get_track

HANDS = [("nyu", "nyu"), ("icvl", "icvl"), ("hands2017", "hands2017")]
BODIES = [("itop_side", "itop_front"), ("itop_top", "itop_top"), ("k2hpd", "k2hpd")]


def golden(parity, file, track):
    """Frames (mm; K2HPD as they are), centers, boxes, joints (px, px, mm), what came out."""
    data = np.load(parity / f"preprocess_{file}.npz")
    frames = data["frames"]
    if track.frame_format == "metres":
        frames = frames.astype(np.float64) * 1000.0
    if "centers_uvd" in data:
        return frames, data["centers_uvd"], None, data["joints_uvd"], data
    joints = data["joints_pixel"]
    if track.joint_dims == 3:
        joints = np.concatenate([joints, data["joints_world_m"][..., 2:] * 1000.0], axis=-1)
    return frames, None, data["boxes"], joints, data


@pytest.mark.parametrize(("file", "name"), HANDS + BODIES)
def test_crop_and_labels_are_the_official_ones(parity, file, name):
    track = get_track(name)
    frames, centers, boxes, joints, data = golden(parity, file, track)
    # ITOP's fractional meters are stored as integers of 1/8 mm.
    tolerance = 1e-3 if track.frame_format == "metres" else 1e-4
    over_the_border = 0
    for i, frame in enumerate(frames):
        # The reference K2HPD frames carry fractions that real, truncated ones do not have.
        stored = frame if name == "k2hpd" else crops.to_storage_units(frame, track)
        center = None if centers is None else centers[i]
        crop = crops.cut(stored, track, center, None if boxes is None else boxes[i])
        depth = np.zeros(1) if center is None else center[2:]
        image = augment.evaluation_images(crop.canvas[None], depth, track)
        np.testing.assert_allclose(image[0, ..., 0], data["crop"][i, 0], rtol=0, atol=tolerance)
        label = crops.joints_to_crop(joints[i], crop.box_px, depth[0], track)
        official = data["label"][i][..., [1, 0, 2][: track.joint_dims]]  # (row, column, depth)
        np.testing.assert_allclose(label, official, rtol=0, atol=1e-3)
        over_the_border += not np.array_equal(crop.box_px, crop.window_px)
    assert over_the_border > 0


@pytest.mark.parametrize("name", TRACKS)
@given(seed=st.integers(0, 2**32 - 1))
def test_joints_go_to_the_crop_and_back(name, seed):
    track, rng = get_track(name), np.random.default_rng(seed)
    corner = rng.uniform(0, 100, (3, 2))
    box = np.concatenate([corner, corner + rng.uniform(10, 200, (3, 2))], axis=-1)
    joints = rng.uniform(-100, 3000, (3, track.num_joints, track.joint_dims))
    center_depth = rng.uniform(300, 900, 3)
    crop = crops.joints_to_crop(joints, box, center_depth, track)
    back = crops.joints_to_frame(crop, box, center_depth, track)
    np.testing.assert_allclose(back, joints, rtol=1e-9, atol=1e-6)
    # One frame alone gives the same numbers.
    alone = crops.joints_to_crop(joints[1], box[1], center_depth[1], track)
    np.testing.assert_array_equal(alone, crop[1])


@pytest.mark.parametrize("name", ["nyu", "itop_top"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i1", "i2", "i8", "f2", "f4", "f8"])
def test_storage_units_do_not_depend_on_the_dtype(name, dtype):
    track = get_track(name)
    extremes = np.array([0, 1, 5, 100, 8191, 8192, 65535, 65536, 2**31, -1, -30000], np.float64)
    if dtype[0] == "f":
        extremes = np.append(extremes, [0.0624, 0.5, 99.9, 1.5, np.inf, -np.inf, np.nan])
        depth = np.clip(extremes, np.finfo(dtype).min, np.finfo(dtype).max).astype(dtype)
        depth[-3:-1] = np.inf, -np.inf
    else:
        limits = np.iinfo(dtype)
        depth = extremes[(extremes >= limits.min) & (extremes <= limits.max)].astype(dtype)
    exact = np.nan_to_num(depth.astype(np.float64), nan=0, posinf=0, neginf=0)
    expected = np.rint(np.clip(exact / track.storage_unit_mm, 0, 65535))
    before = depth.copy()
    stored = crops.to_storage_units(depth[None], track)
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(stored[0], expected)
    np.testing.assert_array_equal(depth, before)


def stretch(frame):
    return crops.to_storage_units(frame, get_track("k2hpd"))


def test_the_stretch_is_opencvs_on_every_range_of_8_bit_frames():
    """Check sums of what OpenCV 5.0's `normalize` and the official reader's truncation give."""
    levels, checksum = np.arange(256, dtype=np.uint8).reshape(16, 16), 0
    for low in range(256):
        for high in range(low, 256):
            out = stretch(levels.clip(low, high)).astype(np.uint8)
            checksum = zlib.crc32(out.tobytes(), checksum)
    assert checksum == 3742622580
    rng = np.random.default_rng(0)
    fractions = (500 + 3000 * rng.random((212, 256))).astype(np.float32)
    assert zlib.crc32(stretch(fractions).astype(np.uint8).tobytes()) == 2680858668
    wide = rng.integers(700, 9000, (212, 256)).astype(np.uint16)
    assert zlib.crc32(stretch(wide).astype(np.uint8).tobytes()) == 551108778


@pytest.mark.parametrize(
    ("frame", "stretched"),
    [
        ([[7, 8], [9, 10]], [[0, 84], [169, 254]]),  # as OpenCV rounds: not 85, 170, 255
        ([[0, 10], [127, 40]], [[0, 20], [255, 80]]),  # zeros are the lowest level of a real frame
        ([[7, 7]], [[0, 0]]),
        ([[0, 0], [0, 0]], [[0, 0], [0, 0]]),
        ([[-5, 0], [5, 0]], [[0, 127], [255, 127]]),
        ([[0, 70000]], [[0, 255]]),
        ([[np.nan, 2.0, 1.0]], [[0, 255, 127]]),
        ([[[7, 8], [9, 10]], [[0, 1], [2, 4]]], [[[0, 84], [169, 254]], [[0, 63], [127, 255]]]),
    ],
)
def test_the_stretch_of_small_frames(frame, stretched):
    for dtype in ("u1", "u2", "i2", "i8", "f4", "f8"):
        with np.errstate(invalid="ignore"):
            values = np.array(frame).astype(dtype)
        if np.array_equal(values, frame, equal_nan=True):
            assert stretch(values).tolist() == stretched


def test_cut_by_another_camera_or_a_given_box():
    track, frame = get_track("nyu"), np.full((240, 320), 600, np.uint16)
    camera = geometry.Camera(300, 300, 160, 120)
    crop = crops.cut(frame, track, [160.0, 120.0, 600.0], camera=camera)
    np.testing.assert_allclose(crop.box_px, [105, 65, 215, 175])
    assert crop.canvas.shape == (220, 220)
    assert np.all(crop.canvas == 600)
    crop = crops.cut(frame, track, [1.0, 1.0, 600.0], [-10.0, 20.0, 90.0, 120.0])
    np.testing.assert_array_equal(crop.box_px, [0, 20, 90, 120])
    np.testing.assert_array_equal(crop.window_px, [-10, 20, 90, 120])


@pytest.mark.parametrize(
    ("name", "center", "message"),
    [
        ("nyu", None, "expected a center"),
        ("itop_front", [1.0, 2.0, 3.0], "expected a box"),
        ("nyu", [5000.0, 100.0, 600.0], "covers no pixel"),
    ],
)
def test_missing_centre_or_box_is_named(name, center, message):
    with pytest.raises(UserError, match=message):
        crops.cut(np.zeros((480, 640), np.uint16), get_track(name), center)
