"""What an evaluation shows: a table, JSON, a success curve, the best and the worst frames.

Tables go to stderr, so that stdout stays clean for `--json`. Pictures need matplotlib (the `viz`
extra) and are skipped with one line of advice where it is missing: numbers never depend on it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from a2j_jax import geometry, pictures, progress
from a2j_jax.errors import UserError
from a2j_jax.evaluation import metrics
from a2j_jax.evaluation.evaluate import Batch, EvaluationResult
from a2j_jax.evaluation.predictions import write_joints
from a2j_jax.evaluation.score import CURVE_LIMIT, Scores
from a2j_jax.tracks import TrackSpec

#: position in the data set → that example, as the input pipeline stores it.
FetchExample = Callable[[int], Batch]
_LINE_STYLES = ("-", "--", ":", "-.")


def print_scores(scores: Mapping[str, Scores], console: Console | None = None) -> None:
    """Print one table: a row per number, a column per named set of predictions.

    Args:
        scores: name → scores of the same frames, the model first and baselines after it.
        console: where to; stderr by default.
    """
    console = console or progress.console
    first = next(iter(scores.values()))
    table = Table(title=f"{first.track} · {first.frames:,} frames")
    table.add_column("")
    for name in scores:
        table.add_column(name, justify="right")

    def row(label: str, value: Callable[[Scores], str], **style: Any) -> None:
        table.add_row(label, *(value(s) for s in scores.values()), **style)

    row(
        f"mean error ({first.unit})",
        lambda s: f"{s.mean_error:.2f}",
        style="bold",
        end_section=True,
    )
    for threshold in first.success_rate:
        label = f"frames with worst joint < {threshold:g} {first.unit}"
        row(label, lambda s, t=threshold: f"{s.success_rate[t]:.1%}")  # type: ignore[misc]
    table.add_section()
    for k, joint in enumerate(first.joint_names):
        row(f"{joint} ({first.unit})", lambda s, k=k: _number(s.per_joint[k]))  # type: ignore[misc]
    console.print(table)


def write_json(path: str | Path, contents: Mapping[str, Any]) -> Path:
    """Write a JSON file, making its folder; returns the path.

    Raises:
        UserError: the file cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(contents, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
    return path


def write_report(
    result: EvaluationResult,
    spec: TrackSpec,
    directory: str | Path,
    fetch: FetchExample,
    baselines: Mapping[str, Scores] | None = None,
    name: str = "A2J",
) -> list[Path]:
    """Write everything an evaluation leaves behind.

    Args:
        result: of `evaluate_batches`.
        spec: the track.
        directory: made if missing. Gets `scores.json`, `predictions.npz`, and with matplotlib
            `success_curve.png` and `frames.png`.
        fetch: position in the data set → example with `canvas`, for the pictures.
        baselines: name → scores of the same frames, drawn and listed beside the model's.
        name: of the model in the pictures.

    Returns:
        The paths written; without matplotlib the pictures are not among them.

    Raises:
        UserError: the folder cannot be written.
    """
    directory = Path(directory)
    baselines = baselines or {}
    contents = result.scores.to_json()
    if baselines:
        contents["baselines"] = {label: scores.to_json() for label, scores in baselines.items()}
    written = [write_json(directory / "scores.json", contents)]
    write_joints(directory / "predictions.npz", result.predictions)
    written.append(directory / "predictions.npz")
    if pictures.have_matplotlib():
        curves = {name: result.scores, **baselines}
        written.append(success_curve(curves, directory / "success_curve.png"))
        written.append(frames_sheet(result, spec, fetch, directory / "frames.png"))
    else:
        progress.say("no pictures: they need matplotlib, pip install 'a2j-jax[viz]'")
    return written


def success_curve(scores: Mapping[str, Scores], path: str | Path) -> Path:
    """Draw the fraction of frames whose worst joint is nearer than a threshold, over thresholds.

    Args:
        scores: name → scores, one line each.
        path: of the PNG.

    Raises:
        UserError: matplotlib is not installed, or the file cannot be written.
    """
    figure = pictures.new_figure(5.6, 3.8)
    axes = figure.add_axes((0.12, 0.14, 0.84, 0.76))
    thresholds = np.linspace(0.0, CURVE_LIMIT, 401)
    first = next(iter(scores.values()))
    for number, (label, one) in enumerate(scores.items()):
        axes.plot(
            thresholds,
            100 * metrics.success_rate(one.errors, thresholds),
            color=pictures.LIMB_COLORS[(number + 1) % len(pictures.LIMB_COLORS)],
            linestyle=_LINE_STYLES[number % len(_LINE_STYLES)],
            linewidth=2,
            label=f"{label}: mean error {one.mean_error:.1f} {one.unit}",
        )
    axes.set_xlim(0, CURVE_LIMIT)
    axes.set_ylim(0, 100)
    axes.set_xlabel(f"threshold D ({first.unit})")
    axes.set_ylabel("frames with worst joint < D (%)")
    axes.set_title(f"{first.track}, {first.frames:,} frames", fontsize=10)
    axes.grid(color="0.9")
    axes.legend(fontsize=8, frameon=False)
    return pictures.save_figure(figure, path)


def frames_sheet(
    result: EvaluationResult,
    spec: TrackSpec,
    fetch: FetchExample,
    path: str | Path,
    columns: int = 6,
) -> Path:
    """Draw the frames with the smallest, the median and the largest mean error, one row each.

    Args:
        result: of `evaluate_batches`.
        spec: the track.
        fetch: position in the data set → example with `canvas` (S+2m, S+2m).
        path: of the PNG.
        columns: frames per row; fewer if there are fewer frames.

    Raises:
        UserError: matplotlib is not installed, or the file cannot be written.
    """
    tiles = []
    picked = pick_frames(result.scores.errors, columns)
    for label, rows in picked.items():
        tiles += [_frame_tile(result, spec, fetch, int(n), label) for n in rows]
    return pictures.contact_sheet(
        tiles,
        spec.skeleton,
        path,
        columns=len(next(iter(picked.values()))),
        title="Best, median and worst frames: prediction in colour, ground truth in black",
    )


def pick_frames(errors: NDArray[np.float64], count: int) -> dict[str, NDArray[np.int64]]:
    """Rows of the `count` best, median and worst frames by mean error over their labelled joints.

    Args:
        errors: (N, K), NaN = unlabelled; frames without any label are never picked.
        count: of each; with fewer frames, as many as there are.

    Returns:
        "best" (best first), "median", "worst" (worst first) → row numbers; all of equal length.
    """
    labelled = np.isfinite(errors)
    mean = np.nansum(errors, axis=1) / np.maximum(labelled.sum(1), 1)
    order = np.argsort(mean, kind="stable")
    order = order[np.any(labelled[order], axis=1)]
    count = min(count, len(order))
    middle = (len(order) - count) // 2
    return {
        "best": order[:count],
        "median": order[middle : middle + count],
        "worst": order[::-1][:count],
    }


def example_tile(
    example: Batch,
    spec: TrackSpec,
    joints_uvd: NDArray[np.floating] | None = None,
    title: str = "",
) -> pictures.Tile:
    """One stored example as a picture of its crop.

    Args:
        example: `canvas`, `joints_uvd`, `valid`, `box_px`, `center_uvd` of one frame.
        spec: the track.
        joints_uvd: (K, 3 or 2) a prediction in the full frame: drawn in colour over the labels in
            black. None: the labels themselves are drawn in colour.
        title: above it.
    """
    size = spec.crop_size
    box = np.asarray(example["box_px"])
    label = geometry.frame_to_crop(np.asarray(example["joints_uvd"])[:, :2], box, size)
    predicted = None
    if joints_uvd is not None:
        predicted = geometry.frame_to_crop(joints_uvd[:, :2], box, size)
    far = None
    if spec.depth_reference == "center" and spec.depth_window_mm is not None:
        far = (float(example["center_uvd"][2]) + spec.depth_window_mm) / spec.storage_unit_mm
    return pictures.Tile(
        depth=geometry.center_crop(np.asarray(example["canvas"]), size),
        joints_uv=label if predicted is None else predicted,
        truth_uv=None if predicted is None else label,
        title=title,
        valid=np.asarray(example["valid"], bool),
        far=far,
    )


def examples_sheet(
    examples: Sequence[Batch], spec: TrackSpec, path: str | Path, columns: int = 6
) -> Path:
    """A contact sheet of stored examples with their labels: what `a2j show` writes.

    Raises:
        UserError: no examples, matplotlib is not installed, or the file cannot be written.
    """
    tiles = [example_tile(example, spec) for example in examples]
    return pictures.contact_sheet(tiles, spec.skeleton, path, columns)


def _frame_tile(
    result: EvaluationResult, spec: TrackSpec, fetch: FetchExample, row: int, label: str
) -> pictures.Tile:
    index = int(result.frames.index[row])
    error = float(np.nanmean(result.scores.errors[row]))
    title = f"{label} · frame {index} · {error:.1f} {result.scores.unit}"
    return example_tile(fetch(index), spec, result.predictions.joints_uvd[row], title)


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "–"
