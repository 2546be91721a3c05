"""Damaged files: every reader's valid file is mutated again and again, and read.

    python benchmarks/fuzz.py                     # 300 mutations of each reader's file, 30 of each checkpoint file
    python benchmarks/fuzz.py --only "depth .png" --mutations 5000 --seed 7

A mutation flips a bit, overwrites, inserts, repeats or removes bytes, or cuts the file off; in text it also changes
words. A reader may refuse the file (`UserError`) or read the original's value. Formats that carry a checksum may do
nothing else. The others (text, `.npy`, TIFF, PGM, HDF5, `.safetensors`, and `.mat` without compression) cannot tell a
changed number from a measured one: those are counted as "other value".

Readers run in a process of their own, so that one that crashes, hangs or takes absurd memory is a result like any
other. The status is 1 if there was a traceback, a crash, a hang, or another value in spite of a checksum.
"""

import argparse
import contextlib
import functools
import json
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image
from scipy.io import savemat

from a2j_jax import log
from a2j_jax.config import Config, to_json
from a2j_jax.config_files import load_config
from a2j_jax.data.depth_files import read_depth
from a2j_jax.data.pipeline import Examples, find_dataset
from a2j_jax.errors import UserError
from a2j_jax.evaluation.compare import frame_numbers, read_subsets
from a2j_jax.evaluation.joint_files import JointSet, read_joints, write_joints, write_submission
from a2j_jax.runs.checkpoints import RunCheckpoints, load_variables
from a2j_jax.runs.run_dir import choose_step, write_config
from a2j_jax.track_files import load_track, track_from_dict
from a2j_jax.tracks import get_track, with_crop_size
from a2j_jax.weights.convert import read_state_dict, write_state_dict
from tests import tiny
from tests.distributions import itop as itop_files
from tests.distributions import own_data
from tests.tiny import state_at
from tfds_builders import itop
from tfds_builders.build import build
from tfds_builders.crop_plan import read_centers_or_boxes, read_text_centers
from tfds_builders.folder import read_table
from tfds_builders.raw_files import read_numbers

HANG_SECONDS = 120.0
MEMORY = 6 << 30  # bytes that a reader may take beyond what the process has at its start
CHECKPOINT_FILES = "checkpoints/**/*"
COLUMNS = ("refused", "same value", "other value", "traceback", "crash", "hang")
WORDS = (
    "nan", "inf", "-1", "1e400", "9" * 40, "", "null", "true", '"', "[", "{", "\\", "\0", "../x", "gs://x",
)  # fmt: skip


class Reader(NamedTuple):
    """How a valid file is made, and how it is read."""

    files: str  # its name; or a pattern of several names, of which one is mutated at a time
    write: Callable[[Path], object]  # makes the file, or all files in a folder
    # Returns the contents of the file or folder: arrays, numbers and texts in tuples, lists, dicts,
    # dataclasses.
    read: Callable[[Path], Any]
    checksum: bool = False  # whether the format detects every changed value
    text: bool = False  # whether words are changed, too

    def path(self, folder: Path) -> Path:
        return folder if "*" in self.files else folder / self.files


def readers() -> dict[str, Reader]:
    """Every reader by its name in the table."""
    rng = np.random.default_rng(0)
    nyu, box_track, hands = (get_track(name) for name in ("nyu", "itop_front", "hands2017"))
    counts = rng.integers(300, 4000, (24, 32))
    counts[:4] = 0
    uvd, confidence = rng.uniform(100, 900, (12, 14, 3)), rng.uniform(0, 1, (12, 14))
    joints = JointSet(uvd, confidence=confidence, index=np.arange(12))
    frames = [{"path": f"{n}.png", "joints_uvd": row.tolist()} for n, row in enumerate(uvd)]
    records = {"frames": frames}
    xyz = rng.uniform([-200, -200, 500], [200, 200, 900], (12, 21, 3))
    centers, boxes = rng.uniform(100, 700, (12, 1, 3)), rng.uniform(1, 200, (12, 4))
    lines = [f"image_{n}.png " + " ".join(map(str, row)) for n, row in enumerate(boxes.round(3))]
    tensors = {f"layer{n}.weight": rng.normal(size=(8, 8)).astype(np.float32) for n in range(4)}
    rgb = np.stack([counts * 0, counts >> 8, counts & 255], -1).astype(np.uint8)
    track = track_from_dict(own_data.TRACK)
    rendered = with_crop_size(get_track("synthetic_hand"), tiny.SIZE)
    state = state_at(3)

    def depth(suffix: str, values: Any, frame_format: str = "depth16", **saving: Any) -> Reader:
        def write(path: Path) -> None:
            np.save(path, values) if suffix == ".npy" else Image.fromarray(values).save(
                path, **saving
            )

        read = partial(read_depth, frame_format=frame_format)
        return Reader(f"frame{suffix}", write, read, checksum=suffix == ".png")

    def mat(read: Callable[[Path], Any], name: str, values: Any, compressed: bool) -> Reader:
        write = partial(savemat, mdict={name: values}, do_compression=compressed)
        return Reader("values.mat", write, read, checksum=compressed)

    def data_set(folder: Path) -> Any:
        builder = find_dataset(folder, rendered)
        examples = Examples(builder, "train")
        return [builder.info.metadata, *(examples[row] for row in range(len(examples)))]

    def itop_frames(folder: Path) -> Any:
        distribution = itop.Itop(folder, get_track("itop_front"))
        itop._depth_map.cache_clear()  # keeps files open, and their contents
        frames = distribution.splits()["test"]
        return [vars(frames), *map(distribution.read_depth, frames.sources)]

    def save_checkpoint(folder: Path) -> None:
        write_config(folder, tiny.config())
        with contextlib.closing(RunCheckpoints(folder)) as checkpoints:
            checkpoints.save(state, {"batch": 3}, {"error": 1.0})
            checkpoints.wait()

    def restore(folder: Path) -> Any:
        with contextlib.closing(RunCheckpoints(folder)) as checkpoints:
            restored = checkpoints.restore(state, 3)
        return jax.tree.leaves(
            [restored, load_variables(choose_step(folder, "best"), state.variables)]
        )

    def subset(path: Path) -> Any:
        return frame_numbers(read_subsets({"some": path}), np.arange(9), None)

    def save_torch(path: Path) -> None:
        import torch

        torch.save({name: torch.from_numpy(value) for name, value in tensors.items()}, path)

    def text(name: str, contents: str, read: Callable[[Path], Any]) -> Reader:
        return Reader(name, lambda path: path.write_text(contents), read, text=True)

    def table(pattern: str, write: Callable[[Path], object]) -> Reader:
        read = lambda folder: read_table(folder / f"joints{pattern[1:]}", track)  # noqa: E731
        return Reader(pattern, write, read, text=True)

    read_nyu, read_hands = partial(read_joints, track=nyu), partial(read_joints, track=hands)
    read_boxes = partial(read_centers_or_boxes, track=box_track)
    read_centers = partial(read_centers_or_boxes, track=nyu)
    write_centers = partial(np.savetxt, X=centers[:, 0], fmt="%.4f")
    write_joints_file = partial(write_joints, joints=joints)
    write_itop = partial(itop_files.write, frames={"test": 3})
    write_hands = partial(write_submission, joints_xyz_mm=xyz)
    write_tensors = partial(write_state_dict, tensors=tensors)
    rendered_frames = {"train": 12, "validation": 0, "test": 0}
    write_rendered = partial(build, "synthetic_hand", crop_size=tiny.SIZE, **rendered_frames)
    found = {
        "depth .png": depth(".png", counts.astype(np.uint16)),
        "depth .png, NYU's RGB": depth(".png", rgb, "nyu_packed"),
        "depth .png, 8 bit": depth(".png", (counts >> 4).astype(np.uint8), "stretch8"),
        "depth .tif, 16 bit": depth(".tif", counts.astype(np.uint16)),
        "depth .tif, 32 bit, LZW": depth(".tif", counts.astype(np.int32), compression="tiff_lzw"),
        "depth .tif, decimal": depth(".tif", counts.astype(np.float32)),
        "depth .pgm": depth(".pgm", counts.astype(np.uint16)),
        "depth .npy, integers": depth(".npy", counts.astype(np.uint16)),
        "depth .npy, decimal": depth(".npy", counts.astype(np.float32)),
        "joints .txt": Reader("joints.txt", write_joints_file, read_nyu, text=True),
        "joints .jsonl": Reader("joints.jsonl", write_joints_file, read_nyu, text=True),
        "joints .npz": Reader("joints.npz", write_joints_file, read_nyu, checksum=True),
        "joints .mat": Reader("joints.mat", write_joints_file, read_nyu, checksum=True),
        "joints .json": text("joints.json", json.dumps(records), read_nyu),
        "joints .mat, compressed": mat(read_nyu, "keypoints3D", uvd, True),
        "joints .mat, not compressed": mat(read_nyu, "keypoints3D", uvd, False),
        "HANDS 2017 submission": Reader("s.txt", write_hands, read_hands, text=True),
        "subset of frames": text("subset.txt", "1\n5\n7\n", subset),
        "centers .mat": mat(read_centers, "centre_pixel", centers, True),
        "boxes .mat, not compressed": mat(read_boxes, "FRbndbox_test", boxes, False),
        "centers .txt": Reader(
            "centers.txt", write_centers, partial(read_text_centers, track=nyu), text=True
        ),
        "label lines .txt": text(
            "l.txt", "\n".join(lines) + "\n", partial(read_numbers, columns=4, meaning="a box")
        ),
        "joints.csv": table("*.csv", own_data.write_csv),
        "joints.json": table("*.json", own_data.write_json),
        "track.json": text("track.json", json.dumps(own_data.TRACK), load_track),
        "config.json": text(
            "config.json", to_json(Config("x", "nyu")), lambda path: load_config(str(path))
        ),
        "weights .npz": Reader("weights.npz", write_tensors, read_state_dict, checksum=True),
        "weights .safetensors": Reader("weights.safetensors", write_tensors, read_state_dict),
        "weights .pth": Reader("weights.pth", save_torch, read_state_dict, checksum=True),
        "ITOP labels .h5": Reader("*_labels.h5", write_itop, itop_frames),
        "ITOP depth_map .h5": Reader("*_depth_map.h5", write_itop, itop_frames),
        "data set, shards": Reader("**/*array_record*", write_rendered, data_set, checksum=True),
        "data set, descriptions": Reader("**/*.json", write_rendered, data_set, True, text=True),
        "checkpoint": Reader(CHECKPOINT_FILES, save_checkpoint, restore, checksum=True),
    }
    if not find_spec("torch"):
        del found["weights .pth"]
    return found


def mutate(contents: bytes, rng: random.Random, text: bool) -> tuple[bytes, str]:
    """One mutation, and its description."""
    size = len(contents)
    at = rng.randrange(size)
    length = min(rng.choice((1, 2, 4, 8, 16, 64, 256)), size - at)
    kinds = ["bit"] * 4 + ["overwrite", "size", "zero", "cut", "remove", "insert", "repeat"]
    kind = rng.choice(kinds + ["word"] * 3 * text)
    found = bytearray(contents)
    match kind:
        case "bit":
            found[at] ^= 1 << rng.randrange(8)
        case "overwrite":
            found[at : at + length] = rng.randbytes(length)
        case "size":
            number = rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, size, size + 1))
            found[at : at + 4] = number.to_bytes(4, rng.choice(("little", "big")))
        case "zero":
            found[at : at + length] = bytes(length)
        case "cut":
            del found[at:]
        case "remove":
            del found[at : at + length]
        case "insert":
            found[at:at] = rng.randbytes(length)
        case "repeat":
            found[at:at] = found[at : at + length]
        case "word":
            words = contents.decode("utf-8", "replace").split(" ")
            words[rng.randrange(len(words))] = rng.choice(WORDS)
            found = bytearray(" ".join(words).encode())
    return bytes(found), f"{kind} at {at} of {size}"


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, NaN equal to itself."""
    if hasattr(one, "__dataclass_fields__"):
        return type(one) is type(other) and same(vars(one), vars(other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)):
        return len(one) == len(other) and all(map(same, one, other))
    if hasattr(one, "__array__") or hasattr(other, "__array__"):
        a, b = np.asarray(one), np.asarray(other)
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return bool(one == other) or (one != one and other != other)


def files_of(reader: Reader, folder: Path) -> list[Path]:
    """The files that are mutated, relative to the folder of the originals."""
    below = folder / "original"
    found = (path for path in below.glob(reader.files) if path.is_file() and path.stat().st_size)
    return sorted(path.relative_to(below) for path in found)


@functools.cache
def opened(name: str, folder: Path) -> tuple[Reader, Path, Any]:
    """A reader, a copy of its files to change, and what it reads from the originals."""
    reader, work = readers()[name], folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(folder / "original", work)
    return reader, work, reader.read(reader.path(work))


def attempt(name: str, folder: Path, seed: int, count: int, number: int) -> tuple[str, str]:
    """Reads the files in `folder / "original"` with mutation `number`; each file has `count` of them.

    Returns:
      The mutation in words, and the result.
    """
    reader, work, original = opened(name, folder)
    path = files_of(reader, folder)[number // count]
    contents = (work / path).read_bytes()
    changed, what = mutate(contents, random.Random(f"{seed}/{name}/{number}"), reader.text)
    (work / path).write_bytes(changed)
    try:
        equal = same(reader.read(reader.path(work)), original)
        result = "same value" if equal else "other value"
    except UserError as error:
        result = "refused" if len(str(error).splitlines()) == 1 else f"several lines: {error}"
    except BaseException as error:  # what a user would see as a traceback
        result = f"traceback: {type(error).__name__}: {str(error)[:160]}"
    (work / path).write_bytes(contents)
    return f"{name}: {path}: {what}", "unchanged" if changed == contents else result


def is_fault(result: str, checksum: bool) -> bool:
    """Whether a result should not be."""
    kind = result.partition(":")[0]
    fine = {"refused", "same value", "unchanged"} | (set() if checksum else {"other value"})
    return kind not in fine


def limit_worker() -> None:
    """Silences what libraries print in a worker, and limits its memory."""
    for printed_by_libraries in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), printed_by_libraries)
    # Addresses that JAX has reserved already are not the reader's.
    reserved = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (reserved + MEMORY, resource.RLIM_INFINITY))


def outcomes(
    name: str, folder: Path, seed: int, count: int, total: int
) -> Iterator[tuple[str, str]]:
    """(mutation, result) of all mutations; the worker is started again after one that ended it."""
    number = 0
    while number < total:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), limit_worker) as pool:
            try:
                while number < total:
                    found = pool.submit(attempt, name, folder, seed, count, number)
                    yield found.result(HANG_SECONDS)
                    number += 1
                return
            except TimeoutError:
                ended = "hang"
                for worker in multiprocessing.active_children():
                    worker.kill()
            except BrokenProcessPool:
                ended = "crash"
        yield f"{name}: mutation {number}", ended
        number += 1


def write_original(reader: Reader, folder: Path) -> None:
    """Makes the valid files."""
    (folder / "original").mkdir(parents=True)
    reader.write(reader.path(folder / "original"))


def fuzz(name: str, seed: int, count: int) -> tuple[Counter[str], list[str]]:
    """Results of one reader by kind, and a line for every one that should not be."""
    reader = readers()[name]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_original(reader, folder)
        found = list(outcomes(name, folder, seed, count, count * len(files_of(reader, folder))))
    faults = [f"{what}: {result}" for what, result in found if is_fault(result, reader.checksum)]
    return Counter(result.partition(":")[0] for _, result in found), faults


def main() -> int:
    """Fuzzes the readers and prints a Markdown table."""
    names = list(readers())
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=names, help="these readers (default: all)")
    add = partial(parser.add_argument, type=int)
    add("--mutations", default=300, help="of each reader's file (300)")
    add("--checkpoint_mutations", default=30, help="of each file of a checkpoint (30)")
    add("--seed", default=0)
    arguments = parser.parse_args()
    log.be_quiet()
    print(f"| file | checksum | tried | {' | '.join(COLUMNS)} | s |")
    print("| --- " * (len(COLUMNS) + 4) + "|")
    faults = []
    for name in arguments.only or names:
        reader, started = readers()[name], time.monotonic()
        is_checkpoint = reader.files == CHECKPOINT_FILES
        count = arguments.checkpoint_mutations if is_checkpoint else arguments.mutations
        counts, found = fuzz(name, arguments.seed, count)
        faults += found
        tried = sum(counts.values()) - counts["unchanged"]
        cells = name, "yes" if reader.checksum else "no", tried, *(counts[c] or "" for c in COLUMNS)
        print(f"| {' | '.join(map(str, cells))} | {time.monotonic() - started:.0f} |", flush=True)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
