"""Do two hands that cross, or meet and part, keep their numbers? `HandModel.follow` on rendered sequences.

    python benchmarks/follow_hands.py [WEIGHTS] [--sequences 3] [--frames 30]

A right and a left hand of random people in random poses, arms from below, move before a wall at 30 frames a second:
each from one side of the view to the other (cross), or to the middle and back (part). One is GAP mm behind the other. A
hand of which three fifths of the joints are covered counts as hidden; all others should be found, with the number that
they had at first.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from a2j_jax.geometry import Camera
from a2j_jax.inference.hands import HandModel, HandPose, load
from a2j_jax.log import logger
from a2j_jax.synthetic import hand
from a2j_jax.synthetic.render import RoundCones, join_cones
from a2j_jax.synthetic.sampling import rotation_from_quaternion
from a2j_jax.synthetic.views import Scene, synthetic_frame

SEED = 710_000
GAPS_MM = 60.0, 100.0, 160.0
KINDS = "cross", "part"
ASIDE_MM = 200.0  # of each hand from the middle, at first
FAR_MM = 550.0
FOUND_MM = 60.0  # between the mean joints of a pose and of a hand
HIDDEN = 0.6  # share of joints behind a reading by 40 mm


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TwoHands:
    """A `scene.View` of a right hand and a left one at places (2, 3) mm, their poses drawn from `key`."""

    places_mm: jax.Array
    noise_key: jax.Array
    turns: int = field(default=64, metadata={"static": True})  # rotations to choose from

    def compose(self, key: jax.Array, camera: Camera, frame_size: tuple[int, int]) -> Scene:
        """Both hands, before a wall."""
        parts = []
        for number, mirror in enumerate((1.0, -1.0)):
            k_hand, k_turn = jax.random.split(jax.random.fold_in(key, number))
            shape, pose = hand.sample_hand(k_hand, hand.VARIED)
            posed = hand.forward_kinematics(shape, pose)
            surface = hand.hand_cones(shape, posed)
            mirrored = jnp.array([mirror, 1.0, 1.0])
            quaternions = jax.random.normal(k_turn, (self.turns, 4))
            turns = jax.vmap(rotation_from_quaternion)(quaternions) * mirrored
            elbow = turns @ -posed.forearm[:, 1]
            from_below = (elbow[:, 1] > 0.7) & (jnp.abs(elbow[:, 2]) < 0.6)
            turn = turns[jnp.argmax(from_below)]
            joints, ends = posed.joints_mm @ turn.T, surface.ends_mm @ turn.T
            shift = self.places_mm[number] - joints.mean(axis=0)
            parts.append((joints + shift, RoundCones(ends + shift, surface.radii_mm)))
        (right, its_cones), (left, other_cones) = parts
        middle = self.places_mm.mean(axis=0)
        return Scene(
            joints_xyz=jnp.concatenate([right, left]),
            center_xyz=middle,
            window_px=jnp.zeros(4),
            cones=join_cones(its_cones, other_cones),
            planes=jnp.array([[0.0, 0.0, 1.0, FAR_MM + 600.0]]),
            noise_key=self.noise_key,
        )


class Sequence(NamedTuple):
    """Frames of two hands.

    Attributes:
      frames: (N, H, W) mm.
      joints: (N, 2, 21, 3) mm, of the right hand and the left one.
      hidden: (N, 2) bool.
    """

    frames: np.ndarray
    joints: np.ndarray
    hidden: np.ndarray


def places(kind: str, gap_mm: float, count: int) -> np.ndarray:
    """(N, 2, 3) mean joints: the right hand begins on the left, behind the other by `gap_mm`."""
    x = np.linspace(-ASIDE_MM, ASIDE_MM, count)
    if kind == "part":
        x = -np.abs(x) - 30.0
    right = np.stack([x, 0 * x, 0 * x + FAR_MM + gap_mm], -1)
    left = np.stack([-x, 0 * x, 0 * x + FAR_MM], -1)
    return np.stack([right, left], 1)


@partial(jax.jit, static_argnames=("camera", "frame_size"))
def frame(place: jax.Array, number: jax.Array, key: jax.Array, **settings: Any) -> dict[str, Any]:
    view = TwoHands(place, jax.random.fold_in(key, number))
    return synthetic_frame(key, view=view, **settings)


def render(model: HandModel, kind: str, gap_mm: float, count: int, seed: int) -> Sequence:
    """One sequence; a seed is a pair of hands."""
    camera, size = model.camera, model.spec.frame_size
    assert camera is not None

    frames, joints, hidden = [], [], []
    for number, place in enumerate(places(kind, gap_mm, count)):
        key, at = jax.random.key(seed), jnp.asarray(place, jnp.float32)
        one = jax.device_get(frame(at, number, key, camera=camera, frame_size=size))
        u, v = np.rint(one["joints_uvd"][:, :2]).astype(int).T
        reading = one["frame"][v.clip(0, size[1] - 1), u.clip(0, size[0] - 1)].astype(float)
        behind = (one["joints_uvd"][:, 2] - reading > 40.0) & (reading > 0)
        frames.append(one["frame"])
        joints.append(one["joints_xyz"].reshape(2, 21, 3))
        hidden.append(behind.reshape(2, 21).mean(axis=1) > HIDDEN)
    return Sequence(np.array(frames), np.array(joints), np.array(hidden))


class Counts(NamedTuple):
    """What became of the hands of some sequences.

    Attributes:
      shown: hands in frames that are not hidden.
      found: of these.
      named: of these, with the number that the hand had at first.
      swapped: sequences at whose end a hand has the number that the other one had at first.
      kept: sequences at whose end both have their first number.
      extra: poses that are of neither hand.
      sequences: all.
    """

    shown: int = 0
    found: int = 0
    named: int = 0
    swapped: int = 0
    kept: int = 0
    extra: int = 0
    sequences: int = 0


def count(sequence: Sequence, followed: list[list[HandPose]]) -> Counts:
    """Compares the poses of one sequence with its hands."""
    shown = found = named = extra = 0
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for joints, hidden, poses in zip(sequence.joints, sequence.hidden, followed, strict=True):
        middle, seen = joints.mean(axis=1), {}
        for pose in poses:
            assert pose.joints_xyz_mm is not None
            away = np.linalg.norm(middle - pose.joints_xyz_mm.mean(axis=0), axis=1)
            side = int(away.argmin())
            if away[side] < FOUND_MM and side not in seen:
                seen[side] = pose.number
            else:
                extra += 1
        for side, number in seen.items():
            first.setdefault(side, number)
            last[side] = number
        for side in np.flatnonzero(~hidden):
            shown += 1
            found += side in seen
            named += side in seen and seen[side] == first[side]
    swapped = any(last[side] == first.get(1 - side) for side in last)
    kept = len(first) == 2 and first == last
    return Counts(shown, found, named, int(swapped), int(kept), extra, 1)


def sequences(model: HandModel, number: int, frames: int) -> Iterator[tuple[str, float, Sequence]]:
    """All of them, with their kinds and gaps."""
    for kind in KINDS:
        for gap in GAPS_MM:
            for seed in range(number):
                yield kind, gap, render(model, kind, gap, frames, SEED + seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("weights", nargs="?", default="hand-small")
    parser.add_argument("--sequences", type=int, default=3, help="of each kind and gap")
    parser.add_argument("--frames", type=int, default=30, help="of each sequence")
    arguments = parser.parse_args()
    logger.setLevel("ERROR")  # not a warning for every frame
    model = load(arguments.weights, turns=1)
    rows: dict[tuple[str, float], Counts] = {}
    for kind, gap, sequence in sequences(model, arguments.sequences, arguments.frames):
        counted = count(sequence, list(model.follow(sequence.frames, model.camera)))
        before = rows.get((kind, gap), Counts())
        rows[kind, gap] = Counts(*(a + b for a, b in zip(before, counted, strict=True)))
    print(
        "| hands | one behind by | found | with their number | both kept it | swapped | other poses |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for (kind, gap), one in rows.items():
        print(
            f"| {kind} | {gap:.0f} mm | {one.found / one.shown:.1%} of {one.shown} | {one.named / one.shown:.1%} | "
            f"{one.kept} of {one.sequences} | {one.swapped} | {one.extra} |"
        )


if __name__ == "__main__":
    main()
