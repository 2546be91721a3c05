"""Weights files: three formats, the same tensors, and nothing in them is ever executed."""

import argparse
import io
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from a2j_jax.errors import UserError
from a2j_jax.weights.convert import read_state_dict, write_state_dict

TENSORS = {
    "Backbone.model.conv1.weight": np.random.default_rng(0).random((4, 3, 7, 7), np.float32),
    "Backbone.model.bn1.bias": np.arange(4, dtype=np.float32),
    "scalar": np.array(2.5, np.float32),
}


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray] = TENSORS) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor, wanted[name], strict=True)


def complaint(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_state_dict(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="reading .pth needs the extra a2j-jax[torch]")


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_any_precision_is_read_as_float32(tmp_path, dtype):
    stored = {name: tensor.astype(dtype) for name, tensor in TENSORS.items()}
    wanted = {name: tensor.astype(np.float32) for name, tensor in stored.items()}
    save_file(stored, tmp_path / "w.safetensors")
    assert_same(read_state_dict(tmp_path / "w.safetensors"), wanted)
    if dtype is not ml_dtypes.bfloat16:  # which .npz does not know
        # The prefix of `DataParallel` is taken off.
        np.savez(tmp_path / "w.npz", **{f"module.{name}": x for name, x in stored.items()})
        assert_same(read_state_dict(tmp_path / "w.npz"), wanted)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(zeroed: slice = slice(0), **tensors: np.ndarray) -> bytes:
    """A compressed archive, some bytes of which are lost."""
    file = io.BytesIO()
    np.savez_compressed(file, **tensors)
    contents = bytearray(file.getvalue())
    contents[zeroed] = bytes(len(contents[zeroed]))
    return bytes(contents)


@pytest.mark.parametrize(
    ("name", "contents", "words"),
    [
        *((f"none{suffix}", None, "not found") for suffix in (".npz", ".safetensors", ".pth")),
        ("folder.npz", Path.mkdir, "is a folder"),
        ("weights.onnx", b"1234", ".safetensors, .npz, .pth"),
        ("one.npz", npy(np.zeros(3)), "single .npy array"),
        ("text.npz", b"hello", "not a zip file"),
        ("a.npz", npz(a=np.array(["x"])), "tensors of numbers"),
        ("a.npz", npz(), "holds no tensors at all"),
        (
            "a.npz",
            npz(slice(2000, 2100), a=np.random.default_rng(0).normal(size=5000)),
            "complete?",
        ),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, contents, words):
    path = tmp_path / name
    if isinstance(contents, bytes):
        path.write_bytes(contents)
    elif contents is not None:
        contents(path)
    message = complaint(path)
    assert words in message
    assert "pickle" not in message  # no advice to run it


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.99])
def test_truncated_files(tmp_path, suffix, kept):
    path = tmp_path / f"weights{suffix}"
    write_state_dict(path, TENSORS)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert "is it complete?" in complaint(path)


class Intruder:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_a_pickle_in_an_archive_is_not_run(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.array([Intruder(tmp_path / "ran")], dtype=object))
    assert "objects" in complaint(tmp_path / "w.npz")
    assert not (tmp_path / "ran").exists()


def test_pytorch_files(tmp_path, torch):
    tensors = {name: torch.from_numpy(tensor) for name, tensor in TENSORS.items()}
    torch.save(tensors, tmp_path / "plain.pth")
    wrapped = {f"module.{name}": tensor for name, tensor in tensors.items()}
    torch.save({"state_dict": wrapped, "epoch": 17}, tmp_path / "wrapped.pt")
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    learnt = {name: torch.nn.Parameter(tensor) for name, tensor in tensors.items()}
    torch.save(learnt, tmp_path / "learnt.pth")
    for name in ("plain.pth", "wrapped.pt", "old.pth", "learnt.pth"):
        assert_same(read_state_dict(tmp_path / name))


@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize(
    "below", [(), ("net",), ("network",), ("model",), ("state_dict",), ("model", "state_dict")]
)
def test_snapshots_of_training_programs(tmp_path, torch, below, prefix):
    content: Any = {f"{prefix}{name}": torch.from_numpy(x) for name, x in TENSORS.items()}
    for key in reversed(below):
        about = {"args": argparse.Namespace(lr=0.1), "best": np.float64(8), "epoch": 3}
        content = {"optimizer": {"state": {}}, key: content, **about}
    torch.save(content, tmp_path / "snapshot_3.pth.tar")
    assert_same(read_state_dict(tmp_path / "snapshot_3.pth.tar"))


def test_a_snapshot_without_weights_names_its_keys(tmp_path, torch):
    torch.save({"epoch": 3, "generator": {"a": torch.zeros(3)}}, tmp_path / "w.pth")
    assert "epoch, generator" in complaint(tmp_path / "w.pth")
    torch.save({"a": torch.zeros(3), "module.a": torch.zeros(3)}, tmp_path / "w.pth")
    assert "prefix" in complaint(tmp_path / "w.pth")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_written_files_are_read_equal_and_replace_none_of_others(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(b"mine")
    with pytest.raises(UserError, match="--overwrite"):
        write_state_dict(path, TENSORS)
    assert path.read_bytes() == b"mine"
    with pytest.raises(UserError, match=r"\.safetensors or \.npz"):
        write_state_dict(tmp_path / "weights.pth", TENSORS)
    for overwrite in (True, False):  # then it is ours
        write_state_dict(path, TENSORS, overwrite)
        assert_same(read_state_dict(path))


def test_a_file_without_permission_is_not_damaged(tmp_path, monkeypatch):
    write_state_dict(tmp_path / "w.npz", TENSORS)
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "permission" in complaint(tmp_path / "w.npz")


def test_a_pytorch_file_of_objects_is_refused_not_run(tmp_path, torch):
    torch.save({"a": Intruder(tmp_path / "ran")}, tmp_path / "evil.pth")
    message = complaint(tmp_path / "evil.pth")
    assert "torch.save(net.state_dict(), path)" in message
    assert "weights_only" not in message  # no advice to trust it
    assert not (tmp_path / "ran").exists()
    torch.save(torch.nn.Linear(2, 3), tmp_path / "module.pth")
    assert "found an object" in complaint(tmp_path / "module.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    assert "found list" in complaint(tmp_path / "list.pth")


def test_pytorch_files_that_are_not(tmp_path, torch):
    torch.save({"a": torch.zeros(10_000)}, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    for name, content in {
        "empty": b"",
        "page": b"<!DOCTYPE html><title>404</title>",
        "cut": whole[: len(whole) // 2],
    }.items():
        path = tmp_path / f"{name}.pth"
        path.write_bytes(content)
        assert "complete" in complaint(path)


def test_without_pytorch_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    (tmp_path / "w.pth").write_bytes(b"1234")
    assert "pip install 'a2j-jax[torch]'" in complaint(tmp_path / "w.pth")
