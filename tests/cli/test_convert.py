"""`a2j convert`: official weights become a checkpoint that predicts as the weights do."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a2j_jax.inference.predictor import Predictor
from a2j_jax.models.a2j import A2J
from a2j_jax.runs.load import restore
from a2j_jax.tracks import get_track
from a2j_jax.weights.convert import official_from_variables
from a2j_jax.weights.formats import read_state_dict, write_state_dict
from tests import tiny
from tests.cli.conftest import Command, Mistake, Refused, torchvision_trunk


class Weights:
    """Made-up weights of a ResNet-18 A2J of full width, in the official naming, in a file."""

    def __init__(self, track: str, path: Path):
        spec = get_track(track)
        self.model = A2J(spec.num_joints, spec.joint_dims, "resnet18")
        self.variables: Any = tiny.made_up(tiny.shapes(self.model))
        self.path = path
        write_state_dict(path, official_from_variables(self.variables))


@pytest.fixture(scope="module")
def hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weights]:
    weights = Weights("nyu", tmp_path_factory.mktemp("weights") / "nyu.safetensors")
    yield weights
    weights.path.unlink()  # 80 MB


@pytest.mark.slow
def test_a_converted_network_predicts_as_its_weights_do(
    a2j: Command, hand: Weights, tmp_path: Path
) -> None:
    folder = tmp_path / "nyu_a2j"
    outcome = a2j("convert", hand.path, folder, "--track", "nyu", "--backbone", "resnet18")
    assert outcome.out == ""
    assert f"{folder}: nyu checkpoint with resnet18" in outcome.err

    depth = np.random.default_rng(0).integers(650, 750, (480, 640)).astype(np.uint16)
    np.save(tmp_path / "frame.npy", depth)
    outcome = a2j(
        "predict", "--checkpoint", folder, "--track", "nyu", "--depth", tmp_path / "frame.npy",
        "--center", "320,240,700", "--json",
    )  # fmt: skip
    frame = json.loads(outcome.out)["frames"][0]
    wanted = Predictor(hand.model, hand.variables, get_track("nyu"))(
        depth, center_uvd=(320, 240, 700)
    )
    np.testing.assert_allclose(frame["joints_uvd"], wanted.joints_uvd, atol=1e-4)
    np.testing.assert_allclose(frame["joints_xyz_mm"], wanted.joints_xyz_mm, atol=1e-4)


@pytest.mark.slow
def test_a_body_in_the_plane(a2j: Command, tmp_path: Path) -> None:
    weights = Weights("k2hpd", tmp_path / "k2hpd.npz")
    folder = tmp_path / "k2hpd_a2j"
    a2j("convert", weights.path, folder, "--track", "k2hpd", "--backbone", "resnet18")
    restored = restore(folder)
    assert tiny.same(restored.variables, weights.variables)
    assert (restored.track, restored.model) == (get_track("k2hpd"), weights.model)


@pytest.mark.slow
def test_weights_of_another_architecture(refused: Refused, hand: Weights, tmp_path: Path) -> None:
    def told(*options: str) -> str:
        return refused("convert", hand.path, tmp_path / "out", *options)

    message = told("--track", "nyu")  # resnet50
    assert f"{hand.path} does not fit this model" in message
    assert "missing: " in message
    assert "misshapen: " in message
    assert "name the backbone, and the track" in message
    message = told("--track", "icvl", "--backbone", "resnet18")
    assert "6 misshapen: classificationModel.output.weight is (224, 256, 3, 3)" in message
    assert "expected (256, 256, 3, 3)" in message
    assert "unexpected: DepthRegressionModel" in told("--track", "k2hpd", "--backbone", "resnet18")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_existing_folder_is_left_alone(refused: Refused, hand: Weights, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    options = ("--track", "nyu", "--backbone", "resnet18")
    assert "name a new folder" in refused("convert", hand.path, tmp_path, *options)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_bad_files(mistake: Mistake) -> None:
    for name, content in {
        "weights.onnx": b"1234",
        "cut.safetensors": b"1234",
        "cut.npz": b"PK\x03\x04",
    }.items():
        Path(name).write_bytes(content)
    np.savez("other.npz", weight=np.zeros(3))
    for line, said in (
        ("none.pth out --track nyu", "weights file not found"),
        ("weights.onnx out --track nyu", "unknown kind of weights file"),
        ("cut.safetensors out --track nyu", "is it complete?"),
        ("cut.npz out --track nyu", "is it complete?"),
        ("none.pth out --track nuy", "did you mean 'nyu'?"),
        ("other.npz out --track nyu", "missing: Backbone.model.conv1.weight"),
        ("other.npz out --track nyu", "1 unexpected: weight"),
    ):
        mistake(f"convert {line}", said)


def test_imagenets_weights_without_pytorch(a2j: Command, refused: Refused, tmp_path: Path) -> None:
    """Names and numbers as they were, without what a trunk has no use for; another ResNet is refused."""
    trunk = torchvision_trunk(A2J(14, backbone="resnet18"))
    unused = {"fc.bias": np.zeros(1000, np.float32), "bn1.num_batches_tracked": np.zeros(())}
    np.savez(tmp_path / "resnet18.npz", **trunk, **unused)
    out = tmp_path / "weights" / "resnet18.safetensors"
    options = ("convert", tmp_path / "resnet18.npz", out, "--imagenet")
    assert "does not fit this model" in refused(*options)
    assert not out.exists()
    outcome = a2j(*options, "--backbone", "resnet18")
    assert "resnet18 of ImageNet, 100 tensors, no classifier" in outcome.err
    written = read_state_dict(out)
    assert written.keys() == trunk.keys()
    assert all(np.array_equal(written[name], x) for name, x in trunk.items())
