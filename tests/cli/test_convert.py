"""`a2j convert`: official weights become a checkpoint that predicts as the weights do."""

import json
from pathlib import Path

import numpy as np
import pytest

from a2j_jax.inference.predictor import Predictor
from a2j_jax.models.a2j import A2J
from a2j_jax.runs.load import restore
from a2j_jax.tracks import get_track
from a2j_jax.weights.convert import official_from_variables, read_state_dict, write_state_dict
from tests import tiny


def convert(a2j, track, path):
    """Converts made-up weights of a ResNet-18 A2J of full width; returns model, variables and folder."""
    spec = get_track(track)
    model = A2J(spec.num_joints, spec.joint_dims, "resnet18")
    variables = tiny.made_up(tiny.shapes(model))
    write_state_dict(path, official_from_variables(variables))
    folder = path.with_suffix("")
    outcome = a2j(f"convert {path} {folder} --track {track} --backbone resnet18")
    assert outcome.out == ""
    assert f"{folder}: {track} checkpoint with resnet18" in outcome.err
    return model, variables, folder


@pytest.mark.slow
def test_a_converted_network_predicts_as_its_weights_do(a2j, refused, tmp_path):
    model, variables, folder = convert(a2j, "nyu", tmp_path / "nyu_a2j.safetensors")
    depth = np.random.default_rng(0).integers(650, 750, (480, 640)).astype(np.uint16)
    np.save(tmp_path / "frame.npy", depth)
    center = "--center 320,240,700 --json"
    outcome = a2j(f"predict {folder} {tmp_path}/frame.npy --track nyu {center}")
    frame = json.loads(outcome.out)["frames"][0]
    wanted = Predictor(model, variables, get_track("nyu"))(depth, center_uvd=(320, 240, 700))
    np.testing.assert_allclose(frame["joints_uvd"], wanted.joints_uvd, atol=1e-4)
    np.testing.assert_allclose(frame["joints_xyz_mm"], wanted.joints_xyz_mm, atol=1e-4)

    line = f"convert {folder}.safetensors"
    for options in ("--track nyu", "--track icvl --backbone resnet18"):  # ResNet-50; other joints
        message = refused(f"{line} {tmp_path}/out {options}")
        assert f"{folder}.safetensors does not fit this model" in message
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    said = refused(f"{line} {tmp_path}/mine --track nyu --backbone resnet18")
    assert "name a new folder" in said
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.slow
def test_a_body_in_the_plane(a2j, tmp_path):
    model, variables, folder = convert(a2j, "k2hpd", tmp_path / "k2hpd_a2j.npz")
    restored = restore(folder)
    assert tiny.same(restored.variables, variables)
    assert (restored.track, restored.model) == (get_track("k2hpd"), model)


def test_bad_files(mistake):
    for name in ("weights.onnx", "cut.safetensors", "cut.npz"):
        Path(name).write_bytes(b"PK\x03\x04")
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


def test_imagenets_weights_without_pytorch(a2j, refused, tmp_path):
    """Names and numbers as they were, without what a trunk has no use for; another ResNet is refused."""
    variables = tiny.made_up(tiny.shapes(A2J(14, backbone="resnet18")))
    trunk = tiny.trunk_of(official_from_variables(variables))
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
