"""What a run loses when it is killed, stopped or starved of disk space, and in how many trials.

    python benchmarks/faults.py --trials 20

The smallest experiment is trained once undisturbed. Then every part of the table starts it again, ends it at random
moments and runs the same command until training is complete. In the end its weights, running statistics, optimizer,
average of the weights, counters, position in the data, kept checkpoints, and every logged number of every step must be
those of the undisturbed run, bit for bit. Steps after the last complete checkpoint are repeated; nothing else is.
"""

import argparse
import contextlib
import platform
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import jax
from rich.console import Console

from a2j_jax.config import Config
from a2j_jax.evaluation.tables import Table, print_table
from a2j_jax.log import log_to_terminal, logger
from tests import faults, tiny
from tfds_builders.build import build

STEPS_PER_TRIAL = 12  # so that the run is not through before its last trial
MIB = 2**20


@dataclass
class Part:
    """A run that is ended again and again in one way."""

    config: Config
    workdir: Path
    peaceful: Path
    rng: random.Random
    times: Counter[str] = field(default_factory=Counter)
    again: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def start(self, what: str) -> Iterator[faults.Start]:
        """One start that `what` is done to; counts the steps that must be repeated because of it."""
        with faults.Start(self.config, self.workdir) as start:
            yield start
            start.check_where_it_began()
            kept = faults.newest(self.workdir) or 0
            if kept:
                faults.check_whole(self.workdir)
            again = max(max(start.steps(), default=0) - kept, 0)
            self.again[what] += again
            self.times[what] += 1
        logger.info(f"{what}: kept step {kept}, done again {again}")

    def finish(self) -> str:
        """Runs to the end; returns what was lost."""
        with faults.Start(self.config, self.workdir) as start:
            status, lines = start.end()
            assert status == 0, lines
            start.check_where_it_began()
        return ", ".join(faults.differences(self.config, self.workdir, self.peaceful)) or "nothing"


def kill(part: Part, trials: int) -> None:
    """SIGKILL, every second time in the midst of a save: 0 to 50 ms after it has begun to write."""
    for trial in range(trials):
        in_save = trial % 2 == 0
        with part.start("SIGKILL in a save" if in_save else "SIGKILL at any moment") as start:
            start.wait_for_steps(part.rng.randint(1, 5))
            if in_save:
                start.wait_for_save()
            time.sleep(part.rng.uniform(0, 0.05))
            assert start.end(by=signal.SIGKILL).status == -signal.SIGKILL
        if faults.unfinished(part.workdir):
            part.times["(of all SIGKILLs: left half a checkpoint)"] += 1


def stop(part: Part, trials: int) -> None:
    """SIGTERM and Ctrl-C in turn: the step is finished and saved, so that none is done twice."""
    for trial in range(trials):
        number = (signal.SIGTERM, signal.SIGINT)[trial % 2]
        with part.start(number.name) as start:
            start.wait_for_steps(part.rng.randint(1, 5))
            time.sleep(part.rng.uniform(0, 0.05))
            end = start.end(by=number)
            assert end.status == 128 + number, end
            step = faults.newest(part.workdir)
            saved = f"a2j: {number.name}: stopped after step {step} of {part.config.optim.steps}"
            assert end.lines[-1].startswith(saved), end
    steps = [(line["kind"], line["step"]) for line in faults.logged(part.workdir)]
    assert len(steps) == len(set(steps)), "a step was done twice"


def fill_disk(part: Part, trials: int, disk: Path) -> None:
    """No room for a complete checkpoint, for any file, or already at the start."""
    for trial in range(trials):
        room = part.rng.randrange(MIB // 8, MIB) if trial % 3 == 0 else 0
        what = "room for part of a checkpoint", "no room at all", "when it is started"
        at_once = trial % 3 == 2
        with contextlib.ExitStack() as while_full:
            if at_once:
                while_full.enter_context(faults.full(disk))
            with part.start(f"disk full: {what[trial % 3]}") as start:
                if not at_once:
                    start.wait_for_steps(part.rng.randint(1, 5))
                    while_full.enter_context(faults.full(disk, room))
                end = start.end()
                line = faults.check_complaint(end, disk, faults.newest(part.workdir))
                assert "no space left" in line.lower(), line
                logger.info(line)


def limit_files(part: Part, trials: int) -> None:
    """Where no small disk can be mounted: files that cannot grow, so that a checkpoint cannot be written."""
    for _ in range(trials):
        with part.start("files limited to 64 KiB") as start:
            start.wait_for_steps(part.rng.randint(1, 5))
            faults.limit_files(start.pid, 2**16)
            faults.check_complaint(start.end(), part.workdir, faults.newest(part.workdir))


def main() -> None:
    log_to_terminal()
    # In the background of a script Ctrl-C is ignored, by what is started from there as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--trials", type=int, default=20, help="kills; a quarter as many of the others each")
    add("--seed", type=int, default=0, help="of the moments")
    add("--workdir", type=Path, help="kept; default: a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workdir = arguments.workdir or Path(folder)
        measure(workdir.absolute(), arguments.trials, random.Random(arguments.seed))


def measure(workdir: Path, trials: int, rng: random.Random) -> None:
    """Runs all parts below a folder, and prints the table."""
    build("synthetic_hand", workdir / "data", crop_size=tiny.SIZE, **tiny.FRAMES)
    config = faults.config(workdir / "data", STEPS_PER_TRIAL * trials)
    peaceful, few = workdir / "in_peace", -(-trials // 4)
    rows: list[tuple[str, ...]] = []

    def measure_part(name: str, do: Callable[[Part, int], None], count: int, folder: Path) -> None:
        began, part = time.monotonic(), Part(config, folder / name, peaceful, rng)
        do(part, count)
        once = part.finish(), f"{(time.monotonic() - began) / 60:.1f}"
        for what, times in part.times.items():
            repeated = str(part.again[what]) if what in part.again else ""
            rows.append((what, str(times), repeated, *once))
            once = "", ""

    began = time.monotonic()
    with faults.Start(config, peaceful) as start:
        assert start.end().status == 0, start.said()
    rows.append(("nothing", "1", "0", "", f"{(time.monotonic() - began) / 60:.1f}"))
    measure_part("kill", kill, trials, workdir)
    measure_part("stop", stop, 2 * few, workdir)
    try:
        with faults.small_disk(workdir / "small_disk", 64) as disk:
            measure_part("run", partial(fill_disk, disk=disk), 3 * few, disk)
    except PermissionError as error:
        rows.append(("disk full", f"not run: {error}", "", "", ""))
        measure_part("limited", limit_files, few, workdir)
    machine = f"{platform.machine()}, jax {jax.__version__}"
    title = f"{config.optim.steps} steps of the smallest experiment, {machine}"
    columns = ("what was done to the run", "times", "steps done again", "lost", "minutes")
    print_table(Table(title, columns, tuple(rows)), Console())


if __name__ == "__main__":
    main()
