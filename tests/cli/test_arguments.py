"""Argument types, and config overrides taken out of a command line."""

import json
import os
from pathlib import Path

import pytest

from a2j_jax.cli.arguments import (
    command_line,
    config_with_overrides,
    named_files,
    path_name,
    split_overrides,
)
from a2j_jax.config import Config, keys
from a2j_jax.config_files import load_config
from a2j_jax.errors import UserError
from a2j_jax.evaluation.joint_files import read_joints
from a2j_jax.runs.checkpoints import save_variables
from a2j_jax.track_files import find_track
from a2j_jax.tracks import get_track
from a2j_jax.weights.convert import read_state_dict
from tfds_builders.build import build_raw


def test_the_command_as_it_was_typed(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/usr/bin/a2j", "eval", "--out", "my report"])
    assert command_line(["eval", "--out", "my report"]) == "a2j eval --out 'my report'"
    monkeypatch.setattr("sys.argv", ["eval.py", "--out", "my report"])
    assert command_line(["eval", "--out", "my report"]) == "python eval.py --out 'my report'"
    assert command_line(["eval", "--json"]) == "a2j eval --json"  # called from somebody's code


def test_overrides_are_split_off():
    line = ["--config", "quickstart", "--config.a.b=1=2", "--workdir", "w", "--config.c", "-2"]
    rest = ["--config", "quickstart", "--workdir", "w"]
    assert split_overrides(line) == (rest, [("a.b", "1=2"), ("c", "-2")])
    for line in (["--config.a"], ["--config.a", "--workdir"]):
        with pytest.raises(UserError, match=r"--config\.a=VALUE"):
            split_overrides(line)
    later = config_with_overrides("quickstart", [("optim.steps", "3"), ("optim.steps", "5")])
    assert later.optim.steps == 5


def test_a_row_of_a_table_on_another_base():
    config = config_with_overrides("table7/no_proposals", [], "itop_front")
    assert (config.track, config.optim.batch_size) == ("itop_front", 256)
    assert not config.model.proposals
    for name in ("quickstart", "runs/x/config.json"):
        with pytest.raises(UserError, match="is no row of a table"):
            config_with_overrides(name, [], "itop_front")


# A command, and its arguments that name files.
PLACES = {
    "build": "gs://b/hands",
    "build nyu": "--manual_dir --centers --keypoints_dir",
    "show": "gs://b/track",
    "show nyu": "--out --frame",
    "figure 6": "--checkpoint --without --out",
    "figure 7": "--checkpoint=A= --predictions=gs://b/a= --labels",
    "plan --topology cpu": "--config --base",
    "train": "--config",
    "train --config quickstart": "--base --data_cache",
    "eval --workdir .": "--write --subset=new=",
    "eval --track nyu --labels a.txt --predictions a.txt": "--predictions=A= --labels",
    "reproduce table7 --data nyu": "--out",
    "bench": "--checkpoint --out=",
    "predict --checkpoint . --depth a.png": "--depth --out",
    "convert --track nyu a.pth": "gs://b/out",
    "convert --track nyu": "gs://b/a.pth",
}


@pytest.mark.parametrize(
    "line", [f"{line} {option}" for line, options in PLACES.items() for option in options.split()]
)
def test_addresses_of_object_stores_are_refused(line, mistake):
    Path("a.png").touch()
    if "--" in line.split()[-1]:
        line += "gs://b/x" if line.endswith("=") else " gs://b/x"
    mistake(line, "addresses are not supported")


def test_names_of_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("lr=0.1.txt", "a.npz"):
        Path(name).touch()
    Path("lr0.1").mkdir()  # of a folder there is no suffix to leave out
    assert named_files(["A=x/a.txt", "lr=0.1.txt", "c =d=e.mat", "~/a.npz", "B=~/b", "lr0.1"]) == {
        "A": Path("x/a.txt"),
        "lr=0.1": Path("lr=0.1.txt"),
        "c": Path("d=e.mat"),
        "a": tmp_path / "a.npz",
        "B": tmp_path / "b",
        "lr0.1": Path("lr0.1"),
    }
    for bad in ("=a.txt", "A="):
        with pytest.raises(UserError, match="NAME=FILE"):
            named_files([bad])
    with pytest.raises(UserError, match="names 'a' twice"):
        named_files(["x/a.txt", "y/a.txt"])
    assert path_name("~/x") == str(tmp_path / "x")
    assert [path_name(text) for text in ("./x", "labels", "x/~y")] == ["./x", "labels", "x/~y"]


@pytest.mark.parametrize(
    "call",
    [
        lambda: build_raw("nyu", "gs://b/nyu", "data"),
        lambda: find_track("gs://b/track.json"),
        lambda: load_config("gs://b/config.json"),
        lambda: read_state_dict("gs://b/a.pth"),
        lambda: read_joints("gs://b/a.npz", get_track("nyu")),
        lambda: save_variables("gs://b/run", {}, Config("x", "nyu")),
    ],
)
def test_the_library_refuses_them_too(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="addresses are not supported"):
        call()
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("line", "foreign"),
    [
        ("predict --checkpoint none --depth d.png --out d.png", "d.png"),
        ("predict --checkpoint none --depth d.png --out x.svg", "x.svg"),
        ("predict --checkpoint none --depth d.png --out link.png --overwrite", "d.png"),
        ("predict --checkpoint none --depth d.png --out f/../d.png", "f/x.svg"),
        ("predict --checkpoint none --depth d.png --out notes.txt", "notes.txt"),
        ("predict --checkpoint none --depth d.png --out x.png", "x.png/mine"),
        ("show synthetic_hand", "sheet.png"),
        ("bench --out speed.md", "speed.md"),
        ("figure 3 --checkpoint none --out f", "f/figure_3.svg"),
        ("figure 7 --predictions d.txt --track nyu --labels d.txt --out f", "f/figure_7.csv"),
        ("figure 7 --predictions f/figure_7.json --track nyu --out f", "f/figure_7.json"),
        ("eval --workdir none --write d.txt", "d.txt"),
        ("eval --workdir CHECKPOINTS/synthetic_hand --out r", "r/submission.txt"),
        ("eval --workdir CHECKPOINTS/synthetic_hand --out r", "r/success_curve.png"),
        ("eval --predictions d.txt --track nyu --labels d.txt --out r", "r/report.html"),
        ("eval --predictions r/scores.json --track nyu --labels d.txt --out r", "r/scores.json"),
        ("reproduce table7 --data synthetic_hand --budget smoke --out t", "t/table7.md"),
        ("convert a.npz a.npz --imagenet --overwrite", "a.npz"),
        ("convert a.npz b.npz --imagenet", "b.npz"),
    ],
)
def test_files_that_are_not_ours_are_kept(line, foreign, mistake):
    for name in ("d.png", "d.txt", "a.npz", foreign):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"precious")
    Path("link.png").symlink_to("d.png")
    why = "not written by a2j_jax", "to be read", "exists", "is a folder", "picture's name"
    mistake(line, *why)


@pytest.mark.parametrize(
    "line",
    [
        "bench --out PLACE/speed.md",
        "figure 3 --checkpoint none --out PLACE",
        "eval --workdir none --write PLACE/a.npz",
        "eval --workdir CHECKPOINTS/synthetic_hand --out PLACE",
        "eval --predictions a.txt --track nyu --labels a.txt --out PLACE",
        "predict --checkpoint none --depth d.png --out PLACE/x.png",
        "show synthetic_hand --out PLACE/x.png",
        "reproduce table7 --data synthetic_hand --budget smoke --out PLACE",
    ],
)
@pytest.mark.parametrize("place", ["/dev/null/x", "/proc/x", "d.png"])
def test_what_cannot_be_written_is_found_before_the_work(line, place, mistake):
    Path("d.png").touch()
    mistake(line.replace("PLACE", place), "cannot be written", "is not a folder")


def test_a_config_is_printed_with_meanings_and_sources(a2j):
    line = ["config", "nyu", "--config.optim.preset=paper"]
    values = json.loads(a2j(*line, "--json").out)["values"]
    assert list(values) == [key.name for key in keys()]
    assert values["optim.epochs"]["value"] == 34
    assert values["optim.epochs"]["source"] == "preset paper, nyu"
    assert values["optim.preset"]["source"] == "command line"
    assert values["data.crop_size"] | {"meaning": ""} == {
        "value": 176, "source": "track nyu", "meaning": "",
    }  # fmt: skip
    shown = a2j(*line)
    assert "optim.epochs = 34" in shown.out
    helped = a2j("train", "--config.help")
    assert all(f"--config.{key.name}=" in helped.out for key in keys())
