"""A tiny ITOP: two HDF5 files per split, as downloaded, with frames that do not count in between."""

import gzip
import os
import shutil

import h5py
import numpy as np

from a2j_jax.tracks import get_track
from tests.distributions.bodies import draw_body, draw_people

_VIEWS = {"itop_front": "side", "itop_top": "top"}
# The wall, and the floor.
_BACKGROUND_MM = {"itop_front": 3600, "itop_top": 3050}


def write(folder, frames: dict[str, int], track="itop_front", packed=False):
    """Writes `frames[split]` valid frames and half as many invalid ones, scattered.

    Args:
      folder: made where needed.
      frames: split -> valid frames.
      track: "itop_front" or "itop_top".
      packed: whether the files are `.h5.gz`.

    Returns:
      Split -> (N, 15, 3) px, px, mm float32 of the valid frames.
    """
    folder.mkdir(parents=True, exist_ok=True)
    labels = {}
    for number, (split, count) in enumerate(sorted(frames.items())):
        rng = np.random.default_rng([number, len(track)])
        total = count + (count + 1) // 2
        valid = np.zeros(total, np.uint8)
        valid[rng.permutation(total)[:count]] = 1
        xyz = _camera_meters(rng, track, total)
        # An invalid frame is labeled too, with anything.
        xyz[valid == 0] = rng.uniform(-1, 1, (total - count, 15, 3)).astype(np.float16)
        uvd = _uvd(xyz)
        stem = f"{folder}/ITOP_{_VIEWS[track]}_{split}"
        _write_depth(f"{stem}_depth_map.h5", rng, track, uvd, valid)
        _write_labels(f"{stem}_labels.h5", xyz, uvd, valid)
        if packed:
            for part in ("depth_map", "labels"):
                _pack(f"{stem}_{part}.h5")
        labels[split] = uvd[valid == 1]
    return labels


def frame_ids(total: int) -> np.ndarray:
    """(total,) bytes "PP_FFFFF": person and frame number."""
    return np.array([f"{i // 7:02d}_{i % 7:05d}".encode() for i in range(total)])


def _camera_meters(rng, track: str, count: int) -> np.ndarray:
    """(count, 15, 3) float16: x right, y up, z forward."""
    people = draw_people(rng, get_track(track).skeleton.joints, count)
    across, up, near = np.moveaxis(people, -1, 0)
    if track == "itop_front":
        xyz = np.stack([across, up - 1.1, 3.0 - near], axis=-1)
    else:  # from 3 m above the floor
        xyz = np.stack([across, near, 3.0 - up], axis=-1)
    return xyz.astype(np.float16)


def _uvd(xyz: np.ndarray) -> np.ndarray:
    """The data set's own formula, in px and mm."""
    x, y, z = np.moveaxis(xyz.astype(np.float64), -1, 0)
    with np.errstate(divide="ignore"):
        uvd = [160.0 + x / (0.0035 * z), 120.0 - y / (0.0035 * z), z * 1000.0]
    return np.stack(uvd, axis=-1).astype(np.float32)


def _write_depth(path, rng, track: str, uvd: np.ndarray, valid: np.ndarray) -> None:
    frames = np.zeros((len(uvd), 240, 320), np.float16)
    for i in np.flatnonzero(valid):
        depth = draw_body(uvd[i], get_track(track), _BACKGROUND_MM[track])
        frames[i] = depth / 1000.0
        frames[i][rng.random(frames[i].shape) < 0.02] = 0.0
    # One view as published, the other compressed again by somebody.
    layout = {"chunks": (1, 60, 80), "compression": "gzip"} if track == "itop_top" else {}
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=frames, **layout)
        file["id"] = frame_ids(len(uvd))


def _write_labels(path, xyz: np.ndarray, uvd: np.ndarray, valid: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        file["id"] = frame_ids(len(xyz))
        file["is_valid"] = valid
        file["real_world_coordinates"] = xyz
        # Not the projection to the last pixel: nobody should take labels from here.
        shifted = np.clip(np.nan_to_num(uvd[..., :2]) + 4, -999, 999)
        file["image_coordinates"] = shifted.astype(np.int16)
        file["visible_joints"] = np.ones(xyz.shape[:2], np.int16)
        file.create_dataset("segmentation", (len(xyz), 240, 320), np.int8)


def _pack(path: str) -> None:
    with open(path, "rb") as plain, gzip.open(f"{path}.gz", "wb", compresslevel=1) as packed:
        shutil.copyfileobj(plain, packed)
    os.remove(path)
