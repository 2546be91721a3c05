"""Reports: the table's numbers, the files, and what happens without matplotlib."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from a2j_jax.errors import UserError
from a2j_jax.evaluation import report
from a2j_jax.evaluation.evaluate import EvaluationResult, evaluate_batches
from a2j_jax.evaluation.predictions import read_joints
from a2j_jax.evaluation.score import score_errors
from a2j_jax.tracks import get_track, with_crop_size

TRACK = with_crop_size(get_track("synthetic_hand"), 64)
FRAMES = 9


def example(index: int) -> dict[str, Any]:
    """A blob for a hand; the joints lie on a small circle."""
    angle = np.linspace(0, 6, 21)
    uv = 320 + 20 * np.stack([np.cos(angle), np.sin(angle)], -1)
    canvas = np.zeros((TRACK.canvas_size,) * 2, np.uint16)
    canvas[20:60, 20:60] = 700 + index
    return {
        "canvas": canvas,
        "joints_uvd": np.column_stack([uv, np.full(21, 700.0)]).astype(np.float32),
        "valid": np.ones(21, bool),
        "box_px": np.array([280.0, 280.0, 360.0, 360.0]),
        "center_uvd": np.array([320.0, 320.0, 700.0], np.float32),
        "camera": np.array([588.0, 588.0, 320.0, 240.0], np.float32),
        "index": np.int64(index),
    }


@pytest.fixture(scope="module")
def result() -> EvaluationResult:
    """Frame n is wrong by n pixels of the crop in u."""
    rows = [example(n) for n in range(FRAMES)]
    batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def predict(b: Any) -> Any:
        joints = (b["joints_uvd"] - [280, 280, 700]) * [64 / 80, 64 / 80, 1]
        joints[..., 0] += b["index"][:, None]
        return joints, np.ones(joints.shape[:2])

    return evaluate_batches(predict, [batch], TRACK)


def printed(scores: dict[str, Any]) -> str:
    out = io.StringIO()
    report.print_scores(scores, Console(file=out, width=120))
    return out.getvalue()


def test_table_shows_every_number_side_by_side(result: EvaluationResult) -> None:
    errors = np.full((4, 21), 25.0)
    errors[:, 3] = np.nan
    text = printed({"A2J": result.scores, "mean pose": score_errors(errors, TRACK)})
    lines = {line.split("│")[1].strip(): line for line in text.splitlines() if "│" in line}
    assert f"{result.scores.mean_error:.2f}" in lines["mean error (mm)"]
    assert "25.00" in lines["mean error (mm)"]
    assert "100.0%" in lines["frames with worst joint < 30 mm"]
    assert f"{result.scores.success_rate[10.0]:.1%}" in lines["frames with worst joint < 10 mm"]
    assert "–" in lines["middle_mcp (mm)"]
    assert len([name for name in lines if name.split(" ")[0] in TRACK.skeleton.joints]) == 21


def test_table_goes_to_stderr(result: EvaluationResult, capsys: pytest.CaptureFixture) -> None:
    report.print_scores({"A2J": result.scores}, Console(stderr=True))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "mean error" in captured.err


def test_report_writes_scores_predictions_and_pictures(
    result: EvaluationResult, tmp_path: Path
) -> None:
    folder = tmp_path / "eval"
    written = report.write_report(result, TRACK, folder, example, {"centre": result.scores})
    assert [path.name for path in written] == [
        "scores.json",
        "predictions.npz",
        "success_curve.png",
        "frames.png",
    ]
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["mean_error_mm"] == pytest.approx(result.scores.mean_error)
    assert scores["baselines"]["centre"]["frames"] == FRAMES
    back = read_joints(folder / "predictions.npz", TRACK)
    np.testing.assert_array_equal(back.joints_uvd, result.predictions.joints_uvd)
    for path in written[2:]:
        with Image.open(path) as image:
            assert np.asarray(image.convert("L")).std() > 10


def test_without_matplotlib_the_numbers_are_still_written(
    result: EvaluationResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(report.progress, "say", said.append)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    written = report.write_report(result, TRACK, tmp_path, example)
    assert [path.name for path in written] == ["scores.json", "predictions.npz"]
    assert said == ["no pictures: they need matplotlib, pip install 'a2j-jax[viz]'"]


def test_best_median_and_worst_frames_are_those(result: EvaluationResult) -> None:
    picked = report.pick_frames(result.scores.errors, 3)
    np.testing.assert_array_equal(picked["best"], [0, 1, 2])
    np.testing.assert_array_equal(picked["median"], [3, 4, 5])
    np.testing.assert_array_equal(picked["worst"], [8, 7, 6])


def test_frames_without_labels_are_never_picked() -> None:
    errors = np.array([[1.0], [np.nan], [3.0]])
    picked = report.pick_frames(errors, 6)
    assert sorted(picked["best"]) == [0, 2]
    assert len(picked["median"]) == len(picked["worst"]) == 2


def test_the_tile_shows_the_joints_in_crop_pixels() -> None:
    one = example(0)
    tile = report.example_tile(one, TRACK, one["joints_uvd"] + 10)
    assert tile.truth_uv is not None
    assert tile.joints_uv is not None
    np.testing.assert_allclose(tile.truth_uv, (one["joints_uvd"][:, :2] - 280) * 0.8)
    np.testing.assert_allclose(np.asarray(tile.joints_uv) - tile.truth_uv, 8.0, atol=1e-5)
    assert tile.depth.shape == (64, 64)
    assert tile.far == 850.0


def test_a_folder_that_cannot_be_made(result: EvaluationResult, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        report.write_report(result, TRACK, tmp_path / "file" / "eval", example)


def test_the_sheet_of_examples(tmp_path: Path) -> None:
    path = report.examples_sheet([example(n) for n in range(3)], TRACK, tmp_path / "show.png")
    assert path.stat().st_size > 1000
    with pytest.raises(UserError, match="no examples"):
        report.examples_sheet([], TRACK, tmp_path / "none.png")
