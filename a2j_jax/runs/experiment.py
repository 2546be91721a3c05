"""An experiment: a config with its presets filled in, and the track, network and losses that it describes.

`resolve` is the only place that fills in what a config leaves open. It is called where a config or a run enters the
program, and again when the data set has added facts to the config; everything below takes the `Experiment`, or plain
values of it.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from a2j_jax.config import Config, ModelConfig
from a2j_jax.data import targets
from a2j_jax.errors import UserError
from a2j_jax.geometry import Camera
from a2j_jax.losses import Objective, objective_of
from a2j_jax.models.a2j import A2J, PoseNetwork, a2j_settings
from a2j_jax.parts import Parts, Prepare, built
from a2j_jax.track_files import find_track
from a2j_jax.tracks import TrackSpec, TrainingSpec, with_crop_size


@dataclass(frozen=True)
class Settings:
    """A config with its presets filled in, and its track with the config's values."""

    config: Config  # as a run's `config.json` records it
    track: TrackSpec


@dataclass(frozen=True)
class Experiment(Settings):
    """What is trained, restored and evaluated.

    Attributes, beside those of `Settings`:
      model: the network; under `pmap`, clone it with the axis that batch statistics are shared over.
      objective: the losses, bound to their constants.
      prepare: augments and normalizes a training batch on the device: (batch, keys) -> (images, targets).
      parts: those of the config's own; `training.step` makes the optimizer, its schedule and the step of them.
    """

    model: PoseNetwork
    objective: Objective = field(compare=False)
    prepare: Prepare = field(compare=False)
    parts: Parts = field(compare=False)


def fill_in(config: Config) -> Settings:
    """Fill in the presets of a config.

    Reads no data set: `run_experiment` records the camera and the statistics that a data set states in the config.

    Raises:
      UserError: an unknown track, or a crop size or an augmentation that does not fit it.
    """
    plain = find_track(config.track)
    config = dataclasses.replace(
        config,
        optim=_filled(config.optim, plain.training(config.optim.preset)),
        loss=_filled(config.loss, plain.training(config.loss.preset)),
    )
    return Settings(config, _track(config, plain))


def resolve(config: Config) -> Experiment:
    """Fill in the presets of a config, and build its parts: those it names, else A2J's.

    Errors are those of `fill_in` and `parts.built`.
    """
    settings = fill_in(config)
    config, track = settings.config, settings.track
    own = built(config, track)
    model = make_model(config.model, track) if own.network is None else own.network
    objective = own.objective or objective_of(config.loss, track)
    prepare = own.prepare or targets.prepare_of(config.augment, track)
    return Experiment(config, track, model, objective, prepare, own)


def _filled(group: Any, preset: TrainingSpec) -> Any:
    """A group of a config with the preset's values where it has None."""
    values = dataclasses.asdict(preset).items()
    return dataclasses.replace(
        group, **{k: v for k, v in values if hasattr(group, k) and getattr(group, k) is None}
    )


def _track(config: Config, track: TrackSpec) -> TrackSpec:
    """The track with what the config sets of it."""
    data = config.data
    if data.crop_size is not None:
        track = with_crop_size(track, data.crop_size)
    if data.camera is not None:
        size = data.frame_size or track.frame_size
        track = dataclasses.replace(track, camera=Camera(*data.camera), frame_size=size)
    if config.augment.center_shift_mm and track.crop_by != "center":
        raise UserError(
            f"config key 'augment.center_shift_mm': expected 0 or none, as track {track.name!r} crops by a box, "
            "which augment.box_jitter_px moves"
        )
    given = {
        name: value
        for name in vars(track.augmentation)
        if (value := getattr(config.augment, name)) is not None
    }
    return dataclasses.replace(
        track,
        mean=track.mean if data.mean is None else data.mean,
        std=track.std if data.std is None else data.std,
        augmentation=dataclasses.replace(track.augmentation, **given),
    )


def make_model(settings: ModelConfig, track: TrackSpec) -> A2J:
    """The A2J that the settings describe, for the joints of a track."""
    return A2J(**a2j_settings(settings, track))


# Keys that may change between the parts of a run: how long and how often, where the data lie, how the same numbers are
# computed, and whether broken data or updates end the run. The steps already taken stay what they were.
MAY_CHANGE = (
    "name",
    "parallel",
    "data.dir",
    "data.train_frames",
    "data.validation_frames",
    "data.test_frames",
    "data.on_bad_example",
    "data.workers",
    "model.remat",
    "optim.epochs",
    "optim.steps",
    "optim.skip_nonfinite_updates",
    "run.eval_epochs",
    "run.eval_every",
    "run.grace_seconds",
    "run.keep_best",
    "run.log_every",
    "run.save_every",
    "run.save_minutes",
    "run.stall_seconds",
    "run.wandb",
)
# Recorded from the data set, not chosen; mean and std are compared as the track's.
_FROM_DATA_SET = ("data.camera", "data.frame_size", "data.mean", "data.normalization", "data.std")
# Fields of a track that the config sets, that are prose, or that only readers of raw frames use.
_NOT_COMPARED = (
    *("augmentation", "loss_lambda", "mean", "official_training", "paper_training", "std"),
    *("citation", "depth_unit_mm", "name", "notes"),
)


class Difference(NamedTuple):
    """One value in which two experiments differ."""

    key: str
    there: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.key}: {self.there!r} there, {self.now!r} now"


def differences(before: Settings, now: Settings) -> list[Difference]:
    """Values in which two experiments differ; a None is compared as the value it is replaced by."""
    same_track = before.track.name == now.track.name
    old, new = _values(before, same_track), _values(now, same_track)
    return [
        Difference(key, old[key], new[key])
        for key in old
        if key in new and not _equal(old[key], new[key])
    ]


def conflicts(recorded: Config | None, now: Settings) -> list[Difference]:
    """Differences that forbid to use a checkpoint, which was written with a recorded config; none where it has none."""
    found = [] if recorded is None else differences(fill_in(recorded), now)
    return [d for d in found if d.key not in (*MAY_CHANGE, "model.init_from")]


def _values(experiment: Settings, with_track: bool) -> dict[str, Any]:
    """The values to compare, by dotted key; with those of the track only between experiments on the same one."""
    config, track = experiment.config, experiment.track
    found: dict[str, Any] = {}
    for key, value in (dataclasses.asdict(config) | {"track": track.name}).items():
        group = dataclasses.is_dataclass(getattr(config, key))
        found |= {f"{key}.{name}": one for name, one in value.items()} if group else {key: value}
    found = {key: value for key, value in found.items() if key not in _FROM_DATA_SET}
    found["data.crop_size"] = track.crop_size
    if not with_track:
        return found
    found |= {f"augment.{name}": value for name, value in vars(track.augmentation).items()}
    if found["loss.regression_weight"] is None:
        found["loss.regression_weight"] = track.loss_lambda
    if config.data.normalization == "published" or config.data.mean is not None:
        found |= {"data.mean": track.mean, "data.std": track.std}
    plain = vars(find_track(config.track)).items()
    return found | {f"track's {name}": value for name, value in plain if name not in _NOT_COMPARED}


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9)
    return bool(one == other)
