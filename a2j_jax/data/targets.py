"""What a training step compares with, and the way back from the crop to frame and camera, on the device.

`uvd_to_xyz`, `xyz_to_uvd`, `box_from_center` and `joints_to_frame` are the twins of those of `geometry` and `crops` in
jax.numpy: they are traced, mapped and differentiated, and compute in the dtype of what they are given.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from a2j_jax.config import AugmentConfig
from a2j_jax.data import augment
from a2j_jax.data.crops import Batch
from a2j_jax.errors import UserError
from a2j_jax.tracks import TrackSpec


def prepare(
    batch: Batch,
    keys: jax.Array,
    *,
    track: TrackSpec,
    enabled: bool = True,
    border: augment.Border = "canvas",
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Augment and normalize a training batch, with the targets of its images.

    Args:
      batch: B examples (`a2j_jax.data.crops`).
      keys: (B,) random keys, one for each example.
      track: sizes, constants and ranges of the augmentation.
      enabled: whether to augment at all.
      border: as for `augment.augment`.

    Returns:
      Images (B, S, S, 1) float32, and targets by name: "joints" (B, K, 3 or 2) in crop coordinates; "valid" (B, K)
      bool; and what the way back takes (`joints_to_camera`): "crop_from_frame" (B, 2, 3), "depth_scale" (B,),
      "center_uvd" (B, 3) px px mm, "camera" (B, 4) fx fy u0 v0 px, zeros on a 2D track.
    """
    if enabled and track.augmentation.center_shift_mm:
        batch = augment.recenter(batch, augment.draw_center_shifts(keys, track))
    draws = augment.draw(keys, track) if enabled else augment.no_draws(len(keys), track)
    images, joints = augment.augment(batch, draws, track, border)
    targets = {
        "joints": joints,
        "valid": batch["valid"],
        "crop_from_frame": augment.crop_from_frame(batch, draws, track),
        "depth_scale": draws.scale,
        "center_uvd": jnp.asarray(batch["center_uvd"], jnp.float32),
        "camera": jnp.asarray(batch["camera"], jnp.float32),
    }
    return images, targets


def prepare_of(settings: AugmentConfig, track: TrackSpec) -> Callable[..., Any]:
    """`prepare` as a config sets it, a function (batch, keys): `prepare_of(config.augment, track)`."""
    return partial(prepare, track=track, enabled=settings.enabled, border=settings.border)


def uvd_to_xyz(uvd: jax.Array, camera: jax.Array) -> jax.Array:
    """Pixels and depth -> camera coordinates.

    Args:
      uvd: (..., K, 3) px, px, mm.
      camera: (..., 4) fx, fy, u0, v0 of the frames, px; or (4,).

    Returns:
      (..., K, 3) mm: x = (u - u0) d / fx, y = (v - v0) d / fy, z = d.
    """
    camera = jnp.asarray(camera)[..., None, :]
    depth = uvd[..., 2:]
    return jnp.concatenate([(uvd[..., :2] - camera[..., 2:]) * depth / camera[..., :2], depth], -1)


def xyz_to_uvd(xyz: jax.Array, camera: jax.Array) -> jax.Array:
    """Camera coordinates (..., 3) mm -> (..., 3) px px mm, for a camera (4,) fx fy u0 v0 px."""
    uv = xyz[..., :2] * camera[:2] / xyz[..., 2:] + camera[2:]
    return jnp.concatenate([uv, xyz[..., 2:]], axis=-1)


def box_from_center(
    center_uvd: jax.Array, camera: jax.Array, half_window_mm: float, last: jax.Array | None = None
) -> jax.Array:
    """The box (..., 4) x0 y0 x1 y1 px of the window around a center (..., 3) px px mm.

    `camera`: (4,) fx fy u0 v0 px. `last`: (2,) the last pixel of the frame, to clip the box to; None: not clipped.
    """
    reach = half_window_mm * jnp.abs(camera[:2]) / center_uvd[..., 2:]
    corners = center_uvd[..., :2] - reach, center_uvd[..., :2] + reach
    if last is not None:
        corners = jnp.clip(corners[0], 0.0, last), jnp.clip(corners[1], 0.0, last)
    return jnp.concatenate(corners, axis=-1)


def joints_to_frame(
    joints_crop: jax.Array, box_px: jax.Array, center_depth_mm: jax.Array, track: TrackSpec
) -> jax.Array:
    """The network's joints -> the full frame, without augmentation.

    Args:
      joints_crop: (..., K, 3) u px, v px of the crop, depth in network units; or (..., K, 2).
      box_px: (..., 4) clipped boxes.
      center_depth_mm: (...) of the center, mm; ignored where theta is zero.
      track: crop size, mu and theta.

    Returns:
      Same shape: px, px, mm.
    """
    box = jnp.asarray(box_px)[..., None, :]
    uv = joints_crop[..., :2] * (box[..., 2:] - box[..., :2]) / track.crop_size + box[..., :2]
    return _with_depth(uv, joints_crop, center_depth_mm, jnp.ones(()), track)


def joints_to_camera(joints_crop: jax.Array, targets: Any, track: TrackSpec) -> jax.Array:
    """Joints of augmented crops -> camera coordinates of their frames: augmentation, crop and projection undone.

    Args:
      joints_crop: (B, K, 3) in crop coordinates, predicted or `targets["joints"]`.
      targets: of `prepare`, for the same rows.
      track: mu and theta; a 3D track.

    Returns:
      (B, K, 3) mm.

    Raises:
      UserError: a 2D track, whose joints have no place in space.
    """
    if track.joint_dims != 3:
        raise UserError(f"joints_to_camera: joints of track {track.name!r} are in 2D, without mm")
    matrix = targets["crop_from_frame"]
    uv = joints_crop[..., :2] - matrix[:, None, :, 2]
    uv = jnp.einsum("bij,bkj->bki", jnp.linalg.inv(matrix[..., :2]), uv, precision="highest")
    depth = targets["center_uvd"][:, 2]
    uvd = _with_depth(uv, joints_crop, depth, targets["depth_scale"], track)
    return uvd_to_xyz(uvd, targets["camera"])


def _with_depth(
    uv: jax.Array,
    joints_crop: jax.Array,
    center_depth_mm: jax.Array,
    scale: jax.Array,
    track: TrackSpec,
) -> jax.Array:
    """Pixels of the frame, with the depth of joints that has network units -> px, px, mm."""
    depth = joints_crop[..., 2:] / track.joint_depth_scale
    if track.depth_reference == "center":
        depth = depth / scale[..., None, None] + jnp.asarray(center_depth_mm)[..., None, None]
    return jnp.concatenate([uv, depth], axis=-1)
