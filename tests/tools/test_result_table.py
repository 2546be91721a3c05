"""What a table says of runs: both epochs, the paper's number wherever it has one, the spread of seeds."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from a2j_jax.evaluation.tables import TABLES
from a2j_jax.tools.reproduce import print_results, result_table, write_table
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
    assert without["paper: mean error (mm)"] == "10.08"
    assert without["paper: frames/s"] == "–"  # the paper timed A2J alone
    not_run = cells(contents, "offset and depth")
    assert not_run.pop("paper: mean error (mm)") == "8.95"
    assert set(not_run.values()) == {"offset and depth in one branch", "–"}
    assert any("10.08" in note for note in contents.notes)


def test_labels_tell_of_missing_frames_and_runs() -> None:
    why = {"imagenet": "not run: weights/resnet50.safetensors is not there (docs/weights.md)"}
    run = result("from_scratch", 20.0, 19.0, caveat="3 of 8,252 frames")
    contents = result_table(TABLES["table9"], get_track("nyu"), [run], why)
    done, left_out = contents.rows
    assert done[0].endswith("(3 of 8,252 frames)")
    assert left_out[0] == "from ImageNet's weights (not run)"
    assert left_out[2] == "–"
    assert contents.notes[-1] == f"imagenet: {why['imagenet']}."


def test_of_several_seeds_the_mean_and_the_deviation() -> None:
    runs = [result("a2j", 19.0, 18.0), result("a2j", 21.0, 18.0, seed=2)]
    contents = result_table(TABLES["table7"], get_track("synthetic_hand"), runs, {})
    a2j = cells(contents, "A2J")
    assert a2j["mean error (mm), final"] == "20.00 ± 1.41"
    assert a2j["mean error (mm), best"] == "18.00 ± 0.00"
    assert a2j["commit"] == "0123456, 0123456+"  # what was not committed is marked
    assert not [column for column in contents.columns if "paper" in column]  # nothing to compare
    assert any("of 2 seeds" in note for note in contents.notes)


PDJ = {"pdj_mean": 0.5, "pdj": {f"{r:.2f}": r for r in (0.05, 0.1, 0.15, 0.2)}}


def test_bodies_by_map_and_pdj() -> None:
    runs = [
        result("heat_maps", 80.0, 70.0, map_10cm=0.875, **PDJ),
        result("a2j", 80.0, 70.0, map_10cm=0.5),
    ]
    contents = result_table(TABLES["table8"], get_track("itop_front"), runs, {})
    heat, unmeasured = cells(contents, "FCN"), cells(contents, "A2J")
    assert heat["mean PDJ (%), final"] == "50.00"
    assert heat["PDJ 0.15 (%), final"] == "15.00"
    assert heat["mAP@10 cm (%), final"] == "87.50"
    assert unmeasured["mean PDJ (%), final"] == unmeasured["PDJ 0.10 (%), best"] == "–"
    assert unmeasured["mAP@10 cm (%), final"] == "50.00"


@pytest.mark.parametrize(
    ("table", "track", "row", "expected"),
    [
        ("table7", "itop_front", "no_proposals", {"mAP@10 cm (%)": "80.1"}),
        ("table7", "itop_front", "one_branch", {"mAP@10 cm (%)": "87.4"}),
        ("table8", "k2hpd", "global_regression", {"PDJ 0.05 (%)": "61.5", "frames/s": "145.12"}),
        ("table8", "k2hpd", "heat_maps", {"PDJ 0.05 (%)": "70.4", "frames/s": "45.48"}),
        ("table8", "k2hpd", "a2j", {"PDJ 0.05 (%)": "76.3", "frames/s": "93.78"}),
        ("table8", "k2hpd", "a2j", {"mean PDJ (%)": "91.7"}),
        ("table7", "itop_front", "a2j", {"mAP@10 cm (%)": "88.0"}),
        ("table8", "nyu", "a2j", {"mean error (mm)": "8.61"}),
        ("table9", "nyu", "from_scratch", {"mean error (mm)": "10.08"}),
        ("table9", "itop_front", "imagenet", {"mAP@10 cm (%)": "88.0"}),
        ("table10", "nyu", "resnet34", {"mean error (mm)": "9.01", "frames/s": "144.63"}),
        ("table10", "itop_front", "resnet18", {"mAP@10 cm (%)": "87.1", "frames/s": "167.19"}),
        ("table2", "hands2017", "a2j", {"seen subjects (mm)": "6.92"}),
        ("table2", "hands2017", "a2j", {"unseen subjects (mm)": "9.95"}),
        ("table4", "icvl", "a2j", {"mean error (mm)": "6.461"}),
        ("table5", "itop_top", "a2j", {"feet (%)": "58.34", "mAP@10 cm (%)": "80.5"}),
        ("table5", "itop_top", "a2j", {"frames/s": "93.78"}),
        ("table6", "k2hpd", "a2j", {"PDJ, mean (%)": "91.7", "PDJ@0.20 (%)": "98.6"}),
    ],
)
def test_the_papers_number_stands_before_ours(
    table: str, track: str, row: str, expected: dict[str, str]
) -> None:
    run = result(row, 80.0, 70.0, mean_error_px=3.0, map_10cm=0.5, **PDJ)
    contents = result_table(TABLES[table], get_track(track), [run], {})
    label = next(one.label for one in TABLES[table].rows if one.name == row)
    found = cells(contents, label)
    for name, number in expected.items():
        assert found[f"paper: {name}"] == number, name
        at = contents.columns.index(f"paper: {name}")
        assert contents.columns[at + 1].startswith(name)


@pytest.mark.parametrize("name", list(TABLES))
def test_rows_do_not_wrap_in_a_terminal(name: str) -> None:
    """At 80 columns, over several seeds: heads wrap, rows of numbers do not."""
    table, lines = TABLES[name], io.StringIO()
    track = get_track(table.data[0])
    runs = [
        result(row.name, 18.0 + seed, 18.5, seed, mean_error_px=3.0, map_10cm=0.5, **PDJ)
        for row in table.rows
        for seed in (0, 1)
    ]
    contents = result_table(table, track, runs, {})
    print_results(contents, Console(file=lines, width=80))
    printed = lines.getvalue().splitlines()
    assert max(map(len, printed)) <= 80
    for column, *values in zip(
        contents.columns[1:], *(row[1:] for row in contents.rows), strict=True
    ):
        (line,) = (line for line in printed if line.strip().startswith(column + " "))
        assert line.split() == " ".join([column, *values]).split()


def test_it_is_written_as_markdown_html_and_json(tmp_path: Path) -> None:
    runs = [result("a2j", 19.0, 18.5)]
    contents = result_table(TABLES["table7"], get_track("nyu"), runs, {})
    paths = write_table(contents, runs, tmp_path, "table7", "a2j reproduce table7")
    assert [path.name for path in paths] == ["table7.md", "table7.html", "table7.json"]
    text = paths[0].read_text()
    assert "| A2J | 8.61 | 19.00 | 18.50 | 105.06 | 50.0 | 2.5 | 3.25 | 0123456 |" in text
    assert "8.61" in paths[2].read_text()
    assert "`a2j reproduce table7`" in text
    assert "18.50" in paths[1].read_text()
