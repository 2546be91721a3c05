"""Rendered hands on disk agree with their labels and depend on seed and index alone."""

import dataclasses

import numpy as np
import pytest

from a2j_jax import crops, geometry
from a2j_jax.geometry import Camera
from a2j_jax.tracks import get_track, with_crop_size
from tfds_builders.build import How, prepare
from tfds_builders.synthetic_hand.synthetic_hand import SyntheticHand, SyntheticHandReader

TRACK = with_crop_size(get_track("synthetic_hand"), 32)
READER = SyntheticHandReader(TRACK, train=40, validation=0, test=16, seed=7)

pytestmark = pytest.mark.slow  # the renderer compiles


@pytest.fixture(scope="module")
def hands():
    return list(READER.read("train", range(40)))


def test_examples_are_whole(hands):
    assert [hand["index"] for hand in hands] == list(range(40))
    for hand in hands:
        assert hand["canvas"].shape == (TRACK.canvas_size,) * 2
        assert hand["canvas"].dtype == np.uint16
        np.testing.assert_array_equal(
            hand["box_px"], geometry.clip_box(hand["window_px"], TRACK.frame_size)
        )
        np.testing.assert_allclose(
            hand["window_px"],
            geometry.box_from_center(hand["center_uvd"], TRACK.half_window_mm, TRACK.camera),
            atol=1e-2,
        )


def test_joints_lie_in_the_hand_that_is_seen(hands):
    """Just behind a surface or hidden by another one, never in front of everything."""
    in_front = seen = 0
    for hand in hands:
        joints = crops.joints_to_crop(
            hand["joints_uvd"], hand["box_px"], hand["center_uvd"][2], TRACK
        )
        column, row = np.floor(joints[:, :2]).astype(int).T + TRACK.margin
        inside = (np.minimum(row, column) >= 0) & (np.maximum(row, column) < TRACK.canvas_size)
        depth = hand["canvas"][row[inside], column[inside]].astype(float)
        seen += (depth > 0).sum()
        in_front += ((depth > 0) & (depth > hand["joints_uvd"][inside, 2] + 30)).sum()
    assert seen > 500
    assert in_front / seen < 0.08


def test_a_frame_depends_on_seed_split_and_index_alone(hands):
    again = list(dataclasses.replace(READER, train=20).read("train", range(13, 20)))
    for one, other in zip(hands[13:20], again, strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])
    test = next(READER.read("test", range(1)))
    reseeded = next(dataclasses.replace(READER, seed=8).read("train", range(1)))
    for other in (test, reseeded):
        assert not np.array_equal(hands[0]["joints_uvd"], other["joints_uvd"])


def test_two_processes_write_what_one_does(tmp_path):
    written = [
        prepare(SyntheticHand, TRACK, READER, tmp_path / str(processes), How(processes, 2))
        for processes in (1, 2)
    ]
    one, other = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in written)
    assert one == other


def test_the_spec_names_what_matters():
    assert READER.spec() == dataclasses.replace(READER).spec()
    for change in (
        {"seed": 8},
        {"train": 41},
        {"track": with_crop_size(TRACK, 48)},
        {"track": dataclasses.replace(TRACK, camera=Camera(500, 500, 320, 240))},
        {"sensor": None},
    ):
        assert dataclasses.replace(READER, **change).spec() != READER.spec()
