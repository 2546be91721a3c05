"""The way back from augmented crops, and the twins on the device of the maps in numpy."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest

from a2j_jax import geometry
from a2j_jax.data import augment, crops, targets
from a2j_jax.tracks import TRACKS, TrackSpec

B = 5


def batch_of(track: TrackSpec) -> crops.Batch:
    """Made-up joints in boxes near the middle of the frame; nothing to see in the canvases."""
    rng, (width, height) = np.random.default_rng(0), track.frame_size
    corner = rng.uniform(0.2, 0.4, (B, 2)) * (width, height)
    box = np.concatenate([corner, corner + rng.uniform(0.2, 0.5, (B, 2)) * (width, height)], -1)
    depth = rng.uniform(700, 900, (B, 1, 1))
    joints = np.concatenate(
        [
            rng.uniform(box[:, None, :2], box[:, None, 2:], (B, track.num_joints, 2)),
            depth + rng.uniform(-90, 90, (B, track.num_joints, 1)),
        ],
        -1,
    )
    assert track.camera is not None
    return {
        "canvas": np.zeros((B, track.canvas_size, track.canvas_size), np.uint16),
        "box_px": box,
        "window_px": box,
        "center_uvd": np.concatenate([box[:, :2], depth[:, 0]], -1).astype(np.float32),
        "joints_uvd": joints.astype(np.float32),
        "valid": np.ones(joints.shape[:2], bool),
        "camera": np.tile(track.camera.as_array(), (B, 1)).astype(np.float32),
    }


@pytest.mark.parametrize(("name", "shift"), [("nyu", 0.0), ("nyu", 12.0), ("itop_front", 0.0)])
@pytest.mark.parametrize("enabled", [True, False])
def test_targets_lead_back_to_the_labels_in_mm(name: str, shift: float, enabled: bool) -> None:
    """From all the augmentation draws; relative depth (NYU) scales with the crop, absolute depth does not."""
    track = TRACKS[name]
    ranges = dataclasses.replace(track.augmentation, center_shift_mm=shift)
    track = dataclasses.replace(track, augmentation=ranges)
    batch, keys = batch_of(track), augment.example_keys(jax.random.key(3), B)
    prepare = jax.jit(partial(targets.prepare, track=track, enabled=enabled))
    images, found = prepare(batch, keys)
    shifted = np.abs(found["center_uvd"] - batch["center_uvd"]).max(axis=1) > 0.1
    assert shifted.all() if shift and enabled else not shifted.any()
    assert images.shape == (B, track.crop_size, track.crop_size, 1)
    assert track.camera is not None
    labels = geometry.uvd_to_xyz(batch["joints_uvd"], track.camera)
    back = targets.joints_to_camera(found["joints"], found, track)
    np.testing.assert_allclose(back, labels, atol=0.05)


def test_the_map_from_the_frame_is_that_of_the_joints() -> None:
    track = TRACKS["nyu"]
    batch, keys = batch_of(track), augment.example_keys(jax.random.key(3), B)
    _, found = jax.jit(partial(targets.prepare, track=track))(batch, keys)
    uv1 = np.pad(batch["joints_uvd"][..., :2], ((0, 0), (0, 0), (0, 1)), constant_values=1)
    moved = np.einsum("bij,bkj->bki", found["crop_from_frame"], uv1)
    np.testing.assert_allclose(moved, found["joints"][..., :2], atol=2e-3)


@pytest.mark.parametrize("name", ["nyu", "k2hpd"])
def test_the_twins_compute_what_numpy_does(name: str) -> None:
    track, rng = TRACKS[name], np.random.default_rng(1)
    joints = rng.uniform(-50, 150, (B, track.num_joints, track.joint_dims))
    box, depth = 50 * rng.random((B, 4)) + np.array([0, 0, 100, 100]), rng.uniform(600, 900, B)
    with jax.enable_x64(True):
        found = jax.jit(targets.joints_to_frame, static_argnums=3)(joints, box, depth, track)
        np.testing.assert_allclose(found, crops.joints_to_frame(joints, box, depth, track))
        if track.camera is not None:
            camera = track.camera.as_array()
            xyz = targets.uvd_to_xyz(found, camera)
            np.testing.assert_allclose(xyz, geometry.uvd_to_xyz(found, track.camera))
            np.testing.assert_allclose(targets.xyz_to_uvd(xyz, camera), found, atol=1e-9)
            boxes = targets.box_from_center(found[:, 0], camera, 150.0)
            expected = geometry.box_from_center(found[:, 0], 150.0, track.camera)
            np.testing.assert_allclose(boxes, expected, atol=1e-9)
            clipped = targets.box_from_center(found[:, 0], camera, 150.0, np.array([99.0, 79.0]))
            np.testing.assert_allclose(clipped, geometry.clip_box(expected, (100, 80)), atol=1e-9)


def test_millimeters_have_a_gradient_with_respect_to_the_crop() -> None:
    track = TRACKS["nyu"]
    batch, keys = batch_of(track), augment.example_keys(jax.random.key(3), B)
    _, found = jax.jit(partial(targets.prepare, track=track))(batch, keys)
    slope = jax.grad(lambda joints: targets.joints_to_camera(joints, found, track).sum())
    assert np.isfinite(slope(found["joints"])).all()
