"""A data set on disk whose frames show their numbers, and ways to damage its files."""

import shutil
from pathlib import Path

import numpy as np

from a2j_jax.tracks import get_track, with_crop_size
from tests.tfds_builders.numbered_frames import NumberedFrames
from tfds_builders.build import How, prepare

TRACK = with_crop_size(get_track("synthetic_hand"), 16)
TRAIN, TEST = 37, 10
# The shards of "train", and what each has of its frames.
SHARDS = {"00000-of-00002": range(18), "00001-of-00002": range(18, TRAIN)}


def build(folder: Path) -> Path:
    """Two shards of "train" and as many of "test"."""
    reader = NumberedFrames(TRACK, train=TRAIN, test=TEST)
    prepare(TRACK, reader, folder, How(num_shards=2))
    return folder


def copied(data_dir: Path, folder: Path) -> dict[str, Path]:
    """Copies the data set to be damaged; its shards of "train" by the ends of their names."""
    shutil.copytree(data_dir, folder, dirs_exist_ok=True)
    return {path.name[-14:]: path for path in folder.rglob("*train.array_record*")}


def damage(shard: Path, how: str) -> None:
    """One bit "flipped" in the middle of what a shard holds, its start "overwritten", "cut", "emptied" or "missing"."""
    content = bytearray(shard.read_bytes())
    if how == "missing":
        shard.unlink()
        return
    if how == "flipped":
        content[content.index(bytes(1000)) // 2] ^= 1
    elif how == "overwritten":
        content[:2000] = np.random.default_rng(0).bytes(2000)
    else:
        del content[{"cut": len(content) // 2, "emptied": 0}[how] :]
    shard.write_bytes(content)
