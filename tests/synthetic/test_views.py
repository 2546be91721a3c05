"""Where hands and people are put, and what is around them; test_scene_images.py looks at the images."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax import geometry
from a2j_jax.synthetic.views import track_frames
from a2j_jax.tracks import get_track
from tests.synthetic.rendering import BARE_ROOM, READERS, TRACKS, compose, people

HAND_CAMERA = TRACKS["hand"].camera
FOREARM = slice(35, 37)  # its two cones, see `hand.hand_cones`
CAMERA, SIZE = TRACKS["front"].camera, (320, 240)
PERSON = 43  # cones of the body; then come what is sat on and furniture


def hands(**changes):
    return compose("hand", 256, **changes)


def rises(drawn):
    """Sine of the angle by which elbows are nearer to the camera than wrists."""
    wrist, elbow = (drawn.cones.ends_mm[:, FOREARM, end].mean(axis=1) for end in (0, 1))
    toward = (wrist - elbow) / np.linalg.norm(wrist - elbow, axis=-1, keepdims=True)
    return toward[:, 2]


def test_orientation_is_uniform_but_for_arms_in_the_way():
    free, limited = rises(hands(arm_toward_camera_deg=90.0)), rises(hands())
    # Archimedes: a uniform direction has a uniform height.
    quartiles = np.percentile(free, [0, 25, 50, 75, 100])
    np.testing.assert_allclose(quartiles, [-1, -0.5, 0, 0.5, 1], atol=0.12)
    assert limited.max() <= np.sin(np.deg2rad(40.0)) + 1e-4
    assert limited.min() < -0.9


def test_distance_and_margin_to_the_frame():
    drawn = hands(distance_mm=(500.0, 600.0), inside=1.0, center_sigma_mm=0.0)
    np.testing.assert_allclose(drawn.joints_xyz.mean(axis=1), drawn.center_xyz, atol=2e-2)
    assert 500 <= drawn.center_xyz[:, 2].min() < 510
    assert 590 < drawn.center_xyz[:, 2].max() <= 600
    uvd = geometry.xyz_to_uvd(drawn.center_xyz, HAND_CAMERA)
    reach = 110.0 * 588 / uvd[:, 2]
    assert (uvd[:, 0] - reach).min() > -1
    assert (uvd[:, 1] + reach).max() < 481


def test_the_center_is_in_the_frame_and_the_hand_mostly():
    drawn = hands()
    centers = geometry.xyz_to_uvd(drawn.center_xyz, HAND_CAMERA)
    joints = geometry.xyz_to_uvd(drawn.joints_xyz, HAND_CAMERA)[..., :2]
    assert ((centers[:, :2] >= 0) & (centers[:, :2] <= [639, 479])).all()
    assert ((joints >= 0) & (joints <= [639, 479])).all(-1).mean() > 0.95
    assert 380 < centers[:, 2].min() < centers[:, 2].max() < 1020
    offset = drawn.center_xyz - drawn.joints_xyz.mean(axis=1)
    assert offset.std() == pytest.approx(5.0, rel=0.1)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_walls_and_clutter_come_in_the_share_asked_for(share):
    drawn = hands(wall_probability=share, clutter_probability=share)
    assert np.isfinite(drawn.planes[:, 0, 3]).mean() == pytest.approx(share, abs=0.1)
    there = drawn.cones.radii_mm[:, -2:, 0] > 29.0
    assert there.mean() == pytest.approx(share, abs=0.1)
    fronts = (drawn.cones.ends_mm[:, -2:, :, 2] - drawn.cones.radii_mm[:, -2:]).min(-1)
    gap = fronts - drawn.joints_xyz[:, :, 2].mean(axis=1)[:, None]
    assert (gap[there] > 109.0).all()


# The renderer of bodies compiles.
@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in ("front", "top")]
)
def preset(request):
    return request.param


@pytest.fixture(scope="module")
def drawn(preset):
    return people(preset)


def test_somebody_stands_on_the_floor_and_nobody_floats(drawn):
    """The lowest point of every person is on the floor plane, to a millimeter."""
    floor = drawn.planes[:, 0]
    np.testing.assert_allclose(np.linalg.norm(floor[:, :3], axis=1), 1, atol=1e-5)
    person = drawn.cones.ends_mm[:, :PERSON], drawn.cones.radii_mm[:, :PERSON]
    height = floor[:, None, None, 3] - np.einsum("ncex,nx->nce", person[0], floor[:, :3])
    np.testing.assert_allclose((height - person[1]).min(axis=(1, 2)), 0, atol=1)


def test_everybody_is_where_the_camera_looks(preset, drawn):
    uvd = geometry.xyz_to_uvd(drawn.joints_xyz, CAMERA)
    inside = ((uvd[..., :2] >= 0) & (uvd[..., :2] < SIZE)).all(-1)
    assert inside.mean() > 0.97
    assert uvd[..., 2].min() > 400
    heads, feet = uvd[:, 0], uvd[:, 13:].mean(axis=1)
    if preset == "front":
        assert (feet[:, 1] > heads[:, 1]).all(), "heads are up"
        assert 2700 < uvd[..., 2].mean() < 3300
    else:
        assert (heads[:, 2] <= uvd[:, [1, 2, 3, 8, 9, 10, 11, 12, 13, 14], 2].min(1)).mean() > 0.97
        assert 900 < np.percentile(heads[:, 2], 5) < np.percentile(heads[:, 2], 95) < 1800


def test_left_is_left(preset, drawn):
    """Facing the front camera, a person's left is on the image's right; seen from above, likewise.

    Turned round, it is on the left: a mirrored image would have it the other way in both.
    """
    x = drawn.joints_xyz[..., 0]
    assert ((x[:, 3] - x[:, 2]) > 0).mean() > 0.85
    facing = people(preset, facing_sigma_deg=0.0, turned_probability=0.0)
    x, y, z = np.moveaxis(facing.joints_xyz, -1, 0)
    assert ((x[:, [3, 10]] - x[:, [2, 9]]).mean(axis=1) > 0).all()
    # Hands are held in front: nearer to the front camera, lower in the image from above.
    ahead = z[:, 6:8] - z[:, 2:4] if preset == "front" else y[:, 6:8] - y[:, 2:4]
    assert np.median(ahead) < -60


def test_box_is_around_the_joints_with_a_detectors_error(preset, drawn):
    uv = geometry.xyz_to_uvd(drawn.joints_xyz, CAMERA)[..., :2]
    margins = np.concatenate(
        [uv.min(axis=1) - drawn.window_px[:, :2], drawn.window_px[:, 2:] - uv.max(axis=1)]
    )
    assert margins.mean() == pytest.approx(TRACKS[preset].label_box_margin_px, abs=0.5)
    assert margins.std() == pytest.approx(0.88 * READERS[preset].view.scene.box_jitter_px, rel=0.1)
    assert margins.min() > 0


def test_walls_and_furniture_come_in_the_share_asked_for(preset):
    bare = people(preset, **BARE_ROOM)
    assert np.isfinite(bare.planes[:, 0, 3]).all(), "there is always a floor"
    assert not np.isfinite(bare.planes[:, 1:, 3]).any()
    full = people(preset, **dict.fromkeys(BARE_ROOM, 1.0))
    assert np.isfinite(full.planes[:, 1, 3]).mean() > 0.95
    assert full.cones.radii_mm[:, -3:].min() > 70
    assert bare.cones.radii_mm[:, -3:].min() < 70 or (bare.cones.radii_mm[:, -3:] < 200).all()
    # Furniture stays aside, and no wall runs through anybody.
    middle = full.joints_xyz.mean(axis=1)
    gap = np.linalg.norm(full.cones.ends_mm[:, -3:, 0] - middle[:, None], axis=-1)
    assert gap.min() > 600
    behind = full.planes[:, 1:, 3] - np.einsum("npx,nx->np", full.planes[:, 1:, :3], middle)
    assert behind.min() > 0


def test_who_sits_sits_on_something(drawn):
    seats = drawn.cones.radii_mm[:, PERSON, 0]
    assert 0.005 < (seats > 50).mean() < 0.1
    assert (seats[seats < 50] == 1.0).all(), "a seat that is not needed is a point"
    floor = drawn.planes[:, 0]
    foot = floor[:, 3] - np.einsum("nx,nx->n", drawn.cones.ends_mm[:, PERSON, 0], floor[:, :3])
    np.testing.assert_allclose(foot[seats > 50], 0, atol=1)
    assert jnp.isfinite(drawn.cones.ends_mm).all()


@pytest.mark.slow
def test_frames_of_tracks_without_a_camera_see_what_itops_camera_sees() -> None:
    """At half the resolution every other pixel, up to the sensor's noise."""
    itop = get_track("itop_front")
    half = dataclasses.replace(itop, camera=None, frame_size=(160, 120))
    (large,), (small,) = (list(track_frames(track, 1)) for track in (itop, half))
    np.testing.assert_allclose(small["joints_uvd"][:, :2] * 2, large["joints_uvd"][:, :2], atol=0.1)
    assert small["frame"].shape == (120, 160)
