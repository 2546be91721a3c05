"""Weights & Biases, for those who ask for it: `run.wandb = "project"`; offline unless WANDB_MODE says otherwise.

A run's record: one JSON line and one set of TensorBoard scalars per logged step.
"""

import importlib.util
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any

from a2j_jax.errors import UserError
from a2j_jax.runs import run_dir
from a2j_jax.runs.run_dir import read_starts

ID_FILE = "wandb_id.txt"


def require_wandb() -> None:
    """Look for the package before any work is done.

    Raises:
      UserError: it is not installed.
    """
    if importlib.util.find_spec("wandb") is None:
        raise UserError(
            "--config.run.wandb: logging to Weights & Biases needs its package: "
            "pip install 'a2j-jax[wandb]'"
        )


class WandbLog:
    """One run of a project; started again in the same run directory, it goes on as the same run.

    Offline, each start leaves a folder in `<workdir>/wandb/`; `wandb sync` uploads them as one run.
    """

    def __init__(self, workdir: str | Path, project: str, config: dict[str, Any]):
        """Begins, or goes on with, the run of a run directory.

        Args:
          workdir: the run directory.
          project: of Weights & Biases.
          config: nested values that the run is shown with.

        Raises:
          UserError: the package is missing or refuses (WANDB_MODE=online without an account, say).
        """
        require_wandb()
        import wandb

        try:
            self._run = wandb.init(
                project=project,
                dir=str(workdir),
                id=_run_id(Path(workdir) / ID_FILE),
                resume="allow",
                mode=os.environ.get("WANDB_MODE", "offline"),
                config=config,
                # It would wrap stdout and stderr, and tell at length.
                settings=wandb.Settings(silent=True, console="off"),
            )
        except Exception as error:  # its own, and those of whatever it connects with
            said = " ".join(str(error).split())
            raise UserError(f"Weights & Biases refused: {said}") from error
        # Not its own step: that may only grow, and a run that was killed goes back to its last checkpoint.
        self._run.define_metric("*", step_metric="step")

    def write(self, kind: str, step: int, scalars: dict[str, float]) -> None:
        """Record scalars of one step; `kind` is "train" or "eval"."""
        self._run.log({f"{kind}/{name}": value for name, value in scalars.items()} | {"step": step})

    def close(self) -> None:
        """Write, or send, what is left."""
        self._run.finish()


def _run_id(path: Path) -> str:
    if not path.is_file():
        path.write_text(secrets.token_hex(4) + "\n")
    return path.read_text().strip()


METRICS_FILE = "metrics.jsonl"
_FLUSH_SECONDS = 10.0


class RunLog:
    """Appends to `metrics.jsonl` and to TensorBoard event files in a run directory.

    A run that was killed goes back to its last checkpoint: what it logged beyond stays in the file, for it has
    happened. Each line carries the number of the start that wrote it; `read_metrics` sorts it out.
    """

    def __init__(self, workdir: str | Path, *, start: int = 1, wandb: WandbLog | None = None):
        """Opens the logs of a run directory.

        Args:
          workdir: the run directory.
          start: number of this start, as `run_dir.record_start` returned it.
          wandb: written to as well, and closed.
        """
        self._path = Path(workdir) / METRICS_FILE
        self._events = _Events(Path(workdir) / "tensorboard")
        self._start, self._wandb = start, wandb

    def write(self, kind: str, step: int, scalars: dict[str, float]) -> None:
        """Record scalars of one step; `kind` is "train" or "eval".

        Raises:
          UserError: a file that cannot be written, naming it and the reason (no space left, say).
        """
        now = round(time.time(), 3)
        about = {"kind": kind, "step": step, "start": self._start, "time": now}
        run_dir.append(self._path, about | scalars)
        self._events.write(kind, step, scalars)
        if self._wandb is not None:
            self._wandb.write(kind, step, scalars)

    def close(self) -> None:
        """Flush and close all of them."""
        try:
            self._events.close()
        finally:
            if self._wandb is not None:
                self._wandb.close()


class NoLog:
    """What all processes of a job but the first one write: nothing."""

    def write(self, kind: str, step: int, scalars: dict[str, float]) -> None:
        """As `RunLog.write`."""

    def close(self) -> None:
        """As `RunLog.close`."""


def read_metrics(workdir: str | Path) -> list[dict[str, Any]]:
    """What was logged on the way to where a run stands now.

    Lines that a later start took back, by going on from an earlier step, are left out; so is one that was
    cut by a kill.

    Args:
      workdir: the run directory.

    Returns:
      One dict per line, in the order of steps: `kind` ("train" or "eval"), `step`, `start` (number of the
      start, see `run_dir.read_starts`), `time` (seconds since 1970) and the scalars.
    """
    begun_at = {start["start"]: start["step"] for start in read_starts(workdir)}
    latest: dict[tuple[int, str], dict[str, Any]] = {}
    for line in run_dir.read(Path(workdir) / METRICS_FILE):
        number = line.get("start", 0)  # 0: before starts were counted
        later = [step for start, step in begun_at.items() if start > number]
        if line["step"] <= min(later, default=line["step"]):
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
        self._folder = folder
        self._library = _tensorboard()
        self._flushed = time.monotonic()
        try:
            self._file = self._library.event_file_writer.EventsWriter(str(folder / "events"))
        except OSError as error:
            raise run_dir.cannot_write(folder, error) from error

    def write(self, kind: str, step: int, scalars: dict[str, float]) -> None:
        summary, event_pb2 = self._library.summary, self._library.proto.event_pb2
        try:
            for name, value in scalars.items():
                scalar = summary.scalar(f"{kind}/{name}", value)
                event = event_pb2.Event(wall_time=time.time(), step=step, summary=scalar)
                self._file.write_event(event)
            if time.monotonic() - self._flushed > _FLUSH_SECONDS:
                self._flushed = time.monotonic()
                self._file.flush()
        except OSError as error:
            raise run_dir.cannot_write(self._folder, error) from error

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise run_dir.cannot_write(self._folder, error) from error


def _tensorboard() -> Any:
    """The library. It imports PyTorch where that is installed: seconds and memory for nothing."""
    if "torch" in sys.modules:
        import tensorboardX
    else:
        sys.modules["torch"] = None  # type: ignore[assignment]  # "not installed", for this import
        try:
            import tensorboardX
        finally:
            del sys.modules["torch"]
    return tensorboardX
