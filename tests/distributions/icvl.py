"""A tiny ICVL: 16-bit PNG frames, label lines with trailing spaces and blank lines.

The last third of the training lines are "rotated copies" (drawn again, under an angle's folder).
"""

from pathlib import Path

import numpy as np

from a2j_jax.tracks import get_track
from tests.distributions.drawing import draw_depth, draw_joints, save_depth_png

TRACK = get_track("icvl")
NO_READING = 32001


def write(folder: Path, frames: dict[str, int]) -> dict[str, np.ndarray]:
    """Writes `Training` and `Testing`; returns split -> (N, 16, 3) labels of every label line."""
    labels = {}
    for split, count in frames.items():
        rng = np.random.default_rng(int(split == "test"))
        joints = np.round(draw_joints(rng, TRACK, count), 4)
        names = frame_names(split, count)
        place = folder / ("Training" if split == "train" else "Testing")
        for name, row in zip(names, joints, strict=True):
            save_depth_png(place / "Depth" / name, draw_depth(row, TRACK, background=NO_READING))
        write_labels(place, names, joints)
        labels[split] = joints
    return labels


def frame_names(split: str, count: int) -> list[str]:
    """Names of the first frames of a split."""
    return training_names(count) if split == "train" else testing_names(count)


def training_names(count: int) -> list[str]:
    """Recorded frames, then rotated copies of the first of them."""
    recorded = count - count // 3
    return [f"201403121135/image_{row:04d}.png" for row in range(recorded)] + [
        f"{angle}/201403121135/image_{row:04d}.png"
        for row, angle in zip(range(count // 3), ["22-5", "-157-5", "180"] * count, strict=False)
    ]


def testing_names(count: int) -> list[str]:
    """Frames of the two sequences, about as many in each."""
    first = min(count, (count + 1) // 2)
    return [f"test_seq_1/image_{row:04d}.png" for row in range(first)] + [
        f"test_seq_2/image_{row:04d}.png" for row in range(count - first)
    ]


def write_labels(place: Path, names: list[str], joints: np.ndarray) -> None:
    """One file, or one per test sequence: `name u v d ... ` with a trailing space, blank at the end."""
    place.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{name} " + " ".join(f"{number:.4f}" for number in row.ravel()) + " \n"
        for name, row in zip(names, joints, strict=True)
    ]
    if place.name == "Training":
        (place / "labels.txt").write_text("".join(lines))
        return
    for sequence in ("test_seq_1", "test_seq_2"):
        mine = [line for line in lines if line.startswith(sequence)]
        if mine:
            (place / f"{sequence}.txt").write_text("".join(mine) + "\n\n")
