"""The page of a figure: its caption below it, and the files it is written to."""

import csv
import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from a2j_jax import pictures
from a2j_jax.evaluation.report import write_json
from a2j_jax.files import local_path, write_file

_MARGIN, _LINE = 0.12, 0.155  # inches: around the caption, from one of its lines to the next
_SANS, _MONOSPACE = 16.8, 16.3  # letters per inch of 8 and of 7 points
_LEGEND_COLUMN = 1.3  # inches


class Figure(NamedTuple):
    """A figure of the paper: the picture, and everything that is drawn in it."""

    drawing: Any  # matplotlib's
    contents: dict[str, Any]  # JSON-ready
    table: list[dict[str, Any]]  # the rows of the CSV, all with the same keys


class Caption:
    """The text below a figure: what it shows, and the command that drew it.

    Attributes:
      height: inches that it takes.
    """

    def __init__(self, text: str, command: str, width: float) -> None:
        """Breaks `text` and `command` into lines for a page of `width` inches."""
        room = width - 2 * _MARGIN
        self.lines = textwrap.wrap(text, int(room * _SANS))
        self.command = textwrap.wrap(
            f"$ {command}", int(room * _MONOSPACE), subsequent_indent="    ", break_on_hyphens=False
        )
        self.height = (len(self.lines) + len(self.command)) * _LINE + 2 * _MARGIN

    def draw(self, figure: Any) -> None:
        """Write the caption at the foot of a figure, which has the room for it."""
        width, height = figure.get_size_inches()
        foot = 0.5 * _MARGIN + len(self.command) * _LINE
        for lines, top, style in (
            (self.lines, self.height - _MARGIN, {"fontsize": 8}),
            (self.command, foot, {"fontsize": 7, "family": "monospace", "color": "0.35"}),
        ):
            for number, line in enumerate(lines):
                at = (top - number * _LINE) / height
                figure.text(_MARGIN / width, at, line, va="top", parse_math=False, **style)


def new_page(width: float, height: float, text: str, command: str) -> Any:
    """A figure with a caption; matplotlib's constrained layout arranges what is drawn above it.

    Args:
      width, height: inches, `height` without the caption.
      text, command: of the caption.

    Raises:
      UserError: matplotlib is not installed.
    """
    caption = Caption(text, command, width)
    total = height + caption.height
    figure = pictures.new_figure(width, total)
    figure.set_layout_engine("constrained", rect=(0, caption.height / total, 1, height / total))
    caption.draw(figure)
    return figure


def legend_height(marks: int, width: float) -> float:
    """Inches that the legend of so many marks takes along the upper edge of a figure."""
    return 0.1 + 0.22 * -(-marks // _legend_columns(marks, width))


def draw_legend(figure: Any, marks: Sequence[Any]) -> None:
    """A legend without a frame along the upper edge of a figure."""
    width, height = figure.get_size_inches()
    figure.legend(
        handles=list(marks),
        loc="upper center",
        bbox_to_anchor=(0.5, 1 - 0.1 / height),
        borderaxespad=0.0,
        borderpad=0.0,
        ncols=_legend_columns(len(marks), width),
        frameon=False,
        fontsize=8,
        handletextpad=0.5,
        columnspacing=1.6,
    )


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
