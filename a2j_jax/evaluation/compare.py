"""Score files of predictions against labels, several methods at once: `a2j eval --predictions`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from a2j_jax.data import pipeline
from a2j_jax.errors import UserError, printable
from a2j_jax.evaluation import evaluate, pairing, report
from a2j_jax.evaluation.evaluate import Fact, Frames
from a2j_jax.evaluation.joint_files import JointSet, read_joints
from a2j_jax.evaluation.metrics import NotFiniteError
from a2j_jax.evaluation.plots import Comparison
from a2j_jax.evaluation.scores import with_subsets
from a2j_jax.log import logger
from a2j_jax.tracks import TrackRecord, TrackSpec, with_crop_size

_DATA_SET, _LABELS = "the data set", "the labels"


def fitting_track(
    track: TrackSpec, files: Mapping[str, str | Path], data_dir: str | Path
) -> TrackSpec:
    """The track at the crop size of the only data set below `data_dir`; of several, that of the files, else its own.

    Raises:
      UserError: no data set of this track, or a file that cannot be read.
    """
    sizes = pipeline.crop_sizes(data_dir, track)
    if len(sizes) > 1:
        stated = {read_joints(path, track).record.crop_size for path in files.values()}
        sizes = [size for size in sizes if size in stated]
    return with_crop_size(track, sizes[0]) if len(sizes) == 1 else track


def compare_predictions(
    files: Mapping[str, str | Path],
    track: TrackSpec,
    *,
    labels: str | Path | None = None,
    data_dir: str | Path | None = None,
    split: str = "test",
    out: str | Path | None = None,
    overwrite: bool = False,
    subset_files: Mapping[str, str | Path] | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Score files of joints, print a table and, if asked to, write a report.

    Args:
      files: name of the method -> its file, of any format of `read_joints`.
      track: of all files; with a data set, at its crop size.
      labels: file of ground truth. None: the data set's own.
      data_dir: a built data set, for the depth, the crop centers and cameras, and without `labels` the ground truth.
      split: of the data set, or of the labels.
      out: folder for the report; None: no report.
      overwrite: replace files in `out` that a2j_jax did not write.
      subset_files: name -> list of frames to be scored separately too, see `read_subsets`.
      command: shown in the report.

    Returns:
      JSON-ready scores: of a single method `Scores.to_json`, of several
      {"track", "frames", "frames_of", "methods": {name: that}}.

    Raises:
      UserError: neither labels nor data set, a file that cannot be read or is of another track, window or
        camera, other frames than the labels', or a file in the way of the report.
    """
    subset_files = subset_files or {}
    if out is not None:
        report.check_report(out, overwrite, [*files.values(), *subset_files.values(), labels or ""])
    comparison = compared_files(files, track, labels, data_dir, split, subset_files)
    evaluate.log_crops(comparison.facts)
    report.print_scores(comparison.scores)
    methods = {name: one.to_json() for name, one in comparison.scores.items()}
    contents = methods[comparison.main]
    if len(methods) > 1:
        shared = {name: contents[name] for name in ("track", "frames", "frames_of")}
        contents = {**shared, "methods": methods}
    if out is not None:
        report.write_report(replace(comparison, command=command), out, contents)
    return contents


def compared_files(
    files: Mapping[str, str | Path],
    track: TrackSpec,
    labels: str | Path | None = None,
    data_dir: str | Path | None = None,
    split: str = "test",
    subset_files: Mapping[str, str | Path] | None = None,
) -> Comparison:
    """Score files of joints on the frames that all of them have; arguments and errors as `compare_predictions`."""
    if labels is None and data_dir is None:
        raise UserError("predictions need something to be scored against: labels, or a data set")
    lists = pairing.read_subsets(subset_files or {})
    facts: list[Fact] = [(f"predictions, {name}", str(path)) for name, path in files.items()]
    record, total = TrackRecord.of(track), evaluate.published_frames(track, split)
    known: str | None = split
    if labels is not None:
        truth = every = _read_file(labels, track, record)
        facts.append(("labels", str(labels)))
        known = truth.about.get("split") if data_dir is None else split
    if data_dir is not None:
        data = evaluate.SplitToScore(data_dir, split)
        with data.batches(track, "reading labels") as batches:
            frames = every = evaluate.read_frames(batches, track)
        info = evaluate.split_info(pipeline.find_dataset(data_dir, track), track, split)
        facts, record, total = facts + info.facts, info.record, info.total or 0
        if labels is not None:
            rows = pairing.rows_of(truth, frames, _LABELS, _DATA_SET)
            found = truth.rows(rows[rows >= 0])
            kept = frames.rows(rows >= 0)
            frames = replace(kept, joints_uvd=found.joints_uvd, valid=found.labeled)
        truth = frames
    comparison = score_files(files, track, truth, record, total, split=known)
    subsets = pairing.frame_numbers(lists, every.numbers, every.frame_id)
    scored = comparison.labels
    scores = with_subsets(comparison.scores, subsets, scored.numbers, track, scored.joints_uvd)
    comparison = replace(comparison, scores=scores, facts=facts)
    if data_dir is None:
        return comparison
    # A frame's position in the split, by its row among those that are left.
    positions = np.searchsorted(every.numbers, scored.numbers)
    read = pipeline.example_reader(data_dir, track, split)
    return replace(comparison, fetch=lambda row: read(int(positions[row])))


def score_files(
    files: Mapping[str, str | Path],
    track: TrackSpec,
    labels: JointSet,
    record: TrackRecord,
    total: int = 0,
    split: str | None = None,
) -> Comparison:
    """Score files of joints, by name, on the frames that all of them have; warns where these are not all frames.

    Args:
      labels: ground truth; `Frames` of a data set, or of a file.
      record: what the files must state, if anything.
      total: frames of the split as published, if that is known.
      split: of the labeled frames; None: unknown.

    Raises:
      UserError: a file that cannot be read, is of something else or of other frames, or in another unit.
    """
    of, count = _DATA_SET if isinstance(labels, Frames) else _LABELS, len(labels.joints_uvd)
    sets = {name: _read_file(path, track, record) for name, path in files.items()}
    shown = {name: printable(str(path)) for name, path in files.items()}
    rows_in = {}
    for name, one in sets.items():
        if split is not None:
            pairing.check_split(shown[name], one, labels, split)
        rows_in[name] = rows = pairing.rows_of(one, labels, shown[name], of)
        there = rows >= 0
        pairing.check_unit(shown[name], one.joints_uvd[rows[there]], labels.rows(there), of)
    kept = np.flatnonzero(np.all([rows >= 0 for rows in rows_in.values()], axis=0))
    for name, rows in rows_in.items():
        if (rows < 0).any():
            logger.info(
                f"warning: {shown[name]}: holds {np.sum(rows >= 0):,} of the {count:,} frames of {of}; "
                f"only these {len(kept):,} frames are scored, and every row is marked"
            )
    if not len(kept):
        raise UserError(f"no frame of {of} is in all of {', '.join(shown.values())}")
    labels = replace(labels.rows(kept), index=labels.numbers[kept])
    joints = {name: sets[name].joints_uvd[rows[kept]] for name, rows in rows_in.items()}
    scores = {}
    for name, uvd in joints.items():
        try:
            found = evaluate.score_frames(uvd, labels, track)
        except NotFiniteError as error:
            raise UserError(f"{shown[name]}: {error}, but has a label") from error
        centers = _frame_counts(sets[name].about.get("centers"))
        scores[name] = replace(found, frames_of=max(total, count), centers=centers)
    return Comparison(track, scores, labels, joints)


def _read_file(path: str | Path, track: TrackSpec, record: TrackRecord) -> JointSet:
    """Read a file of joints, log what the reader assumed, and check the record that the file states."""
    joints = read_joints(path, track)
    # The size of the network's input does not affect the joints it is asked for.
    other = joints.record.differences(record, but=("crop_size", "storage_unit_mm"))
    if other:
        raise UserError(
            f"{printable(str(path))}: joints are of something else than what they are scored against: "
            f"{'; '.join(other)}"
        )
    for note in joints.notes:
        logger.info(f"{path}: {note}")
    return joints


def _frame_counts(value: Any) -> dict[str, int] | None:
    """Source of crops -> number of frames, as a file states them; None where it states nothing of the kind."""
    counts = value if isinstance(value, dict) else {}
    return counts if counts and all(isinstance(count, int) for count in counts.values()) else None
