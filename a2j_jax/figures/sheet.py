"""A sheet of paper measured in inches from its top left corner, and the files a figure is written to."""

import csv
import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from a2j_jax import pictures
from a2j_jax.errors import printable
from a2j_jax.evaluation.report import write_json
from a2j_jax.files import local_path, write_file

_MARGIN = 0.12
_LEGEND_TOP, _LEGEND_COLUMN = 0.1, 1.3  # inches: above it, and of its widest column
_LINE, _FONT = 0.155, 8.0  # inches from one line of the caption to the next, points
_SANS, _MONOSPACE = 16.8, 16.3  # letters per inch, the latter of 7 points


class Figure(NamedTuple):
    """A figure of the paper: the picture, and all that is drawn in it."""

    drawing: Any  # matplotlib's
    contents: dict[str, Any]  # JSON-ready
    table: list[dict[str, Any]]  # the rows of the CSV, all of the same keys


class Area(NamedTuple):
    """A rectangle of the sheet, inches."""

    left: float
    top: float  # from the sheet's top
    width: float
    height: float


class Sheet:
    """White paper with a caption at its foot; `figure` is matplotlib's."""

    def __init__(self, width: float, height: float, caption: str, command: str) -> None:
        """Lays out the caption, and makes room for it.

        Args:
          width, height: of what is above the caption, inches.
          caption: what there is to see.
          command: that drew it, as it would be typed.

        Raises:
          UserError: matplotlib is not installed.
        """
        room = width - 2 * _MARGIN
        lines = textwrap.wrap(caption, int(room * _SANS))
        typed = textwrap.wrap(
            f"$ {command}", int(room * _MONOSPACE), subsequent_indent="    ", break_on_hyphens=False
        )
        self.width = width
        self.height = height + (len(lines) + len(typed)) * _LINE + 2 * _MARGIN
        self.figure = pictures.new_figure(self.width, self.height)
        for number, line in enumerate(lines):
            self.text(_MARGIN, height + _MARGIN + number * _LINE, line, va="top")
        for number, line in enumerate(typed, len(lines)):
            top = height + 1.4 * _MARGIN + number * _LINE
            self.text(_MARGIN, top, line, va="top", color="0.35", family="monospace", fontsize=7)

    def axes(self, area: Area) -> Any:
        """Empty axes on a part of the sheet."""
        return self.figure.add_axes(self.fraction(area))

    def fraction(self, area: Area) -> tuple[float, float, float, float]:
        """Left, bottom, width and height, as matplotlib counts: from below, 1 is all of the sheet."""
        bottom = self.height - area.top - area.height
        return (
            area.left / self.width,
            bottom / self.height,
            area.width / self.width,
            area.height / self.height,
        )

    def text(self, left: float, top: float, text: str, **style: Any) -> None:
        """A line of text; `style` is matplotlib's, over that of the caption."""
        style = {"fontsize": _FONT, "parse_math": False, **style}
        self.figure.text(left / self.width, 1 - top / self.height, printable(text), **style)

    def legend(self, marks: Sequence[Any]) -> None:
        """A legend without a frame along the upper edge, in as many rows as `legend_height` counts."""
        self.figure.legend(
            handles=list(marks),
            loc="upper center",
            bbox_to_anchor=(0.5, 1 - _LEGEND_TOP / self.height),
            borderaxespad=0.0,
            borderpad=0.0,
            ncols=_legend_columns(len(marks), self.width),
            frameon=False,
            fontsize=_FONT,
            handletextpad=0.5,
            columnspacing=1.6,
        )


def legend_height(marks: int, width: float) -> float:
    """Inches that a sheet's legend takes at the upper edge.

    Args:
      marks: how many.
      width: of the sheet, inches.
    """
    rows = -(-marks // _legend_columns(marks, width))
    return _LEGEND_TOP + 0.22 * rows


def _legend_columns(marks: int, width: float) -> int:
    return max(1, min(marks, int(width / _LEGEND_COLUMN)))


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
    drawn = [
        pictures.save_figure(figure.drawing, stem.with_suffix(suffix))
        for suffix in (".png", ".svg")
    ]
    written = write_json(stem.with_suffix(".json"), figure.contents)
    return [*drawn, written, _write_csv(stem.with_suffix(".csv"), figure.table)]


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    return write_file(path, text.getvalue())
