"""A run, a converted checkpoint or a file of weights, restored for inference or to start another run from."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from a2j_jax.config import Config, from_dict, listed
from a2j_jax.errors import UserError, printable
from a2j_jax.files import MARK, is_address, read_json
from a2j_jax.models.a2j import PoseNetwork, variable_shapes
from a2j_jax.parts import NotImportableError, only_installed
from a2j_jax.runs import run_dir
from a2j_jax.runs.experiment import Experiment, conflicts, resolve
from a2j_jax.stores import local_copy
from a2j_jax.track_files import TRACK_FILE
from a2j_jax.tracks import TRACKS, TrackRecord, TrackSpec
from a2j_jax.weights.convert import A2J_HEADS, log_initialized, parts_named
from a2j_jax.weights.packed import find_packed, read_packed, write_packed

if TYPE_CHECKING:
    from a2j_jax.runs.checkpoints import Weights


class Restored(NamedTuple):
    """A trained network, and the experiment that trained it."""

    experiment: Experiment
    variables: dict[str, Any]
    step: int
    averaged: bool  # whether the variables are the moving average
    # The fields of the `inference.hands.Calibration` in a file of weights.
    calibration: dict[str, Any] | None = None

    @property
    def config(self) -> Config:
        return self.experiment.config

    @property
    def track(self) -> TrackSpec:
        return self.experiment.track

    @property
    def model(self) -> PoseNetwork:
        return self.experiment.model


def restore(
    directory: str | Path,
    step: int | str = "best",
    weights: "Weights" = "best",
    *,
    quiet: bool = False,
) -> Restored:
    """Load a work directory of `a2j train`, what `a2j convert` made, or a file of weights (`save_packed`).

    Args:
      directory: holding `config.json` and `checkpoints/`; or a file of weights, or the name of one that ships.
      step: a step number, "best" or "latest".
      weights: "raw", their moving average "ema", or "best": the average where one was kept.
      quiet: do not warn of own parts whose source has changed since: another step of this run was restored before.

    Raises:
      UserError: nothing there, no such step, no average, a damaged checkpoint, a `config.json` that was changed since,
        or tensors of another architecture.
    """
    if not is_address(directory) and (file := find_packed(directory)) is not None:
        return _restore_packed(file, step)
    from a2j_jax.runs.checkpoints import load_variables  # Orbax, which a file does without

    directory = local_copy(directory, "checkpoint")
    experiment = _resolve_recorded(directory)
    folder = run_dir.choose_step(directory, step)
    with run_dir.explained_damage(folder):
        manifest = run_dir.read_manifest(folder)
        if manifest is not None:
            _check_recorded(folder, manifest, experiment)
            if not quiet:
                run_dir.log_other_source(manifest.parts, experiment.config.parts, folder.name)
    expected = variable_shapes(experiment.model, experiment.track.crop_size)
    variables, averaged = load_variables(folder, expected, weights)
    return Restored(experiment, variables, int(folder.name), averaged)


_FORMAT = 1  # of a description
_OURS = "a2j_jax."  # parts that a file of weights may name


def save_packed(restored: Restored, path: str | Path) -> None:
    """Write a network as one file, which `restore` reads: see `weights.packed`.

    Raises:
      UserError: a custom track or parts from outside this package, which one file cannot hold; weights beyond float16.
    """
    config, track = restored.config, restored.track
    if config.track not in TRACKS or not (config.parts or _OURS).startswith(_OURS):
        own = f"track {track.name!r}" if config.track not in TRACKS else f"parts {config.parts}"
        raise UserError(
            f"{path}: a file of weights holds networks and tracks of a2j_jax, not {own}; export .onnx or "
            ".stablehlo, or copy the run"
        )
    # What the data set gave is part of the network; where the data lay is not.
    data = dataclasses.replace(config.data, dir="data", mean=track.mean, std=track.std)
    model = dataclasses.replace(config.model, init_from=None)
    about = {
        "written_by": MARK,
        "format": _FORMAT,
        "config": dataclasses.asdict(dataclasses.replace(config, data=data, model=model)),
        "track": TrackRecord.of(track).to_json(),
        "step": restored.step,
        "averaged": restored.averaged,
        **({"calibration": restored.calibration} if restored.calibration else {}),
    }
    write_packed(Path(path), about, restored.variables)


def _restore_packed(path: Path, step: int | str) -> Restored:
    """The network of a file of weights.

    Raises:
      UserError: damaged; of a later version, or of another version of its track; or another step is asked for.
    """
    about, variables = read_packed(path)
    shown = printable(str(path))
    if about.get("format") != _FORMAT:
        raise UserError(
            f"{shown}: written by a later version of a2j_jax; expected format {_FORMAT}"
        )
    if step not in ("best", "latest", about["step"]):
        raise UserError(f"{shown}: holds step {about['step']} alone, not step {step}")
    try:
        config = from_dict(about["config"])
        if config.track not in TRACKS or not (config.parts or _OURS).startswith(_OURS):
            raise UserError(f"track {config.track!r} or parts {config.parts!r} are not of a2j_jax")
        experiment = resolve(config)
    except UserError as error:
        raise UserError(f"{shown}: {error}") from error
    there, here = TrackRecord.from_json(about["track"]), TrackRecord.of(experiment.track)
    if changed := there.differences(here):
        raise UserError(f"{shown}: another version of track {config.track}: {'; '.join(changed)}")
    calibration = _checked_calibration(about.get("calibration"), shown)
    return Restored(experiment, variables, about["step"], about["averaged"], calibration)


_CALIBRATION = (
    "kernel",
    "bias",
    "joints_mm",
    "spread_mm",
    "mean_spread_mm",
    "side_by_fingers",
)


def _checked_calibration(found: Any, shown: str) -> dict[str, Any] | None:
    """A calibration of a file, if it is one: numbers, and rows of them, by their names."""
    if found is None:
        return None
    try:
        numbers = {name: np.array(found[name], np.float64) for name in _CALIBRATION}
        rows = {name for name, value in numbers.items() if value.ndim}
    except (TypeError, ValueError, LookupError) as error:
        raise UserError(f"{shown}: calibration: expected numbers {listed(_CALIBRATION)}") from error
    is_known = found["joints_mm"] is not None
    expected = {"kernel", "joints_mm"} if is_known else {"kernel"}
    missing = {name for name, value in numbers.items() if not np.isfinite(value).all()}
    if rows != expected or missing - ({"joints_mm"} - expected):
        raise UserError(
            f"{shown}: calibration: expected rows of numbers as kernel and joints_mm, else numbers"
        )
    known = {name: value.tolist() for name, value in numbers.items()}
    return known if is_known else {**known, "joints_mm": None}


def _resolve_recorded(directory: Path) -> Experiment:
    """The experiment of a run directory; its parts are those of that name here, never code from beside it."""
    config = run_dir.read_config(directory)
    try:
        with only_installed(config.parts):
            return resolve(config)
    except NotImportableError as error:
        record = run_dir.recorded_parts(directory) or {}
        kept = f"; {directory / run_dir.PARTS} keeps their text" if record else ""
        were = f"they were of {run_dir.package_of(record)}{kept}"
        raise UserError(f"{directory}: {error} ({were})") from error
    except UserError as error:
        raise UserError(f"{directory / run_dir.CONFIG_FILE}: {error}") from error


def _check_recorded(folder: Path, manifest: run_dir.Manifest, experiment: Experiment) -> None:
    """Refuse a `config.json` or `track.json` that differs from what a checkpoint was written with."""
    run = folder.parent.parent
    changed = "; ".join(map(str, conflicts(run_dir.recorded_config(folder), experiment)))
    path = run / (run_dir.CONFIG_FILE if changed else TRACK_FILE)
    if not changed and manifest.track is not None and path.exists():
        old, new = manifest.track, read_json(path, "a track")
        keys = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
        changed = ", ".join(sorted(keys - {"citation", "notes"}))
    if changed:
        raise UserError(
            f"{path} has changed since step {folder.name} was saved ({changed}); restore the file"
        )


def variables_from(source: str | Path, variables: dict[str, Any]) -> dict[str, Any]:
    """Start from another run's weights, as `--config.model.init_from=RUN@STEP` does; logs what was taken.

    The trunk has to be the same: every tensor of the module `trunk`; of networks without such a module, at least one
    tensor outside of A2J's heads. Whatever else is missing there, or has another shape (heads for another number of
    joints), stays as initialized.

    Args:
      source: a work directory of `a2j train`, or what `a2j convert` made, alone (its best step) or as FOLDER@STEP: a
        number, best or latest; or a file of weights, or the name of one that ships.
      variables: freshly initialized {"params", "batch_stats"}.
    """
    directory, step = run_dir.run_and_step(source)
    found = restore(directory, step)
    there, fresh = (flatten_dict(tree, sep="/") for tree in (found.variables, variables))
    other = _other_trunk(there, fresh)
    if other:
        name, *more = other
        shapes = [tree[name].shape if name in tree else "missing" for tree in (there, fresh)]
        raise UserError(
            f"--config.model.init_from={source}: its trunk does not fit this network: {name} is {shapes[0]} there and "
            f"{shapes[1]} here, and {len(more)} more tensors differ; the run has {parts_named(there)}, the network "
            f"{parts_named(fresh)}; name a run with the same trunk, or --config.model.init_from=none"
        )
    left = [name for name in fresh if not _fits(name, there, fresh)]
    unused = sorted({name.split("/")[1] for name in there if name not in fresh})
    log_initialized(f"{directory}, step {found.step}", len(fresh) - len(left), left, unused)
    started = {name: x if name in left else there[name] for name, x in fresh.items()}
    result: dict[str, Any] = unflatten_dict(started, sep="/")
    return result


def _other_trunk(there: Mapping[str, Any], fresh: Mapping[str, Any]) -> list[str]:
    """Names ("params/trunk/conv1/kernel") of the tensors of a trunk that two networks do not share."""
    every = sorted(there.keys() | fresh.keys())
    trunk = [name for name in every if name.split("/")[1] == "trunk"]
    if trunk:
        return [name for name in trunk if not _fits(name, there, fresh)]
    # Layers that stand beside the heads: one of them in common shows that it is the same kind of network.
    rest = [name for name in every if name.split("/")[1] not in A2J_HEADS] or every
    return [] if any(_fits(name, there, fresh) for name in rest) else rest


def _fits(name: str, there: Mapping[str, Any], fresh: Mapping[str, Any]) -> bool:
    return name in there and name in fresh and there[name].shape == fresh[name].shape
