"""Figure 3: where anchors stand on a crop, and how many of them a cell of the feature map has."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2j_jax import pictures
from a2j_jax.evaluation.tiles import example_tile
from a2j_jax.figures.sheet import Area, Figure, Sheet
from a2j_jax.figures.votes import evenly_spaced, example_name
from a2j_jax.models.anchors import (
    ANCHOR_POSITIONS,
    ANCHOR_SPACING_PX,
    ANCHORS_PER_CELL,
    STRIDE,
    anchor_grid,
)
from a2j_jax.pictures import Tile
from a2j_jax.training.assembly import track_of
from a2j_jax.training.run_directory import read_config

ANCHOR_COLOR, CELL_COLOR = pictures.LIMB_COLORS[:2]
_SIDE, _TOP, _GAP, _FOOT = (
    3.5,
    0.34,
    0.75,
    0.55,
)  # inches: of a panel, above, between and below them
_AROUND_PX = 10.0  # of the crop, shown around the enlarged cell


def figure_3(
    checkpoint: str | Path, *, split: str, data_dir: str | Path | None, command: str
) -> Figure:
    """The anchor grid over a real crop, and one cell of the feature map enlarged.

    Args:
      checkpoint: a run or a converted checkpoint: says which track and crop size; its weights are not read.
      split, data_dir: of the data set; None: the one trained on. The crop is that in the middle of the split.
      command: for the caption.

    Raises:
      UserError: no checkpoint, no data, or no matplotlib.
    """
    config = read_config(checkpoint)
    track = track_of(config)
    position, example = next(
        iter(evenly_spaced(data_dir or config.data.dir, track, split, 1).items())
    )
    tile, name = example_tile(example, track), example_name(example)
    size = track.crop_size
    anchors, cell = anchor_grid(size, size), middle_cell(size)
    caption = (
        f"Figure 3. Anchors stand every S = {ANCHOR_SPACING_PX:g} px on the crop of {size} × {size} px, "
        f"{ANCHORS_PER_CELL} in each cell of the feature map, whose stride is {STRIDE}: "
        f"{size // STRIDE} × {size // STRIDE} cells, {len(anchors):,} anchors. "
        f"{checkpoint}, track {track.name}; {name}, in the middle of split {split}."
    )
    cells = anchors // STRIDE
    contents = {
        "figure": 3,
        "command": command,
        "checkpoint": str(checkpoint),
        "track": track.name,
        "split": split,
        "frame": name,
        "position": position,
        "crop_size_px": size,
        "stride_px": STRIDE,
        "anchor_spacing_px": ANCHOR_SPACING_PX,
        "anchors_per_cell": ANCHORS_PER_CELL,
        "highlighted_cell": {"column": cell, "row": cell},
        "anchors_uv": anchors.tolist(),
    }
    table = [
        {"anchor_u": u, "anchor_v": v, "cell_column": int(column), "cell_row": int(row)}
        for (u, v), (column, row) in zip(anchors.tolist(), cells.tolist(), strict=True)
    ]
    return Figure(_draw(tile, anchors, cell, caption, command), contents, table)


def middle_cell(crop_size: int) -> int:
    """Row and column of the cell that is enlarged."""
    return crop_size // STRIDE // 2


def _draw(tile: Tile, anchors: NDArray[Any], cell: int, caption: str, command: str) -> Any:
    from matplotlib.patches import ConnectionPatch

    size = np.shape(tile.depth)[0]
    low, shown = _low_edge(cell), STRIDE + 2 * _AROUND_PX
    sheet = Sheet(2 * _SIDE + _GAP + 0.5, _TOP + _SIDE + _FOOT, caption, command)
    crop, enlarged = (
        _panel(sheet, left, title, tile, anchors, cell, px_per_inch)
        for left, px_per_inch, title in (
            (0.2, size / _SIDE, "The crop, its anchors, and the cells of the feature map"),
            (0.2 + _SIDE + _GAP, shown / _SIDE, f"One cell: {ANCHORS_PER_CELL} anchors"),
        )
    )
    enlarged.set_xlim(low - _AROUND_PX, low - _AROUND_PX + shown)
    enlarged.set_ylim(low - _AROUND_PX + shown, low - _AROUND_PX)
    for corner, at in ((low, 1.0), (low + STRIDE, 0.0)):
        joined = ConnectionPatch(
            (low + STRIDE, corner), (0.0, at), crop.transData, enlarged.transAxes,
            color=CELL_COLOR, linewidth=0.8, linestyle="--",
        )  # fmt: skip
        sheet.figure.add_artist(joined)
    _dimensions(enlarged, low)
    _below(crop, f"{size} px, {size // STRIDE} cells")
    return sheet.figure


def _low_edge(cell: int) -> float:
    """Where a cell begins, px: a pixel's middle has whole coordinates."""
    return cell * STRIDE - 0.5


def _panel(
    sheet: Sheet,
    left: float,
    title: str,
    tile: Tile,
    anchors: NDArray[Any],
    cell: int,
    px_per_inch: float,
) -> Any:
    """Depth, cells and anchors, with those of one cell in colour."""
    axes = sheet.axes(Area(left, _TOP, _SIDE, _SIDE))
    sheet.text(left, _TOP - 0.1, title, va="baseline", fontweight="bold")
    pictures.draw_depth(axes, tile.depth, tile.far)
    edges = [_low_edge(cell) for cell in range(1, np.shape(tile.depth)[0] // STRIDE)]
    for color, width in (("white", 1.6), ("0.4", 0.6)):  # all halos first: none over another's line
        for edge in edges:
            axes.axhline(edge, color=color, linewidth=width)
            axes.axvline(edge, color=color, linewidth=width)
    diameter = min(0.3 * 72 * ANCHOR_SPACING_PX / px_per_inch, 11.0)  # points
    style = {"s": diameter**2, "edgecolors": "white", "linewidths": 0.08 * diameter}
    inside = (anchors // STRIDE == cell).all(-1)
    axes.scatter(*anchors[~inside].T, c="0.4", **style)
    axes.scatter(*anchors[inside].T, c=ANCHOR_COLOR, zorder=3, **style)
    axes.add_patch(_square(_low_edge(cell), STRIDE))
    return axes


def _square(low: float, side: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(
        (low, low), side, side, fill=False, edgecolor=CELL_COLOR, linewidth=2.0, zorder=4
    )


def _dimensions(axes: Any, low: float) -> None:
    """The side of the cell below it, the distance between two anchors above it."""
    high = low + STRIDE
    first, second = (low + 0.5 + ANCHOR_POSITIONS[k] for k in (1, 2))
    arrow = {"arrowstyle": "<->", "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    style = {"ha": "center", "fontsize": 9, "fontweight": "bold"}
    backed = {
        "boxstyle": "round,pad=0.15",
        "facecolor": "white",
        "edgecolor": "none",
        "alpha": 0.85,
    }
    for begin, end, v, color, text in (
        (low, high, high + 2.2, CELL_COLOR, f"{STRIDE} px"),
        (first, second, low - 2.2, ANCHOR_COLOR, f"S = {ANCHOR_SPACING_PX:g} px"),
    ):
        axes.annotate("", (begin, v), (end, v), arrowprops={**arrow, "color": color}, zorder=6)
        below = v > low
        axes.text(
            (begin + end) / 2, v + (1.2 if below else -1.2), text, color=color,
            va="top" if below else "bottom", bbox=backed, zorder=7, **style,
        )  # fmt: skip
    for u in (first, second):
        axes.plot([u, u], [low - 2.8, low + 0.5 + ANCHOR_POSITIONS[0]], color=ANCHOR_COLOR, lw=0.8)


def _below(axes: Any, text: str) -> None:
    """The whole width of a panel, below it."""
    arrow = {"arrowstyle": "<->", "linewidth": 1.0, "shrinkA": 0, "shrinkB": 0, "color": "0.2"}
    ends = {"xycoords": "axes fraction", "textcoords": "axes fraction"}
    axes.annotate("", (0, -0.04), (1, -0.04), arrowprops=arrow, annotation_clip=False, **ends)
    axes.text(
        0.5, -0.06, text, transform=axes.transAxes, ha="center", va="top", fontsize=9, color="0.2"
    )
