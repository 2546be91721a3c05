"""Custom folders: three tiny frames of a hand of three joints with either table of them; or rendered hands."""

import json
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from PIL import Image

from a2j_jax.geometry import Camera
from a2j_jax.synthetic.views import HandView, synthetic_frame
from a2j_jax.tracks import get_track

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
    extra: dict[str, tuple[Any, Any, Any]] | None = None,
) -> Path:
    """`joints.csv`; `extra`: further columns, by name. A split that is not named is `train`."""
    extra = extra or {}
    lines = [["split", "frame", *(f"{j}_{a}" for j in JOINTS for a in axes), *extra]]
    for row, (name, split) in enumerate(zip(FRAMES, ("train", "", "test"), strict=True)):
        numbers = [repr(value) for value in joints[row].ravel().tolist()]
        lines.append([split, name, *numbers, *(str(column[row]) for column in extra.values())])
    path = folder / "joints.csv"
    path.write_text("\n".join(",".join(line) for line in lines) + "\n\n")
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


def write_rendered(
    folder: Path, train: int, test: int, unit_mm: float = 1.0, **changes: Any
) -> None:
    """Rendered hands of 21 joints in 320 x 240 frames: PNG in counts of `unit_mm`, and `joints.csv` with centers.

    `changes` are made to `track.json`.
    """
    camera, size = Camera(240.0, 240.0, 160.0, 120.0), (320, 240)
    joints = get_track("synthetic_hand").skeleton.joints
    (folder / "frames").mkdir(parents=True)
    intrinsics = dict(zip(("fx", "fy", "cx", "cy"), astuple(camera), strict=True))
    track = {"name": "my_hands", "like": "synthetic_hand", "camera": intrinsics, "frame_size": size}
    (folder / "track.json").write_text(json.dumps({**track, **changes}))
    render = jax.jit(partial(synthetic_frame, view=HandView(110.0), camera=camera, frame_size=size))
    columns = [f"{name}_{axis}" for name in (*joints, "center") for axis in "uvd"]
    lines = [["split", "frame", *columns]]
    for number in range(train + test):
        truth = jax.device_get(render(jax.random.fold_in(jax.random.key(7), number)))
        name = f"frames/{number:04d}.png"
        counts = np.round(truth["frame"] / unit_mm).astype(np.uint16)
        Image.fromarray(counts).save(folder / name)
        uvd = [*truth["joints_uvd"].ravel(), *truth["center_uvd"]]
        numbers = [f"{value:.2f}" for value in uvd]
        lines.append(["train" if number < train else "test", name, *numbers])
    (folder / "joints.csv").write_text("\n".join(map(",".join, lines)) + "\n")
