"""What may change between the parts of a run, and what would make it another run."""

import contextlib
import dataclasses
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from a2j_jax.config import Config
from a2j_jax.errors import UserError
from a2j_jax.files import check_folder_name, read_json, same_file
from a2j_jax.runs.run_dir import (
    CONFIG_FILE,
    STARTS_FILE,
    UNWRITABLE,
    DamagedError,
    is_converted,
    kept_checkpoints,
    read_config,
    read_manifest,
    recorded_config,
)
from a2j_jax.track_files import TRACK_FILE, find_track, track_file
from a2j_jax.training import assembly
from a2j_jax.training.logs import METRICS_FILE

# How long, how often, and where the examples lie: the steps already taken stay what they were.
_MAY_CHANGE = (
    "name",
    "data.dir",
    "data.train_frames",
    "data.validation_frames",
    "data.test_frames",
    "optim.epochs",
    "optim.steps",
    "run.eval_every",
    "run.keep_best",
    "run.log_every",
    "run.save_every",
    "run.wandb",
    # How it is computed: what comes out differs by the order of sums alone.
    "model.remat",
    "parallel",
    # What becomes of that which would end the run.
    "data.on_bad_example",
    "optim.skip_nonfinite_updates",
)
# From the data set.
_FILLED_IN = ("data.camera", "data.frame_size", "data.mean", "data.normalization", "data.std")
# Fields of a track that the config sets (and compares), that are words, or that only raw frames are read with.
_NOT_OF_THE_TRACK = (
    *("augmentation", "loss_lambda", "mean", "official_training", "paper_training", "std"),
    *("citation", "depth_unit_mm", "name", "notes"),
)


class Difference(NamedTuple):
    """One value that a run was started with and is not to be continued with."""

    key: str
    there: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.key}: {self.there!r} there, {self.now!r} now"


def check_run_directory(workdir: Path, config: Config) -> list[Difference]:
    """Refuse to continue a run as another one.

    Everything that decides what is optimised, and by what its checkpoints are ranked, stays as it was. A run
    may be made longer, evaluated or logged more or less often, and its data may have moved. A folder without
    any checkpoint yet may become any run.

    Args:
      workdir: the run directory, or where it will be.
      config: to go on with; where mean and std are to be computed and are not known yet, they are not compared.

    Returns:
      The differences that are allowed.

    Raises:
      UserError: `workdir` is no folder, has a name that checkpoints cannot be written below, holds a converted
        checkpoint, or a run of other values, naming them all.
    """
    check_folder_name(workdir.absolute(), UNWRITABLE)
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"{workdir} is a file; name a folder for the run")
    kept = kept_checkpoints(workdir)
    if kept and all(is_converted(folder) for folder in kept):
        raise UserError(
            f"{workdir} holds a converted checkpoint, which has no training to continue; name another "
            "--workdir"
        )
    before = read_config(workdir) if (workdir / CONFIG_FILE).exists() else None
    recorded = _newest_record(kept)
    if not kept and before is None:
        _check_not_foreign(workdir, config)
    if not kept or (before is None and recorded is None):
        return []
    found = differences(before or recorded or config, config)
    other = [difference for difference in found if difference.key not in _MAY_CHANGE]
    known = {difference.key for difference in other}
    other += [d for d in _changed_since(recorded, config) if d.key not in known]
    if other:
        raise UserError(
            f"{workdir} holds a run of another experiment ({'; '.join(map(str, other))}); "
            "name another --workdir (of a table: --out), or give the values it was started with; a new run starts from "
            f"its weights with --config.model.init_from={workdir}@latest"
        )
    return found


def _check_not_foreign(workdir: Path, config: Config) -> None:
    """Refuse a folder without `config.json` in which a run would change the files of somebody else."""
    own = track_file(config.track)
    written = [METRICS_FILE, STARTS_FILE] + ([] if own is None else [TRACK_FILE])
    for path in (workdir / name for name in written):
        if os.path.lexists(path) and not (own is not None and same_file(path, own)):
            raise UserError(
                f"{path}: exists, and a run would change it, but there is no {CONFIG_FILE} of a run beside it; name "
                "another --workdir"
            )


def _newest_record(kept: list[Path]) -> Config | None:
    """The config that the newest checkpoint of these was written with; None: none of them says."""
    for folder in reversed(kept):
        with contextlib.suppress(DamagedError):
            found = recorded_config(folder)
            if found is not None:
                return found
    return None


def _changed_since(recorded: Config | None, config: Config) -> list[Difference]:
    """Values that make it another experiment than the recorded one; the weights it began with matter no longer."""
    found = [] if recorded is None else differences(recorded, config)
    return [d for d in found if d.key not in (*_MAY_CHANGE, "model.init_from")]


def check_recorded(folder: Path, config: Config) -> None:
    """Refuse a config or a track that differs from what a checkpoint was written with: it would change the scores.

    Args:
      folder: of the checkpoint.
      config: as `config.json` has it.

    Raises:
      UserError: naming the values, and `config.json` or `track.json`.
    """
    before, manifest = recorded_config(folder), read_manifest(folder)
    if before is None or manifest is None:
        return
    changed = _changed_since(before, config)
    name, shown = CONFIG_FILE, "; ".join(map(str, changed))
    path = folder.parent.parent / TRACK_FILE
    if not changed and manifest.track is not None and path.exists():
        old, new = manifest.track, read_json(path, "a track")
        keys = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
        name, shown = TRACK_FILE, ", ".join(sorted(keys - {"citation", "notes"}))
    if shown:
        raise UserError(
            f"{folder.parent.parent / name} has changed since step {folder.name} was saved ({shown}); restore the file"
        )


def differences(before: Config, now: Config) -> list[Difference]:
    """Values in which two configs differ, spelled out: None is no other value than the default it stands for."""
    same_track = find_track(before.track).name == find_track(now.track).name
    old, new = (dict(_values(config, same_track)) for config in (before, now))
    return [
        Difference(key, old[key], new[key])
        for key in old
        if key in new and not _equal(old[key], new[key])
    ]


def _values(config: Config, of_track: bool) -> Iterator[tuple[str, Any]]:
    """Dotted keys and values; with `of_track` also those that come from the track."""
    config = assembly.with_preset(config)
    track, plain = assembly.track_of(config), find_track(config.track)
    spelled_out: dict[str, Any] = {"data.crop_size": track.crop_size}
    if of_track:
        spelled_out |= {
            f"augment.{name}": value for name, value in vars(track.augmentation).items()
        }
        if config.loss.regression_weight is None:
            spelled_out["loss.regression_weight"] = track.loss_lambda
    yield "track", plain.name
    for group, values in dataclasses.asdict(config).items():
        if isinstance(values, dict):
            for name, value in values.items():
                key = f"{group}.{name}"
                if key not in _FILLED_IN:
                    yield key, spelled_out.get(key, value)
        elif group != "track":
            yield group, values
    if of_track and (config.data.normalization == "published" or config.data.mean is not None):
        yield from (("data.mean", track.mean), ("data.std", track.std))
    if of_track:
        for field in dataclasses.fields(plain):
            if field.name not in _NOT_OF_THE_TRACK:
                yield f"track's {field.name}", getattr(plain, field.name)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9)
    return bool(one == other)
