"""Pictures of single frames: which ones to show, and the skeleton over the crop."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2j_jax import geometry, pictures
from a2j_jax.evaluation.comparison import Comparison
from a2j_jax.evaluation.evaluate import Batch
from a2j_jax.tracks import TrackSpec

# Side of the blank paper for frames whose depth is not at hand, and the room around the joints on it.
_PAPER_PX = 176
_PAPER_MARGIN = 0.15


def pick_frames(errors: NDArray[np.float64], count: int) -> dict[str, NDArray[np.int64]]:
    """Rows of the `count` best, median and worst frames by mean error over their labelled joints.

    Args:
        errors: (N, K), NaN = unlabelled; frames without any label are never picked.
        count: of each; with fewer than three times as many frames, a third of them, so that no frame
            is of two kinds (but at least one of each).

    Returns:
        "best" (best first), "median", "worst" (worst first) → row numbers; all of equal length.
    """
    labelled = np.isfinite(errors)
    mean = np.nansum(errors, axis=1) / np.maximum(labelled.sum(1), 1)
    order = np.argsort(mean, kind="stable")
    order = order[np.any(labelled[order], axis=1)]
    count = min(count, max(len(order) // 3, 1), len(order))
    middle = (len(order) - count) // 2
    return {
        "best": order[:count],
        "median": order[middle : middle + count],
        "worst": order[::-1][:count],
    }


def frame_tile(comparison: Comparison, row: int, method: str) -> pictures.Tile:
    """One frame with a method's joints in colour over the labels in black.

    The crop is drawn below them where a data set is at hand, blank paper where not.

    Args:
        comparison: holds the frame; `method` is among its `joints_uvd`.
        row: of the frame, which is its position in the split.
        method: whose joints.
    """
    joints = comparison.joints_uvd[method][row]
    label, valid = comparison.labels_uvd[row], comparison.valid[row]
    if comparison.fetch is None:
        return _paper_tile(joints, label, valid)
    example = {**comparison.fetch(row), "joints_uvd": label, "valid": valid}
    return example_tile(example, comparison.spec, joints)


def frame_name(comparison: Comparison, row: int) -> str:
    """What the frame is called: by the distribution if that is known, else by its number from 0."""
    name: object = ""
    if comparison.fetch is not None:
        name = comparison.fetch(row).get("frame_id", "")
    text = name.decode() if isinstance(name, bytes) else str(name)
    if text:
        return text
    index = row if comparison.frames is None else int(comparison.frames.index[row])
    return f"frame {index}"


def frames_sheet(comparison: Comparison, columns: int = 6) -> Any:
    """A figure of the frames with the smallest, the median and the largest mean error, one row each.

    Args:
        comparison: its main method is drawn and ranks the frames.
        columns: frames per row; fewer if there are fewer frames.

    Raises:
        UserError: matplotlib is not installed.
    """
    method, errors = comparison.main, comparison.scores[comparison.main].errors
    picked = pick_frames(errors, columns)
    tiles = []
    for label, rows in picked.items():
        for row in rows.tolist():
            tile = frame_tile(comparison, row, method)
            title = f"{label} · {np.nanmean(errors[row]):.1f} {comparison.unit}"
            tiles.append(pictures.Tile(**{**vars(tile), "title": title}))
    return pictures.draw_sheet(
        tiles,
        comparison.spec.skeleton,
        columns=len(picked["best"]),
        title=f"Best, median and worst frames: {method} in color, labels in black",
    )


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


def _paper_tile(
    joints_uvd: NDArray[np.floating], label_uvd: NDArray[np.floating], valid: NDArray[np.bool_]
) -> pictures.Tile:
    """Prediction and labels on white, in a square around both."""
    uv = np.concatenate([label_uvd[valid, :2], joints_uvd[:, :2]])
    low, high = uv.min(0), uv.max(0)
    half = max(float((high - low).max()) * (0.5 + _PAPER_MARGIN), 1.0)
    middle = (low + high) / 2
    box = np.concatenate([middle - half, middle + half])
    return pictures.Tile(
        depth=np.zeros((_PAPER_PX, _PAPER_PX), np.uint16),
        joints_uv=geometry.frame_to_crop(joints_uvd[:, :2], box, _PAPER_PX),
        truth_uv=geometry.frame_to_crop(label_uvd[:, :2], box, _PAPER_PX),
        valid=valid,
    )
