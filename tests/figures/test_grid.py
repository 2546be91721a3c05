"""Figure 3 without weights: what it says of the grid is what the network uses."""

from pathlib import Path

import numpy as np
import pytest

from a2j_jax.figures import votes
from a2j_jax.figures.votes import figure_3, middle_cell
from a2j_jax.models.anchors import anchor_grid
from a2j_jax.runs.run_dir import write_config
from tests import tiny
from tests.evaluation import made_up


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that has a config, and no weights."""
    write_config(tmp_path, tiny.config())

    def one_example(data_dir, track, split, count):
        assert (data_dir, split, count) == ("data", "validation", 1)
        return {8: made_up.example(8, track)}

    monkeypatch.setattr(votes, "evenly_spaced", one_example)
    return tmp_path


def test_the_grid_is_the_networks(run: Path) -> None:
    drawn = figure_3(run, split="validation", data_dir=None, command="a2j figure 3")
    np.testing.assert_array_equal(drawn.contents["anchors_uv"], anchor_grid(32, 32))
    assert drawn.contents["frame"] == "made_up/8"
    assert drawn.contents["highlighted_cell"] == {"column": 1, "row": 1}
    cells = [(row["cell_column"], row["cell_row"]) for row in drawn.table]
    assert len(cells) == 64
    assert all(cells.count(cell) == 16 for cell in [(0, 0), (1, 0), (0, 1), (1, 1)])
    assert drawn.table[5] == {"anchor_u": 6.0, "anchor_v": 6.0, "cell_column": 0, "cell_row": 0}


def test_the_cell_is_enlarged_with_its_sixteen_anchors(run: Path) -> None:
    drawn = figure_3(run, split="validation", data_dir=None, command="a2j figure 3").drawing
    crop, cell = drawn.axes
    assert crop.get_xlim() == (-0.5, 31.5)
    assert cell.get_xlim() == (5.5, 41.5)
    for axes in (crop, cell):
        others, inside = axes.collections[:2]
        assert (len(others.get_offsets()), len(inside.get_offsets())) == (48, 16)
        assert (inside.get_offsets() >= 16).all()
    assert {"16 px", "S = 4 px"} <= {text.get_text() for text in cell.texts}
    said = " ".join(text.get_text() for text in drawn.texts)
    assert "2 × 2 cells, 64 anchors" in said
    assert "$ a2j figure 3" in said


def test_the_middle_cell() -> None:
    assert [middle_cell(size) for size in (16, 80, 176, 288)] == [0, 2, 5, 9]
