"""Examples on disk: their format, their statistics, and several processes that write them."""

import dataclasses

import numpy as np
import pytest

from a2j_jax.data import augment, crops
from a2j_jax.tracks import TRACKS, get_track, with_crop_size
from tfds_builders.writer import Tally, features, make_example, shard_ranges, tally_of


def example_of(track, **changes):
    width, height = track.frame_size
    frame = np.full((height, width), 700, np.uint16)
    fields = {
        "index": 3,
        "frame_id": "a/b.png",
        "crop": crops.cut(frame, track, box_px=[20.0, 30.0, 120.5, 140.25]),
        "joints_uvd": np.full((track.num_joints, track.joint_dims), 42.5),
        **changes,
    }
    return make_example(track, **fields)


@pytest.mark.parametrize("name", TRACKS)
def test_examples_of_every_track_survive_the_disk_format(name):
    track = with_crop_size(get_track(name), 32)
    example = example_of(track)
    spec = features(track)
    serialized = spec.serialize_example(example)
    back = spec.deserialize_example_np(serialized)
    assert set(back) == set(example)
    for key, value in example.items():
        if key == "frame_id":
            assert back[key] == value.encode()
        else:
            assert np.asarray(back[key]).dtype == np.asarray(value).dtype
            np.testing.assert_array_equal(back[key], value)
    assert back["canvas"].shape == (40, 40)
    np.testing.assert_array_equal(back["box_px"], [20.0, 30.0, 120.5, 140.25])
    camera = np.zeros(4) if track.camera is None else track.camera.as_array()
    np.testing.assert_allclose(back["camera"], camera, rtol=1e-6)


def test_labels_that_are_not_numbers_do_not_count():
    track = get_track("nyu")
    joints = np.full((14, 3), 42.5)
    joints[3, 1] = np.nan
    example = example_of(track, joints_uvd=joints)
    assert np.flatnonzero(~example["valid"]).tolist() == [3]
    assert np.isfinite(example["joints_uvd"]).all()
    unlabeled = example_of(track, joints_uvd=None)
    assert not unlabeled["valid"].any()
    assert unlabeled["joints_uvd"].shape == (14, 3)


def crop_of(track, canvas, joints=None, center=(160, 120, 800)):
    """An example whose box covers the crop one px to one."""
    size, valid = track.crop_size, joints is not None
    joints = np.array(joints, float) if valid else np.zeros((1, track.joint_dims))
    return {
        "canvas": canvas,
        "center_uvd": np.float32(center),
        "box_px": np.array([0.0, 0.0, size - 1, size - 1]),
        "joints_uvd": joints,
        "valid": np.full(len(joints), valid),
    }


@pytest.mark.parametrize(
    ("name", "depth", "joints", "center", "expected"),
    [  # no_center, no_labels, apart, beyond
        ("nyu", 800, [[16, 16, 810]], (16, 16, 805), (0, 0, 0, 0)),
        ("nyu", 800, [[16, 16, 80]], (16, 16, 80), (1, 1, 0, 0)),
        ("nyu", 800, [[16, 16, 1200]], (16, 16, 800), (0, 1, 1, 0)),
        ("nyu", 800, [[500, 16, 800]], (16, 16, 800), (0, 0, 1, 0)),
        ("nyu", 65535, [[16, 16, 800]], (16, 16, 800), (1, 1, 0, 1)),
        ("nyu", 800, None, (16, 16, 805), (0, 0, 0, 0)),
        ("itop_front", 24000, [[16, 16, 3200]], (0, 0, 0), (0, 0, 0, 0)),
        ("itop_front", 24000, [[16, 16, 320]], (0, 0, 0), (0, 1, 0, 0)),
        ("k2hpd", 255, [[16, 16]], (0, 0, 0), (0, 0, 0, 0)),
    ],
)
def test_depth_and_labels_are_compared(name, depth, joints, center, expected):
    track = with_crop_size(get_track(name), 32)
    canvas = np.full((track.canvas_size,) * 2, depth, np.uint16)
    found = tally_of(crop_of(track, canvas, joints, center), track)
    assert (found.no_center, found.no_labels, found.apart, found.beyond) == expected


@pytest.mark.parametrize("name", ["nyu", "itop_front", "k2hpd"])
def test_a_crop_normalized_by_its_own_tally_has_mean_0_and_std_1(name):
    track = with_crop_size(get_track(name), 32)
    rng = np.random.default_rng(0)
    canvas = rng.integers(400, 1400, (track.canvas_size,) * 2).astype(np.uint16)
    tally = tally_of(crop_of(track, canvas), track)
    own = dataclasses.replace(track, mean=tally.mean, std=tally.std)
    image = np.asarray(augment.evaluation_images(canvas[None], np.array([800.0]), own))
    assert tally.count == image.size
    assert abs(image.mean()) < 1e-5
    assert abs(image.std() - 1) < 1e-4


def test_tallies_add_up():
    values = np.random.default_rng(1).normal(3, 2, 100)
    parts = [Tally((), len(v), v.sum(), (v**2).sum()) for v in np.array_split(values, 7)]
    whole = sum(parts, Tally())
    assert whole.count == 100
    np.testing.assert_allclose((whole.mean, whole.std), (values.mean(), values.std()))


def test_shards_are_even_and_never_empty():
    assert shard_ranges(10, 3) == [range(3), range(3, 7), range(7, 10)]
    assert shard_ranges(2, 5) == [range(1), range(1, 2)]
    assert len(shard_ranges(10_000, None)) == 3
