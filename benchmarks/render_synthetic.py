"""How fast the embedded data sets are rendered: frames per second of one reader, sensor included.

python benchmarks/render_synthetic.py [synthetic_hand synthetic_body synthetic_body_top] [--frames 400] [--repeats 3]
python benchmarks/render_synthetic.py synthetic_hand --scenes plain varied shifted
"""

import argparse
import dataclasses
import itertools
import os
import platform
import statistics
import time

import jax

from a2j_jax.config import SCENES, Scenes
from a2j_jax.tracks import get_track, with_crop_size
from tfds_builders.rendered import EMBEDDED, reader_for

SIZES = (96, 176, 288)


def frames_per_second(
    name: str, scenes: Scenes, frames: int, crop_size: int, with_sensor: bool
) -> tuple[float, float, float]:
    """(seconds to the first frame, compilation included; after that frames per second, and processor ms per frame)."""
    track = with_crop_size(get_track(name), crop_size)
    reader = reader_for(track, train=frames, validation=0, test=0, scenes=scenes)
    if not with_sensor:
        reader = dataclasses.replace(reader, sensor=None)
    start = time.perf_counter()
    next(reader.read("train", range(1)))
    first = time.perf_counter() - start
    start, busy = time.perf_counter(), time.process_time()
    for _ in reader.read("train", range(frames)):
        pass
    busy = time.process_time() - busy
    return first, frames / (time.perf_counter() - start), 1e3 * busy / frames


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tracks", nargs="*", default=EMBEDDED, metavar="TRACK")
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=["plain"])
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, jax {jax.__version__}", end="")
    print(f" on {jax.default_backend()}; median of {options.repeats} × {options.frames} frames")
    print(f"{'track':>18} {'scenes':>8} {'crop':>5} {'canvas':>7} {'sensor':>7}", end="")
    print(f" {'first s':>8} {'frames/s':>9} {'core ms':>8}")
    for name, scenes, crop_size, sensor in itertools.product(
        options.tracks, options.scenes, SIZES, (True, False)
    ):
        settings = name, scenes, options.frames, crop_size, sensor
        runs = [frames_per_second(*settings) for _ in range(options.repeats)]
        rate = statistics.median(run[1] for run in runs)
        row = f"{name:>18} {scenes:>8} {crop_size:5d} {crop_size + 2 * (crop_size // 8):7d}"
        busy = statistics.median(run[2] for run in runs)
        row = f"{row} {'yes' if sensor else 'no':>7} {runs[0][0]:8.1f} {rate:9.0f} {busy:8.2f}"
        print(row, flush=True)


if __name__ == "__main__":
    main()
