"""Examples: determinism, agreement with geometry, and a truth that is true."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax import geometry
from a2j_jax.synthetic import scene
from a2j_jax.synthetic.placement import SceneSpec

NYU = geometry.Camera(588.03, -587.07, 320.0, 240.0)
Y_DOWN = geometry.Camera(475.07, 475.07, 315.9, 245.3)
SMALL = {"frame_size": (640, 480), "crop_size": 64, "margin": 8, "half_window_mm": 110.0}
BARE = SceneSpec(wall_probability=0.0, clutter_probability=0.0)


def hands(indices, seed=0, camera=NYU, **changes):
    return list(scene.generate_hands(seed, indices, camera=camera, **{**SMALL, **changes}))


@pytest.fixture(scope="module")
def examples():
    return hands(range(48))


@pytest.fixture(scope="module")
def perfect():
    return hands(range(48), scene=BARE, sensor=None)


def test_shapes_and_types(examples):
    assert len(examples) == 48
    for example in examples:
        assert {k: (v.shape, v.dtype.name) for k, v in example.items()} == {
            "canvas": ((80, 80), "uint16"),
            "joints_uvd": ((21, 3), "float32"),
            "joints_xyz": ((21, 3), "float32"),
            "center_uvd": ((3,), "float32"),
            "box_px": ((4,), "float32"),
        }


def test_an_example_depends_on_its_index_alone(examples):
    for indices in (range(13, 14), range(5, 16), range(40, 48)):
        for index, again in zip(indices, hands(indices), strict=True):
            for name, value in again.items():
                np.testing.assert_array_equal(value, examples[index][name])
    assert any((hands(range(1), seed=1)[0]["canvas"] != examples[0]["canvas"]).ravel())
    assert hands(range(3, 3)) == []


def test_other_batch_sizes_agree(examples):
    for mine, other in zip(examples, hands(range(3), batch_size=3), strict=False):
        np.testing.assert_allclose(other["joints_uvd"], mine["joints_uvd"], atol=1e-3)
        assert (other["canvas"] != mine["canvas"]).mean() < 0.01


def test_box_and_projection_are_those_of_geometry(examples):
    for example in examples:
        box = geometry.clip_box(
            geometry.box_from_center(example["center_uvd"], 110.0, NYU), (640, 480)
        )
        np.testing.assert_allclose(example["box_px"], box, atol=2e-4)
        uvd = geometry.xyz_to_uvd(example["joints_xyz"], NYU)
        np.testing.assert_allclose(example["joints_uvd"], uvd, atol=2e-4)


def test_lattice_is_that_of_geometry():
    frame = np.arange(640 * 480, dtype=np.uint32).reshape(480, 640)
    rng = np.random.default_rng(0)
    for _ in range(20):
        low, high = rng.uniform(0, 300, 2), rng.uniform(310, 479, 2)
        box = np.concatenate([low, high]).astype(np.float32)
        columns, rows = (np.asarray(x) for x in scene.crop_lattice(jnp.asarray(box), 64, 8))
        inside = (columns >= 0) & (columns < 640), (rows >= 0) & (rows < 480)
        expected = np.zeros((80, 80), np.uint32)
        expected[np.ix_(inside[1], inside[0])] = frame[np.ix_(rows[inside[1]], columns[inside[0]])]
        np.testing.assert_array_equal(geometry.crop_canvas(frame, box, 64, 8), expected)


@pytest.mark.parametrize("sensor", [scene.KINECT, None])
def test_canvas_is_cut_from_the_frame_of_the_same_scene(sensor):
    key = jax.random.fold_in(jax.random.key(0), 7)
    frame_settings = {k: SMALL[k] for k in ("frame_size", "half_window_mm")}
    example = scene.synthetic_hand_example(key, camera=NYU, sensor=sensor, **SMALL)
    frame = scene.synthetic_hand_frame(key, camera=NYU, sensor=sensor, **frame_settings)
    assert frame["frame"].shape == (480, 640)
    cut = geometry.crop_canvas(np.asarray(frame["frame"]), np.asarray(example["box_px"]), 64, 8)
    assert (cut != np.asarray(example["canvas"])).mean() < 2e-3
    np.testing.assert_array_equal(frame["joints_uvd"], example["joints_uvd"])


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
    assert 0.5 < ((gaps > 3) & (gaps < 22)).mean(), "most are visible, one radius deep"


def test_the_world_does_not_depend_on_the_cameras_y_axis():
    """A camera with y up sees the same image of the same right hand as one with y down."""
    up = hands(range(4), camera=NYU, scene=BARE, sensor=None)
    down = hands(range(4), camera=dataclasses.replace(NYU, fy=-NYU.fy), scene=BARE, sensor=None)
    for a, b in zip(up, down, strict=True):
        np.testing.assert_allclose(a["joints_uvd"], b["joints_uvd"], atol=1e-3)
        np.testing.assert_allclose(a["joints_xyz"] * [1, -1, 1], b["joints_xyz"], atol=1e-3)
        assert (a["canvas"] != b["canvas"]).mean() < 0.01


def test_left_hands_are_mirrored_right_hands():
    """Chirality, read from the joints: thumb side × pointing side · palm side (image, y down)."""

    def handedness(example):
        j = example["joints_xyz"].astype(np.float64)
        across, along = j[2] - j[5], (j[2] + j[5]) / 2 - j[0]
        curl = j[[11, 14, 17, 20]].mean(0) - j[[9, 12, 15, 18]].mean(0)
        return np.sign(np.linalg.det(np.stack([across, along, curl])))

    settings = {"camera": Y_DOWN, "sensor": None}
    right = [handedness(e) for e in hands(range(24), scene=BARE, **settings)]
    lefts = dataclasses.replace(BARE, mirror_probability=1.0)
    left = [handedness(e) for e in hands(range(24), scene=lefts, **settings)]
    assert np.mean(right) > 0.7
    assert np.mean(left) < -0.7


def test_the_arm_stays_out_of_the_way():
    def hidden(limit):
        spec = dataclasses.replace(BARE, arm_toward_camera_deg=limit)
        rises = []
        for e in hands(range(64), scene=spec, sensor=None):
            palm = e["joints_xyz"][[2, 3, 4, 5]].mean(0) - e["joints_xyz"][0]
            rises.append(palm[2] / np.linalg.norm(palm))  # forearm and palm are roughly in line
        return np.mean(np.array(rises) > 0.85)

    assert hidden(10.0) == 0 < hidden(90.0)


def test_background_is_behind_the_hand():
    behind = SceneSpec(wall_probability=1.0, clutter_probability=1.0)
    for bare, full in zip(
        hands(range(8), scene=BARE, sensor=None),
        hands(range(8), scene=behind, sensor=None),
        strict=True,
    ):
        np.testing.assert_array_equal(bare["joints_uvd"], full["joints_uvd"])
        assert (full["canvas"] > 0).sum() > (bare["canvas"] > 0).sum()
        near = (bare["canvas"] > 0) & (bare["canvas"] < bare["joints_uvd"][:, 2].mean() + 60)
        differs = np.abs(full["canvas"][near].astype(int) - bare["canvas"][near].astype(int)) > 1
        assert differs.mean() < 0.01
