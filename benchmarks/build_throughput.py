"""How fast raw frames become examples, and how much memory that takes, with one process.

python benchmarks/build_throughput.py [--frames 1000 4000]

Frames are made up: an object before a slanted, noisy wall, so that PNGs compress as badly as real ones do
(about 200 kB at 480x640). The largest memory use must not grow with the number of frames.
"""

import argparse
import importlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent
DISTINCT = 60  # frames that are drawn; the others are links to them
TRACKS = ("nyu", "hands2017", "icvl", "itop_front", "k2hpd")


def write(track: str, folder: Path, frames: int) -> None:
    """A distribution of that many training frames."""
    module = importlib.import_module(f"tests.distributions.{track.split('_')[0]}")
    options = {"track": track} if track.startswith("itop") else {}
    module.write(folder, {"train": frames}, **options)
    paths = sorted(folder.rglob("*.png"))
    for number, path in enumerate(paths):
        if number < DISTINCT:
            _add_wall(path, track)
        else:
            path.unlink()
            os.link(paths[number % DISTINCT], path)


def _add_wall(path: Path, track: str) -> None:
    if track == "k2hpd":
        return
    image = np.asarray(Image.open(path)).astype(np.int64)
    depth = image if image.ndim == 2 else image[..., 1] * 256 + image[..., 2]
    rows, columns = np.indices(depth.shape)
    wall = 1400 + rows // 2 - columns // 3 + np.random.default_rng(0).normal(0, 4, depth.shape)
    depth = np.where((depth == 0) | (depth > 1200), wall, depth).astype(np.uint16)
    if image.ndim == 2:
        Image.fromarray(depth).save(path)
    else:
        channels = np.stack([np.zeros_like(depth), depth >> 8, depth & 255], axis=-1)
        Image.fromarray(channels.astype(np.uint8)).save(path)


def measure(track: str, frames: int) -> None:
    """In a process of its own: build, and print seconds and the largest memory use."""
    from tfds_builders.build import build_raw

    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        write(track, raw, frames)
        started = time.perf_counter()
        build_raw(track, raw, Path(folder) / "data")
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak}))


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--tracks", nargs="+", default=list(TRACKS))
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure[0], int(options.measure[1]))
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{'track':>11} {'frames':>8} {'frames/s/core':>14} {'peak MiB':>9}")
    for track in options.tracks:
        for frames in options.frames:
            command = [sys.executable, __file__, "--measure", track, str(frames)]
            environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
            ended = subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment
            )
            if ended.returncode:
                sys.exit(ended.stderr)
            found = json.loads(ended.stdout.splitlines()[-1])
            rate = frames / found["seconds"]
            print(f"{track:>11} {frames:8d} {rate:14.0f} {found['peak_mib']:9.0f}", flush=True)


if __name__ == "__main__":
    main()
