"""Score files of predictions against labels, several methods at once: `a2j eval --predictions`."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2j_jax import input_pipeline
from a2j_jax.errors import UserError
from a2j_jax.evaluation.comparison import Comparison, FetchExample
from a2j_jax.evaluation.evaluate import Frames, read_frames, score_frames
from a2j_jax.evaluation.metrics import NotFiniteError
from a2j_jax.evaluation.predictions import JointSet, read_joints
from a2j_jax.evaluation.provenance import Fact, dataset_facts, say_crops
from a2j_jax.evaluation.report import print_scores, say_written, write_json, write_report
from a2j_jax.evaluation.score import Scores, score_joint_sets
from a2j_jax.evaluation.subsets import read_subsets, with_subsets
from a2j_jax.files import local_path
from a2j_jax.progress import progress, say
from a2j_jax.tracks import TrackSpec

_READ_BATCH = 64


def compare_predictions(
    files: Mapping[str, str | Path],
    track: TrackSpec,
    *,
    labels: str | Path | None = None,
    data_dir: str | Path | None = None,
    split: str = "test",
    out: str | Path | None = None,
    subset_files: Mapping[str, str | Path] | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Score files of joints, print a table and, where asked to, write a report.

    Args:
        files: name of the method → its file, of any format of `read_joints`.
        track: of all files; with a data set, at the crop size of that.
        labels: file of ground truth. None: the data set's own.
        data_dir: a built data set, for the depth, the crop centres and cameras, and without
            `labels` the ground truth.
        split: of the data set.
        out: folder for the report; None: no report.
        subset_files: name → list of frames to be scored apart too, see `read_subsets`.
        command: that is told in the report.

    Returns:
        JSON-ready scores: of a single method the object of `Scores.to_json`, of several
        {"track", "frames", "methods": {name: object}}.

    Raises:
        UserError: neither labels nor data set, a file that cannot be read, or other frames than the
            labels'.
    """
    sets = {name: _read(path, track) for name, path in files.items()}
    truth = None if labels is None else _read(labels, track)
    facts: list[Fact] = [(f"predictions, {name}", str(path)) for name, path in files.items()]
    if labels is not None:
        facts.append(("labels", str(labels)))
    if data_dir is not None:
        frames = _dataset_frames(data_dir, track, split, truth, labels)
        fetch = input_pipeline.example_reader(data_dir, track, split)
        comparison = _against_dataset(sets, files, frames, track, fetch)
        facts += dataset_facts(data_dir, track, split)
    elif truth is not None:
        comparison = _against_labels(sets, files, truth, track)
    else:
        raise UserError("predictions need something to be scored against: labels, or a data set")
    comparison = _with_subsets(comparison, truth, read_subsets(subset_files or {}))
    say_crops(facts)

    print_scores(comparison.scores)
    contents = scores_json(comparison.scores)
    if out is not None:
        path = write_json(local_path(out) / "scores.json", contents)
        say_written([path, *write_report(comparison, out, facts=facts, command=command)])
    return contents


def scores_json(scores: Mapping[str, Scores]) -> dict[str, Any]:
    """One method: its object; several: {"track", "frames", "methods": {name: object}}."""
    first, *others = scores.values()
    if not others:
        return first.to_json()
    methods = {name: one.to_json() for name, one in scores.items()}
    return {"track": first.track, "frames": first.frames, "methods": methods}


def rows_of_frames(joints: JointSet, index: NDArray[np.int64], where: str) -> NDArray[np.int64]:
    """Which row of a file belongs to each frame of a data set.

    A file may number its rows (`index`), hold exactly the frames of the data set in their order, or
    hold every frame of the distribution, also those that the data set left out.

    Args:
        joints: M rows.
        index: (N,) number of each frame in its distribution, ascending.
        where: the file, for messages.

    Returns:
        (N,) row numbers.

    Raises:
        UserError: a frame has no row.
    """
    found = len(joints.joints_uvd)
    if joints.index is not None:
        rows = np.searchsorted(joints.index, index).clip(0, found - 1)
        missing = np.flatnonzero(joints.index[rows] != index)
        if missing.size:
            raise UserError(
                f"{where}: has no row of frame {index[missing[0]]} ({missing.size:,} of "
                f"{len(index):,} frames of the data set are missing)"
            )
        return rows
    if found == len(index):
        return np.arange(found)
    if found > index[-1]:
        return index
    raise UserError(
        f"{where}: has {found:,} rows without frame numbers, the data set {len(index):,} frames "
        f"(the last is number {index[-1]:,} of its distribution): expected one row per frame"
    )


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


def _read(path: str | Path, track: TrackSpec) -> JointSet:
    joints = read_joints(path, track)
    for note in joints.notes:
        say(f"{path}: {note}")
    return joints


def _dataset_frames(
    data_dir: str | Path,
    track: TrackSpec,
    split: str,
    truth: JointSet | None,
    labels: str | Path | None,
) -> Frames:
    """The data set's frames; a label file's joints instead of its own where there is one."""
    count = input_pipeline.num_frames(data_dir, track, split)
    batches = input_pipeline.eval_batches(data_dir, track, split, min(_READ_BATCH, count))
    with progress("reading labels", count, "frames") as advance:
        frames = read_frames(batches, track, advance)
    if truth is None:
        return frames
    rows = rows_of_frames(truth, frames.index, str(labels))
    uvd = truth.joints_uvd[rows]
    return dataclasses.replace(frames, joints_uvd=uvd, valid=_valid(truth, uvd, rows))


def _against_dataset(
    sets: Mapping[str, JointSet],
    files: Mapping[str, str | Path],
    frames: Frames,
    track: TrackSpec,
    fetch: FetchExample,
) -> Comparison:
    joints = {
        name: one.joints_uvd[rows_of_frames(one, frames.index, str(files[name]))]
        for name, one in sets.items()
    }
    scores = {}
    for name, uvd in joints.items():
        with naming(files[name]):
            scores[name] = score_frames(uvd, frames, track)
    return Comparison(track, scores, frames.joints_uvd, frames.valid, joints, frames, fetch)


def _against_labels(
    sets: Mapping[str, JointSet],
    files: Mapping[str, str | Path],
    truth: JointSet,
    track: TrackSpec,
) -> Comparison:
    scores, joints = {}, {}
    for name, one in sets.items():
        with naming(files[name]):
            scores[name] = score_joint_sets(one, truth, track)
        rows = np.arange(len(truth.joints_uvd))
        if one.index is not None and truth.index is not None:
            rows = np.searchsorted(one.index, truth.index)  # labels may be of some frames only
        joints[name] = one.joints_uvd[rows]
    valid = _valid(truth, truth.joints_uvd, np.arange(len(truth.joints_uvd)))
    return Comparison(track, scores, truth.joints_uvd, valid, joints)


def _with_subsets(
    comparison: Comparison, truth: JointSet | None, subsets: Mapping[str, NDArray[np.int64]]
) -> Comparison:
    """Frames of a data set have numbers, those of a label file may, else they are counted."""
    index = np.arange(len(comparison.labels_uvd))
    if comparison.frames is not None:
        index = comparison.frames.index
    elif truth is not None and truth.index is not None:
        index = truth.index
    labels = comparison.labels_uvd
    scores = with_subsets(comparison.scores, subsets, index, comparison.spec, labels)
    return dataclasses.replace(comparison, scores=scores)


def _valid(truth: JointSet, uvd: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    valid = np.array(np.isfinite(uvd).all(-1))
    if truth.valid is not None:
        valid &= truth.valid[rows]
    return valid
