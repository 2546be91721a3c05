"""Track constants against the authors' published files, and looking tracks up."""

import dataclasses

import numpy as np
import pytest

from a2j_jax.errors import UserError
from a2j_jax.tracks import TRACKS, get_track, with_crop_size


def test_all_tracks_are_there_and_usable_as_static_arguments():
    assert list(TRACKS) == [
        "nyu", "icvl", "hands2017", "itop_front", "itop_top", "k2hpd",
        "synthetic_hand", "synthetic_body", "synthetic_body_top",
    ]  # fmt: skip
    for name, track in TRACKS.items():
        assert track.name == name
        assert hash(track) == hash(dataclasses.replace(track))
        assert (track.half_window_mm is None) == (track.crop_by == "box")
        assert (track.camera is None) == (track.joint_dims == 2)
        assert track.crop_size % 16 == 0


@pytest.mark.parametrize(
    ("name", "folder", "index"),
    [
        ("nyu", "nyu/nyu", 0),
        ("icvl", "icvl/icvl", 0),
        ("hands2017", "hands2017/hands2017", 0),
        ("itop_front", "itop_side/itop_side", 3),
        ("itop_top", "itop_top/itop_top", 3),
        ("k2hpd", "k2hpd/k2hpd", 0),
    ],
)
def test_mean_and_std_are_the_published_ones(official, name, folder, index):
    mean, std = (
        np.load(official / f"{folder}_{what}.npy").ravel()[index] for what in ("mean", "std")
    )
    track = get_track(name)
    np.testing.assert_allclose([track.mean, track.std], [mean, std], rtol=1e-6)


def test_constants():
    for name, camera, half_window, joints in (
        ("nyu", (588.03, -587.07, 320, 240), 110, 14),
        ("icvl", (240.99, 240.96, 160, 120), 95, 16),
        ("hands2017", (475.065948, 475.065857, 315.944855, 245.287079), 100, 21),
        ("itop_front", (1 / 0.0035, -1 / 0.0035, 160, 120), None, 15),
        ("itop_top", (1 / 0.0035, -1 / 0.0035, 160, 120), None, 15),
        ("k2hpd", None, None, 19),
    ):
        track = get_track(name)
        if camera is not None:
            np.testing.assert_allclose(track.camera.as_array(), camera)
        assert (track.half_window_mm, track.num_joints) == (half_window, joints)
        assert track.joint_depth_scale == (0.05 if name.startswith("itop") else 1)
        assert track.crop_size == (176 if half_window else 288)


def test_a_mistyped_track_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'hands2017'"):
        get_track("hands2018")
    with pytest.raises(UserError, match="tracks: nyu, icvl"):
        get_track("zzzz")


def test_with_crop_size():
    track = with_crop_size(get_track("nyu"), 96)
    assert (track.crop_size, track.margin, track.canvas_size) == (96, 12, 120)
    assert get_track("nyu").crop_size == 176
    for size in (0, -16, 100):
        with pytest.raises(UserError, match="multiple of 16"):
            with_crop_size(track, size)
