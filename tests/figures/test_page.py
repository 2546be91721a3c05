"""Pages with a caption, and the four files of a figure."""

import csv
import itertools
import json
from pathlib import Path

import pytest

from a2j_jax.errors import UserError
from a2j_jax.figures.page import Figure, legend_height, new_page, write_figure

COMMAND = "a2j figure 9 --checkpoint $RUN"


def test_the_caption_is_below_everything_else_and_ends_with_the_command() -> None:
    figure = new_page(4.0, 2.0, "Figure 9. " + "Nothing at all. " * 20, COMMAND)
    axes = figure.subplots()
    axes.set_xlabel("label")
    figure.draw_without_rendering()
    assert figure.get_size_inches()[1] > 2.0
    *lines, command = figure.texts
    assert lines[0].get_text().startswith("Figure 9.")
    assert command.get_text() == f"$ {COMMAND}"
    assert not command.get_parse_math()
    boxes = [text.get_window_extent() for text in figure.texts]
    assert boxes[-1].y0 >= 0
    assert all(one.y0 > other.y0 for one, other in itertools.pairwise(boxes))
    assert max(box.x1 for box in boxes) <= figure.bbox.x1
    assert axes.get_tightbbox().y0 > boxes[0].y1


def test_a_narrow_legend_has_more_rows() -> None:
    assert legend_height(6, 9.0) < legend_height(6, 4.0) < legend_height(6, 2.0)


def test_four_files_hold_picture_and_numbers(tmp_path: Path) -> None:
    rows = [{"joint": "wrist", "weight": 0.5}, {"joint": "tip, index", "weight": 0.25}]
    page = new_page(4.0, 2.0, "Figure 9.", COMMAND)
    figure = Figure(page, {"figure": 9, "rows": rows}, rows)
    written = write_figure(figure, tmp_path / "new", "figure_9")
    assert [path.name for path in written] == [
        "figure_9.png", "figure_9.svg", "figure_9.json", "figure_9.csv",
    ]  # fmt: skip
    png, svg, contents, table = written
    assert png.read_bytes()[:4] == b"\x89PNG"
    assert svg.read_text().rstrip().endswith("</svg>")
    found = json.loads(contents.read_text())
    assert found.pop("written_by").startswith("a2j_jax")
    assert found == figure.contents
    with table.open(newline="") as file:
        assert [{**row, "weight": float(row["weight"])} for row in csv.DictReader(file)] == rows
    with pytest.raises(UserError):
        write_figure(figure, png, "figure_9")  # a folder that is a file
