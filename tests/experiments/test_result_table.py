"""What a table says of runs: both epochs, the paper's number where it has a source, the spread of seeds."""

from pathlib import Path
from typing import Any

from a2j_jax.experiments.paper_tables import TABLES
from a2j_jax.experiments.result_table import result_table, write_table
from a2j_jax.tracks import get_track


def result(row: str, final: float, best: float, seed: int = 1, **more: Any) -> dict[str, Any]:
    def scores(error: float) -> dict[str, Any]:
        return {"frames": 2000, "mean_error_mm": error, **more}

    return {
        "row": row,
        "seed": seed,
        "scored": {"split": "test", "data_dir": "/data", "pdj": False},
        "final": {"step": 9, **scores(final)},
        "best": {"step": 6, **scores(best)},
        "parameters": 2_500_000,
        "flops": 3.25e9,
        "speed": {"frames_per_second": 50.04},
        "commits": ["0123456" + ("+" if seed > 1 else "")],
        "devices": {"cpu": 1},
    }


def cells(contents: Any, label: str) -> dict[str, str]:
    (row,) = (row for row in contents.rows if row[0].startswith(label))
    return dict(zip(contents.columns, row, strict=True))


def test_hands_by_their_error() -> None:
    runs = [result("no_proposals", 21.5, 20.25), result("a2j", 19.0, 18.5)]
    contents = result_table(TABLES["table7"], get_track("nyu"), runs, {})
    assert [row[0] for row in contents.rows] == [row.label for row in TABLES["table7"].rows]
    a2j = cells(contents, "A2J")
    assert a2j["paper: mean error (mm)"] == "8.61"
    assert a2j["paper: frames/s"] == "105.06"
    assert (a2j["mean error (mm), final"], a2j["mean error (mm), best"]) == ("19.00", "18.50")
    assert a2j["frames/s"] == "50.0"
    assert (a2j["parameters (M)"], a2j["GFLOP"], a2j["commit"]) == ("2.5", "3.25", "0123456")
    without = cells(contents, "without the anchor")
    assert without["paper: mean error (mm)"] == "–"  # without a source there is no number
    assert set(cells(contents, "offset and depth").values()) == {
        "offset and depth in one branch",
        "–",
    }


def test_of_several_seeds_the_mean_and_the_deviation() -> None:
    runs = [result("a2j", 19.0, 18.0), result("a2j", 21.0, 18.0, seed=2)]
    contents = result_table(TABLES["table7"], get_track("synthetic_hand"), runs, {})
    a2j = cells(contents, "A2J")
    assert a2j["mean error (mm), final"] == "20.00 ± 1.41"
    assert a2j["mean error (mm), best"] == "18.00 ± 0.00"
    assert a2j["commit"] == "0123456, 0123456+"  # what was not committed is marked
    assert a2j["paper: mean error (mm)"] == "–"
    assert any("of 2 seeds" in note for note in contents.notes)


def test_bodies_by_map_and_pdj() -> None:
    pdj = {"pdj_mean": 0.5, "pdj": {f"{r:.2f}": r for r in (0.05, 0.1, 0.15, 0.2)}}
    run = result("heat_maps", 80.0, 70.0, map_10cm=0.875, **pdj)
    contents = result_table(TABLES["table8"], get_track("itop_front"), [run], {})
    heat = cells(contents, "FCN")
    assert heat["mean PDJ (%), final"] == "50.00"
    assert heat["PDJ 0.15 (%), final"] == "15.00"
    assert heat["mAP@10 cm (%), final"] == "87.50"
    ablation = result_table(
        TABLES["table7"], get_track("itop_front"), [result("a2j", 80.0, 70.0, map_10cm=0.5)], {}
    )
    assert cells(ablation, "A2J")["paper: mAP@10 cm (%)"] == "88"
    unmeasured = cells(result_table(TABLES["table8"], get_track("itop_front"), [
        result("a2j", 80.0, 70.0, map_10cm=0.5)], {}), "A2J")  # fmt: skip
    assert unmeasured["mean PDJ (%), final"] == unmeasured["PDJ 0.10 (%), best"] == "–"
    assert unmeasured["mAP@10 cm (%), final"] == "50.00"


def test_the_papers_number_is_the_first_that_has_a_source() -> None:
    pdj = {"pdj_mean": 0.5, "pdj": {f"{r:.2f}": r for r in (0.05, 0.1, 0.15, 0.2)}}
    run = result("a2j", 80.0, 70.0, mean_error_px=3.0, map_10cm=0.5, **pdj)
    for track, column, number in (
        ("k2hpd", "paper: PDJ 0.05 (%)", "76.3"),
        ("itop_front", "paper: mAP@10 cm (%)", "88"),
    ):
        contents = result_table(TABLES["table8"], get_track(track), [run], {})
        assert cells(contents, "A2J")[column] == number
        assert cells(contents, "FCN")[column] == "–"


def test_what_was_not_run_says_why() -> None:
    why = {"imagenet": "not run: weights/resnet50.safetensors is not there (docs/weights.md)"}
    runs = [result("from_scratch", 20.0, 19.0)]
    contents = result_table(TABLES["table9"], get_track("nyu"), runs, why)
    label = contents.rows[1][0]
    assert label == "from ImageNet's weights (not run)"
    assert contents.notes[-1] == f"imagenet: {why['imagenet']}."
    assert contents.rows[1][2] == "–"


def test_it_is_written_as_markdown_html_and_json(tmp_path: Path) -> None:
    runs = [result("a2j", 19.0, 18.5)]
    contents = result_table(TABLES["table7"], get_track("nyu"), runs, {})
    paths = write_table(contents, runs, tmp_path, "table7", "a2j reproduce table7")
    assert [path.name for path in paths] == ["table7.md", "table7.html", "table7.json"]
    text = paths[0].read_text()
    assert "| A2J | 8.61 | 19.00 | 18.50 | 105.06 | 50.0 | 2.5 | 3.25 | 0123456 |" in text
    assert "`a2j reproduce table7`" in text
    assert "18.50" in paths[1].read_text()
