"""Sheets: inches from the top left, and four files."""

import csv
import json
from pathlib import Path

import pytest

from a2j_jax.errors import UserError
from a2j_jax.figures.sheet import Area, Figure, Sheet, legend_height, write_figure


def sheet() -> Sheet:
    return Sheet(4.0, 2.0, "Figure 9. Nothing at all.", "a2j figure 9 --checkpoint $RUN")


def test_areas_are_counted_from_the_top() -> None:
    paper = sheet()
    assert paper.figure.get_size_inches().tolist() == [4.0, paper.height]
    assert paper.height > 2.0  # room for the caption
    box = paper.axes(Area(1.0, 0.5, 2.0, 1.0)).get_position()
    assert (box.x0, box.width) == (0.25, 0.5)
    assert box.y1 == pytest.approx(1 - 0.5 / paper.height)
    assert box.height == pytest.approx(1.0 / paper.height)


def test_the_caption_ends_with_the_command_as_typed() -> None:
    *_, command = sheet().figure.texts
    assert command.get_text() == "$ a2j figure 9 --checkpoint $RUN"
    assert not command.get_parse_math()


def test_a_narrow_legend_has_more_rows() -> None:
    assert legend_height(6, 9.0) < legend_height(6, 4.0) < legend_height(6, 2.0)


def test_four_files_hold_picture_and_numbers(tmp_path: Path) -> None:
    rows = [{"joint": "wrist", "weight": 0.5}, {"joint": "tip, index", "weight": 0.25}]
    figure = Figure(sheet().figure, {"figure": 9, "rows": rows}, rows)
    written = write_figure(figure, tmp_path / "new", "figure_9")
    assert [path.name for path in written] == [
        "figure_9.png", "figure_9.svg", "figure_9.json", "figure_9.csv",
    ]  # fmt: skip
    png, svg, contents, table = written
    assert png.read_bytes()[:4] == b"\x89PNG"
    assert svg.read_text().rstrip().endswith("</svg>")
    written = json.loads(contents.read_text())
    assert written.pop("written_by").startswith("a2j_jax")
    assert written == figure.contents
    with table.open(newline="") as file:
        assert [{**row, "weight": float(row["weight"])} for row in csv.DictReader(file)] == rows


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot"):
        write_figure(Figure(sheet().figure, {}, []), tmp_path / "file", "figure_9")
