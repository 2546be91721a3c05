"""A reader for tests: constant frames, as many as wanted, and a mishap where wanted.

A module of its own, so that worker processes can import it.
"""

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from a2j_jax.data import crops
from a2j_jax.tracks import TrackSpec, get_track, with_crop_size
from tfds_builders.build import prepare
from tfds_builders.writer import Skipped, make_example

TRACK = with_crop_size(get_track("synthetic_hand"), 16)


@dataclass(frozen=True)
class NumberedFrames:
    """Frame i shows 500 + i mm everywhere; its first joint lies i px from the left."""

    track: TrackSpec = TRACK
    train: int = 10
    test: int = 0
    mishaps: Mapping[int, Any] = field(default_factory=dict)  # by frame
    broken: tuple[int, ...] = ()
    seconds: float = 0.0  # per frame

    def frames(self):
        return {"train": self.train, "test": self.test}

    def job(self, split, indices):
        return partial(self.read, split, indices)

    def read(self, split, indices):
        for index in indices:
            time.sleep(self.seconds)
            if index in self.broken:
                yield Skipped(index, f"{split}/{index}", "is broken")
                continue
            mishap = self.mishaps.get(index)
            if isinstance(mishap, BaseException):
                raise mishap
            if isinstance(mishap, Path):  # written by another build, say
                mishap.parent.mkdir(parents=True)
                mishap.touch()
            if mishap == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            num_joints = {"mislabeled": 36, "unlabeled": 0}.get(str(mishap), 21)
            yield numbered_example(self.track, split, index, num_joints)

    def spec(self):
        return {"frames": self.frames(), "crop_size": self.track.crop_size}

    def provenance(self):
        return {"centers": {"train": {"made up": self.train}}}


def numbered_example(track, split, index, num_joints):
    width, height = track.frame_size
    frame = np.full((height, width), 500 + index, np.uint16)
    center = np.array([200.0, 150.0, 500.0 + index])
    joints = np.zeros((num_joints, 3))
    joints[:1, 0] = index
    return make_example(
        track,
        index=index,
        frame_id=f"{split}/{index}",
        crop=crops.cut(frame, track, center, [150.0, 90.0, 260.0, 210.0]),
        joints_uvd=joints if num_joints else None,
        center_uvd=center,
    )


def build_numbered(data_dir, how=None, track=TRACK, **changes):
    """Builds a data set of such frames."""
    return prepare(track, NumberedFrames(track, **changes), data_dir, how)
