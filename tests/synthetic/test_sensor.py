"""The sensor's statistics, and that they belong to source pixels and not to the crop."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.synthetic import views
from a2j_jax.synthetic.render import (
    SHIFTED_SENSORS,
    STEREO,
    Hits,
    SensorMix,
    SensorSpec,
    axial_sigma_mm,
    gaussian_hash,
    measure,
    smooth_gaussian,
    uniform_hash,
)
from tests.synthetic.rendering import BARE_HAND, settings

FRAME = (320, 240)
COLUMNS, ROWS = jnp.arange(FRAME[0]), jnp.arange(FRAME[1])
KEY = jax.random.key(0)
FINE = dataclasses.replace(SensorSpec(), disparity_mm=1e9, hole_sigma=99.0)  # no steps, no holes


def plane(depth_mm, cosine=1.0):
    return Hits(*(jnp.full((FRAME[1], FRAME[0]), value) for value in (depth_mm, cosine)))


measure_fast = jax.jit(measure, static_argnums=4)


def read(hits, spec, key=KEY):
    return np.asarray(measure_fast(key, hits, COLUMNS, ROWS, FRAME, spec))


@pytest.mark.parametrize("depth_mm", [500.0, 1000.0, 2000.0])
def test_noise_has_the_published_size(depth_mm):
    expected = 1.2 + 1.9 * (depth_mm / 1000 - 0.4) ** 2
    noise = read(plane(depth_mm), FINE) - depth_mm
    assert noise.std() == pytest.approx(expected, rel=0.1)
    assert abs(noise.mean()) < 0.1 * expected


def test_noise_grows_with_depth_and_at_grazing_angles():
    sigma = [float(axial_sigma_mm(jnp.array(z), jnp.array(1.0), FINE)) for z in (400, 800, 1600)]
    assert sigma[0] < sigma[1] < sigma[2]
    for degrees in (30.0, 65.0, 80.0):
        theta = np.deg2rad(degrees)
        extra = 0.1 / np.sqrt(0.8) * theta**2 / (np.pi / 2 - theta) ** 2 if degrees > 60 else 0.0
        got = axial_sigma_mm(jnp.array(800.0), jnp.array(np.cos(theta)), FINE)
        assert float(got) == pytest.approx(1.2 + 1.9 * 0.16 + extra, rel=2e-3)


def test_neighbours_share_their_noise():
    noise = read(plane(800.0), FINE) - 800.0
    beside = np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]
    distant = np.corrcoef(noise[:, 40:].ravel(), noise[:, :-40].ravel())[0, 1]
    assert 0.5 < beside < 0.8
    assert abs(distant) < 0.1


@pytest.mark.parametrize("depth_mm", [500.0, 1000.0])
def test_depth_comes_in_disparity_steps(depth_mm):
    spec = dataclasses.replace(SensorSpec(), hole_sigma=99.0)
    values = np.unique(read(plane(depth_mm), spec))
    steps = spec.disparity_mm / values
    np.testing.assert_allclose(steps, np.round(steps), atol=2e-4)
    assert np.diff(values).min() == pytest.approx(depth_mm**2 / spec.disparity_mm, rel=0.05)


def test_grazing_pixels_are_lost_and_frontal_ones_are_not():
    share = {c: (read(plane(800.0, c), FINE) == 0).mean() for c in (0.02, 0.2, 0.39, 0.41, 1.0)}
    for c in (0.02, 0.2):
        assert share[c] == pytest.approx((1 - c / 0.4) ** 2, abs=0.02)
    assert share[0.39] < 0.01
    assert share[0.41] == share[1.0] == 0


def test_holes_are_rare_and_round():
    lost = read(plane(800.0), dataclasses.replace(FINE, hole_sigma=2.0)) == 0
    assert 0.002 < lost.mean() < 0.03
    # A lost pixel's neighbor is mostly lost too.
    assert lost[:, 1:][lost[:, :-1]].mean() > 0.6


def test_nothing_is_nothing():
    assert (read(plane(jnp.inf, 0.0), SensorSpec()) == 0).all()
    assert (read(plane(100.0), SensorSpec()) == 0).all(), "nearer than the sensor measures"
    off = measure_fast(KEY, plane(800.0), COLUMNS - 5, ROWS + 3, FRAME, FINE)
    assert (np.asarray(off)[:, :5] == 0).all()
    assert (np.asarray(off)[-3:] == 0).all()
    assert (np.asarray(off)[:-3, 5:] > 0).all()


def test_noise_belongs_to_the_source_pixel():
    whole = read(plane(800.0), SensorSpec())
    columns, rows = jnp.array([17, 17, 3, 250, 18]), jnp.array([200, 5, 5])
    hits = Hits(jnp.full((3, 5), 800.0), jnp.ones((3, 5)))
    part = measure_fast(KEY, hits, columns, rows, FRAME, SensorSpec())
    np.testing.assert_allclose(part, whole[np.ix_(rows, columns)], rtol=1e-5)


def test_hashes_have_the_right_moments_and_no_pattern():
    u = np.asarray(uniform_hash(KEY, COLUMNS, ROWS))
    g = np.asarray(gaussian_hash(KEY, COLUMNS, ROWS))
    assert 0 <= u.min() < 0.001
    assert 0.999 < u.max() < 1
    assert u.mean() == pytest.approx(0.5, abs=0.005)
    assert (g.mean(), g.std()) == (pytest.approx(0, abs=0.015), pytest.approx(1, abs=0.01))
    for lag in ((0, 1), (1, 0), (1, 1), (0, 16), (16, 0)):
        a, b = g[lag[0] :, lag[1] :], g[: FRAME[1] - lag[0], : FRAME[0] - lag[1]]
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.015
    other = np.asarray(gaussian_hash(jax.random.key(1), COLUMNS, ROWS))
    assert abs(np.corrcoef(g.ravel(), other.ravel())[0, 1]) < 0.015
    assert g.mean(axis=0).std() < 1.4 / np.sqrt(FRAME[1])


def test_smooth_field_is_continuous_with_unit_variance():
    keys = jax.random.split(KEY, 20)
    fields = jax.vmap(lambda key: smooth_gaussian(key, COLUMNS, ROWS, FRAME, 8))(keys)
    fields = np.asarray(fields)
    assert fields.std() == pytest.approx(1.0, abs=0.03)
    assert np.abs(np.diff(fields, axis=2)).max() < 1.5 * 8 / 8


EFFECTS = dataclasses.replace(
    FINE, effects=True, edge_cosine=0.0, axial_mm=(0.0, 0.0, 0.4), grazing_mm=0.0
)
EDGE, NEAR_MM, FAR_MM = 160, 500.0, 700.0
STEP = Hits(
    jnp.where(COLUMNS < EDGE, FAR_MM, NEAR_MM) * jnp.ones((FRAME[1], 1)),
    jnp.ones((FRAME[1], FRAME[0])),
)


def test_effects_of_no_size_change_nothing():
    plain, same = SensorSpec(), dataclasses.replace(SensorSpec(), effects=True)
    np.testing.assert_array_equal(read(STEP, plain), read(STEP, same))


def test_flying_pixels_are_between_foreground_and_background_along_the_outline():
    found = read(STEP, dataclasses.replace(EFFECTS, flying_px=0.5))
    between = (found > NEAR_MM + 1) & (found < FAR_MM - 1)
    assert between[:, EDGE - 1 : EDGE + 1].mean() == pytest.approx(0.5, abs=0.1)
    assert not between[:, : EDGE - 1].any()
    assert not between[:, EDGE + 1 :].any()
    # A lattice that skips every second pixel meets half as many.
    hits = Hits(*(value[:, ::2] for value in STEP))
    part = measure_fast(
        KEY, hits, COLUMNS[::2], ROWS, FRAME, dataclasses.replace(EFFECTS, flying_px=0.5)
    )
    between = (part > NEAR_MM + 1) & (part < FAR_MM - 1)
    assert between[:, EDGE // 2 - 1 : EDGE // 2 + 1].mean() == pytest.approx(0.25, abs=0.07)


def test_outlines_grow_sideways():
    found = read(STEP, dataclasses.replace(EFFECTS, fatten_px=0.4))
    near = np.abs(found - NEAR_MM) < 1
    assert near[:, EDGE:].all()
    assert near[:, EDGE - 1].mean() == pytest.approx(0.4, abs=0.15)
    assert not near[:, : EDGE - 1].any()


def test_what_is_near_casts_a_shadow_as_wide_as_the_difference_of_disparities():
    found = read(STEP, dataclasses.replace(EFFECTS, shadow_mm_px=20_000.0))
    width = 20_000.0 * (1 / NEAR_MM - 1 / FAR_MM)
    lost = (found == 0).sum(axis=1)
    np.testing.assert_allclose(lost, width, atol=1.5)
    assert (found[:, EDGE:] > 0).all()


def test_bias_is_smooth_and_the_same_within_a_frame():
    spec = dataclasses.replace(EFFECTS, offset_mm=3.0, bias_mm=1.0)
    errors = [read(plane(700.0), spec, jax.random.key(i)) - 700.0 for i in range(24)]
    assert np.std([error.mean() for error in errors]) == pytest.approx(3.0, rel=0.4)
    assert np.mean([error.std() for error in errors]) == pytest.approx(1.0, rel=0.3)
    assert max(np.abs(np.diff(error)).max() for error in errors) < 0.3


@pytest.mark.slow
def test_a_coarse_sensor_reads_blocks():
    found = settings("hand", sensor=dataclasses.replace(STEREO, pixel_px=2.0), **BARE_HAND)
    frame = next(views.full_frames(0, 1, **found))["frame"]
    blocks = np.asarray(frame).reshape(240, 2, 320, 2)
    assert (blocks == blocks[:, :1, :, :1]).all()
    assert (blocks > 0).any()


@pytest.mark.parametrize("mix", [SensorMix(), SHIFTED_SENSORS])
def test_every_scene_draws_a_sensor_with_numbers_of_its_own(mix):
    drawn = jax.jit(jax.vmap(mix.draw))(jax.random.split(KEY, 400))
    assert drawn.effects
    nearest = np.log(np.asarray(drawn.flying_px)[:, None] + 1e-9)
    distance = np.abs(nearest - np.log([sensor.flying_px + 1e-9 for sensor in mix.sensors]))
    # With a jitter of ±2 σ all kinds of outlines are still drawn.
    for kind in np.unique([sensor.flying_px for sensor in mix.sensors]):
        share = np.mean([sensor.flying_px == kind for sensor in mix.sensors])
        near = np.abs(nearest[:, 0] - np.log(kind + 1e-9)) <= 2 * mix.jitter + 1e-3
        assert near.mean() >= share - 0.08
    assert (distance.min(axis=1) <= 2 * mix.jitter + 1e-3).all()
    assert len(np.unique(drawn.axial_mm[0])) > 390
    np.testing.assert_array_equal(np.unique(drawn.range_mm[0]), [mix.sensors[0].range_mm[0]])
