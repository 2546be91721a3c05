"""The smallest experiment, trained by `a2j train` in processes of its own: to be killed, stopped and starved of disk.

For `tests/training/test_faults.py` and `benchmarks/faults.py`.
"""

import contextlib
import dataclasses
import os
import re
import resource
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from a2j_jax.config import Config, to_json
from a2j_jax.runs.checkpoints import RunCheckpoints
from a2j_jax.runs.experiment import resolve
from a2j_jax.runs.run_dir import kept_checkpoints, ranking_metrics
from a2j_jax.runs.run_dir import read as read_json_lines
from a2j_jax.runs.sharding import TrainState
from a2j_jax.training.logs import METRICS_FILE, SPEED, read_metrics
from a2j_jax.training.step import adam_with_l2, freeze
from tests import tiny
from tests.programs import REPOSITORY, Program

TRAIN = f"import runpy; runpy.run_path({str(REPOSITORY / 'train.py')!r}, run_name='__main__')"
UNFINISHED = ".orbax-checkpoint-tmp"  # in the name of a checkpoint that is being written
PATIENCE_SECONDS = 900
_ITEMS = ("variables", "ema", "optimizer", "iterator", "counters")


def config(data_dir: Path, steps: int, *, evaluate: int = 10, save: int | None = 2) -> Config:
    """The tiny experiment with an average of its weights, saved more often than evaluated."""
    settings = tiny.quick(data_dir, steps=steps, ema_decay=0.9)
    run = dataclasses.replace(settings.run, eval_every=evaluate, save_every=save)
    return dataclasses.replace(settings, run=run)


class End(NamedTuple):
    """How a process ended: its status (negative: the signal that killed it) and what it said."""

    status: int
    lines: list[str]


class Start:
    """One start of a run: `a2j train` in a process of its own, on one device."""

    def __init__(self, config: Config, workdir: str | Path, mirror: Path | None = None):
        self.workdir = mirror or Path(workdir)
        self.from_step = newest(self.workdir)
        self._lines_before = len(logged(self.workdir))
        self._folder = (
            tempfile.TemporaryDirectory()
        )  # not beside the run: the disk may be full there
        file = Path(self._folder.name) / "config.json"
        file.write_text(to_json(config))
        self._said = Path(self._folder.name) / "stderr"
        self._process = Program(
            TRAIN,
            ["--config", file, "--workdir", workdir],
            os.environ | {"JAX_PLATFORMS": "cpu", "COLUMNS": "1000"},
            self._said,
            self._said,
        )

    def __enter__(self) -> "Start":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for_steps(self, count: int) -> None:
        """Until this start has told of that many steps."""
        self.wait_until(lambda: len(self.steps()) >= count)

    def wait_for_save(self) -> None:
        """Until a checkpoint is being written; what an earlier start has left of one is deleted by its first step."""
        self.wait_for_steps(1)
        self.wait_until(lambda: bool(unfinished(self.workdir)), pause=0.0005)

    def wait_until(self, happened: Callable[[], bool], pause: float = 0.01) -> None:
        """Until something has happened; the process must not end before."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not happened():
            assert self._process.poll() is None, f"ended by itself: {self.said()}"
            assert time.monotonic() < deadline, f"nothing happens: {self.said()}"
            time.sleep(pause)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self, by: signal.Signals | None = None) -> End:
        """How it ends, by itself or by a signal."""
        if by is not None:
            self.send(by)
        status = self._process.wait(PATIENCE_SECONDS)
        return End(status, self.said())

    def said(self) -> list[str]:
        return self._said.read_text().splitlines()

    def steps(self) -> list[int]:
        """The steps this start has told of, in the order of its telling."""
        mine = logged(self.workdir)[self._lines_before :]
        return [line["step"] for line in mine if line["kind"] == "train"]

    def check_where_it_began(self) -> None:
        """It went on from the newest complete checkpoint there was, or from the start where there was none."""
        told = [re.fullmatch(r"resuming from step (\d+) of \d+", line) for line in self.said()]
        found = [int(match[1]) for match in told if match]
        expected = [] if self.from_step is None else [self.from_step]
        if self.steps():
            assert found == expected, self.said()
            assert self.steps()[0] == (self.from_step or 0) + 1
        else:
            assert found in ([], expected), self.said()  # it may have ended before


def logged(workdir: Path) -> list[dict[str, Any]]:
    """Whole lines of `metrics.jsonl`, those taken back by a later start included."""
    return read_json_lines(workdir / METRICS_FILE)


def newest(workdir: Path) -> int | None:
    """Step of the newest complete checkpoint on disk."""
    kept = kept_checkpoints(workdir)
    return int(kept[-1].name) if kept else None


def unfinished(workdir: Path) -> list[str]:
    """Names of the checkpoints that are being written, or were when the process was killed."""
    folder = workdir / "checkpoints"
    names = os.listdir(folder) if folder.is_dir() else []
    return [name for name in names if UNFINISHED in name]


def state_of(config: Config, workdir: Path) -> tuple[TrainState, dict[str, Any]]:
    """The newest checkpoint of a run, read into a state of made-up numbers, and its position in the data."""
    # Any schedule: it keeps no state.
    optimizer = freeze(adam_with_l2(lambda _: 0.0, config.optim.weight_decay), config.optim.freeze)
    model = resolve(config).model
    state = TrainState.create(tiny.made_up(tiny.shapes(model)), optimizer, average=True)
    with contextlib.closing(RunCheckpoints(workdir)) as checkpoints:
        step = checkpoints.latest_step()
        assert step is not None
        return checkpoints.restore(state, step)


def differences(config: Config, one: Path, other: Path) -> list[str]:
    """What two runs of a config do not have in common, bit for bit: their last states, and all they logged."""
    (state, position), (wanted, wanted_position) = (state_of(config, run) for run in (one, other))
    parts = [each.name for each in dataclasses.fields(TrainState)]
    found = [name for name in parts if not tiny.same(getattr(state, name), getattr(wanted, name))]
    compared = {
        "position in the data": (position, wanted_position),
        "metrics": tuple(map(_metrics, (one, other))),
        "ranking": tuple(map(ranking_metrics, (one, other))),
        "kept checkpoints": tuple([p.name for p in kept_checkpoints(r)] for r in (one, other)),
    }
    return found + [name for name, (mine, its) in compared.items() if mine != its]


def _metrics(workdir: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in line.items() if name not in ("start", "time", *SPEED)}
        for line in read_metrics(workdir)
    ]


def check_whole(workdir: Path) -> None:
    """The newest checkpoint has every part, whatever was being done to others when the process ended."""
    newest_folder = kept_checkpoints(workdir)[-1]
    missing = [item for item in _ITEMS if not any((newest_folder / item).iterdir())]
    assert not missing, (newest_folder, missing)


def check_complaint(end: End, folder: Path, kept: int | None) -> str:
    """A disk that is full is told in the one, last line; returns it."""
    assert end.status == 2, end
    *before, last = end.lines
    assert last.startswith("a2j: error: "), end
    assert str(folder) in last
    if "could not be saved" in last:
        assert (f"step {kept} is kept" if kept is not None else "none was saved before") in last
    usual = re.compile(
        r"(training: |\d+ steps are few|step \d+: |resuming from step |tiny: |.* is built already)"
    )
    unusual = [line for line in before if not usual.match(line)]
    assert not unusual, unusual[:9]
    return last


@contextlib.contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """A disk of that size, mounted at `folder`.

    Raises:
      PermissionError: this user may not mount one.
    """
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PermissionError("mounting a small disk takes root, on Linux") from error
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def full(disk: Path, room: int = 0) -> Iterator[None]:
    """While this lasts, no more than that many bytes are left on a disk, whatever is deleted there."""
    ballast, over = disk / "ballast", threading.Event()
    ballast.touch()

    def fill() -> None:
        about = os.statvfs(disk)
        extra = about.f_bavail * about.f_frsize - room
        if extra > 0:
            with ballast.open("ab") as file, contextlib.suppress(OSError):  # written to meanwhile
                os.posix_fallocate(file.fileno(), ballast.stat().st_size, extra)

    def keep_full() -> None:
        while not over.wait(0.002):
            fill()

    fill()
    keeper = threading.Thread(target=keep_full)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()
        ballast.unlink()


def limit_files(pid: int, size: int) -> None:
    """From now on a process cannot write files beyond that many bytes: as good as a full disk, and needs no root."""
    _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, most))


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writing beyond that many bytes fails, as it does on a full disk."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
