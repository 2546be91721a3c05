"""Pages with a caption, and the four files of a figure."""

import csv
import json
from pathlib import Path

import pytest

from a2j_jax.errors import UserError
from a2j_jax.figures.page import Figure, new_page, write_figure

COMMAND = "a2j figure 9 --checkpoint $RUN"


def test_the_caption_is_below_everything_else_and_ends_with_the_command() -> None:
    figure = new_page(4.0, 2.0, "Figure 9. " + "Nothing at all. " * 20, COMMAND)
    axes = figure.subplots()
    axes.set_xlabel("label")
    figure.draw_without_rendering()
    assert figure.get_size_inches()[1] > 2.0
    command, caption = figure.texts
    assert caption.get_text().startswith("Figure 9.")
    assert caption.get_text().count("\n") > 3
    assert command.get_text() == f"$ {COMMAND}"
    assert not command.get_parse_math()
    below, above = (text.get_window_extent() for text in (command, caption))
    assert 0 <= below.y0 < below.y1 < above.y0 < above.y1 < axes.get_tightbbox().y0
    assert max(below.x1, above.x1) <= figure.bbox.x1


def test_four_files_hold_picture_and_numbers(tmp_path: Path) -> None:
    rows = [{"joint": "wrist", "weight": 0.5}, {"joint": "tip, index", "weight": 0.25}]
    page = new_page(4.0, 2.0, "Figure 9.", COMMAND)
    figure = Figure(page, {"figure": 9, "rows": rows}, rows)
    written = write_figure(figure, tmp_path / "new", "figure_9")
    assert [path.name for path in written] == [
        f"figure_9{suffix}" for suffix in (".png", ".svg", ".json", ".csv")
    ]
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
