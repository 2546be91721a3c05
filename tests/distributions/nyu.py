"""A tiny NYU Hand Pose: packed PNG frames of view 1 (and others on request), `joint_data.mat`."""

from pathlib import Path

import numpy as np
from scipy.io import savemat

from a2j_jax import geometry
from a2j_jax.tracks import get_track
from tests.distributions.drawing import draw_depth, draw_joints, save_packed_png

TRACK = get_track("nyu")
FAR_MM = 2001


def write(folder: Path, frames: dict[str, int]) -> dict[str, np.ndarray]:
    """Writes `dataset/{train,test}` below `folder`; returns split -> (N, 14, 3) labels of view 1."""
    return {split: joints[0] for split, joints in write_views(folder, frames, (1,)).items()}


def write_views(
    folder: Path, frames: dict[str, int], views: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """Frames of some views; returns split -> (3, N, 14, 3) labels of all three."""
    labels = {}
    for number, (split, count) in enumerate(frames.items()):
        rng = np.random.default_rng(number)
        joints = np.stack([draw_joints(rng, TRACK, count) for _ in range(3)])
        place = folder / "dataset" / split
        for view in views:
            for row in range(count):
                depth = draw_depth(joints[view - 1, row], TRACK, background=FAR_MM)
                save_packed_png(place / f"depth_{view}_{row + 1:07d}.png", depth)
        write_labels(place / "joint_data.mat", joints)
        labels[split] = joints
    return labels


def write_labels(path: Path, joints: np.ndarray) -> None:
    """(3, N, 14, 3) uvd of three views among 36 joints, the other 22 at wrong places."""
    path.parent.mkdir(parents=True, exist_ok=True)
    of_36 = [0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27, 30, 31, 32]
    uvd = np.full((3, joints.shape[1], 36, 3), 77.0)
    uvd[:, :, of_36] = joints
    names = np.array([[f"joint_{k}" for k in range(36)]], object)
    variables = {
        "joint_names": names,
        "joint_uvd": uvd,
        "joint_xyz": geometry.uvd_to_xyz(uvd, TRACK.camera),
    }
    savemat(path, variables, do_compression=True)
