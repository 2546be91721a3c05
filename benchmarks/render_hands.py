"""How fast synthetic hands are made: frames per second of `generate_hands`, sensor included.

python benchmarks/render_hands.py [--frames 400] [--repeats 3]
"""

import argparse
import os
import platform
import statistics
import time

import jax

from a2j_jax.geometry import Camera
from a2j_jax.synthetic.scene import KINECT, generate_hands

NYU = Camera(588.03, -587.07, 320.0, 240.0)


def frames_per_second(frames: int, crop_size: int, with_sensor: bool) -> tuple[float, float]:
    """(seconds to the first frame, compilation included; frames per second after that)."""
    settings = {
        "camera": NYU, "frame_size": (640, 480), "half_window_mm": 110.0, "crop_size": crop_size,
        "margin": crop_size // 8, "sensor": KINECT if with_sensor else None,
    }  # fmt: skip
    start = time.perf_counter()
    next(generate_hands(0, range(1), **settings))
    first = time.perf_counter() - start
    start = time.perf_counter()
    for _ in generate_hands(0, range(frames), **settings):
        pass
    return first, frames / (time.perf_counter() - start)


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, jax {jax.__version__}", end="")
    print(f" on {jax.default_backend()}; median of {options.repeats} × {options.frames} frames")
    print(f"{'crop':>5} {'canvas':>7} {'sensor':>7} {'first s':>8} {'frames/s':>9}")
    for crop_size in (96, 112, 176):
        for sensor in (True, False):
            runs = [
                frames_per_second(options.frames, crop_size, sensor) for _ in range(options.repeats)
            ]
            rate = statistics.median(run[1] for run in runs)
            canvas = crop_size + 2 * (crop_size // 8)
            name = "yes" if sensor else "no"
            print(f"{crop_size:5d} {canvas:7d} {name:>7} {runs[0][0]:8.1f} {rate:9.0f}", flush=True)


if __name__ == "__main__":
    main()
