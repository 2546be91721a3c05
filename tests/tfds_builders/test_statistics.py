"""Statistics of crops: the same normalisation as the network's input, summed in any grouping."""

import dataclasses

import numpy as np
import pytest

from a2j_jax.data import augment
from a2j_jax.tracks import get_track, with_crop_size
from tfds_builders.examples import Moments, crop_moments


def example_of(track, canvas, joints=None, center=(160, 120, 800)):
    """An example whose box covers the crop one px to one."""
    size = track.crop_size
    return {
        "canvas": canvas,
        "center_uvd": np.float32(center),
        "box_px": np.array([0.0, 0.0, size - 1, size - 1]),
        "joints_uvd": np.zeros((1, track.joint_dims))
        if joints is None
        else np.array(joints, float),
        "valid": np.array([joints is not None] * (1 if joints is None else len(joints))),
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
    found = crop_moments(example_of(track, canvas, joints, center), track)
    assert (found.no_center, found.no_labels, found.apart, found.beyond) == expected


@pytest.mark.parametrize("name", ["nyu", "itop_front", "k2hpd"])
def test_a_crop_normalised_by_its_own_moments_has_mean_0_and_std_1(name):
    track = with_crop_size(get_track(name), 32)
    rng = np.random.default_rng(0)
    canvas = rng.integers(400, 1400, (track.canvas_size,) * 2).astype(np.uint16)
    moments = crop_moments(example_of(track, canvas), track)
    own = dataclasses.replace(track, mean=moments.mean, std=moments.std)
    image = np.asarray(augment.evaluation_images(canvas[None], np.array([800.0]), own))
    assert moments.count == image.size
    assert abs(image.mean()) < 1e-5
    assert abs(image.std() - 1) < 1e-4


def test_moments_add_up():
    values = np.random.default_rng(1).normal(3, 2, 100)
    parts = [
        Moments(len(v), float(v.sum()), float((v**2).sum())) for v in np.array_split(values, 7)
    ]
    whole = sum(parts, Moments())
    assert whole.count == 100
    np.testing.assert_allclose((whole.mean, whole.std), (values.mean(), values.std()))
