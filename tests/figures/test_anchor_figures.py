"""Figures 1, 3 and 6 show what was found, and nothing reaches beyond the page."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.text import Text

from a2j_jax import pictures
from a2j_jax.figures import anchor_figures
from a2j_jax.figures.anchor_figures import FrameVotes, JointVotes
from a2j_jax.models.anchors import anchor_grid
from a2j_jax.runs.run_dir import write_config
from a2j_jax.tracks import get_track
from tests import tiny

TRACK = get_track("synthetic_hand")


def joint_votes(name="wrist", count=3, *, labeled=True):
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


def frame_votes(*joints, name="test/7"):
    depth = np.full((32, 32), 700, np.uint16)
    uv = np.full((21, 2), 16.0)
    return FrameVotes(name, 7, pictures.Tile(depth, uv, uv + 1), 9.5, joints)


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text)]


@pytest.mark.parametrize(("count", "labeled"), [(3, True), (0, False)])
def test_dots_are_anchors_and_arrows_their_offsets(count, labeled):
    joint = joint_votes(count=count, labeled=labeled)
    axes = pictures.new_figure(2, 2).add_axes((0, 0, 1, 1))
    anchor_figures.draw_votes(axes, frame_votes(joint), joint, 2.0, mean_anchor=labeled)
    grid, dots, arrows, *marks = axes.collections
    assert len(grid.get_offsets()) == 64
    np.testing.assert_allclose(dots.get_offsets(), joint.anchor_uv)
    np.testing.assert_allclose(dots.get_sizes() * 0.3, joint.weight * dots.get_sizes()[:1])
    np.testing.assert_allclose(arrows.XY, joint.anchor_uv)
    np.testing.assert_allclose(np.stack([arrows.U, arrows.V], -1), joint.offset_uv)
    places = [tuple(mark.get_offsets()[0]) for mark in marks]
    assert places == [(18, 11), (23, 16), (23, 16)] * labeled + [(20, 12), (20, 12)]
    assert axes.get_xlim() == (-0.5, 31.5)  # whatever points out of the crop
    assert axes.get_ylim() == (31.5, -0.5)


def test_the_idea_has_a_row_per_frame_and_a_column_per_joint():
    joints = joint_votes(), joint_votes("index_tip", 1)
    frames = [frame_votes(*joints), frame_votes(*joints, name="a/long/path/" * 5 + "frame_0007")]
    figure = anchor_figures.draw_idea(frames, TRACK, "Figure 1. What it shows.", "a2j figure 1")
    assert len(figure.axes) == 2 * 3
    said = texts(figure)
    assert {"Figure 1. What it shows.", "$ a2j figure 1"} <= set(said)
    assert said.count("mean error 9.5 mm") == 2
    assert "3 anchors, 60% of weight; 7.2 mm off" in said
    assert "1 anchor, 30% of weight; 7.2 mm off" in said
    assert said.count("index tip\n") == 2
    (name,) = [text for text in said if text.endswith("frame_0007\n")]
    assert name.startswith("…")
    assert len(name) == 34 + 1


def test_pairs_stand_side_by_side():
    shown = {
        "without": [frame_votes(joint_votes(), joint_votes("index_tip"))],
        "with": [frame_votes(joint_votes(labeled=False), joint_votes("index_tip"))],
    }
    figure = anchor_figures.draw_pairs(shown, "Figure 6.", "a2j figure 6")
    said = texts(figure)
    assert said.count("wrist, test/7\n") == 1  # above the first of both
    assert f"without the loss: {np.hypot(5, 5):.1f} px off" in said
    assert "with the loss" in said
    figure.draw_without_rendering()
    boxes = [axes.get_window_extent() for axes in figure.axes]
    gaps = [right.x0 - left.x1 for left, right in pairwise(boxes)]
    assert len(gaps) == 3
    assert gaps[0] == pytest.approx(gaps[2])
    assert 0 < gaps[0] < gaps[1] / 2


@pytest.mark.parametrize("joints", [1, 3, 6])
def test_nothing_reaches_beyond_the_paper(joints):
    frame = frame_votes(*(joint_votes() for _ in range(joints)))
    pair, words = {"without": [frame], "with": [frame]}, "Figure 1. " + "Words. " * 60
    for figure in (
        anchor_figures.draw_idea([frame], TRACK, words, "a2j " + "word " * 30),
        anchor_figures.draw_pairs(pair, "Figure 6.", "a2j figure 6"),
    ):
        figure.draw_without_rendering()
        renderer = figure.canvas.get_renderer()
        drawn = [text for text in figure.findobj(Text) if text.get_text().strip()]
        assert len(drawn) >= 2 * joints
        for artist in (*drawn, *figure.legends):
            box = artist.get_window_extent(renderer)
            assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
            assert 0 <= box.y0 < box.y1 <= figure.bbox.y1
        tiles = [axes.get_tightbbox(renderer) for axes in figure.axes]
        assert figure.legends[0].get_window_extent(renderer).y0 > max(box.y1 for box in tiles)
        caption = max(text.get_window_extent(renderer).y1 for text in figure.texts)
        assert caption < min(box.y0 for box in tiles)


@pytest.mark.slow
def test_the_grid_is_the_networks(tiny_data, tmp_path):
    """Of a run that has a config, and no weights."""
    write_config(tmp_path, tiny.config(tiny_data))
    drawn = anchor_figures.figure_3(tmp_path, "validation", None, "a2j figure 3")
    np.testing.assert_array_equal(drawn.contents["anchors_uv"], anchor_grid(32, 32))
    assert drawn.contents["frame"] == "validation/000008"
    assert drawn.contents["highlighted_cell"] == {"column": 1, "row": 1}
    cells = [(row["cell_column"], row["cell_row"]) for row in drawn.table]
    assert len(cells) == 64
    assert all(cells.count(cell) == 16 for cell in [(0, 0), (1, 0), (0, 1), (1, 1)])
    assert drawn.table[5] == {"anchor_u": 6.0, "anchor_v": 6.0, "cell_column": 0, "cell_row": 0}
    crop, cell = drawn.drawing.axes
    assert crop.get_xlim() == (-0.5, 31.5)
    assert cell.get_xlim() == (5.5, 41.5)  # enlarged, with its sixteen anchors
    for axes in (crop, cell):
        sizes = [len(one.get_offsets()) for one in axes.collections]
        inside = axes.collections[sizes.index(16)].get_offsets()
        assert 48 in sizes
        assert (inside >= 16).all()
    said = texts(drawn.drawing)
    assert {"16 px", "S = 4 px", "$ a2j figure 3"} <= set(said)
    assert any("2 × 2 cells, 64 anchors" in text.replace("\n", " ") for text in said)


def test_the_middle_cell():
    assert [anchor_figures.middle_cell(size) for size in (16, 80, 176, 288)] == [0, 2, 5, 9]
