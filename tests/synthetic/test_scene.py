"""Examples of hands: determinism, agreement with geometry, and a truth that is true."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax import geometry
from a2j_jax.synthetic import scene
from a2j_jax.synthetic.views import HandView, SceneSpec

NYU = geometry.Camera(588.03, -587.07, 320.0, 240.0)
SMALL = {"frame_size": (640, 480), "crop_size": 64, "margin": 8}
ANYWHERE = SceneSpec()
BARE = SceneSpec(wall_probability=0.0, clutter_probability=0.0)


def hands(indices, seed=0, camera=NYU, spec=ANYWHERE, **changes):
    view = HandView(110.0, spec)
    return list(scene.generate(seed, indices, view=view, camera=camera, **{**SMALL, **changes}))


@pytest.fixture(scope="module")
def examples():
    return hands(range(48))


@pytest.fixture(scope="module")
def perfect():
    return hands(range(48), spec=BARE, sensor=None)


def test_shapes_and_types(examples):
    assert len(examples) == 48
    for example in examples:
        assert {k: (v.shape, v.dtype.name) for k, v in example.items()} == {
            "canvas": ((80, 80), "uint16"),
            "joints_uvd": ((21, 3), "float32"),
            "joints_xyz": ((21, 3), "float32"),
            "center_uvd": ((3,), "float32"),
            "window_px": ((4,), "float32"),
            "box_px": ((4,), "float32"),
        }


def test_an_example_depends_on_its_index_alone(examples):
    for indices in (range(13, 14), range(5, 16), range(40, 48)):
        for index, again in zip(indices, hands(indices), strict=True):
            for name, value in again.items():
                np.testing.assert_array_equal(value, examples[index][name])
    assert any((hands(range(1), seed=1)[0]["canvas"] != examples[0]["canvas"]).ravel())
    assert hands(range(3, 3)) == []


def test_box_and_projection_are_those_of_geometry(examples):
    for example in examples:
        window = geometry.box_from_center(example["center_uvd"], 110.0, NYU)
        np.testing.assert_allclose(example["window_px"], window, atol=2e-4)
        box = geometry.clip_box(example["window_px"], (640, 480))
        np.testing.assert_array_equal(example["box_px"], box)
        uvd = geometry.xyz_to_uvd(example["joints_xyz"], NYU)
        np.testing.assert_allclose(example["joints_uvd"], uvd, atol=2e-4)


def test_lattice_is_that_of_geometry():
    """But for a point here and there where OpenCV's rounding leaves a crop one pixel short."""
    frame = np.arange(640 * 480, dtype=np.uint32).reshape(480, 640)
    rng = np.random.default_rng(0)
    for _ in range(20):
        low, high = rng.uniform(0, 300, 2), rng.uniform(310, 479, 2)
        box = np.concatenate([low, high]).astype(np.float32)
        columns, rows = (np.asarray(x) for x in scene.crop_lattice(jnp.asarray(box), 64, 8))
        inside = (columns >= 0) & (columns < 640), (rows >= 0) & (rows < 480)
        expected = np.zeros((80, 80), np.uint32)
        expected[np.ix_(inside[1], inside[0])] = frame[np.ix_(rows[inside[1]], columns[inside[0]])]
        assert (geometry.crop_canvas(frame, box, 64, 8) != expected).mean() < 0.05


def test_canvas_is_cut_from_the_frame_of_the_same_scene(examples):
    frame_of = jax.jit(
        partial(scene.synthetic_frame, view=HandView(110.0), camera=NYU, frame_size=(640, 480))
    )
    for index in (7, 20):
        frame = frame_of(jax.random.fold_in(jax.random.key(0), index))
        assert frame["frame"].shape == (480, 640)
        cut = geometry.crop_canvas(np.asarray(frame["frame"]), examples[index]["box_px"], 64, 8)
        assert (cut != examples[index]["canvas"]).mean() < 2e-3
        for name in ("joints_uvd", "joints_xyz", "center_uvd", "window_px", "box_px"):
            np.testing.assert_allclose(frame[name], examples[index][name], rtol=1e-6, atol=1e-4)


def test_center_is_in_the_frame_and_the_hand_mostly(examples):
    centers = np.stack([e["center_uvd"] for e in examples])
    assert ((centers[:, :2] >= 0) & (centers[:, :2] <= [639, 479])).all()
    assert centers[:, 2].min() > 380
    assert centers[:, 2].max() < 1020
    joints = np.stack([e["joints_uvd"] for e in examples])[..., :2]
    assert ((joints >= 0) & (joints <= [639, 479])).all(-1).mean() > 0.95
    offset = np.stack([geometry.uvd_to_xyz(e["center_uvd"], NYU) for e in examples])
    offset -= np.stack([e["joints_xyz"].mean(0) for e in examples])
    assert offset.std() == pytest.approx(5.0, rel=0.2)


def test_surface_is_a_finger_in_front_of_visible_joints(perfect):
    """At a joint's pixel the surface is in front of it by a radius, unless something hides it."""
    gaps = []
    for example in perfect:
        box, canvas = example["box_px"].astype(np.float64), example["canvas"]
        uv = geometry.frame_to_crop(example["joints_uvd"][:, :2], box, 64) + 8
        column, row = np.round(uv).astype(int).T
        inside = (column >= 0) & (column < 80) & (row >= 0) & (row < 80)
        depth = canvas[row[inside], column[inside]].astype(float)
        gaps.append((example["joints_uvd"][inside, 2] - depth)[depth > 0])
    gaps = np.concatenate(gaps)
    assert len(gaps) > 0.9 * 48 * 21
    assert (gaps > 0).mean() > 0.99, "joints are inside the hand"
    assert ((gaps > 3) & (gaps < 22)).mean() > 0.5, "most are visible, one radius deep"


def test_the_world_does_not_depend_on_the_cameras_y_axis():
    """A camera with y up sees the same image of the same right hand as one with y down."""
    up = hands(range(4), camera=NYU, spec=BARE, sensor=None)
    down = hands(range(4), camera=dataclasses.replace(NYU, fy=-NYU.fy), spec=BARE, sensor=None)
    for a, b in zip(up, down, strict=True):
        np.testing.assert_allclose(a["joints_uvd"], b["joints_uvd"], atol=1e-3)
        np.testing.assert_allclose(a["joints_xyz"] * [1, -1, 1], b["joints_xyz"], atol=1e-3)
        assert (a["canvas"] != b["canvas"]).mean() < 0.01


def test_left_hands_are_mirrored_right_hands():
    """Chirality: of little finger → index, wrist → knuckles, and the way fingers bend."""

    def handedness(spec):
        volumes = []
        for example in hands(range(24), spec=spec, sensor=None):
            j = example["joints_xyz"] * [1, -1, 1]  # NYU's y points up: back to the world's axes
            across, along = j[2] - j[5], (j[2] + j[5]) / 2 - j[0]
            bent = (j[[9, 12, 15, 18]] - j[[2, 3, 4, 5]]).mean(0)
            volumes.append(np.linalg.det(np.stack([across, along, bent])))
        return np.sum(volumes) / np.abs(volumes).sum()

    # Not ±1: stretched fingers may bend backward by a few degrees.
    assert handedness(BARE) > 0.6
    assert handedness(dataclasses.replace(BARE, mirror_probability=1.0)) < -0.6


def test_background_is_behind_the_hand():
    behind = SceneSpec(wall_probability=1.0, clutter_probability=1.0)
    for bare, full in zip(
        hands(range(8), spec=BARE, sensor=None),
        hands(range(8), spec=behind, sensor=None),
        strict=True,
    ):
        np.testing.assert_array_equal(bare["joints_uvd"], full["joints_uvd"])
        assert (full["canvas"] > 0).sum() > (bare["canvas"] > 0).sum()
        near = (bare["canvas"] > 0) & (bare["canvas"] < bare["joints_uvd"][:, 2].mean() + 60)
        differs = np.abs(full["canvas"][near].astype(int) - bare["canvas"][near].astype(int)) > 1
        assert differs.mean() < 0.01
