"""`BoundingBox.txt` of the HANDS 2017 test set: which of two box formats a file has."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from a2j_jax.errors import UserError
from tfds_builders import files
from tfds_builders.wording import counted

# Boxes may end on the last pixel or just behind it, and be rounded.
_SLACK_PX = 1.0


def read_boxes(
    path: Path, frame_size: tuple[int, int]
) -> tuple[list[str], npt.NDArray[np.float64], tuple[str, ...]]:
    """Boxes of the test frames.

    Args:
      path: lines of a file name, with or without folders, and four numbers.
      frame_size: (W, H) px.

    Returns:
      The file names without folders; (N, 4) x0, y0, x1, y1 px, clipped to the frame, the whole frame
      where the line makes no box; notes, of which one says how the file was understood.

    Raises:
      UserError: see `files.number_blocks`; or neither format fits most lines.
    """
    names, values = files.read_numbers(path, 4, "a box")
    boxes, found = to_corners(values, frame_size)
    if found is None:
        raise UserError(
            f"{path}: neither as x y width height nor as x0 y0 x1 y1 do most lines lie in the "
            f"{frame_size[0]}x{frame_size[1]} frame; is this the boxes of the test frames?"
        )
    notes: tuple[str, ...] = (f"{path.name}: read as {found}",)
    empty = np.isnan(boxes[:, 0])
    if empty.any():
        boxes[empty] = 0, 0, frame_size[0] - 1, frame_size[1] - 1
        notes += (
            f"{path.name}: {counted(empty.sum(), 'line')} without a box; the whole frame is taken",
        )
    return [name.rsplit("/", 1)[-1] for name in names], boxes, notes


def to_corners(
    values: npt.NDArray[np.float64], frame_size: tuple[int, int]
) -> tuple[npt.NDArray[np.float64], str | None]:
    """Boxes of unknown format -> corners.

    The whole file has one format: the one that contradicts itself (a box of no size, or beyond the
    frame) on fewer lines. Corners read as sizes leave the frame wherever a hand is right of or
    below its middle; sizes read as corners turn inside out wherever a hand is farther from the
    left or upper edge than it is large. A file that fits both is read as corners: as sizes, every
    single box would have to be that large.

    Args:
      values: (N, 4) either x0, y0, x1, y1 or x, y, width, height; px.
      frame_size: (W, H) px.

    Returns:
      (N, 4) x0, y0, x1, y1 px, clipped to the frame, NaN where the line makes no box; and the
      format, or None where neither fits at least half of the lines.
    """
    origin, other = values[:, :2], values[:, 2:]
    readings = {"x0 y0 x1 y1": other, "x y width height": origin + other}
    last = np.array(frame_size, np.float64)
    fits = {
        # NaN compares false: it fits neither.
        name: ((far > origin) & (far <= last + _SLACK_PX) & (origin >= -_SLACK_PX)).all(axis=1)
        for name, far in readings.items()
    }
    # max keeps the first of equals: corners.
    found = max(fits, key=lambda name: int(fits[name].sum()))
    boxes = np.concatenate([origin, readings[found]], axis=1)
    boxes = np.clip(boxes, 0.0, np.concatenate([last, last]) - 1.0)
    empty = ~(boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    boxes[empty] = np.nan
    return boxes, found if 2 * fits[found].sum() >= len(values) else None
