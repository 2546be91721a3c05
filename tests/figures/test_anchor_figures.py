"""Figures 1, 3 and 6 show what was found, and nothing reaches beyond the page."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a2j_jax import pictures
from a2j_jax.figures import anchor_figures
from a2j_jax.figures.votes import FrameVotes, JointVotes
from a2j_jax.models.anchors import anchor_grid
from a2j_jax.runs.run_dir import write_config
from a2j_jax.tracks import get_track
from tests import tiny
from tests.evaluation import made_up

TRACK = get_track("synthetic_hand")


def joint_votes(name: str = "wrist", count: int = 3, *, labeled: bool = True) -> JointVotes:
    at = 4.0 * np.arange(2 * count).reshape(count, 2) + 2
    return JointVotes(
        joint=name,
        predicted_uv=np.array([20.0, 12.0]),
        label_uv=np.array([23.0, 16.0]) if labeled else None,
        error=7.25 if labeled else None,
        anchor_uv=at,
        weight=np.linspace(0.3, 0.1, count),
        offset_uv=np.array([20.0, 12.0]) - at,
        mean_anchor_uv=np.array([18.0, 11.0]),
    )


def frame_votes(*joints: JointVotes, name: str = "test/7") -> FrameVotes:
    depth = np.full((32, 32), 700, np.uint16)
    uv = np.full((21, 2), 16.0)
    return FrameVotes(name, 7, pictures.Tile(depth, uv, uv + 1), 9.5, joints)


def axes_of(frame: FrameVotes, **options: Any) -> Any:
    axes = pictures.new_figure(2, 2).add_axes((0, 0, 1, 1))
    anchor_figures.draw_votes(axes, frame, frame.joints[0], 2.0, **options)
    return axes


def test_dots_are_anchors_and_arrows_their_offsets() -> None:
    joint = joint_votes()
    axes = axes_of(frame_votes(joint), mean_anchor=True)
    grid, dots, arrows, *marks = axes.collections
    assert len(grid.get_offsets()) == 64
    np.testing.assert_allclose(dots.get_offsets(), joint.anchor_uv)
    areas = dots.get_sizes()
    np.testing.assert_allclose(areas / areas[0], joint.weight / joint.weight[0])
    np.testing.assert_allclose(arrows.XY, joint.anchor_uv)
    np.testing.assert_allclose(np.stack([arrows.U, arrows.V], -1), joint.offset_uv)
    places = [tuple(mark.get_offsets()[0]) for mark in marks]
    assert places == [(18, 11), (23, 16), (23, 16), (20, 12), (20, 12)]
    assert axes.get_xlim() == (-0.5, 31.5)  # whatever points out of the crop
    assert axes.get_ylim() == (31.5, -0.5)


def test_no_label_and_no_informative_anchor() -> None:
    joint = joint_votes(count=0, labeled=False)
    axes = axes_of(frame_votes(joint), mean_anchor=False)
    assert len(axes.collections) == 5  # grid, no dots, no arrows, the joint and its edge


def texts(figure: Any) -> list[str]:
    drawn = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    return [text.get_text() for text in drawn]


def test_the_idea_has_a_row_per_frame_and_a_column_per_joint() -> None:
    frames = [frame_votes(joint_votes(), joint_votes("index_tip", 1)) for _ in range(2)]
    figure = anchor_figures.draw_idea(frames, TRACK, "Figure 1. What it shows.", "a2j figure 1")
    assert len(figure.axes) == 2 * 3
    said = texts(figure)
    assert said[:2] == ["Figure 1. What it shows.", "$ a2j figure 1"]
    assert said.count("mean error 9.5 mm") == 2
    assert "3 anchors, 60% of weight; 7.2 mm off" in said
    assert "1 anchor, 30% of weight; 7.2 mm off" in said
    assert said.count("index tip") == 2


def test_pairs_stand_side_by_side() -> None:
    shown = {
        "without": [frame_votes(joint_votes(), joint_votes("index_tip"))],
        "with": [frame_votes(joint_votes(labeled=False), joint_votes("index_tip"))],
    }
    figure = anchor_figures.draw_pairs(shown, "Figure 6.", "a2j figure 6")
    assert len(figure.axes) == 4
    said = texts(figure)
    assert said.count("wrist, test/7") == 1  # above the first of both
    assert f"without the loss: {np.hypot(5, 5):.1f} px off" in said
    assert "with the loss" in said
    left = {axes.get_position().x0 for axes in figure.axes}
    assert len(left) == 4


def test_a_long_name_ends_as_it_does() -> None:
    frame = frame_votes(joint_votes(), name="a/long/path/" * 5 + "frame_0007")
    said = texts(anchor_figures.draw_idea([frame], TRACK, "Figure 1.", "a2j figure 1"))
    (name,) = [text for text in said if text.endswith("frame_0007")]
    assert name.startswith("…")
    assert len(name) == 34


@pytest.mark.parametrize("joints", [1, 3, 6])
def test_nothing_reaches_beyond_the_paper(joints: int) -> None:
    frame = frame_votes(*(joint_votes() for _ in range(joints)))
    for figure in (
        anchor_figures.draw_idea(
            [frame], TRACK, "Figure 1. " + "Words. " * 60, "a2j " + "word " * 30
        ),
        anchor_figures.draw_pairs(
            {"without": [frame], "with": [frame]}, "Figure 6.", "a2j figure 6"
        ),
    ):
        renderer = figure.canvas.get_renderer()
        titles = [text for axes in figure.axes for text in axes.texts]
        assert len(titles) >= 2 * joints
        for artist in (*figure.texts, *figure.legends, *titles):
            box = artist.get_window_extent(renderer)
            assert box.x0 >= 0
            assert box.y0 >= 0
            assert box.x1 <= figure.bbox.x1
            assert box.y1 <= figure.bbox.y1
        lowest = figure.legends[0].get_window_extent(renderer).y0
        assert lowest > max(axes.get_window_extent(renderer).y1 for axes in figure.axes)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that has a config, and no weights."""
    write_config(tmp_path, tiny.config())

    def one_example(data_dir, track, split, count):
        assert (data_dir, split, count) == ("data", "validation", 1)
        return {8: made_up.example(8, track)}

    monkeypatch.setattr(anchor_figures, "evenly_spaced", one_example)
    return tmp_path


def test_the_grid_is_the_networks(run: Path) -> None:
    drawn = anchor_figures.figure_3(run, split="validation", data_dir=None, command="a2j figure 3")
    np.testing.assert_array_equal(drawn.contents["anchors_uv"], anchor_grid(32, 32))
    assert drawn.contents["frame"] == "made_up/8"
    assert drawn.contents["highlighted_cell"] == {"column": 1, "row": 1}
    cells = [(row["cell_column"], row["cell_row"]) for row in drawn.table]
    assert len(cells) == 64
    assert all(cells.count(cell) == 16 for cell in [(0, 0), (1, 0), (0, 1), (1, 1)])
    assert drawn.table[5] == {"anchor_u": 6.0, "anchor_v": 6.0, "cell_column": 0, "cell_row": 0}


def test_the_cell_is_enlarged_with_its_sixteen_anchors(run: Path) -> None:
    drawn = anchor_figures.figure_3(
        run, split="validation", data_dir=None, command="a2j figure 3"
    ).drawing
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
    assert [anchor_figures.middle_cell(size) for size in (16, 80, 176, 288)] == [0, 2, 5, 9]
