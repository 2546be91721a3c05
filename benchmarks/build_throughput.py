"""How fast raw frames become examples on a core, in how much memory, and the minutes of an entire data set.

python benchmarks/build_throughput.py [--frames 1000 4000] [--tracks nyu hands2017]

Frames are made up: those of a camera that sees only what is near (HANDS 2017) show a hand and a noisy patch, four
fifths without a reading; those of a Kinect (NYU) a hand before a noisy wall. A second row has a real frame in their
place, where `$A2J_REFERENCE` has one. Seconds are those of the processor. Minutes are computed: the published frames at
that rate on every core. The largest memory use must not grow with the number of frames.
"""

import argparse
import importlib
import itertools
import multiprocessing
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent
DISTINCT = 60  # frames that are drawn; the others are links to them
TRACKS = ("nyu", "icvl", "hands2017", "itop_front", "itop_top", "k2hpd")
REAL = {
    "nyu": "nyu_test_frame1/depth_1_0000001.png",
    "hands2017": "sr305_hands/20210326-230536/110.png",
}
CORES = (2, 32)


def write(track: str, folder: Path, frames: int, frame_file: Path | None) -> None:
    """A distribution of that many training frames."""
    module = importlib.import_module(f"tests.distributions.{track.split('_')[0]}")
    options = {"track": track} if track.startswith("itop") else {}
    module.write(folder, {"train": frames}, **options)
    paths = sorted(folder.rglob("*.png"))
    distinct = DISTINCT if frame_file is None else 1
    for number, path in enumerate(paths):
        if number >= distinct:
            path.unlink()
            os.link(paths[number % distinct], path)
        elif frame_file is not None:
            path.unlink()
            shutil.copy(frame_file, path)
        elif track != "k2hpd":
            _add_background(path, near_only=track == "hands2017")


def _add_background(path: Path, near_only: bool) -> None:
    image = np.asarray(Image.open(path)).astype(np.int64)
    depth = image if image.ndim == 2 else image[..., 1] * 256 + image[..., 2]
    rows, columns = np.indices(depth.shape)
    wall = 1400 + rows // 2 - columns // 3 + np.random.default_rng(0).normal(0, 4, depth.shape)
    if near_only:  # somebody behind the hand, and nothing else near
        wall[(columns > 0.2 * depth.shape[1]) | (rows < 10)] = 0
    depth = np.where((depth == 0) | (depth > 1200), wall, depth).astype(np.uint16)
    if image.ndim == 3:
        depth = np.stack([depth * 0, depth >> 8, depth & 255], axis=-1).astype(np.uint8)
    Image.fromarray(depth).save(path)


def measure(track: str, raw: Path) -> tuple[float, float]:
    """Builds in a new process; returns its CPU seconds and its peak memory in MiB."""
    from a2j_jax import log
    from tfds_builders.build import build_raw
    from tfds_builders.reader import RawReader

    RawReader.check = lambda self: None  # made-up labels do not fit a real frame
    log.be_quiet()
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        build_raw(track, raw, folder)
        return time.process_time() - started, peak_mib()


def peak_mib() -> float:
    """Of this program; `ru_maxrss` would count what its parent held when it was started."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--tracks", nargs="+", default=list(TRACKS))
    options = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    from a2j_jax.tracks import PUBLISHED_FRAMES

    minutes = "".join(f" {f'min on {cores}':>9}" for cores in CORES)
    print(
        f"{'track':>16} {'frames':>8} {'frames/s/core':>14} {'peak MiB':>9} {'published':>10}{minutes}"
    )
    reference = Path(os.environ.get("A2J_REFERENCE", REPOSITORY / "reference"), "frames")
    for track, frames, real in itertools.product(options.tracks, options.frames, (False, True)):
        frame_file = reference / REAL.get(track, "none") if real else None
        if frame_file is not None and not frame_file.exists():
            continue
        new_process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        with tempfile.TemporaryDirectory() as raw, new_process:
            write(track, Path(raw), frames, frame_file)
            seconds, peak = new_process.submit(measure, track, Path(raw)).result()
        rate, published = frames / seconds, sum(PUBLISHED_FRAMES[track].values())
        minutes = "".join(f" {published / rate / cores / 60:9.1f}" for cores in CORES)
        name = f"{track}{'-real' if real else ''}"
        print(
            f"{name:>16} {frames:8d} {rate:14.0f} {peak:9.0f} {published:10d}{minutes}", flush=True
        )


if __name__ == "__main__":
    main()
