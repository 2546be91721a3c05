"""Tables and JSON of made-up times."""

import dataclasses
import json

import pytest

from a2j_jax.evaluation.tables import markdown
from a2j_jax.tools.speed import Measured, Row, comparison_table, paper_speed, speed_table, to_json
from a2j_jax.tools.timing import Timing
from a2j_jax.tracks import get_track

NYU = get_track("nyu")
FOUND = Measured(
    Timing((2.0, 2.0, 2.0)),
    (
        Row("a2j resnet50", 42_700_000, 11.2e9, 1, Timing((8.0, 6.0, 7.0)), None),
        Row("a2j resnet50", 42_700_000, 11.2e9, 8, Timing((3.0,) * 3), Timing((6.0, 4.5, 6.0))),
    ),
)


def test_the_sum_is_of_both_parts() -> None:
    table = speed_table(FOUND, "Speed", NYU)
    cells = dict(zip(table.columns, table.rows[0], strict=True))
    assert cells == {
        "network": "a2j resnet50",
        "M weights": "42.7",
        "GFLOP": "11.20",
        "batch": "1",
        "read, warp": "2",
        "forward": "7 (6.5–7.5)",
        "sum": "9",
        "frames/s": "111.1",
        "paper": "105.06",
    }
    assert table.rows[1][-1] == "–"  # eight frames at a time: the paper has no such number
    assert "| a2j resnet50 | 42.7 |" in markdown(table)


def test_the_comparison_is_by_round() -> None:
    (row,) = comparison_table(FOUND).rows
    assert row == ("a2j resnet50", "8", "3 (3–3)", "6 (5.25–6)", "2.00 (1.75–2.00)")


def test_json_holds_everything() -> None:
    contents = json.loads(json.dumps(to_json(FOUND, {"device": "abacus"}, NYU), allow_nan=False))
    assert contents["device"] == "abacus"
    assert (contents["track"], contents["crop_size"]) == ("nyu", 176)
    one, other = contents["networks"]
    assert one["forward_ms"] == {"median": 7.0, "lower": 6.5, "upper": 7.5}
    assert one["rounds_ms"] == [8.0, 6.0, 7.0]
    assert one["total_ms"] == 9.0
    assert one["frames_per_second"] == pytest.approx(1000 / 9)
    assert one["official"] is None
    assert other["official"]["times_as_fast"]["median"] == 2.0


@pytest.mark.parametrize(
    ("track", "said"), [("nyu", "105.06 frames/s"), ("k2hpd", "93.78 frames/s")]
)
def test_the_papers_speed_is_quoted_with_its_source(track: str, said: str) -> None:
    (note,) = paper_speed(get_track(track))
    assert said in note
    assert "1080 Ti" in note
    assert "Sec. 4.4" in note
    assert note in speed_table(FOUND, "", get_track(track)).notes


def test_where_no_speed_was_published_nothing_is_quoted() -> None:
    hand = get_track("synthetic_hand")
    assert paper_speed(hand) == ()
    assert "paper" not in speed_table(FOUND, "", hand).columns


@pytest.mark.parametrize(
    ("network", "track", "speed"),
    [
        ("a2j resnet18", "nyu", "192.25"),
        ("a2j resnet34", "itop_front", "122.47"),
        ("a2j resnet50", "icvl", "105.06"),
        ("a2j resnet50", "k2hpd", "93.78"),
        ("regression resnet50", "k2hpd", "145.12"),
        ("heat_maps resnet50", "k2hpd", "45.48"),
        ("heat_maps resnet50", "nyu", None),
        ("a2j resnet18", "k2hpd", None),
    ],
)
def test_networks_of_tables_8_and_10(network: str, track: str, speed: str | None) -> None:
    found = Measured(FOUND.read_and_warp, (dataclasses.replace(FOUND.rows[0], network=network),))
    table = speed_table(found, "", get_track(track))
    assert (table.rows[0][-1] if "paper" in table.columns else None) == speed
