"""`a2j build hands2017 --beam` on a million made-up frames: frames/s, memory of all its processes, disk.

python benchmarks/beam_scale.py --frames 1000000 [--folder FOLDER] [--beam='--runner=DirectRunner ...']

HANDS 2017 as shipped: 640 x 480 PNG frames of 16 bits and a text file with a line for each. 200 frames are drawn, the
others are hard links to them. Memory is the proportional set size every two seconds (`Pss` of Linux), which counts
shared pages once.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
DISTINCT = 200
LOCAL = "--runner=DirectRunner --direct_running_mode=multi_processing --direct_num_workers=2"
SECONDS, LINES = 2.0, 20


def write(folder: Path, frames: int) -> None:
    """A distribution of that many training frames."""
    from tests.distributions import hands2017

    hands2017.write(folder, {"train": min(frames, DISTINCT)})
    images, labels = folder / "training/images", folder / "training/Training_Annotation.txt"
    numbers = [line.partition("\t")[2] for line in labels.read_text().splitlines(keepends=True)]
    with labels.open("w") as file:
        for row in range(frames):
            name = hands2017.image_name(row)
            if row >= DISTINCT:
                os.link(images / hands2017.image_name(row % DISTINCT), images / name)
            file.write(f"{name}\t{numbers[row % DISTINCT]}")


def tree_mib(root: int) -> list[float]:
    """Memory of a process, and of each of its descendants."""
    found, pending = [], [root]
    while pending:
        process = Path("/proc", str(pending.pop()))
        try:
            rollup = (process / "smaps_rollup").read_text().split("\nPss:")[1]
            pending += map(int, (process / f"task/{process.name}/children").read_text().split())
            for thread in (process / "task").iterdir():  # any of them may have started one
                pending += map(int, (thread / "children").read_text().split())
        except (OSError, IndexError):  # it has just ended
            continue
        found.append(int(rollup.split()[0]) / 1024)
    return found


def mib_below(folder: Path) -> float:
    """What the files below a folder take on disk."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_blocks
        except FileNotFoundError:
            continue
    return total * 512 / 2**20


def measure(raw: Path, data: Path, frames: int, options: str) -> None:
    """Builds, and prints a row for every twentieth of the shards."""
    command = ["a2j", "build", "hands2017", "--manual_dir", str(raw), "--data_dir", str(data)]
    program = [sys.executable, "-c", "from a2j_jax.cli import console; console()", *command[1:]]
    started, peak, peak_disk, printed = time.monotonic(), [0.0, 0.0], 0.0, -1
    shards = -(-frames // 4096)
    print(f"{'s':>7} {'shards':>11} {'command MiB':>12} {'workers MiB':>12} {'disk MiB':>9}")
    build = subprocess.Popen([*program, f"--beam={options}"], cwd=REPOSITORY)
    while build.poll() is None:
        time.sleep(SECONDS)
        own, *others = tree_mib(build.pid) or [0.0]
        now = [own, sum(others)]
        if sum(now) > sum(peak):
            peak = now
        done = len(list(data.glob("hands2017/*/*/*.done")))
        if (part := done * LINES // shards) > printed:
            printed, disk = part, mib_below(data)
            peak_disk = max(peak_disk, disk)
            row = f"{time.monotonic() - started:7.0f} {done:5} of {shards:<2} {now[0]:12.0f}"
            print(f"{row} {now[1]:12.0f} {disk:9.0f}", flush=True)
    seconds = time.monotonic() - started
    print(
        f"{frames:,} frames in {seconds:.0f} s, {frames / seconds:.0f} frames/s; peak memory {sum(peak):.0f} MiB "
        f"({peak[0]:.0f} of the command, {peak[1]:.0f} of its workers), disk {mib_below(data):.0f} MiB, "
        f"{max(peak_disk, mib_below(data)):.0f} at most; status {build.returncode}"
    )


def main() -> None:
    """Writes the frames, builds, and removes everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="for the frames and examples (temporary)")
    parser.add_argument("--beam", default=LOCAL, help=f"pipeline options ({LOCAL})")
    options = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        started = time.monotonic()
        write(Path(folder, "raw"), options.frames)
        print(
            f"{options.frames:,} frames made up in {time.monotonic() - started:.0f} s", flush=True
        )
        measure(Path(folder, "raw"), Path(folder, "data"), options.frames, options.beam)


if __name__ == "__main__":
    main()
