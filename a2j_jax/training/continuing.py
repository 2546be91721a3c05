"""What may change between the parts of a run, and what would make it another run."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from a2j_jax.config import Config
from a2j_jax.errors import UserError
from a2j_jax.track_files import find_track
from a2j_jax.training import assembly
from a2j_jax.training.run_directory import CONFIG_FILE, kept_checkpoints, read_config

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
      UserError: `workdir` is no folder, holds a converted checkpoint, or a run of other values, naming them all.
    """
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"{workdir} is a file; name a folder for the run")
    kept = kept_checkpoints(workdir)
    if not kept or not (workdir / CONFIG_FILE).exists():
        return []
    if not (kept[-1] / "optimizer").exists():
        raise UserError(
            f"{workdir} holds a converted checkpoint, which has no training to continue; name another "
            "--workdir"
        )
    found = differences(read_config(workdir), config)
    other = [difference for difference in found if difference.key not in _MAY_CHANGE]
    if other:
        raise UserError(
            f"{workdir} holds a run of another experiment ({'; '.join(map(str, other))}); "
            "name another --workdir (of a table: --out), or give the values it was started with"
        )
    return found


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
