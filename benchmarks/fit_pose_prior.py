"""Fits the prior of natural hand poses, `a2j_jax/synthetic/pose_prior.json`, to recorded poses.

    python benchmarks/fit_pose_prior.py animbank.pose --out a2j_jax/synthetic/pose_prior.json

The file is that of the repository IntelRealSense/hand_tracking_samples (Apache-2.0): 2,336 poses of a right hand, one a
line, 17 bones with a position (m) and a quaternion (x y z w) each: wrist, palm, then three bones of each finger, thumb
first. Its palm has +x to the thumb side, +z along the fingers and -y out of the palm.

Bones' rotations become the vectors of angles of `hand.py` by least squares: a finger's hinges are those of `hand.py`,
and what its bones twist beside them is dropped. The prior is a mixture of Gaussians, each with a diagonal covariance,
in the space of the angles' first principal components, and independent noise for the others.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2j_jax.synthetic.hand import (
    FAN_DEG,
    PHALANX_MM,
    THUMB_IP_LIMIT_DEG,
    THUMB_LIMIT_DEG,
    THUMB_MCP_LIMIT_DEG,
)

COMPONENTS, GAUSSIANS = 8, 6
_PALM, _BONES = 1, np.arange(2, 17).reshape(5, 3)
# Hand-frame axes in the recording's palm frame: x, y (along the fingers) and z (out of the palm).
_TO_HAND = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])

Array = NDArray[np.float64]


def read_poses(path: str | Path) -> tuple[Array, Array]:
    """Positions (N, 17, 3) in mm and rotations (N, 17, 3, 3) of the bones."""
    bones = np.loadtxt(path).reshape(-1, 17, 7)
    x, y, z, w = np.moveaxis(
        bones[..., 3:] / np.linalg.norm(bones[..., 3:], axis=-1)[..., None], -1, 0
    )
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return 1000.0 * bones[..., :3], np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def joint_between(positions: Array, turns: Array, a: int, b: int) -> tuple[Array, Array]:
    """The point that two bones share in all poses, mm in the frame of a and of b: the joint between them."""
    system = np.concatenate([turns[:, a], -turns[:, b]], axis=-1).reshape(-1, 6)
    found = np.linalg.lstsq(system, (positions[:, b] - positions[:, a]).reshape(-1), rcond=1e-3)[0]
    return found[:3], found[3:]


def bone_frames(positions: Array, turns: Array) -> Array:
    """(N, 5, 3, 3, 3) rotations of the finger bones in the hand frame: hinge, direction and pulp side are columns.

    A bone points from joint to joint; of the last one, and across a hinge, where the joint's place is not determined,
    it points along its own z. The thumb's bones hinge about their y, the fingers' about their x.
    """
    frames = np.empty((len(turns), 5, 3, 3, 3))
    for finger, bones in enumerate(_BONES):
        for k, bone in enumerate(bones):
            along = np.array([0.0, 0.0, 1.0])
            if k < 2:
                parent = _PALM if k == 0 else bones[k - 1]
                start = joint_between(positions, turns, parent, bone)[1]
                along = joint_between(positions, turns, bone, bones[k + 1])[0] - start
            hinge = np.array([0.0, -1.0, 0.0] if finger == 0 else [1.0, 0.0, 0.0])
            if finger > 0:
                along[0] = 0.0
            along /= np.linalg.norm(along)
            hinge -= hinge @ along * along
            hinge /= np.linalg.norm(hinge)
            own = np.stack([hinge, along, np.cross(hinge, along)], axis=-1)
            local = np.einsum("nji,njk->nik", turns[:, _PALM], turns[:, bone])
            frames[:, finger, k] = _TO_HAND @ local @ own
    return frames


def bend(turns: Array) -> Array:
    """Angle (N,) of the rotation about x nearest to rotations (N, 3, 3), radians."""
    return np.arctan2(turns[:, 2, 1] - turns[:, 1, 2], turns[:, 1, 1] + turns[:, 2, 2])


def about(axis: int, angle: Array) -> Array:
    """(N, 3, 3) rotations about x (0) or z (2) by angles (N,)."""
    turn, (i, j) = np.zeros((len(angle), 3, 3)), ((1, 2), (0, 1))[axis == 2]
    turn[:, axis, axis] = 1.0
    turn[:, i, i] = turn[:, j, j] = np.cos(angle)
    turn[:, j, i] = np.sin(angle)
    turn[:, i, j] = -turn[:, j, i]
    return turn


def angles_of(frames: Array) -> Array:
    """(N, 21) angles as the vectors of `hand.py`, degrees, of bones (N, 5, 3, 3, 3); palms are flat.

    Spread and flexion are found in turn, each by least squares.
    """
    flexion, spread = [], []
    for finger in range(1, 5):
        proximal, middle, distal = np.moveaxis(frames[:, finger], 1, 0)
        fan = np.deg2rad(np.full(len(frames), FAN_DEG[finger]))
        first = about(2, fan) @ proximal
        aside = np.zeros(len(frames))
        for _ in range(20):
            mcp = bend(about(2, aside) @ first)
            rest = first @ about(0, -mcp)
            aside = np.arctan2(rest[:, 0, 1] - rest[:, 1, 0], rest[:, 0, 0] + rest[:, 1, 1])
        inner = np.swapaxes(proximal, 1, 2) @ middle, np.swapaxes(middle, 1, 2) @ distal
        flexion += [mcp, *map(bend, inner)]
        spread.append(aside)
    return np.concatenate([np.rad2deg([*flexion, *spread]).T, thumb_angles(frames[:, 0])], axis=1)


def thumb_frames(angles: Array) -> Array:
    """(N, 3, 3, 3) frames of the thumb's bones of (N, 5) angles in radians, as `hand.forward_kinematics` has them."""
    azimuth, elevation, roll, mcp, ip = angles.T
    level, zero = np.cos(elevation), np.zeros(len(angles))
    along = np.stack([np.sin(azimuth) * level, np.cos(azimuth) * level, np.sin(elevation)], axis=-1)
    facing = np.stack([-np.cos(roll), zero, np.sin(roll)], axis=-1)
    pulp = facing - (facing * along).sum(-1, keepdims=True) * along
    pulp /= np.linalg.norm(pulp, axis=-1, keepdims=True)
    first = np.stack([np.cross(along, pulp), along, pulp], axis=-1)
    second = first @ about(0, mcp)
    return np.stack([first, second, second @ about(0, ip)], axis=1)


def thumb_angles(frames: Array) -> Array:
    """(N, 5) degrees, within the limits: least squares over directions, by length, and the last bone's pulp side.

    The recorded thumb also swings sideways at its MCP, which ours does not: all three bones share that difference.
    """
    weight = np.sqrt(PHALANX_MM[0] / PHALANX_MM[0, 0])[:, None]

    def seen(turns: Array) -> Array:
        directions = (weight * turns[..., 1]).reshape(len(turns), 9)
        return np.concatenate([directions, 0.3 * turns[:, 2, :, 2]], axis=1)

    limits = np.deg2rad([*THUMB_LIMIT_DEG, THUMB_MCP_LIMIT_DEG, THUMB_IP_LIMIT_DEG]).T
    wanted, step = seen(frames), 1e-5
    angles = np.tile(np.deg2rad([45.0, 30.0, 0.0, 30.0, 30.0]), (len(frames), 1))
    for _ in range(40):
        now = seen(thumb_frames(angles))
        columns = [(seen(thumb_frames(angles + step * unit)) - now) / step for unit in np.eye(5)]
        slope = np.stack(columns, axis=-1)
        normal = np.swapaxes(slope, 1, 2) @ slope + 1e-2 * np.eye(5)
        change = np.linalg.solve(normal, np.swapaxes(slope, 1, 2) @ (wanted - now)[..., None])
        angles = np.clip(angles + change[..., 0], *limits)
    return np.rad2deg(angles)


def mixture(points: Array, count: int, steps: int = 200) -> tuple[Array, Array, Array]:
    """Weights (G,), means and standard deviations (G, D) of Gaussians fitted to points (N, D) by EM.

    It starts from points far from each other, and so is a function of the points alone.
    """
    start = [int(np.argmax(np.linalg.norm(points, axis=1)))]
    while len(start) < count:
        gap = np.linalg.norm(points[:, None] - points[start], axis=-1).min(axis=1)
        start.append(int(np.argmax(gap)))
    weight, mean = np.full(count, 1.0 / count), points[start]
    deviation = np.tile(points.std(axis=0), (count, 1)) / 2
    for _ in range(steps):
        score = -0.5 * np.square((points[:, None] - mean) / deviation).sum(-1)
        score += np.log(weight) - np.log(deviation).sum(-1)
        share = np.exp(score - score.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        total = share.sum(axis=0)
        weight, mean = total / len(points), share.T @ points / total[:, None]
        spread = np.einsum("ng,ngd->gd", share, np.square(points[:, None] - mean))
        deviation = np.sqrt(spread / total[:, None] + 0.5**2)
    return weight, mean, deviation


def fit(path: str | Path) -> dict[str, Any]:
    """The prior as `hand.py` reads it, degrees."""
    angles = angles_of(bone_frames(*read_poses(path)))
    mean = angles.mean(axis=0)
    _, _, axes = np.linalg.svd(angles - mean, full_matrices=False)
    axes = axes[:COMPONENTS] * np.sign(axes[:COMPONENTS].sum(axis=1, keepdims=True))
    scores = (angles - mean) @ axes.T
    residual = angles - mean - scores @ axes
    weight, center, deviation = mixture(scores, GAUSSIANS)
    order = np.argsort(-weight)
    return {
        "source": "IntelRealSense/hand_tracking_samples, animbank.pose (Apache-2.0); benchmarks/fit_pose_prior.py",
        "mean": mean.round(2).tolist(),
        "axes": axes.round(4).tolist(),
        "residual": residual.std(axis=0).round(2).tolist(),
        "weight": weight[order].round(4).tolist(),
        "center": center[order].round(2).tolist(),
        "deviation": deviation[order].round(2).tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("poses", help="animbank.pose")
    parser.add_argument("--out", default="pose_prior.json")
    options = parser.parse_args()
    prior = fit(options.poses)
    lines = (f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in prior.items())
    Path(options.out).write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
