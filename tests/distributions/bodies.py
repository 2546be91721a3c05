"""People to draw: a standing figure by joint name, in meters, with random arms and legs."""

import numpy as np

from a2j_jax.tracks import TrackSpec
from tests.distributions.drawing import draw_depth

RADIUS_MM = 90.0

# Name -> (to the picture's right, up from the floor, nearer to the viewer); the person faces us.
_STANDING = {
    "head": (0.0, 1.65, 0.0), "neck": (0.0, 1.45, 0.0), "torso": (0.0, 1.2, 0.0),
    "spine_shoulder": (0.0, 1.4, 0.0), "spine_mid": (0.0, 1.2, 0.0), "spine_base": (0.0, 0.95, 0.0),
    "right_shoulder": (-0.2, 1.4, 0.0), "right_elbow": (-0.3, 1.15, 0.05),
    "right_wrist": (-0.35, 0.98, 0.1), "right_hand": (-0.37, 0.92, 0.12),
    "right_hip": (-0.12, 0.92, 0.0), "right_knee": (-0.14, 0.5, 0.05),
    "right_foot": (-0.15, 0.06, 0.08),
}  # fmt: skip


def draw_people(rng: np.random.Generator, names: tuple[str, ...], count: int) -> np.ndarray:
    """(count, K, 3) meters: right, up from the floor, towards the viewer."""
    mirrored = {
        name.replace("right_", "left_"): (-x, up, near)
        for name, (x, up, near) in _STANDING.items()
        if name.startswith("right_")
    }
    places = _STANDING | mirrored
    person = np.array([places[name] for name in names])
    limbs = np.array([not name.startswith(("head", "neck", "torso", "spine")) for name in names])
    people = person * rng.uniform(0.9, 1.1, (count, 1, 1))
    people += rng.normal(0, 0.04, people.shape) * limbs[:, None]
    return people + rng.uniform(-0.25, 0.25, (count, 1, 3)) * np.array([1, 0, 1])


def draw_body(joints_uvd: np.ndarray, track: TrackSpec, background: int) -> np.ndarray:
    """(H, W) uint16 mm: spheres around the joints and along the bones, in one piece."""
    start, stop = np.array(track.skeleton.bones).T
    along = [joints_uvd[start] * (1 - t) + joints_uvd[stop] * t for t in (0.25, 0.5, 0.75)]
    return draw_depth(np.concatenate([joints_uvd, *along]), track, background, RADIUS_MM)
