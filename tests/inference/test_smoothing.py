"""Smoothing over time: against a plain reading of the paper, at gaps, and without joints."""

import math

import numpy as np
import pytest

from a2j_jax.inference import smoothing
from a2j_jax.inference.smoothing import OneEuro
from a2j_jax.tracks import HANDS2017

BONES = HANDS2017.bones


def recording(frames: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    hand = rng.normal(0, 40, (21, 3)) + np.array([0, 0, 600])
    return hand + rng.normal(0, 2, (frames, 21, 3)), np.arange(frames) / 30


def filtered(xyz: np.ndarray, times: np.ndarray, settings: OneEuro) -> np.ndarray:
    state, found = None, []
    for joints, now in zip(xyz, times, strict=True):
        state = smoothing.one_euro(state, joints, now, settings)
        found.append(state.xyz_mm)
    return np.stack(found)


def algorithm_1(values: list[float], times: list[float], settings: OneEuro) -> list[float]:
    """One coordinate, as the paper has it."""

    def alpha(rate: float, cutoff: float) -> float:
        tau, period = 1 / (2 * math.pi * cutoff), 1 / rate
        return 1 / (1 + tau / period)

    found, speed = [values[0]], 0.0
    for value, before, now in zip(values[1:], times, times[1:], strict=False):
        rate = 1 / (now - before)
        edge = alpha(rate, settings.derivative_cutoff_hz)
        speed = edge * (value - found[-1]) * rate + (1 - edge) * speed
        edge = alpha(rate, settings.min_cutoff_hz + settings.beta * abs(speed))
        found.append(edge * value + (1 - edge) * found[-1])
    return found


def test_one_euro_is_the_papers_at_any_frame_rate():
    xyz, times = recording()
    times = times + np.random.default_rng(1).uniform(0, 0.02, len(times))
    settings = OneEuro(min_cutoff_hz=1.5, beta=0.02, derivative_cutoff_hz=2.0)
    expected = algorithm_1(xyz[:, 7, 1].tolist(), times.tolist(), settings)
    np.testing.assert_allclose(filtered(xyz, times, settings)[:, 7, 1], expected, rtol=1e-12)


@pytest.mark.parametrize("moved", [0.6, -0.2])
def test_a_gap_or_another_clock_restarts_the_filter(moved):
    xyz, times = recording()
    times[20:] += moved
    both = filtered(xyz, times, OneEuro())
    apart = [filtered(xyz[part], times[part], OneEuro()) for part in np.s_[:20, 20:]]
    np.testing.assert_array_equal(both, np.concatenate(apart))


def test_a_repeated_frame_changes_nothing():
    xyz, _ = recording(2)
    state = smoothing.one_euro(None, xyz[0], 1.0)
    assert smoothing.one_euro(state, xyz[1], 1.0) is state


def test_missing_joints():
    xyz, times = recording()
    xyz[10, 4], xyz[20] = np.nan, np.nan
    found = filtered(xyz, times, OneEuro())
    np.testing.assert_array_equal(np.isnan(found), np.isnan(xyz))
    np.testing.assert_array_equal(found[11, 4], xyz[11, 4])
    np.testing.assert_array_equal(found[21], xyz[21])
    whole = smoothing.one_euro_sequence(xyz, times)
    np.testing.assert_array_equal(np.isnan(whole), np.isnan(xyz))
    np.testing.assert_array_equal(whole[21:], smoothing.one_euro_sequence(xyz[21:], times[21:]))
    state = None
    for joints, now in zip(xyz, times, strict=True):
        state = smoothing.smooth(state, joints, now, BONES)
        np.testing.assert_array_equal(np.isnan(state.xyz_mm), np.isnan(joints))
    nothing = np.full_like(xyz, np.nan)
    assert np.isnan(smoothing.smooth_sequence(nothing, times, BONES)).all()


def test_a_recording_is_filtered_without_delay():
    times = np.arange(60) / 30
    moving = np.zeros((60, 21, 3))
    moving[..., 0] = 300 * times[:, None]
    delays = [
        (300 * times - found[:, 0, 0])[20:-20].mean()
        for found in (
            filtered(moving, times, OneEuro()),
            smoothing.one_euro_sequence(moving, times),
        )
    ]
    assert delays[0] > 1.0
    assert abs(delays[1]) < 0.01


def test_bones_get_their_lengths():
    xyz, _ = recording(3)
    lengths = np.random.default_rng(2).uniform(20, 90, len(BONES))
    found = smoothing.project_bones(xyz, lengths, BONES, share=1.0, passes=100)
    np.testing.assert_allclose(
        smoothing.bone_lengths(found, BONES), np.tile(lengths, (3, 1)), rtol=1e-3
    )
    np.testing.assert_allclose(found.mean(axis=1), xyz.mean(axis=1))  # both ends move alike
    as_they_are = smoothing.project_bones(xyz, smoothing.bone_lengths(xyz, BONES), BONES)
    np.testing.assert_allclose(as_they_are, xyz, rtol=1e-12)
    unknown = smoothing.project_bones(xyz, np.full(len(BONES), np.nan), BONES)
    np.testing.assert_array_equal(unknown, xyz)


def test_lengths_are_the_median_of_the_last_frames(monkeypatch):
    monkeypatch.setattr(smoothing, "_WINDOW", 5)
    xyz, times = recording(12)
    state = None
    for joints, now in zip(xyz, times, strict=True):
        state = smoothing.smooth(state, joints, now, BONES)
    lengths = smoothing.bone_lengths(filtered(xyz, times, OneEuro())[-5:], BONES)
    np.testing.assert_allclose(state.lengths_mm, lengths)
    expected = smoothing.project_bones(state.filtered.xyz_mm, np.median(lengths, axis=0), BONES)
    np.testing.assert_array_equal(state.xyz_mm, expected)
