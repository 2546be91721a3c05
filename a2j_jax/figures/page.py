"""The page of a figure: a legend above it, its caption below, and the files it is written to."""

import csv
import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from a2j_jax import pictures
from a2j_jax.files import local_path, write_file, write_json

_MARGIN, _LINE = 0.12, 0.155  # inches: around the caption, from one of its lines to the next
_SANS, _MONOSPACE = 16.8, 16.3  # letters per inch of 8 and of 7 points
_LEGEND_COLUMN = 1.3  # inches


class Figure(NamedTuple):
    """A figure of the paper: the picture, and everything that is drawn in it."""

    drawing: Any  # matplotlib's
    contents: dict[str, Any]  # JSON-ready
    table: list[dict[str, Any]]  # the rows of the CSV, all with the same keys


def new_page(
    width: float, height: float, text: str, command: str, marks: Sequence[Any] = ()
) -> Any:
    """A figure with a caption; matplotlib's constrained layout arranges what is drawn above it.

    Args:
      width, height: inches, `height` without caption and legend.
      text: what the figure shows.
      command: that drew it; the end of the caption.
      marks: artists with labels, for a legend along the upper edge.

    Raises:
      UserError: matplotlib is not installed.
    """
    figure, room, foot = pictures.new_figure(width, height), width - 2 * _MARGIN, _MARGIN / 2
    lines = textwrap.wrap(text, int(room * _SANS))
    shell = textwrap.wrap(
        f"$ {command}", int(room * _MONOSPACE), subsequent_indent="    ", break_on_hyphens=False
    )
    for part, style in (
        (shell, {"fontsize": 7, "family": "monospace", "color": "0.35", "linespacing": 1.58}),
        (lines, {"fontsize": 8, "linespacing": 1.41}),
    ):
        inches = {"transform": figure.dpi_scale_trans, "va": "bottom"}
        figure.text(_MARGIN, foot, "\n".join(part), parse_math=False, **inches, **style)
        foot += len(part) * _LINE + _MARGIN / 2
    if marks:
        legend = figure.legend(
            handles=list(marks),
            loc="outside upper center",
            ncols=max(1, min(len(marks), int(width / _LEGEND_COLUMN))),
            frameon=False,
            fontsize=8,
            handletextpad=0.5,
            columnspacing=1.6,
        )
        height += legend.get_window_extent().height / figure.dpi
    total = height + foot
    figure.set_size_inches(width, total)
    figure.set_layout_engine("constrained", rect=(0, foot / total, 1, height / total))
    return figure


def write_figure(figure: Figure, folder: str | Path, name: str) -> list[Path]:
    """Write the picture as PNG and SVG, and what is drawn as JSON and CSV.

    Args:
      figure: to write.
      folder: made if missing.
      name: of the files, without suffix.

    Returns:
      The four paths.

    Raises:
      UserError: a file cannot be written.
    """
    stem = local_path(folder) / name
    text = io.StringIO()
    writer = csv.DictWriter(text, list(figure.table[0]) if figure.table else [])
    writer.writeheader()
    writer.writerows(figure.table)
    return [
        pictures.save_figure(figure.drawing, stem.with_suffix(".png")),
        pictures.save_figure(figure.drawing, stem.with_suffix(".svg")),
        write_json(stem.with_suffix(".json"), figure.contents),
        write_file(stem.with_suffix(".csv"), text.getvalue()),
    ]
