"""Score a checkpoint on a built data set and leave a report: what `a2j eval --workdir` does."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from a2j_jax import distributed
from a2j_jax.data import pipeline
from a2j_jax.data.examples import OnBadExample
from a2j_jax.errors import UserError
from a2j_jax.evaluation.evaluate import (
    Comparison,
    EvaluationResult,
    Frames,
    center_pose,
    mean_pose,
    predict_batches,
    score_constant_pose,
    score_frames,
    with_unclipped_boxes,
)
from a2j_jax.evaluation.joint_files import WRITABLE, JointSet, write_joints, write_submission
from a2j_jax.evaluation.paper_tables import rows_of
from a2j_jax.evaluation.provenance import (
    Fact,
    crop_sources,
    dataset_facts,
    record_of_frames,
    say_crops,
    total_frames,
    with_origin,
)
from a2j_jax.evaluation.report import (
    PREDICTIONS_FILE,
    SUBMISSION_FILE,
    check_report,
    print_scores,
    say_written,
    write_report,
)
from a2j_jax.evaluation.scores import Scores, frame_numbers, marked, read_subsets, with_subsets
from a2j_jax.evaluation.tables import Table, number
from a2j_jax.files import check_output, local_path, replacing_together
from a2j_jax.log import logger, progress
from a2j_jax.runs.load import Restored, restore
from a2j_jax.runs.run_dir import rank, ranking_metrics, read_starts
from a2j_jax.track_files import find_track
from a2j_jax.tracks import TrackSpec
from a2j_jax.training import assembly

# The joints that the submission of the HANDS 2017 challenge is made of.
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
    """Evaluate a run or a converted checkpoint, print a table and write a report.

    The processes of a job share the frames; all have the scores, and the first one writes.

    A split without labels cannot be scored: its predictions are written, and the submission file
    where the skeleton is that of the HANDS 2017 challenge.

    Args:
      directory: the run or checkpoint.
      step: "best", "latest" or a number; None scores the best and, beside it, the latest.
      track_name: what the caller believes it was trained on; checked.
      data_dir: TFDS data directory; None: the one it was trained on.
      split: of the data set.
      batch_size: frames at a time, of all processes together.
      out: folder of the report; None: `eval` in `directory`, and for another split, step or data set than
        the usual a folder named after it, so that no report replaces one of something else.
      unclipped_boxes: map joints back as the official program does, see `with_unclipped_boxes`; on a
        track that crops by box.
      on_bad_example: "skip" leaves out frames that cannot be read, and says how many.
      subset_files: name → list of frames to be scored apart too, see `read_subsets`.
      write: files to write the predicted joints to as well, each in the format of its suffix.
      overwrite: replace files that a2j_jax did not write.
      command: that is told in the report.

    Returns:
      The scores as JSON-ready values, with "step", "split", "unreadable" (frames) and "compared" (the final step where
      another was best, and the baselines). Without labels: "track", "frames", "step", "split", and the
      paths "predictions" and "submission".

    Raises:
      UserError: no checkpoint, no data, a track, window or camera that does not match, or a file in the way.
    """
    read = list((subset_files or {}).values())
    for path in write:
        if check_output(path, overwrite, "--write", inputs=read).suffix.lower() not in WRITABLE:
            raise UserError(f"{path}: joints are written as one of {', '.join(WRITABLE)}")
    directory = local_path(directory, "checkpoint")
    chosen = restore(directory, "best" if step is None else step)
    track = chosen.track
    if track_name is not None and find_track(track_name).name != track.name:
        raise UserError(f"{directory} was trained on track {track.name!r}, not {track_name!r}")
    if unclipped_boxes and track.crop_by != "box":
        raise UserError(
            f"--unclipped_boxes is for tracks that crop by box; {track.name!r} does not"
        )
    folder = directory / report_folder(split, step, data_dir) if out is None else local_path(out)
    # A folder in the run's own is ours, what earlier versions wrote there included.
    check_report(folder, overwrite or out is None, read)
    data_dir = data_dir or chosen.config.data.dir
    chosen = _as_stored(chosen, data_dir)

    raw = _as_stored(restore(directory, chosen.step, "raw"), data_dir) if chosen.averaged else None
    final = _as_stored(restore(directory, "latest"), data_dir) if step is None else chosen
    lists = read_subsets(subset_files or {})
    data = SplitToScore(data_dir, split, batch_size, unclipped_boxes, on_bad_example)
    predictions, frames = predict_split(chosen, data)
    total = total_frames(track, split, data_dir)
    centers = crop_sources(data_dir, track, split)
    stated = {
        "track": record_of_frames(data_dir, track).to_json(),
        "split": split,
        "frames": len(frames.index),
        "frames_of": total,
        "centers": centers or None,
        "checkpoint": str(directory),
        "step": chosen.step,
    }
    predictions = replace(predictions, about=stated)
    for path in write if distributed.is_primary() else ():
        write_joints(path, predictions)
        logger.info(f"wrote {path}")
    stored = pipeline.num_frames(data_dir, track, split)
    unreadable = stored - len(frames.index)
    subsets = frame_numbers(lists, frames.index, frames.frame_id, unreadable)
    facts = _facts(directory, chosen, data, unreadable)
    say_crops(facts)
    about = {
        "step": chosen.step,
        "split": split,
        "crops_from": centers,
        "unreadable": unreadable,
    }
    if not frames.labelled:
        if not distributed.is_primary():
            return about
        return _write_unlabelled(folder, predictions, track) | about
    result = EvaluationResult(
        predictions, frames, score_frames(predictions.joints_uvd, frames, track)
    )
    method = chosen.model.paradigm
    name = method if step is None else f"{method}, step {chosen.step}"
    steps = {chosen.step: result.scores}
    others: dict[str, Scores] = {}
    if final.step != chosen.step:
        name = f"{method}, best step {chosen.step}"
        scored = _scores(final, data)
        steps[final.step] = others[f"final step {final.step}"] = scored
    if raw is not None:
        name += ", EMA"
        others[f"{method}, raw weights"] = _scores(raw, data)
    train_split = chosen.config.data.train_split
    others |= baselines(result, track, data_dir, train_split, batch_size, on_bad_example)
    scores = with_subsets(
        {name: result.scores, **others}, subsets, frames.index, track, frames.joints_uvd
    )
    scores = {n: with_origin(one, data_dir, track, split) for n, one in scores.items()}
    print_scores(marked(scores))

    compared = {label: one.to_json() for label, one in scores.items() if label != name}
    contents = {**scores[name].to_json(), **about, "compared": compared}
    if not distributed.is_primary():
        return contents
    written = write_report(
        Comparison(
            spec=track,
            scores=scores,
            labels_uvd=frames.joints_uvd,
            valid=frames.valid,
            joints_uvd={name: predictions.joints_uvd},
            frames=frames,
            fetch=pipeline.example_reader(data_dir, track, split, frames.index),
            own_rows=rows_of(chosen.config, trained_here=bool(read_starts(directory))),
        ).marked(),
        folder,
        contents=contents,
        predictions=predictions,
        facts=facts,
        run=run_table(directory, chosen, steps, data_dir, split),
        command=command,
    )
    say_written(written)
    return contents


def report_folder(split: str, step: int | str | None, data_dir: str | Path | None) -> str:
    """Name of a report's folder: "eval", and what is not as usual about it."""
    unusual = [] if split == "test" else [split]
    unusual += [] if step is None else [f"step_{step}"]
    unusual += (
        [] if data_dir is None else [os.path.basename(os.path.realpath(local_path(data_dir)))]
    )
    return re.sub(r"[^\w.-]+", "_", "-".join(["eval", *unusual])).rstrip("_")


def run_table(
    directory: str | Path,
    restored: Restored,
    scores: Mapping[int, Scores],
    data_dir: str | Path,
    split: str,
) -> Table | None:
    """The run's checkpoints that were scored, the best (by its error while training) and the final one.

    Args:
      directory: the run.
      restored: one of its checkpoints.
      scores: step → scores of that checkpoint on the split at hand.
      data_dir: to count the training frames of an epoch; where they are not there, epochs are unknown.
      split: the split at hand.

    Returns:
      None for a converted checkpoint: it has no history.
    """
    ranking = ranking_metrics(directory)
    if not ranking:
        return None
    config, unit = restored.config, next(iter(scores.values())).unit
    try:
        frames = pipeline.num_frames(data_dir, restored.track, config.data.train_split)
    except UserError:
        frames = 0
    best = min(ranking, key=lambda step: rank(ranking[step]))
    final = max(ranking)
    rows = []
    for step, one in sorted(scores.items()):
        kinds = [kind for kind, at in (("best", best), ("final", final)) if at == step]
        epoch = step * config.optim.batch_size / frames if frames else float("nan")
        while_training = rank(ranking[step]) if step in ranking else float("nan")
        label = " and ".join(kinds) or "chosen"
        cells = (f"{step:,}", number(epoch), number(while_training), number(one.mean_error))
        rows.append((f"{label} checkpoint", *cells))
    columns = ("", "step", "epoch", f"{config.data.eval_split}, while training ({unit})",
               f"{split} ({unit})")  # fmt: skip
    note = "The best checkpoint is the one with the lowest mean error while training."
    return Table("", columns, tuple(rows), notes=(note,))


def baselines(
    result: EvaluationResult,
    track: TrackSpec,
    data_dir: str | Path,
    train_split: str,
    batch_size: int,
    on_bad_example: OnBadExample = "fail",
) -> dict[str, Scores]:
    """Two answers that need no network, scored on the same frames: the crop center and the mean pose.

    The mean pose is that of the training split; without one, or where it does not label every joint, there are no
    baselines.
    """
    try:
        frames = pipeline.num_frames(data_dir, track, train_split)
        batches = pipeline.eval_batches(
            data_dir, track, train_split, batch_size, on_bad_example=on_bad_example
        )
        with progress("mean pose", frames, "frames") as advance:
            pose = mean_pose(batches, track, advance)
    except UserError as error:
        logger.info(f"no baselines: {error}")
        return {}
    return {
        "mean pose": score_constant_pose(pose, result.frames, track),
        "crop center": score_constant_pose(center_pose(track, pose), result.frames, track),
    }


def _as_stored(restored: Restored, data_dir: str | Path) -> Restored:
    return restored._replace(track=pipeline.as_stored(data_dir, restored.track))


class SplitToScore(NamedTuple):
    """What is evaluated on, and how; as the arguments of `evaluate_checkpoint`."""

    dir: str | Path
    split: str = "test"
    batch_size: int = 64
    unclipped_boxes: bool = False
    on_bad_example: OnBadExample = "fail"


def _scores(restored: Restored, data: SplitToScore) -> Scores:
    predictions, frames = predict_split(restored, data)
    return score_frames(predictions.joints_uvd, frames, restored.track)


def _facts(
    directory: str | Path, restored: Restored, data: SplitToScore, skipped: int = 0
) -> list[Fact]:
    track = restored.track
    averaged = ", averaged weights" if restored.averaged else ""
    facts = [
        ("checkpoint", f"{directory}, step {restored.step}{averaged}"),
        *dataset_facts(data.dir, track, data.split),
        ("normalized with", f"mean {track.mean:.4f}, std {track.std:.4f}"),
    ]
    if data.unclipped_boxes:
        facts.append(("crop to frame", "by the boxes before clipping, as the official program"))
    if skipped:
        facts.append(
            ("left out", f"{skipped:,} frames that cannot be read (--on_bad_example=skip)")
        )
    return facts


def predict_split(restored: Restored, data: SplitToScore) -> tuple[JointSet, Frames]:
    """Joints of every frame of a split, and the frames, in order; with a progress bar.

    Raises:
      UserError: no data, or weights that answer with no numbers.
    """
    model, variables, track = restored.model, restored.variables, restored.track
    predict = assembly.predict_of(model, track)
    frames = pipeline.num_frames(data.dir, track, data.split) // distributed.count()
    stored = pipeline.eval_batches(
        data.dir, track, data.split, data.batch_size, on_bad_example=data.on_bad_example
    )
    variables = assembly.place_variables(variables)
    batches = with_unclipped_boxes(stored) if data.unclipped_boxes else stored
    with progress(f"evaluating step {restored.step}", frames, "frames") as advance:
        found = predict_batches(lambda b: predict(variables, b), batches, track, advance)
    if not np.isfinite(found[0].joints_uvd).all():
        raise UserError(
            f"the network of step {restored.step} predicts joints that are not finite: training diverged; "
            "name an earlier step"
        )
    return found


def _write_unlabelled(folder: Path, predictions: JointSet, track: TrackSpec) -> dict[str, Any]:
    """Predictions of a split that nobody here can score; returns what to tell of them."""
    count = len(predictions.joints_uvd)
    logger.info(
        f"these {count:,} frames of track {track.name!r} have no labels: no scores, predictions only"
    )
    paths = {"predictions": folder / PREDICTIONS_FILE}
    with replacing_together(folder, last=PREDICTIONS_FILE) as new:
        write_joints(new / PREDICTIONS_FILE, predictions)
        if track.skeleton.name == _SUBMITTED_SKELETON and predictions.joints_xyz_mm is not None:
            paths["submission"] = folder / SUBMISSION_FILE
            write_submission(new / SUBMISSION_FILE, predictions.joints_xyz_mm, predictions.index)
    for path in paths.values():
        logger.info(f"wrote {path}")
    written = {name: str(path) for name, path in paths.items()}
    return {"track": track.name, "frames": count, **written}
