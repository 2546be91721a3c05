"""A made-up comparison: circles of joints over blobs, frame n wrong by n pixels of the crop in u; and a full disk."""

import contextlib
import dataclasses
import functools
import resource

import numpy as np

from a2j_jax.evaluation.evaluate import evaluate_batches
from a2j_jax.evaluation.joint_files import JointSet
from a2j_jax.evaluation.plots import Comparison
from a2j_jax.tracks import get_track, with_crop_size
from tfds_builders.writer import Skipped

TRACK = with_crop_size(get_track("synthetic_hand"), 64)
FRAMES = 9
BOX = np.array([280.0, 280.0, 360.0, 360.0])


def example(index, track=TRACK):
    """A blob for a hand; the joints lie on a small circle."""
    joints = track.num_joints
    angle = np.linspace(0, 6, joints)
    uv = 320 + 20 * np.stack([np.cos(angle), np.sin(angle)], -1)
    uvd = np.column_stack([uv, np.linspace(690, 710, joints)])
    canvas = np.zeros((track.canvas_size,) * 2, np.uint16)
    canvas[20:60, 20:60] = 700 + index
    camera = np.zeros(4) if track.camera is None else track.camera.as_array()
    return {
        "canvas": canvas,
        "joints_uvd": uvd[:, : track.joint_dims].astype(np.float32),
        "valid": np.ones(joints, bool),
        "box_px": BOX,
        "window_px": BOX,
        "center_uvd": np.array([320.0, 320.0, 700.0], np.float32),
        "camera": camera.astype(np.float32),
        "index": np.int64(index),
        "frame_id": f"made_up/{index}".encode(),
    }


def predict(batch):
    """The labels in the crop, shifted."""
    scale = 64 / 80
    joints = np.asarray(batch["joints_uvd"], np.float64)
    low = np.array([280.0, 280.0, 700.0])[: joints.shape[-1]]
    joints = (joints - low) * np.array([scale, scale, 1.0])[: joints.shape[-1]]
    joints[..., 0] += batch["index"][:, None]
    return joints, np.ones(joints.shape[:2])


def batch(track=TRACK, numbers=range(FRAMES)):
    """All frames in one; `numbers` are their numbers in the distribution."""
    rows = [example(n, track) for n in numbers]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def comparison(track=TRACK, numbers=range(FRAMES)):
    """The made-up predictions as method "A2J", with the data set's pictures."""
    result = evaluate_batches(predict, [batch(track, numbers)], track)
    stored = [example(n, track) for n in numbers]
    return Comparison(
        track=track,
        scores={"A2J": result.scores},
        labels=result.frames,
        joints_uvd={"A2J": result.predictions.joints_uvd},
        fetch=stored.__getitem__,
    )


def several(count=3):
    """The same predictions under several names, without a data set."""
    one = comparison()
    names = [f"method {n}" for n in range(count)]
    return dataclasses.replace(
        bare(one),
        scores=dict.fromkeys(names, one.scores["A2J"]),
        joints_uvd=dict.fromkeys(names, one.joints_uvd["A2J"]),
    )


def bare(one):
    """The same without a data set: labels alone, of frames without names."""
    labels = JointSet(one.labels.joints_uvd, one.labels.valid)
    return dataclasses.replace(one, labels=labels, fetch=None)


@dataclasses.dataclass(frozen=True)
class Reader:
    """Of a data set of all frames (`tfds_builders.writer.Reader`): those with other numbers than these are broken."""

    numbers: tuple[int, ...]

    def frames(self):
        return {"test": FRAMES}

    def job(self, split, indices):
        return functools.partial(self.read, indices)

    def read(self, indices):
        for n in indices:
            yield example(n) if n in self.numbers else Skipped(n, f"made_up/{n}", "is broken")

    def spec(self):
        return {"numbers": self.numbers}

    def provenance(self):
        return {}


@contextlib.contextmanager
def small_disk(size):
    """Within, no file can grow beyond `size` bytes, as on a disk that fills up."""
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
