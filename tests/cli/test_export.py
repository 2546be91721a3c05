"""`a2j export`: a file and its description, or one line and nothing."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from a2j_jax.runs.checkpoints import save_variables
from tests import tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "hand"
    save_variables(folder, tiny.variables(), tiny.config())
    return folder


@pytest.mark.slow
def test_export(a2j, run, tmp_path):
    out = tmp_path / "hand.stablehlo"
    camera = ["--fx", "300", "--fy", "300", "--cx", "160", "--cy", "120", "--frame_size", "320,240"]
    said = " ".join(a2j("export", run, out, *camera).err.split())
    assert "takes crop_mm ('batch', 32, 32), center_uvd ('batch', 3)" in said
    about = json.loads((tmp_path / "hand.json").read_text())
    assert (about["camera"], about["track"]["frame_size"]) == ([300, 300, 160, 120], [320, 240])
    hand = jax.export.deserialize(bytearray(out.read_bytes()))
    crops, center = np.full((5, 32, 32), 700, np.float32), np.float32([[160, 120, 700]] * 5)
    assert hand.call(crops, center)["joints_xyz_mm"].shape == (5, 21, 3)
    a2j("export", run, out)  # ours, and replaced


@pytest.mark.slow
def test_a_name_says_the_format(a2j, run, tmp_path):
    said = " ".join(a2j("export", run, tmp_path / "hand.onnx").err.split())
    assert "as ONNX" in said
    assert json.loads((tmp_path / "hand.onnx.json").read_text())["format"] == "onnx"


@pytest.mark.slow
def test_weights_in_one_file(a2j, run, tmp_path):
    out = tmp_path / "hand.npz"
    said = " ".join(a2j("export", run, out).err.split())
    assert "rounding moves joints by" in said
    a2j("export", out, tmp_path / "again.npz")
    assert out.read_bytes()[:40] == (tmp_path / "again.npz").read_bytes()[:40]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--format onx", "--format 'onx': expected one of stablehlo, onnx, weights; did you"),
        ("--format onnx --platform cuda", "--platform is of StableHLO"),
        ("--int8", "--int8 is of ONNX"),
        ("--platform gpu", "--platform 'gpu': expected one of cpu, cuda, rocm, tpu"),
        ("--platform cpu,", "--platform '': expected one of"),
        ("--frame_size 640", "expected WIDTH,HEIGHT"),
        ("--fx 475", "--fy"),
        ("--format weights", "named *.npz"),
        ("--format weights --int8", "--int8 is not of weights"),
        ("--step 7", "no checkpoint of step 7"),
        ("--weights ema", "holds no average"),
    ],
)
def test_mistakes(mistake, run, line, said):
    mistake(f"export {run} hand.stablehlo {line}", said)


@pytest.mark.parametrize("out", ["taken.stablehlo", "hand", "hand.json"])
def test_no_such_output(mistake, run, out):
    Path("taken.stablehlo").write_text("somebody's")
    said = (
        "was not written by a2j_jax" if out == "taken.stablehlo" else "expected the name of a file"
    )
    mistake(f"export {run} {out}", said)
