"""A tiny HANDS 2017: 16-bit PNG frames, tab-separated xyz labels, boxes for the test frames."""

from pathlib import Path

import numpy as np

from a2j_jax import geometry
from a2j_jax.tracks import get_track
from tests.distributions.drawing import draw_depth, draw_joints, save_depth_png

TRACK = get_track("hands2017")


def write(folder: Path, frames: dict[str, int], test_labels: bool = False) -> dict[str, np.ndarray]:
    """Writes `training` and `frame`; returns split -> (N, 21, 3) labels, uvd.

    The test set's are written only on request: they are not public.
    """
    labels = {}
    for split, count in frames.items():
        rng = np.random.default_rng(int(split == "test"))
        joints = draw_joints(rng, TRACK, count)
        place = folder / ("training" if split == "train" else "frame")
        for row in range(count):
            save_depth_png(place / "images" / image_name(row), draw_depth(joints[row], TRACK))
        if split == "train":
            write_labels(place / "Training_Annotation.txt", joints)
        else:
            write_boxes(place / "BoundingBox.txt", boxes_around(joints))
            if test_labels:
                write_labels(place / "Test_Annotation.txt", joints)
        labels[split] = joints
    return labels


def image_name(row: int) -> str:
    """File names count from 1."""
    return f"image_D{row + 1:08d}.png"


def frame_names(split: str, count: int) -> list[str]:
    """Names of the first frames of a split."""
    folder = "training" if split == "train" else "frame"
    return [f"{folder}/images/{image_name(row)}" for row in range(count)]


def boxes_around(joints_uvd: np.ndarray, margin_px: float = 15.0) -> np.ndarray:
    """(N, 4) x0 y0 x1 y1 px, two decimals, inside the frame."""
    last = np.array(TRACK.frame_size) - 1.0
    low = np.clip(joints_uvd[..., :2].min(1) - margin_px, 0, last)
    high = np.clip(joints_uvd[..., :2].max(1) + margin_px, 0, last)
    return np.round(np.concatenate([low, high], axis=1).astype(np.float64), 2)


def write_labels(path: Path, joints_uvd: np.ndarray) -> None:
    """`name\tx\ty\tz\t...\t`, mm, four decimals, with a tab at the end of the line."""
    xyz = geometry.uvd_to_xyz(joints_uvd, TRACK.camera).reshape(len(joints_uvd), -1)
    _write_lines(path, xyz, 4, "\t\n")


def write_boxes(path: Path, boxes: np.ndarray) -> None:
    """`name\tx\ty\twidth\theight`."""
    boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    _write_lines(path, boxes, 2, "\n")


def _write_lines(path: Path, rows: np.ndarray, digits: int, end: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        for row, numbers in enumerate(rows):
            words = [image_name(row), *(f"{number:.{digits}f}" for number in numbers)]
            file.write("\t".join(words) + end)
