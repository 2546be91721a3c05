"""A folder of one's own: three tiny frames of a hand of three joints, and either table of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

JOINTS = ("wrist", "thumb_tip", "index_tip")
TRACK = {
    "name": "my_hands",
    "like": "hands2017",
    "camera": {"fx": 240.0, "fy": 240.0, "cx": 80.0, "cy": 60.0},
    "frame_size": [160, 120],
    "joints": list(JOINTS),
    "limbs": {"thumb": ["wrist", "thumb_tip"], "index": ["wrist", "index_tip"]},
    "crop_size": 32,
}
FRAMES = ("frames/0.png", "frames/1.png", "frames/2.npy")
SPLITS = ("train", "train", "test")
# (3 frames, 3 joints, uvd), px px mm.
_FIRST = np.array([[80, 60, 600], [70, 50, 590], [90, 45, 580]], np.float64)
UVD: npt.NDArray[np.float64] = _FIRST + np.arange(3)[:, None, None]


def write(folder: Path, **changes: Any) -> None:
    """Frames and track file, without a table; the last frame is of the test split."""
    (folder / "frames").mkdir(parents=True)
    (folder / "track.json").write_text(json.dumps({**TRACK, **changes}))
    depth = np.zeros((120, 160), np.uint16)
    depth[40:80, 60:100] = 600
    for name in FRAMES[:2]:
        Image.fromarray(depth).save(folder / name)
    np.save(folder / FRAMES[2], depth.astype(np.float32))


def write_csv(
    folder: Path,
    axes: str = "uvd",
    joints: npt.NDArray[np.float64] = UVD,
    separator: str = ",",
    extra: dict[str, tuple[Any, Any, Any]] | None = None,
) -> Path:
    """`joints.csv`; `extra`: further columns, by name. A split that is not said is `train`."""
    extra = extra or {}
    lines = [["split", "frame", *(f"{j}_{a}" for j in JOINTS for a in axes), *extra]]
    for row, (name, split) in enumerate(zip(FRAMES, ("train", "", "test"), strict=True)):
        numbers = [repr(value) for value in joints[row].ravel().tolist()]
        lines.append([split, name, *numbers, *(str(column[row]) for column in extra.values())])
    path = folder / "joints.csv"
    path.write_text("\n".join(separator.join(line) for line in lines) + "\n\n")
    return path


def write_json(folder: Path, **changes: Any) -> Path:
    """`joints.json`; `changes` are made to the second frame."""
    records = [
        {"frame": name, "split": split, "joints_uvd": uvd.tolist()}
        for name, split, uvd in zip(FRAMES, SPLITS, UVD, strict=True)
    ]
    records[1].update(changes)
    path = folder / "joints.json"
    path.write_text(json.dumps({"frames": records}))
    return path
