"""What a run directory says in plain files: its config, which checkpoints are complete, and how they rank."""

import contextlib
import fcntl
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

from a2j_jax.config import Config, to_json
from a2j_jax.config_files import read_config_file
from a2j_jax.errors import UserError
from a2j_jax.files import read_json
from a2j_jax.track_files import TRACK_FILE, load_track, track_file
from a2j_jax.training.json_lines import cannot_write

CONFIG_FILE = "config.json"
CHECKPOINTS = "checkpoints"
RANKED_BY = "error"  # lower is better
OF_EMA = "error_ema"  # and ranks instead, where an average of the weights is kept


@contextlib.contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """A context in which no other run trains in the same directory.

    The claim is a lock on the folder itself, which the system gives back when the process ends, even if killed; a file
    system without locks has none.

    Raises:
      UserError: another process has it.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{directory}: another process is training there; wait until it has ended, or name another folder"
            ) from None
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)


def write_config(directory: str | Path, config: Config, depth_unit_mm: float | None = None) -> None:
    """Write `config.json`, which says what the checkpoints beside it are of.

    A custom track goes beside it: a run directory that is moved elsewhere stays complete.

    Args:
      directory: of the run.
      config: of the run.
      depth_unit_mm: that the data set was built with, recorded in the custom track; None: as the track says.

    Raises:
      UserError: a file that cannot be written.
    """
    _write_whole(Path(directory) / CONFIG_FILE, to_json(config).encode() + b"\n")
    own = track_file(config.track)
    kept = Path(directory) / TRACK_FILE
    if own is not None and own.resolve() != kept.resolve():
        track = own.read_bytes()
        if depth_unit_mm not in (None, load_track(own).depth_unit_mm):
            values = {**read_json(own), "depth_unit_mm": depth_unit_mm}
            track = json.dumps(values, indent=2).encode() + b"\n"
        _write_whole(kept, track)


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a kill or a full disk leaves it as it was before."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def read_config(directory: str | Path) -> Config:
    """Read `config.json` of a run or a converted checkpoint.

    Raises:
      UserError: the folder or the file is missing, or not ours.
    """
    path = Path(directory) / CONFIG_FILE
    if not Path(directory).is_dir():
        raise UserError(f"checkpoint folder not found: {directory}")
    if not path.is_file():
        # `a2j reproduce` keeps its runs as ROW/seed_N.
        inside = next(Path(directory).glob(f"*/*/{CONFIG_FILE}"), None)
        hint = f"; {inside.parent} in it is one" if inside else ""
        raise UserError(
            f"{path} not found: {directory} is not a run or a converted checkpoint of a2j_jax{hint}"
        )
    try:
        return read_config_file(path)
    except UserError as error:
        raise UserError(
            f"{error}; if it is damaged, delete it and train with the run's own config again, which writes it "
            "anew, or convert the weights again"
        ) from error


def kept_checkpoints(directory: str | Path) -> list[Path]:
    """Folders of the complete checkpoints of a run, by step."""
    found = (Path(directory) / CHECKPOINTS).glob("*")
    return sorted((path for path in found if path.name.isdigit()), key=lambda path: int(path.name))


def ranking_metrics(directory: str | Path) -> dict[int, dict[str, float]]:
    """Metrics of every kept checkpoint, by step.

    Raises:
      UserError: a file of metrics that cannot be read. Orbax reads them too, whenever it opens a
        run, and would end in a traceback.
    """
    files = {int(p.name): p / "metrics" / "metrics" for p in kept_checkpoints(directory)}
    return {step: _read_metrics(path) for step, path in files.items() if path.is_file()}


def _read_metrics(path: Path) -> dict[str, float]:
    try:
        metrics = json.loads(path.read_text())
        if math.isfinite(metrics[RANKED_BY]):
            return dict(metrics)
    except (ValueError, TypeError, KeyError):
        pass
    raise UserError(
        f"{path} is damaged: expected a JSON object with a number {RANKED_BY!r}; delete the folder of "
        f"that checkpoint, {path.parent.parent}"
    )


def has_average(directory: str | Path, step: int) -> bool:
    """Whether the checkpoint of a step holds a moving average of the weights, too."""
    return (Path(directory) / CHECKPOINTS / str(step) / "ema").exists()


def rank(metrics: dict[str, float]) -> float:
    """What checkpoints are ranked by, lower first: the error of the weights that `a2j eval` and `predict` take."""
    return metrics.get(OF_EMA, metrics[RANKED_BY])
