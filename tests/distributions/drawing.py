"""Depth frames drawn with numpy alone: an object made of spheres, one around every joint."""

import numpy as np
from PIL import Image

from a2j_jax import geometry
from a2j_jax.tracks import TrackSpec
from tests.scenes import Scene

RADIUS_MM = 14.0
REACH_MM = 55.0


def draw_joints(rng: np.random.Generator, track: TrackSpec, count: int) -> np.ndarray:
    """(count, K, 3) px px mm, float32: clouds of joints within `REACH_MM` of a center in view."""
    camera, (width, height) = track.camera, track.frame_size
    across, down = rng.uniform(0.35, 0.65, count) * width, rng.uniform(0.35, 0.65, count) * height
    centers = np.stack([across, down, rng.uniform(450, 800, count)], axis=-1)
    offsets = rng.uniform(-REACH_MM, REACH_MM, (count, track.num_joints, 3))
    xyz = geometry.uvd_to_xyz(centers, camera)[:, None] + offsets
    return geometry.xyz_to_uvd(xyz, camera).astype(np.float32)


def draw_depth(
    joints_uvd: np.ndarray, track: TrackSpec, background: int = 0, radius_mm: float = RADIUS_MM
) -> np.ndarray:
    """(H, W) uint16 mm: the front of a sphere around each joint, before a flat background."""
    scene = Scene(track.camera, track.frame_size)
    for center in geometry.uvd_to_xyz(joints_uvd, track.camera):
        scene.sphere(center, radius_mm)
    return np.where(np.isfinite(scene.depth), np.rint(scene.depth), background).astype(np.uint16)


def save_depth_png(path, depth: np.ndarray) -> None:
    """One-channel 16-bit PNG; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(depth.astype(np.uint16)).save(path, compress_level=1)


def save_packed_png(path, depth: np.ndarray) -> None:
    """NYU's packing: 8-bit RGB with 0, depth // 256, depth % 256; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = np.stack([np.zeros_like(depth), depth >> 8, depth & 255], axis=-1).astype(np.uint8)
    Image.fromarray(rgb).save(path, compress_level=1)
