"""Depth frames drawn with numpy alone: an object made of spheres, one around every joint."""

import numpy as np
from PIL import Image

from a2j_jax import geometry
from a2j_jax.tracks import TrackSpec

RADIUS_MM = 14.0
REACH_MM = 55.0


def draw_joints(rng: np.random.Generator, track: TrackSpec, count: int) -> np.ndarray:
    """(count, K, 3) px px mm, float32: clouds of joints within `REACH_MM` of a center in view."""
    camera, (width, height) = track.camera, track.frame_size
    centers = np.stack(
        [
            rng.uniform(0.35, 0.65, count) * width,
            rng.uniform(0.35, 0.65, count) * height,
            rng.uniform(450, 800, count),
        ],
        axis=-1,
    )
    offsets = rng.uniform(-REACH_MM, REACH_MM, (count, track.num_joints, 3))
    xyz = geometry.uvd_to_xyz(centers, camera)[:, None] + offsets
    return geometry.xyz_to_uvd(xyz, camera).astype(np.float32)


def draw_depth(
    joints_uvd: np.ndarray, track: TrackSpec, background: int = 0, radius_mm: float = RADIUS_MM
) -> np.ndarray:
    """(H, W) uint16 mm: the front of a sphere around each joint, before a flat background."""
    width, height = track.frame_size
    nothing = 1 << 16
    depth = np.full((height, width), nothing, np.int64)
    rows, columns = np.ogrid[:height, :width]
    for u, v, d in np.asarray(joints_uvd, np.float64):
        radius_px = radius_mm * abs(track.camera.fx) / d
        top, left = (max(0, int(x - radius_px)) for x in (v, u))
        window = np.s_[top : int(v + radius_px) + 2, left : int(u + radius_px) + 2]
        squared = ((rows[window[0]] - v) ** 2 + (columns[:, window[1]] - u) ** 2) / radius_px**2
        front = np.rint(d - radius_mm * np.sqrt(np.clip(1 - squared, 0, None))).astype(np.int64)
        depth[window] = np.minimum(depth[window], np.where(squared <= 1, front, nothing))
    return np.where(depth == nothing, background, depth).astype(np.uint16)


def save_depth_png(path, depth: np.ndarray) -> None:
    """One-channel 16-bit PNG; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(depth.astype(np.uint16)).save(path, compress_level=1)


def save_packed_png(path, depth: np.ndarray) -> None:
    """NYU's packing: 8-bit RGB with 0, depth // 256, depth % 256; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = np.stack([np.zeros_like(depth), depth >> 8, depth & 255], axis=-1).astype(np.uint8)
    Image.fromarray(rgb).save(path, compress_level=1)
