"""The Python of README and docs runs, on a tiny network and a rendered frame."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from a2j_jax import Camera, Predictor
from a2j_jax.config_files import load_config
from a2j_jax.runs.checkpoints import save_variables
from a2j_jax.runs.experiment import resolve
from a2j_jax.tracks import get_track
from tests import tiny
from tests.conftest import REPOSITORY
from tests.pages import blocks

FEW_BLOCKS = """
from a2j_jax.models.resnet import ARCHITECTURES
ARCHITECTURES["resnet18"] = ARCHITECTURES["resnet18"]._replace(blocks=(0, 1, 1, 1))
"""
PAGES = ("README.md", "docs/own_frames.md", "docs/questions.md")


@pytest.fixture
def frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A ball where a hand would be, in `frame.png` of the working directory, beside the run `runs/mine`."""
    v, u = np.mgrid[:480, :640]
    apart = np.hypot((u - 320) * 600 / 475, (v - 240) * 600 / 475)  # mm
    depth = np.where(apart < 60, 660 - np.sqrt(np.maximum(3600 - apart**2, 0)), 0)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(depth.astype(np.uint16)).save("frame.png")
    save_variables(tmp_path / "runs" / "mine", tiny.variables(), tiny.config())
    return depth.astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs(page: str, frame: np.ndarray) -> None:
    camera = get_track("synthetic_hand").camera
    assert isinstance(camera, Camera)
    names: dict[str, Any] = {
        "np": np,
        "Path": Path,
        "Camera": Camera,
        "camera": camera,
        "depth_mm": frame,
        "frames": [frame, frame],
        "centers_uvd": [(320, 240, 600), (310, 240, 610)],
    }
    names["predictor"] = Predictor.from_checkpoint("runs/mine", camera=camera)
    found = blocks(page)
    assert found
    for block in found:
        program = compile(block, page, "exec")
        if "# needs a camera" not in block:
            exec(program, names)


def test_the_configs_of_the_page_on_training_are_configs(tmp_path: Path) -> None:
    found = blocks("docs/training.md")
    for number, block in enumerate(found):
        path = tmp_path / f"{number}.py"
        path.write_text(block)
        assert resolve(load_config(str(path))).track.crop_size == 80
    assert len(found) == 2


@pytest.mark.slow
def test_the_notebook_runs_top_to_bottom(tmp_path: Path) -> None:
    notebook = json.loads((REPOSITORY / "docs" / "first_steps.ipynb").read_text(encoding="utf-8"))
    code = ["".join(one["source"]) for one in notebook["cells"] if one["cell_type"] == "code"]
    assert len(code) > 5
    assert all(not one.get("outputs") for one in notebook["cells"])  # kept out of the history
    program = "\n".join([FEW_BLOCKS, *code, "assert Show(figure).png.startswith(b'\\x89PNG')"])
    # Of steps and frames, a few tell the same.
    for written, fewer in ((": 40,", ": 20,"), ("train=256", "train=64")):
        assert written in program
        program = program.replace(written, fewer)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert " mm on 32 hands" in done.stdout
    assert '"spread"' in done.stdout
