"""Statistics of crops: the same normalisation as the network's input, summed in any grouping."""

import dataclasses

import numpy as np
import pytest

from a2j_jax import augment
from a2j_jax.tracks import get_track, with_crop_size
from tfds_builders.statistics import Moments, crop_moments


@pytest.mark.parametrize("name", ["nyu", "itop_front", "k2hpd"])
def test_a_crop_normalised_by_its_own_moments_has_mean_0_and_std_1(name):
    track = with_crop_size(get_track(name), 32)
    rng = np.random.default_rng(0)
    canvas = rng.integers(400, 1400, (track.canvas_size,) * 2).astype(np.uint16)
    moments = crop_moments(canvas, 800.0, track)
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
