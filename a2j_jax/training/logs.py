"""The record of a run: what is needed to repeat it, and scalars per logged step.

A run directory holds, beside `config.json` and the checkpoints:

- `starts.jsonl`: one line per start, never overwritten (see `record_start`);
- `requirements.txt`: every installed distribution, as `pip install --requirement` takes it;
  `requirements-<n>.txt` where start n found others than the start before it;
- `source-<commit>-<n>.diff`: what start n ran beyond that commit, where the source had been changed;
- `metrics.jsonl` and `tensorboard/`: scalars; on request also a run of Weights & Biases in `wandb/`.

Lines of kind "train" have the speed since the one before, and one of kind "time" ends each start (`Pace`).
"""

import contextlib
import importlib.util
import os
import platform
import secrets
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

import a2j_jax
from a2j_jax.errors import UserError, in_one_line
from a2j_jax.files import write_file
from a2j_jax.runs import run_dir
from a2j_jax.runs.run_dir import STARTS_FILE, append, read_starts, writing

METRICS_FILE = "metrics.jsonl"
REQUIREMENTS_FILE = "requirements.txt"
ID_FILE = "wandb_id.txt"
_FLUSH_SECONDS = 10.0
_PACKAGES = "jax jaxlib flax optax orbax-checkpoint grain array-record tensorflow-datasets numpy"
_GIT_SECONDS = 20
_LARGEST_DIFF = 4 * 2**20  # bytes; more than that is data, not source


def record_start(workdir: str | Path, *, command: str | None, step: int, **facts: Any) -> int:
    """Record a start of a run; of several processes the primary one calls this.

    Args:
      workdir: the run directory, which exists.
      command: the command line, quoted for a shell; None: called from Python.
      step: the step from which the run resumes; 0 for a new run.
      facts: recorded as they are.

    Returns:
      The number of this start, from 1; lines of `metrics.jsonl` carry it.
    """
    workdir = Path(workdir)
    number = len(read_starts(workdir)) + 1
    source, changes = _source(Path(a2j_jax.__file__).resolve().parent)
    record = {
        "start": number,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "step": step,
        "versions": {
            "python": platform.python_version(),
            "a2j_jax": a2j_jax.__version__,
            **{name: metadata.version(name) for name in _PACKAGES.split()},
        },
        "requirements": _write_requirements(workdir, number),
        "source": source,
        "platform": platform.platform(),
        "hostname": socket.gethostname(),
        "devices": dict(Counter(device.device_kind for device in jax.devices())),
        "processes": jax.process_count(),
        **facts,
    }
    if source and changes:
        source["diff"] = f"source-{source['commit'][:7]}-{number}.diff"
        write_file(workdir / source["diff"], changes)
    append(workdir / STARTS_FILE, record)
    return number


def _write_requirements(workdir: Path, number: int) -> str:
    """Name of the file that lists what is installed: that of an earlier start, unless something changed."""
    # By name and version alone: where something was installed from may be private, or gone.
    found = [each.metadata for each in metadata.distributions()]  # each reads its file
    installed = {(about["Name"] or "").lower(): about["Version"] for about in found}
    lines = sorted(f"{name}=={version}" for name, version in installed.items() if name)
    text = "\n".join(lines) + "\n"
    for path in (workdir / REQUIREMENTS_FILE, *sorted(workdir.glob("requirements-*.txt"))):
        if path.is_file() and path.read_text() == text:
            return path.name
    first = not (workdir / REQUIREMENTS_FILE).exists()
    return write_file(
        workdir / (REQUIREMENTS_FILE if first else f"requirements-{number}.txt"), text
    ).name


def _source(package: Path) -> tuple[dict[str, Any] | None, str]:
    """Commit, branch and changes of the checkout that a package is run from; None where it is installed."""
    # A package in a virtual environment lies in somebody's checkout, too, but is no part of it.
    tracked = _git(package, "ls-files", "--error-unmatch", "__init__.py")
    top, _, commit = _git(package, "rev-parse", "--show-toplevel", "HEAD").strip().rpartition("\n")
    if not (tracked and commit):
        return None, ""
    root = Path(top)
    untracked = _git(root, "ls-files", "--others", "--exclude-standard").splitlines()
    # The names first: nothing that git reads as part of the last change.
    changes = "".join(f"# untracked: {name}\n" for name in untracked)
    changes += _git(root, "diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv")
    branch = _git(root, "branch", "--show-current").strip() or None
    if (size := len(changes.encode())) > _LARGEST_DIFF:
        kept = changes.encode()[:_LARGEST_DIFF].decode(errors="ignore")
        changes = f"{kept}\n# cut here: {_LARGEST_DIFF:,} of {size:,} bytes\n"
    return {"commit": commit, "branch": branch, "dirty": bool(changes)}, changes


def _git(folder: Path, *arguments: str) -> str:
    """The output of git in a folder; nothing where it fails, hangs or is not installed."""
    # Not of a repository that is being worked on elsewhere (in a hook, say), and nothing is written.
    environment = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            env=environment | {"GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if done.returncode else done.stdout.decode(errors="replace")


#: What a line of the log says of speed, where it is known.
SPEED = ("images_per_second", "step_ms", "input_wait_fraction", "save_seconds", "mfu")
#: Peak FLOP/s of a device on bfloat16, without sparsity, by how the name that JAX gives it begins.
#: https://cloud.google.com/tpu/docs (v4, v5e, v5p, v6e) and NVIDIA's data sheets (SXM where there are several).
PEAK_FLOPS = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L4": 121e12,
    "Tesla V100": 125e12,
    "Tesla T4": 65e12,
}


def peak_flops(device_kind: str) -> float | None:
    """Peak FLOP/s of a device by its kind; None: not known."""
    return next((peak for name, peak in PEAK_FLOPS.items() if device_kind.startswith(name)), None)


class Pace:
    """Where the time of a start goes, and how fast steps are between two lines of the log.

    Attributes:
      seconds: by what they were spent on: "start", "restore", "compile", "first_step", "input", "evaluate", "save".
        "input" is waiting for examples while the devices had nothing to do; "save" what a save holds up.
      steps: that were taken.
      redone_steps: that an earlier start had taken and logged, but not saved.
      unmeasured: `since_last` was not called yet.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.redone_steps = self.steps = 0
        self._began = time.perf_counter()
        self.unmeasured = True
        self._last: tuple[int, float, dict[str, float]] | None = None

    @contextlib.contextmanager
    def spent(self, name: str) -> Iterator[None]:
        """Counts the time of a block."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started

    def begin(self) -> None:
        """Everything is ready for the first step: what was not counted until now was the start."""
        self.seconds["start"] = time.perf_counter() - self._began - sum(self.seconds.values())

    def since_last(self, batch_size: int, peak: float | None = None) -> dict[str, float]:
        """Speed of the steps since the last call, without evaluations and saves; the first call begins to measure.

        Args:
          batch_size: images per step, of all devices.
          peak: steps per second at the peak of the devices; None: not known.

        Returns:
          images_per_second, step_ms, input_wait_fraction (of the time); save_seconds that saves held up, if there were
          any; mfu where `peak` is known: the part of it.
        """
        before, now = self._last, (self.steps, time.perf_counter(), dict(self.seconds))
        self._last, self.unmeasured = now, False
        if before is None or self.steps == before[0]:
            return {}
        spent = {name: now[2].get(name, 0) - before[2].get(name, 0) for name in now[2]}
        elapsed = now[1] - before[1] - spent.get("evaluate", 0) - spent.get("save", 0)
        rate = (self.steps - before[0]) / elapsed
        found = {
            "images_per_second": rate * batch_size,
            "step_ms": 1e3 / rate,
            "input_wait_fraction": spent.get("input", 0) / elapsed,
        }
        if spent.get("save", 0):
            found["save_seconds"] = spent["save"]
        return found if peak is None else {**found, "mfu": rate / peak}

    def summary(self) -> dict[str, float]:
        """Seconds of this start, all of them and by what they were spent on, and the redone steps."""
        found = {f"{name}_seconds": round(value, 3) for name, value in self.seconds.items()}
        total = round(time.perf_counter() - self._began, 3)
        return {"total_seconds": total, **found, "redone_steps": float(self.redone_steps)}


def require_wandb() -> None:
    """Check that the package is installed, before any work is done; a `UserError` where it is not."""
    if importlib.util.find_spec("wandb") is None:
        raise UserError(
            "--config.run.wandb: logging to Weights & Biases needs its package: "
            "pip install 'a2j-jax[wandb]'"
        )


class WandbLog:
    """One run of a project; started again in the same run directory, it continues the same run.

    Offline, each start leaves a folder in `<workdir>/wandb/`; `wandb sync` uploads them as one run.
    """

    def __init__(self, workdir: str | Path, project: str, config: dict[str, Any]):
        """Start or continue the run of a run directory, shown with the nested values of a config.

        Raises:
          UserError: the package refuses (WANDB_MODE=online without an account, say).
        """
        import wandb

        id_file = Path(workdir) / ID_FILE
        if not id_file.is_file():
            write_file(id_file, secrets.token_hex(4) + "\n")
        try:
            self._run = wandb.init(
                project=project,
                dir=str(workdir),
                id=id_file.read_text().strip(),
                resume="allow",
                mode=os.environ.get("WANDB_MODE", "offline"),
                config=config,
                # It would wrap stdout and stderr, and print at length.
                settings=wandb.Settings(silent=True, console="off"),
            )
        except Exception as error:  # its own, and those of whatever it connects with
            raise UserError(f"Weights & Biases refused: {in_one_line(error)}") from error
        # Not its own step: that may only grow, and a run that was killed goes back to its last checkpoint.
        self._run.define_metric("*", step_metric="step")

    def write(self, kind: str, step: int, scalars: dict[str, float]) -> None:
        """Record scalars of one step; `kind` is "train" or "eval"."""
        self._run.log({f"{kind}/{name}": value for name, value in scalars.items()} | {"step": step})

    def close(self) -> None:
        """Write, or send, what is left."""
        self._run.finish()


class RunLog:
    """Appends to `metrics.jsonl` and to TensorBoard event files in a run directory.

    A run that was killed goes back to its last checkpoint; what it logged beyond stays in the file. Each line carries
    the number of the start that wrote it; `read_metrics` sorts it out.
    """

    def __init__(self, workdir: str | Path, *, start: int = 1, wandb: WandbLog | None = None):
        """Opens the logs of a run directory for the start of a number (`record_start`); closes `wandb` with them."""
        self._path, self._start = Path(workdir) / METRICS_FILE, start
        self._others: list[_Events | WandbLog] = [_Events(Path(workdir) / "tensorboard")]
        self._others += [wandb] if wandb else []

    def write(self, kind: str, step: int, scalars: dict[str, float]) -> None:
        """Record scalars of one step; `kind` is "train", "eval" or "time".

        Errors name the file that cannot be written.
        """
        now = round(time.time(), 3)
        about = {"kind": kind, "step": step, "start": self._start, "time": now}
        append(self._path, about | scalars)
        for log in self._others:
            log.write(kind, step, scalars)

    def close(self) -> None:
        """Flush and close all of them."""
        with contextlib.ExitStack() as stack:
            for log in reversed(self._others):
                stack.callback(log.close)


def read_metrics(workdir: str | Path) -> list[dict[str, Any]]:
    """The log of a run up to where it stands now: one dict per line, in the order of steps.

    Each has `kind` ("train" or "eval"; "time" is left out), `step`, `start` (its number, see `run_dir.read_starts`),
    `time` (seconds since 1970) and the scalars. Lines that a later start took back, by resuming from an earlier step,
    are left out.
    """
    begun_at = {start["start"]: start["step"] for start in read_starts(workdir)}
    latest: dict[tuple[int, str], dict[str, Any]] = {}
    for line in run_dir.read(Path(workdir) / METRICS_FILE):
        number = line.get("start", 0)  # 0: before starts were counted
        later = [step for start, step in begun_at.items() if start > number]
        if line["kind"] != "time" and line["step"] <= min(later, default=line["step"]):
            latest[line["step"], line["kind"]] = line
    # Of one step: its training before its evaluation, as they happened.
    return [latest[key] for key in sorted(latest, key=lambda key: (key[0], key[1] == "eval"))]


class _Events:
    """A TensorBoard event file, written in this thread.

    The library's own writer has a thread, which dies of a full disk with a traceback and leaves the training
    waiting for it.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._flushed = folder, time.monotonic()
        self._library = _tensorboard()
        with writing(folder):
            self._file = self._library.event_file_writer.EventsWriter(str(folder / "events"))

    def write(self, kind: str, step: int, scalars: dict[str, float]) -> None:
        summary, event_pb2 = self._library.summary, self._library.proto.event_pb2
        with writing(self._folder):
            for name, value in scalars.items():
                scalar = summary.scalar(f"{kind}/{name}", value)
                event = event_pb2.Event(wall_time=time.time(), step=step, summary=scalar)
                self._file.write_event(event)
            if time.monotonic() - self._flushed > _FLUSH_SECONDS:
                self._flushed = time.monotonic()
                self._file.flush()

    def close(self) -> None:
        with writing(self._folder):
            self._file.close()


def _tensorboard() -> Any:
    """The library. It imports PyTorch where that is installed: seconds and memory for nothing."""
    torch = sys.modules.setdefault("torch", None)  # type: ignore[arg-type]  # "not installed"
    try:
        import tensorboardX
    finally:
        if torch is None:
            del sys.modules["torch"]
    return tensorboardX
