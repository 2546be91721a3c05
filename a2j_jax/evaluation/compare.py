"""Score files of predictions against labels, several methods at once: `a2j eval --predictions`."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from a2j_jax.data import pipeline
from a2j_jax.errors import UserError, printable
from a2j_jax.evaluation.evaluate import Comparison, Frames, read_frames, score_frames
from a2j_jax.evaluation.joint_files import JointSet, read_joints
from a2j_jax.evaluation.metrics import NotFiniteError
from a2j_jax.evaluation.provenance import (
    Fact,
    crop_counts,
    dataset_facts,
    record_of_frames,
    say_crops,
    total_frames,
)
from a2j_jax.evaluation.report import (
    check_report,
    print_scores,
    say_written,
    write_report,
)
from a2j_jax.evaluation.scores import (
    Scores,
    check_record,
    frame_numbers,
    marked,
    prediction_rows,
    read_subsets,
    rows_of,
    score_predictions,
    with_subsets,
)
from a2j_jax.log import logger, progress
from a2j_jax.tracks import TrackRecord, TrackSpec

_READ_BATCH = 64


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
    """Score files of joints, print a table and, where asked to, write a report.

    Args:
        files: name of the method → its file, of any format of `read_joints`.
        track: of all files; with a data set, at the crop size of that.
        labels: file of ground truth. None: the data set's own.
        data_dir: a built data set, for the depth, the crop centers and cameras, and without
            `labels` the ground truth.
        split: of the data set, or that the labels are of.
        out: folder for the report; None: no report.
        overwrite: replace files in `out` that a2j_jax did not write.
        subset_files: name → list of frames to be scored apart too, see `read_subsets`.
        command: that is told in the report.

    Returns:
        JSON-ready scores: of a single method the object of `Scores.to_json`, of several
        {"track", "frames", "frames_of", "methods": {name: object}}.

    Raises:
        UserError: neither labels nor data set, a file that cannot be read or is of another track, window or
            camera, other frames than the labels', or a file in the way of the report.
    """
    if out is not None:
        read = [*files.values(), *(subset_files or {}).values(), labels or ""]
        check_report(out, overwrite, read)
    comparison, facts = compared_files(
        files, track, labels=labels, data_dir=data_dir, split=split, subset_files=subset_files
    )
    say_crops(facts)

    print_scores(marked(comparison.scores))
    contents = scores_json(comparison.scores)
    if out is not None:
        shown = comparison.marked()
        say_written(write_report(shown, out, contents=contents, facts=facts, command=command))
    return contents


def compared_files(
    files: Mapping[str, str | Path],
    track: TrackSpec,
    *,
    labels: str | Path | None = None,
    data_dir: str | Path | None = None,
    split: str = "test",
    subset_files: Mapping[str, str | Path] | None = None,
) -> tuple[Comparison, list[Fact]]:
    """Reads files of joints and scores them on the frames that all of them have; arguments as `compare_predictions`.

    Returns:
        The methods side by side, and where everything is from.

    Raises:
        UserError: as `compare_predictions`.
    """
    if labels is None and data_dir is None:
        raise UserError("predictions need something to be scored against: labels, or a data set")
    subsets = read_subsets(subset_files or {})
    facts: list[Fact] = [(f"predictions, {name}", str(path)) for name, path in files.items()]
    record, truth, frames = TrackRecord.of(track), None, None
    if labels is not None:
        truth = read_file(labels, track, record)
        facts.append(("labels", str(labels)))
    if data_dir is not None:
        record = record_of_frames(data_dir, track)
        frames = _dataset_frames(data_dir, track, split)
        facts += dataset_facts(data_dir, track, split)
    total = total_frames(track, split, data_dir)
    known = split if data_dir is not None or truth is None else truth.about.get("split")
    comparison = score_files(files, track, truth, frames, record, total, split=known)
    known_frames = truth if frames is None else frames
    assert known_frames is not None, "labels or data_dir"
    numbers = known_frames.index
    if numbers is None:
        numbers = np.arange(len(known_frames.joints_uvd))
    found = frame_numbers(subsets, numbers, known_frames.frame_id)
    scores = with_subsets(
        comparison.scores, found, comparison.numbers, track, comparison.labels_uvd
    )
    comparison = dataclasses.replace(comparison, scores=scores)
    if data_dir is not None and frames is not None and comparison.frames is not None:
        # A frame's position in the split, of those that are left.
        positions = np.searchsorted(frames.index, comparison.frames.index)
        read = pipeline.example_reader(data_dir, track, split)
        fetch = lambda row: read(int(positions[row]))  # noqa: E731
        comparison = dataclasses.replace(comparison, fetch=fetch)
    return comparison, facts


def score_files(
    files: Mapping[str, str | Path],
    track: TrackSpec,
    labels: JointSet | None,
    frames: Frames | None,
    record: TrackRecord,
    total: int | None = None,
    split: str | None = None,
) -> Comparison:
    """Scores files of joints on the frames that all of them have; warns where these are not all frames.

    Args:
        files: name of the method → its file.
        track: of all files.
        labels: ground truth instead of that of `frames`; one of the two is needed.
        frames: of a data set, with a camera each; None: the track's camera is that of all.
        record: what the files must be of, where they say so.
        total: frames of the split as published; None: not known.
        split: of the labeled frames; None: not known.

    Raises:
        UserError: a file that cannot be read, is of something else or of other frames, or in another unit.
    """
    of = "the labels" if frames is None else "the data set"
    if frames is not None:
        there = JointSet(
            frames.joints_uvd, frames.valid, index=frames.index, frame_id=frames.frame_id
        )
        if labels is not None:
            rows = rows_of(labels, there, "the labels", of)
            kept, found = np.flatnonzero(rows >= 0), labels.rows(rows[rows >= 0])
            frames = dataclasses.replace(
                frames.rows(kept), joints_uvd=found.joints_uvd, valid=found.labeled
            )
            there = dataclasses.replace(
                there.rows(kept), joints_uvd=frames.joints_uvd, valid=frames.valid
            )
        labels = there
    assert labels is not None, "labels or frames"
    sets = {name: read_file(path, track, record) for name, path in files.items()}
    rows_in = {
        name: prediction_rows(one, labels, printable(str(files[name])), of, split)
        for name, one in sets.items()
    }
    count = len(labels.joints_uvd)
    kept = np.flatnonzero(np.all([rows >= 0 for rows in rows_in.values()], axis=0))
    for name, rows in rows_in.items():
        if (rows < 0).any():
            logger.info(
                f"warning: {printable(str(files[name]))}: holds {np.sum(rows >= 0):,} of the {count:,} frames of {of}; "
                f"only these {len(kept):,} frames are scored, and every row is marked"
            )
    if not len(kept):
        raise UserError(f"no frame of {of} is in all of {', '.join(map(str, files.values()))}")
    labels, frames = labels.rows(kept), None if frames is None else frames.rows(kept)
    joints = {name: sets[name].joints_uvd[rows[kept]] for name, rows in rows_in.items()}
    scores = {}
    for name, uvd in joints.items():
        with naming(files[name]):
            if frames is not None:
                one = score_frames(uvd, frames, track)
            else:
                one = score_predictions(uvd, labels.joints_uvd, track, labels.valid)
        about = sets[name].about
        scores[name] = dataclasses.replace(
            one, frames_of=max(total or 0, count), centers=crop_counts(about.get("centers"))
        )
    index = kept if labels.index is None else labels.index
    return Comparison(track, scores, labels.joints_uvd, labels.labeled, joints, frames, index=index)


def scores_json(scores: Mapping[str, Scores]) -> dict[str, Any]:
    """One method: its object; several: {"track", "frames", "frames_of", "methods": {name: object}}."""
    first, *others = scores.values()
    if not others:
        return first.to_json()
    methods = {name: one.to_json() for name, one in scores.items()}
    told = {"track": first.track, "frames": first.frames, "frames_of": first.frames_of}
    return {**told, "methods": methods}


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Say of which file it is that a predicted joint is not finite where there is a label.

    Raises:
        UserError: instead of the `metrics.NotFiniteError` that is raised inside.
    """
    try:
        yield
    except NotFiniteError as error:
        raise UserError(f"{path}: {error}, and there is a label to score it by") from error


def read_file(path: str | Path, track: TrackSpec, record: TrackRecord) -> JointSet:
    """Reads a file of joints, and says what had to be assumed.

    Raises:
        UserError: it cannot be read, or says that it is of another track, window or camera than `record`.
    """
    joints = read_joints(path, track)
    check_record(printable(str(path)), joints, record)
    for note in joints.notes:
        logger.info(f"{path}: {note}")
    return joints


def _dataset_frames(data_dir: str | Path, track: TrackSpec, split: str) -> Frames:
    count = pipeline.num_frames(data_dir, track, split)
    batches = pipeline.eval_batches(data_dir, track, split, min(_READ_BATCH, count))
    with progress("reading labels", count, "frames") as advance:
        return read_frames(batches, track, advance)
