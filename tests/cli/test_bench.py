"""`a2j bench` on made-up tiny networks: what it prints, what it writes, what it refuses."""

import dataclasses
import json
import sys
from typing import Any

import jax.numpy as jnp
import pytest

from a2j_jax.baselines import HeatMapFCN
from a2j_jax.runs.checkpoints import save_variables
from a2j_jax.runs.experiment import resolve
from a2j_jax.tools import speed
from tests import tiny
from tests.tools import plain_frames

QUICK = ("--rounds", 2, "--no_torch")


@pytest.fixture(autouse=True)
def frames(monkeypatch):
    monkeypatch.setattr(speed, "write_frames", plain_frames.write_frames)


@pytest.fixture
def networks(monkeypatch):
    """Those that a command would time, were it not stopped there."""
    asked: list[speed.Network] = []

    def measure(networks: list[speed.Network], *_: Any) -> None:
        asked.extend(networks)
        raise KeyboardInterrupt

    monkeypatch.setattr(speed, "measure", measure)
    monkeypatch.setattr(speed, "random_variables", lambda model, track: {})
    return asked


@pytest.mark.slow
@pytest.mark.parametrize("track", ["nyu", "itop_front", "k2hpd"])
def test_json_of_a_checkpoint(a2j, checkpoints, track):
    outcome = a2j("bench", "--checkpoint", checkpoints / track, "--batch", "1,3", "--json", *QUICK)
    contents = json.loads(outcome.out)
    assert contents["track"] == track
    assert contents["weights"] == str(checkpoints / track)
    assert [row["batch_size"] for row in contents["networks"]] == [1, 3]
    for row in contents["networks"]:
        assert row["network"] == f"{track}, A2J resnet18"
        assert len(row["rounds_ms"]) == 2
        assert row["total_ms"] > row["forward_ms"]["median"] > 0
    assert f"compiling {track}, A2J resnet18, batch 1, 3 (1 of 1)" in outcome.err


@pytest.mark.slow
def test_tables_on_the_terminal_and_in_a_file(a2j, checkpoints, tmp_path):
    out = tmp_path / "new" / "speed.md"
    checkpoint = checkpoints / "nyu"
    outcome = a2j("bench", "--checkpoint", checkpoint, "--batch", 1, "--out", out, *QUICK)
    text = out.read_text()
    for printed in (outcome.out, text):
        assert "Speed, nyu, crops of 32 px" in printed
        assert "105.06 frames/s" in printed
        assert "device: cpu" in printed
        assert "PyTorch: not used" in printed
    assert f"- command: a2j bench --checkpoint {checkpoint} --batch 1 " in text
    assert "| nyu, A2J resnet18 | " in text
    assert "…" not in outcome.out  # nothing is cut short on 80 columns
    assert "beside the official" not in text


@pytest.mark.slow
def test_without_pytorch_it_is_said(a2j, checkpoints, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "a2j_jax.tools.torch_reference", raising=False)
    outcome = a2j("bench", "--checkpoint", checkpoints / "nyu", "--batch", 1, "--rounds", 1)
    assert "PyTorch: not installed (pip install 'a2j-jax[torch]')" in outcome.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "names"),
    [
        (
            "",  # Tables 8 and 10
            "A2J resnet18, A2J resnet34, A2J resnet50, global regression resnet50, FCN with heat maps resnet50",
        ),
        (
            "--backbone resnet34,resnet18 --paradigm a2j,heat_maps",
            "A2J resnet34, A2J resnet18, FCN with heat maps resnet34, FCN with heat maps resnet18",
        ),
    ],
)
def test_networks(ended, networks, line, names):
    ended("bench", *line.split())
    assert ", ".join(network.name for network in networks) == names
    assert {network.model.num_joints for network in networks} == {14}
    for network in networks:
        assert network.is_official == network.name.startswith("A2J")


@pytest.mark.slow
@pytest.mark.parametrize("again", [(), ("--checkpoint",)], ids=["one option", "two"])
def test_several_checkpoints(ended, networks, checkpoints, tmp_path, again):
    """A network of another's own class has no backbone in its name."""
    own = dataclasses.replace(tiny.config(track="nyu"), parts="tests.own_parts:parts")
    save_variables(tmp_path / "own", tiny.made_up(tiny.shapes(resolve(own).model)), own)
    ended("bench", "--checkpoint", f"a={checkpoints / 'nyu'}", *again, tmp_path / "own")
    assert [network.name for network in networks] == ["a, A2J resnet18", "own, Tiny"]


@pytest.mark.slow
def test_what_is_named_alone_goes_with_all(ended, networks):
    ended("bench", "--paradigm", "heat_maps", "--dtype", "bfloat16", "--track", "k2hpd")
    assert [network.model.backbone for network in networks] == ["resnet18", "resnet34", "resnet50"]
    for network in networks:
        assert isinstance(network.model, HeatMapFCN)
        assert network.model.dtype == jnp.bfloat16
        assert (network.model.num_joints, network.model.joint_dims) == (19, 2)


@pytest.mark.slow
def test_runtimes_take_their_turns(a2j, checkpoints):
    own = ["bench", "--checkpoint", checkpoints / "nyu", "--batch", "1,2", *QUICK]
    found = json.loads(a2j(*own, "--runtime", "jax,onnxruntime,openvino", "--json").out)
    names = ["nyu, A2J resnet18", "nyu, A2J resnet18, onnxruntime", "nyu, A2J resnet18, openvino"]
    assert [row["network"] for row in found["networks"]] == [n for n in names for _ in range(2)]
    assert all(row["forward_ms"]["median"] > 0 for row in found["networks"])


def test_crops_of_another_size(a2j, monkeypatch):
    sizes: list[int] = []
    monkeypatch.setattr(speed, "measure", lambda _, track, *rest: sizes.append(track.crop_size))
    with pytest.raises(TypeError):  # there is nothing to print
        a2j("bench", "--crop_size", 288, "--backbone", "resnet18", "--paradigm", "a2j")
    assert sizes == [288]


@pytest.mark.slow
def test_reading_of_a_data_set(a2j, refused, tiny_data):
    asked = ("bench", "--input", tiny_data, "--track", "synthetic_hand", "--crop_size", tiny.SIZE)
    outcome = a2j(*asked, "--batch", 8, "--workers", "0,1", "--json")
    contents = json.loads(outcome.out)
    assert [row["workers"] for row in contents["input"]] == [0, 1]
    for row in contents["input"]:
        assert row["images_per_second"] > 0
    assert contents["batch_size"] == 8
    assert "goes without --input" in refused(*asked, "--rounds", 2)
    assert "--workers goes with --input" in refused("bench", "--workers", 2)
