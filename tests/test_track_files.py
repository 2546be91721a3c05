"""Tracks of one's own: what a file may say, and what it is told when it says something else."""

import json
from pathlib import Path
from typing import Any

import pytest

from a2j_jax.cli.main import COMMANDS
from a2j_jax.errors import UserError
from a2j_jax.geometry import Camera
from a2j_jax.track_files import RESERVED_NAMES, find_track, load_track, track_file, track_from_dict
from a2j_jax.tracks import ALL_SPLITS, USUAL_SPLITS, get_track

MINIMAL = {
    "name": "my_hands",
    "like": "icvl",
    "camera": {"fx": 475.0, "fy": -474.0, "cx": 320.0, "cy": 240},
    "frame_size": [640, 480],
    "joints": ["wrist", "left_tip", "index_tip"],
    "limbs": {"thumb": ["wrist", "left_tip"], "index": ["wrist", "index_tip"]},
    "half_window_mm": 110,
    "crop_size": 96,
    "depth_unit_mm": 0.125,
}


def test_a_file_says_what_differs_and_the_rest_is_the_other_tracks(tmp_path: Path) -> None:
    path = tmp_path / "track.json"
    path.write_text(json.dumps(MINIMAL))
    track, like = load_track(path), get_track("icvl")
    assert track.name == "my_hands"
    assert track.camera == Camera(475.0, -474.0, 320.0, 240.0)
    assert track.frame_size == (640, 480)
    assert track.skeleton.joints == ("wrist", "left_tip", "index_tip")
    assert track.skeleton.bones == ((0, 1), (0, 2))
    assert track.skeleton.left_right == ()  # left_tip has no right_tip
    assert (track.half_window_mm, track.crop_size) == (110.0, 96)
    assert (track.depth_unit_mm, like.depth_unit_mm) == (0.125, 1.0)
    assert (track.mean, track.std) == (like.mean, like.std)
    assert (track.augmentation, track.paper_training) == (like.augmentation, like.paper_training)
    assert track.citation != like.citation


def test_a_track_is_found_by_name_by_folder_and_by_file(tmp_path: Path) -> None:
    (tmp_path / "track.json").write_text(json.dumps(MINIMAL))
    assert find_track("nyu") == get_track("nyu")
    assert track_file("nyu") is None
    assert find_track(tmp_path) == find_track(tmp_path / "track.json")
    with pytest.raises(UserError, match="did you mean 'nyu'"):
        find_track("nyuu")
    with pytest.raises(UserError, match=r"gone/track\.json: no such track file"):
        find_track(tmp_path / "gone" / "track.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no track\.json; .*joints\.csv .*docs/own_data\.md"):
        find_track(tmp_path / "empty")


def test_what_is_taken_from_the_other_track_is_said() -> None:
    assert track_from_dict({**MINIMAL, "notes": "Mine."}).notes == "Custom track, like icvl. Mine."
    without = {key: MINIMAL[key] for key in MINIMAL if key not in ("camera", "frame_size")}
    notes = track_from_dict(without).notes
    assert (
        notes == "Custom track, like icvl, with its camera and frame_size: track.json names none."
    )
    flat = track_from_dict({"name": "flat", "like": "k2hpd"})  # which has no camera either
    assert "with its frame_size: " in flat.notes


def test_without_joints_the_skeleton_and_protocol_are_the_other_tracks() -> None:
    track = track_from_dict({"name": "my_itop", "like": "itop_top"})
    assert (track.skeleton, track.protocol) == (get_track("itop_top").skeleton, "map_10cm")
    own = track_from_dict({"name": "my_body", "like": "itop_top", "joints": ["a", "b"]})
    assert own.protocol == "mean_error_mm"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"half_windw_mm": 1}, "unknown key 'half_windw_mm'; did you mean 'half_window_mm'"),
        ({"name": "My Hands"}, "name 'My Hands': expected a word"),
        ({"name": "nyu"}, "built-in track"),
        *(({"name": name}, f"name '{name}' is a keyword") for name in sorted(RESERVED_NAMES)),
        ({"like": "icv"}, "like: unknown track 'icv'; did you mean 'icvl'"),
        ({"camera": {"fx": 1}}, "expected fx, fy, cx and cy"),
        ({"camera": {"fx": 0, "fy": 1, "cx": 1, "cy": 1}}, "fx 0, fy 1: expected focal lengths"),
        ({"camera": {"fx": -475, "fy": 475, "cx": 1, "cy": 1}}, "fx above 0 and fy not 0"),
        ({"frame_size": [640.5, 480]}, "expected width and height"),
        ({"joints": []}, "expected a list of names"),
        ({"joints": ["a", "a"]}, "'a' is named twice"),
        ({"limbs": {"thumb": ["wrist", "indx_tip"]}}, "did you mean 'index_tip'"),
        ({"limbs": {"thumb": ["wrist"]}}, "limb 'thumb' .* two joints or more"),
        ({"limbs": {"thumb": "wrist"}}, "limb 'thumb' .* two joints or more"),
        ({"joints": ["center", "tip"], "limbs": {}}, "'center' is where to crop"),
        ({"depth_unit_mm": 0}, "depth_unit_mm 0: expected a number above 0"),
        ({"std": 0}, "std 0: expected a number above 0"),
        ({"loss_lambda": -1}, "loss_lambda -1: expected a number above 0"),
        ({"half_window_mm": -5}, "half_window_mm -5: expected a number above 0"),
        ({"half_window_mm": 0.11}, "half_window_mm 0.11: expected mm; are these meters"),
        ({"half_window_mm": 1e5}, "half_window_mm 100000: expected at most 10000 mm"),
        ({"limbs": {"thumb": ["wrist", "wrist"]}}, "a joint follows itself"),
        ({"depth_window_mm": 0.15}, "depth_window_mm 0.15: expected mm; are these meters"),
        ({"like": "itop_front"}, "half_window_mm: tracks like 'itop_front' crop by a box"),
        ({"half_window_mm": "wide"}, "half_window_mm 'wide': expected a number"),
        ({"crop_size": 100}, "multiple of 16"),
        ({"crop_size": 96.5}, "whole number"),
        ({"crop_size": 160_000}, "at most 2048"),
        ({"crop_size": True}, "expected a number"),
        ({"camera": {"fx": 1e9, "fy": 475, "cx": 1, "cy": 1}}, "camera fx=1e"),
        ({"camera": {"fx": 1e-9, "fy": 475, "cx": 1, "cy": 1}}, "focal lengths"),
        (
            {"camera": {"fx": 475, "fy": 475, "cx": "1", "cy": 1}},
            "camera cx '1': expected a number",
        ),
        ({"camera": [475, 475, 320, 240]}, "expected fx, fy, cx and cy"),
        ({"frame_size": [10**6, 10**6]}, "from 1 to 8192"),
        ({"frame_size": [True, 480]}, "two whole numbers"),
        ({"frame_size": "640x480"}, "two whole numbers"),
        ({"joints": [f"j{k}" for k in range(5000)], "limbs": {}}, "at most 512"),
        ({"joints": ["", "x" * 200], "limbs": {}}, "names of 1 to 100 characters"),
        ({"joints": "wrist"}, "expected a list of names"),
        ({"std": 1e300}, "out of range"),
        ({"mean": [0]}, "expected a number"),
        ({"citation": 7}, "expected a text"),
        ({"notes": ["a"]}, "expected a text"),
        ({"like": ["nyu"]}, "expected a text"),
        ({"name": "x" * 500}, "expected a word"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "track.json"
    path.write_text(json.dumps({**MINIMAL, **change}))
    with pytest.raises(UserError, match=message) as caught:
        load_track(path)
    assert str(path) in str(caught.value)


def test_words_of_the_command_line_are_no_names_of_tracks() -> None:
    assert {*COMMANDS, *USUAL_SPLITS, ALL_SPLITS} <= RESERVED_NAMES
    assert track_from_dict({**MINIMAL, "name": "train_2"}).name == "train_2"


def test_what_is_not_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "track.json"
    for text in ("{", "[]", "[" * 10**5, '{"std": 1e999}', '{"name": "a", "name": "b"}'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"track\.json"):
            load_track(path)
