"""Rooms: people stand on the floor, are where the camera looks, and the crop is cut from the frame."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax import geometry
from a2j_jax.synthetic import scene
from a2j_jax.synthetic.views import FRONT, TOP, XTION, BodyView
from a2j_jax.tracks import get_track

TRACKS = {"front": get_track("synthetic_body"), "top": get_track("synthetic_body_top")}
ROOMS = {"front": FRONT, "top": TOP}
CAMERA, SIZE, UNIT = TRACKS["front"].camera, (320, 240), 0.125
EMPTY = {"back_wall_probability": 0.0, "side_wall_probability": 0.0, "clutter_probability": 0.0}
PERSON = 43  # cones of the body; then come what is sat on and furniture
WHERE = ("joints_uvd", "joints_xyz", "center_uvd", "window_px", "box_px")

pytestmark = pytest.mark.slow  # the renderer compiles


def view(preset, **changes):
    room = dataclasses.replace(ROOMS[preset], **changes)
    return BodyView(TRACKS[preset].label_box_margin_px, room)


def bodies(preset, indices, seed=0, camera=CAMERA, sensor=XTION, **changes):
    return list(
        scene.generate(
            seed, indices, view=view(preset, **changes), camera=camera, frame_size=SIZE,
            crop_size=64, margin=8, unit_mm=UNIT, sensor=sensor,
        )
    )  # fmt: skip


@jax.jit
@partial(jax.vmap, in_axes=(0, None))
def composed(keys, bodies_view):
    return bodies_view.compose(keys, CAMERA, SIZE)


def compose(preset, count=300, **changes):
    drawn = composed(jax.random.split(jax.random.key(0), count), view(preset, **changes))
    return jax.tree.map(np.asarray, drawn._replace(noise_key=0))


@pytest.fixture(scope="module", params=["front", "top"])
def preset(request):
    return request.param


@pytest.fixture(scope="module")
def drawn(preset):
    return compose(preset)


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
    facing = compose(preset, facing_sigma_deg=0.0, turned_probability=0.0)
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
    assert margins.std() == pytest.approx(0.88 * ROOMS[preset].box_jitter_px, rel=0.1)
    assert margins.min() > 0


def test_walls_and_furniture_come_in_the_share_asked_for(preset):
    bare = compose(preset, **EMPTY)
    assert np.isfinite(bare.planes[:, 0, 3]).all(), "there is always a floor"
    assert not np.isfinite(bare.planes[:, 1:, 3]).any()
    full = compose(preset, **dict.fromkeys(EMPTY, 1.0))
    assert np.isfinite(full.planes[:, 1, 3]).mean() > 0.95
    assert full.cones.radii_mm[:, -3:].min() > 70
    assert bare.cones.radii_mm[:, -3:].min() < 70 or (bare.cones.radii_mm[:, -3:] < 200).all()
    # Furniture stays aside, and no wall runs through anybody.
    people = full.joints_xyz.mean(axis=1)
    gap = np.linalg.norm(full.cones.ends_mm[:, -3:, 0] - people[:, None], axis=-1)
    assert gap.min() > 600
    behind = full.planes[:, 1:, 3] - np.einsum("npx,nx->np", full.planes[:, 1:, :3], people)
    assert behind.min() > 0


def test_canvas_is_cut_from_the_frame_of_the_same_scene(preset):
    frame_of = jax.jit(
        partial(
            scene.synthetic_frame, view=view(preset), camera=CAMERA, frame_size=SIZE,
            unit_mm=UNIT, sensor=XTION,
        )
    )  # fmt: skip
    for index, example in zip((0, 3), bodies(preset, range(0, 4, 3)), strict=True):
        frame = frame_of(jax.random.fold_in(jax.random.key(0), index))
        cut = geometry.crop_canvas(np.asarray(frame["frame"]), example["box_px"], 64, 8)
        # OpenCV's rounding may leave a line of the crop one pixel short, see test_scene.
        lines = [(cut != example["canvas"]).mean(axis=axis) for axis in (0, 1)]
        assert all((line < 0.05).mean() > 0.95 for line in lines)
        np.testing.assert_array_equal(
            example["box_px"], geometry.clip_box(example["window_px"], SIZE)
        )
        for name in WHERE:
            np.testing.assert_allclose(frame[name], example[name], rtol=1e-5, atol=1e-2)


def test_an_example_depends_on_its_index_alone(preset):
    examples = bodies(preset, range(12))
    for index, again in zip(range(5, 7), bodies(preset, range(5, 7)), strict=True):
        for name, value in again.items():
            np.testing.assert_array_equal(value, examples[index][name])
    assert (bodies(preset, range(1), seed=1)[0]["canvas"] != examples[0]["canvas"]).any()


def test_surface_is_in_front_of_joints_and_depths_are_those_of_a_room(preset):
    perfect = bodies(preset, range(32), sensor=None, **EMPTY)
    gaps = []
    for example in perfect:
        box, canvas = example["box_px"].astype(np.float64), example["canvas"] * UNIT
        uv = geometry.frame_to_crop(example["joints_uvd"][:, :2], box, 64) + 8
        column, row = np.floor(uv).astype(int).T
        inside = (np.minimum(column, row) >= 0) & (np.maximum(column, row) < 80)
        depth = canvas[row[inside], column[inside]]
        gaps.append((example["joints_uvd"][inside, 2] - depth)[depth > 0])
    gaps = np.concatenate(gaps)
    assert len(gaps) > 0.9 * 32 * 15
    assert (gaps > 0).mean() > 0.95, "but for thin limbs between two lattice points"
    visible = ((gaps > 10) & (gaps < 200)).mean()
    assert visible > (0.6 if preset == "front" else 0.3)
    seen = np.concatenate([e["canvas"].ravel() for e in bodies(preset, range(32))]) * UNIT
    assert (seen > 0).mean() > 0.85, "the sensor sees most of a room"
    assert seen[seen > 0].min() >= 390
    assert np.percentile(seen[seen > 0], 99) < 8000


def test_the_world_does_not_depend_on_the_cameras_y_axis(preset):
    down = dataclasses.replace(CAMERA, fy=-CAMERA.fy)
    for a, b in zip(
        bodies(preset, range(3), sensor=None),
        bodies(preset, range(3), camera=down, sensor=None),
        strict=True,
    ):
        np.testing.assert_allclose(a["joints_uvd"], b["joints_uvd"], atol=0.02)
        np.testing.assert_allclose(a["joints_xyz"] * [1, -1, 1], b["joints_xyz"], atol=0.02)
        assert (np.abs(a["canvas"].astype(int) - b["canvas"]) > 8).mean() < 0.02


def test_who_sits_sits_on_something(drawn):
    seats = drawn.cones.radii_mm[:, PERSON, 0]
    assert 0.005 < (seats > 50).mean() < 0.1
    assert (seats[seats < 50] == 1.0).all(), "a seat that is not needed is a point"
    floor = drawn.planes[:, 0]
    foot = floor[:, 3] - np.einsum("nx,nx->n", drawn.cones.ends_mm[:, PERSON, 0], floor[:, :3])
    np.testing.assert_allclose(foot[seats > 50], 0, atol=1)
    assert jnp.isfinite(drawn.cones.ends_mm).all()
