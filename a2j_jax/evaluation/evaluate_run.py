"""Score a checkpoint on a built data set and write a report: `a2j eval --workdir`."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from a2j_jax import distributed, stores
from a2j_jax.config import Config
from a2j_jax.data import pipeline
from a2j_jax.data.pipeline import OnBadExample
from a2j_jax.errors import UserError
from a2j_jax.evaluation import compare, evaluate, report, tables
from a2j_jax.evaluation.evaluate import EvaluationResult, Frames, SplitToScore, score_frames
from a2j_jax.evaluation.joint_files import WRITABLE, JointSet, write_joints, write_submission
from a2j_jax.evaluation.plots import Comparison
from a2j_jax.evaluation.scores import Scores, with_subsets
from a2j_jax.files import check_output, is_address, local_path, replacing_together
from a2j_jax.inference.predictor import make_predict_fn, place_variables
from a2j_jax.log import logger
from a2j_jax.models.prepared import prepare_for_inference
from a2j_jax.runs.load import Restored, restore
from a2j_jax.runs.run_dir import (
    PARTS,
    choose_step,
    package_of,
    rank,
    ranking_metrics,
    read_starts,
    recorded_parts,
)
from a2j_jax.track_files import find_track
from a2j_jax.tracks import TrackSpec
from a2j_jax.weights.packed import find_packed

# The joints of a submission to the HANDS 2017 challenge.
_SUBMITTED_SKELETON = "hands2017"


def evaluate_checkpoint(
    directory: str | Path,
    *,
    step: int | str | None = None,
    track_name: str | None = None,
    data_dir: str | Path | None = None,
    split: str = "test",
    batch_size: int = 64,
    out: str | Path | None = None,
    unclipped_boxes: bool = False,
    on_bad_example: OnBadExample = "fail",
    subset_files: Mapping[str, str | Path] | None = None,
    write: Sequence[str | Path] = (),
    overwrite: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Evaluate a run, a converted checkpoint or a file of weights, print a table and write a report.

    The processes of a job share the frames; all have the scores, and the first one writes.

    A split without labels cannot be scored: its predictions are written, and the submission file
    where the skeleton is that of the HANDS 2017 challenge.

    Args:
      directory: the run or checkpoint; or a file of `a2j export RUN weights.npz`, or the name of one that ships.
      step: "best", "latest" or a number; None scores the best and, beside it, the latest.
      track_name: what the caller believes it was trained on; checked.
      data_dir, split, batch_size, unclipped_boxes, on_bad_example: as in `SplitToScore`; the data set is by default
        the one trained on.
      out: folder of the report; None: `report_folder` in `directory`. Files of weights need one.
      subset_files: name -> list of frames to be scored separately too, see `read_subsets`.
      write: files to write the predicted joints to as well, each in the format of its suffix.
      overwrite: replace files that a2j_jax did not write.
      command: shown in the report.

    Returns:
      The scores as JSON-ready values, with "step", "split", "unreadable" (frames) and "compared" (the final step where
      another was best, and the baselines). Without labels: "track", "frames", "step", "split", and the
      paths "predictions" and "submission".

    Raises:
      UserError: no checkpoint, no data, a track, window or camera that does not match, or a file in the way.
    """
    # --- Check everything before anything is predicted
    lists_read = list((subset_files or {}).values())
    for path in write:
        suffix = check_output(path, overwrite, "--write", inputs=lists_read).suffix
        if suffix.lower() not in WRITABLE:
            raise UserError(f"{path}: joints are written as one of {', '.join(WRITABLE)}")
    file = None if is_address(directory) else find_packed(directory)
    if file is not None and out is None:
        raise UserError(
            f"{directory}: a file of weights has no folder for the report; name one: --out FOLDER"
        )
    directory = file or stores.local_copy(directory, "checkpoint")
    networks = _checkpoints(directory, step)
    name, chosen = next(iter(networks.items()))
    track = chosen.track
    if track_name is not None and find_track(track_name).name != track.name:
        raise UserError(f"{directory} was trained on track {track.name!r}, not {track_name!r}")
    if unclipped_boxes and track.crop_by != "box":
        raise UserError(
            f"--unclipped_boxes is for tracks that crop by box; {track.name!r} does not"
        )
    folder = directory / report_folder(split, step, data_dir)
    if out is not None:
        folder = stores.local_copy(out, "--out")
    # A folder in the run's own is ours, files of earlier versions included.
    report.check_report(folder, overwrite or out is None, lists_read)
    lists = compare.read_subsets(subset_files or {})
    data_dir = data_dir or chosen.config.data.dir
    data = SplitToScore(data_dir, split, batch_size, unclipped_boxes, on_bad_example)
    track = pipeline.as_stored(data_dir, track)

    # --- Predict
    predictions, frames = predict_split(chosen, data)
    info = evaluate.split_info(pipeline.find_dataset(data_dir, track), track, split)
    about = {
        "track": info.record.to_json(),
        "split": split,
        "frames": len(frames.index),
        "frames_of": info.total,
        "centers": info.centers,
        "checkpoint": stores.shown(directory),
        "step": chosen.step,
    }
    predictions = replace(predictions, about=about)
    for path in write if distributed.is_primary() else ():
        write_joints(path, predictions)
        logger.info(f"wrote {path}")
    unreadable = pipeline.num_frames(data_dir, track, split) - len(frames.index)
    subsets = compare.frame_numbers(lists, frames.index, frames.frame_id, unreadable)
    averaged = ", averaged weights" if chosen.averaged else ""
    facts = [
        ("checkpoint", f"{stores.shown(directory)}, step {chosen.step}{averaged}"),
        ("network", chosen.model.label),
        *_own_parts(directory, chosen.config),
        *info.facts,
        ("normalized with", f"mean {track.mean:.4f}, std {track.std:.4f}"),
    ]
    if unclipped_boxes:
        facts.append(("crop to frame", "by the boxes before clipping, as the official program"))
    if unreadable:
        left_out = f"{unreadable:,} frames that cannot be read (--on_bad_example=skip)"
        facts.append(("left out", left_out))
    evaluate.log_crops(facts)
    contents: dict[str, Any] = {"step": chosen.step, "split": split}
    contents |= {"crops_from": info.centers or {}, "unreadable": unreadable}
    if not frames.valid.any():
        if distributed.is_primary():
            contents = _write_unlabeled(folder, predictions, track) | contents
            stores.push(folder)
        return contents

    # --- Score
    scores = {}
    for label, network in networks.items():
        found = predictions if network is chosen else predict_split(network, data)[0]
        scores[label] = score_frames(found.joints_uvd, frames, track)
    by_step = {network.step: scores[label] for label, network in reversed(networks.items())}
    scores |= baselines(frames, track, data, chosen.config.data.train_split)
    scores = with_subsets(scores, subsets, frames.index, track, frames.joints_uvd)
    scores = {label: info.mark(one) for label, one in scores.items()}
    report.print_scores(scores)

    # --- Report
    compared = {label: one.to_json() for label, one in scores.items() if label != name}
    contents = {**scores[name].to_json(), **contents, "compared": compared}
    if distributed.is_primary():
        comparison = Comparison(
            track=track,
            scores=scores,
            labels=frames,
            joints_uvd={name: predictions.joints_uvd},
            fetch=pipeline.example_reader(data_dir, track, split, frames.index),
            own_rows=tables.rows_of(chosen.config, trained_here=bool(read_starts(directory))),
            method=method_of(chosen),
            run=run_table(ranking_metrics(directory), chosen, by_step, data),
            facts=facts,
            command=command,
        )
        report.write_report(comparison, folder, contents, predictions)
    return contents


def _checkpoints(directory: Path, step: int | str | None) -> dict[str, Restored]:
    """The networks to score by their names in the report, the main one first: the best, the final, the not averaged."""
    final = chosen = restore(directory, "best" if step is None else step)
    packed = directory.is_file()  # holds one network
    if step is None and not packed and int(choose_step(directory, "latest").name) != chosen.step:
        final = restore(directory, "latest", quiet=True)
    method = name = method_of(chosen)
    if final.step != chosen.step:
        name = f"{method}, best step {chosen.step}"
    elif step is not None:
        name = f"{method}, step {chosen.step}"
    found = {f"{name}, EMA" if chosen.averaged else name: chosen}
    if final.step != chosen.step:
        found[f"final step {final.step}"] = final
    if chosen.averaged and not packed:
        found[f"{method}, raw weights"] = restore(directory, chosen.step, "raw", quiet=True)
    return found


def method_of(restored: Restored) -> str:
    """A network's name in reports: "A2J", or that of its class."""
    return restored.model.paradigm or type(restored.model).__name__


def _own_parts(directory: Path, config: Config) -> list[evaluate.Fact]:
    """The parts that a run was trained with, where they are not A2J's: their name, options and package."""
    if config.parts is None:
        return []
    facts: list[evaluate.Fact] = [("parts", config.parts)]
    if config.options:
        facts.append(("options", ", ".join(f"{name}={x!r}" for name, x in config.options.items())))
    if (record := recorded_parts(directory)) is not None:
        facts.append(("parts from", f"{package_of(record)}; their text is in {directory / PARTS}"))
    return facts


def report_folder(split: str, step: int | str | None, data_dir: str | Path | None) -> str:
    """Name of a report's folder: "eval", and whatever differs from the defaults."""
    unusual = [] if split == "test" else [split]
    unusual += [] if step is None else [f"step_{step}"]
    if data_dir is not None:
        folder = data_dir if is_address(data_dir) else os.path.realpath(local_path(data_dir))
        unusual.append(os.path.basename(folder))
    return re.sub(r"[^\w.-]+", "_", "-".join(["eval", *unusual])).rstrip("_")


def run_table(
    ranking: Mapping[int, Mapping[str, float]],
    restored: Restored,
    scores: Mapping[int, Scores],
    data: SplitToScore,
) -> tables.Table | None:
    """The run's checkpoints that were scored, the best (by its error while training) and the final one.

    Args:
      ranking: step -> metrics while training, of `ranking_metrics`; empty for a converted checkpoint: no table.
      restored: one of the checkpoints.
      scores: step -> scores of that checkpoint on the split at hand.
      data: the split at hand; where the training frames are not in its data set, epochs are unknown.
    """
    if not ranking:
        return None
    config, unit = restored.config, next(iter(scores.values())).unit
    try:
        track = pipeline.as_stored(data.dir, restored.track)
        frames = pipeline.num_frames(data.dir, track, config.data.train_split)
    except UserError:
        frames = 0
    best = min(ranking, key=lambda step: rank(ranking[step]))
    rows = []
    for step, one in sorted(scores.items()):
        kinds = [kind for kind, at in (("best", best), ("final", max(ranking))) if at == step]
        epoch = step * config.optim.batch_size / frames if frames else np.nan
        before = rank(ranking[step]) if step in ranking else np.nan
        cells = (f"{step:,}", *map(tables.cell, (epoch, before, one.mean_error)))
        rows.append((f"{' and '.join(kinds) or 'chosen'} checkpoint", *cells))
    while_training = f"{config.data.eval_split}, while training ({unit})"
    columns = ("", "step", "epoch", while_training, f"{data.split} ({unit})")
    note = "The best checkpoint is the one with the lowest mean error while training."
    return tables.Table("", columns, tuple(rows), notes=(note,))


def baselines(
    frames: Frames, track: TrackSpec, data: SplitToScore, train_split: str
) -> dict[str, Scores]:
    """Two predictions that need no network, scored on the same frames: the crop center and the mean training pose.

    Without a training split, or where it does not label every joint, there are none.
    """
    training = data._replace(split=train_split, unclipped_boxes=False)
    try:
        with training.batches(track, "mean pose") as batches:
            pose = evaluate.mean_pose(batches, track)
    except UserError as error:
        logger.info(f"no baselines: {error}")
        return {}
    poses = {"mean pose": pose, "crop center": evaluate.center_pose(track, pose)}
    return {n: evaluate.score_constant_pose(x, frames, track) for n, x in poses.items()}


def predict_split(restored: Restored, data: SplitToScore) -> tuple[JointSet, Frames]:
    """Joints of every frame of a split, and the frames, in order; UserError where joints are not finite."""
    track = pipeline.as_stored(data.dir, restored.track)
    quick = prepare_for_inference(
        restored.model, restored.variables, track.crop_size, data.batch_size
    )
    predict, variables = make_predict_fn(restored.model, track), place_variables(quick)
    with data.batches(track, f"evaluating step {restored.step}") as batches:
        found = evaluate.predict_batches(lambda batch: predict(variables, batch), batches, track)
    if not np.isfinite(found[0].joints_uvd).all():
        raise UserError(
            f"the network of step {restored.step} predicts joints that are not finite: training diverged; "
            "name an earlier step"
        )
    return found


def score_split(restored: Restored, data: SplitToScore) -> EvaluationResult:
    """Predict and score every frame of a split; UserError as `predict_split`, or where no frame has a label."""
    predictions, frames = predict_split(restored, data)
    scores = score_frames(predictions.joints_uvd, frames, restored.track)
    found = pipeline.find_dataset(data.dir, restored.track)
    info = evaluate.split_info(found, restored.track, data.split)
    return EvaluationResult(predictions, frames, info.mark(scores))


def _write_unlabeled(folder: Path, predictions: JointSet, track: TrackSpec) -> dict[str, Any]:
    """Write predictions of a split that nobody here can score; returns their JSON."""
    count = len(predictions.joints_uvd)
    logger.info(
        f"these {count:,} frames of track {track.name!r} have no labels: no scores, predictions only"
    )
    with replacing_together(folder, last=report.PREDICTIONS_FILE) as new:
        write_joints(new / report.PREDICTIONS_FILE, predictions)
        xyz = predictions.joints_xyz_mm
        if xyz is not None and track.skeleton.name == _SUBMITTED_SKELETON:
            write_submission(new / report.SUBMISSION_FILE, xyz, predictions.index)
        names = sorted(path.name for path in new.iterdir())
    for name in names:
        logger.info(f"wrote {folder / name}")
    written = {Path(name).stem: str(folder / name) for name in names}
    return {"track": track.name, "frames": count, **written}
