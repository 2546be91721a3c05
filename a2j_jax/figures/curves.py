"""Figure 7: success curves and the errors of joints, of several methods on the same frames."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from a2j_jax.data.pipeline import find_dataset
from a2j_jax.errors import UserError
from a2j_jax.evaluation import plots
from a2j_jax.evaluation.compare import score_files
from a2j_jax.evaluation.evaluate import Frames, SplitToScore, read_frames, split_info
from a2j_jax.evaluation.evaluate_run import score_split
from a2j_jax.evaluation.scores import (
    CURVE_LIMIT,
    FRAME_ERRORS,
    FrameError,
    Scores,
    marked,
    success_rate,
)
from a2j_jax.evaluation.tables import published_table
from a2j_jax.pictures import Figure, new_page
from a2j_jax.runs.load import Restored, restore

_PAPER = "A2J in the paper"


def figure_7(scores: Mapping[str, Scores], *, source: str, command: str) -> Figure:
    """Success by the worst and by the mean joint, and the mean error of every joint, of methods on the same frames.

    `source` (track and split of the frames) and `command` are for the caption.

    Raises:
      UserError: matplotlib is not installed.
    """
    first = next(iter(scores.values()))
    paper = published_table(first.track)
    told_paper = "" if paper is None else f" {paper.headline_text}."
    caption = (
        f"Figure 7. {first.frames_text} of {source}. Left: the fraction of them whose joints are all nearer to "
        "their labels than D (above), and of those that are so on average (below); AUC: the mean of a curve from 0 "
        f"to {CURVE_LIMIT:g} {first.unit}. Right: the mean error of every joint.{told_paper}"
    )
    contents = {
        "figure": 7,
        "command": command,
        "track": first.track,
        "frames": first.frames,
        "unit": first.unit,
        **{f"success_{by}_joint": _curves(scores, by) for by in FRAME_ERRORS},
        "joint_names": list(first.joint_names),
        "methods": {name: one.to_json() for name, one in scores.items()},
        "paper": paper and {row.method: dict(row.values) for row in paper.rows},
    }
    shown = marked(scores)
    return Figure(_draw(shown, caption, command), contents, _rows(shown))


def score_checkpoints(
    checkpoints: Mapping[str, str | Path],
    predictions: Mapping[str, str | Path],
    *,
    data_dir: str | Path | None,
    split: str,
) -> dict[str, Scores]:
    """Score checkpoints, and files of predictions beside them, on the same frames: name -> scores.

    Args:
      checkpoints: name -> a run or a converted checkpoint, its best step; at least one, all of one track.
      predictions: name -> a file of `read_joints`, of the frames of the data set.
      data_dir, split: of the data set; None: the one each was trained on.

    Raises:
      UserError: a checkpoint, data or a file that is missing or of another track or other frames.
    """
    found = {name: restore(directory) for name, directory in checkpoints.items()}
    tracks = {name: restored.track.name for name, restored in found.items()}
    if len(set(tracks.values())) > 1:
        each = [f"{checkpoints[name]} of track {track!r}" for name, track in tracks.items()]
        raise UserError(f"{', '.join(each)}: figure 7 compares methods on the same frames")
    data = {
        name: SplitToScore(data_dir or restored.config.data.dir, split)
        for name, restored in found.items()
    }
    _check_same_frames(found, data, checkpoints)
    results = {name: score_split(restored, data[name]) for name, restored in found.items()}
    scores = {name: result.scores for name, result in results.items()}
    if not predictions:
        return scores
    first = next(iter(found))
    track, frames = found[first].track, results[first].frames
    record = split_info(find_dataset(data[first].dir, track), track, split).record
    files = score_files(predictions, track, frames, record, split=split)
    if any(one.frames < len(frames.index) for one in files.scores.values()):
        raise UserError(
            f"{', '.join(map(str, predictions.values()))}: not of all {len(frames.index):,} frames of the "
            "checkpoints: figure 7 compares methods on the same frames"
        )
    return scores | dict(files.scores)


def _check_same_frames(
    networks: Mapping[str, Restored],
    data: Mapping[str, SplitToScore],
    checkpoints: Mapping[str, str | Path],
) -> None:
    """Refuse data sets of different frames before anything is predicted; one data set of all is not read."""
    folders = {find_dataset(data[n].dir, one.track).data_path for n, one in networks.items()}
    if len(folders) == 1:
        return
    found: dict[str, Frames] = {}
    for name, restored in networks.items():
        with data[name].batches(restored.track, f"reading labels of {name}") as batches:
            found[name] = read_frames(batches, restored.track)
        first = next(iter(found))
        one, other = found[name], found[first]
        # By number and label: frames of different renderings have the same numbers.
        same = np.array_equal(one.index, other.index) and np.array_equal(one.valid, other.valid)
        if not (same and np.allclose(one.joints_uvd[one.valid], other.joints_uvd[other.valid])):
            raise UserError(
                f"the data set of {checkpoints[name]} has {len(one.index):,} frames in split {data[name].split!r}, "
                f"that of {checkpoints[first]} {len(other.index):,} others: figure 7 compares methods on the "
                "same frames; name them by --data_dir"
            )


def _curves(scores: Mapping[str, Scores], by: FrameError) -> dict[str, Any]:
    """The lines as they are drawn: fractions of frames at thresholds, mm (px)."""
    thresholds = plots.success_thresholds(next(iter(scores.values())).errors, by)
    rates = {n: success_rate(x.errors, thresholds, by) for n, x in scores.items()}
    lists = {name: found.tolist() for name, found in rates.items()}
    return {"thresholds": thresholds.tolist(), "fraction_of_frames": lists}


def _rows(scores: Mapping[str, Scores]) -> list[dict[str, Any]]:
    """A row per point of a curve and per bar: `at` a threshold, or of a joint."""
    rows: list[tuple[str, str, Any, float]] = []
    for by in FRAME_ERRORS:
        curves = _curves(scores, by)
        for name, rates in curves["fraction_of_frames"].items():
            points = zip(curves["thresholds"], rates, strict=True)
            rows += [(name, f"success_{by}_joint", at, rate) for at, rate in points]
    for name, one in scores.items():
        bars = zip((*one.joint_names, "mean"), (*one.per_joint, one.mean_error), strict=True)
        rows += [(name, f"error_{one.unit}", joint, error) for joint, error in bars]
    paper = published_table(next(iter(scores.values())).track)
    for key, value in paper.rows[-1].values.items() if paper is not None else ():
        what = ("error_mm", "mean") if key == "mean_error_mm" else ("published", key)
        rows.append((_PAPER, *what, value))
    return [dict(zip(("method", "what", "at", "value"), row, strict=True)) for row in rows]


def _bars(scores: Mapping[str, Scores]) -> dict[str, tuple[float, ...]]:
    """Method -> the errors of its joints, then the mean; of the paper's A2J the mean alone, where it is an error."""
    bars = {name: (*one.per_joint, one.mean_error) for name, one in scores.items()}
    first = next(iter(scores.values()))
    paper = published_table(first.track)
    if paper is not None and paper.headline[0].key == "mean_error_mm":
        bars[_PAPER] = (*[float("nan")] * len(first.joint_names), paper.headline[1])
    return bars


def _draw(scores: Mapping[str, Scores], caption: str, command: str) -> Any:
    first = next(iter(scores.values()))
    errors = _bars(scores)
    height = max(6.4, plots.bars_height(len(first.joint_names), len(errors)) + 0.55)
    figure = new_page(9.6, height + plots.legend_height(len(errors)), caption, command)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.06, hspace=0.04)
    axes = figure.subplot_mosaic([["worst", "joints"], ["mean", "joints"]])
    for by in FRAME_ERRORS:
        plots.success_curve(scores, by, plots.style_axes(axes[by]))
    label = f"mean error ({first.unit})"
    plots.joint_bars(errors, first.joint_names, label, axes=plots.style_axes(axes["joints"]))
    return figure
