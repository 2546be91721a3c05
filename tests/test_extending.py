"""The recipes of docs/extending.md, outside the checkout: with the wheel they train, and new processes read them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pages import blocks

pytestmark = pytest.mark.slow  # every recipe compiles a training step

SMALL = {
    "data.crop_size": 32,
    "data.train_frames": 16,
    "data.validation_frames": 8,
    "data.test_frames": 8,
    "model.width": 8,
    "model.head_features": 8,
    "model.head_depth": 1,
    "optim.batch_size": 8,
    "optim.steps": 2,
    "run.log_every": 1,
}
# Recipe -> its options, and the terms that its log has.
RECIPES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "adamw": ({"decay": 0.05}, {"surrounding", "regression"}),
    "convnext": ({"depths": [1, 1, 1, 1]}, {"surrounding", "regression"}),
    "awr": ({"reach": 0.8}, {"vector", "closeness"}),
    "integral": ({}, {"regression"}),
    "terms": ({"bone": 0.2, "entropy": 0.01}, {"regression", "bone", "entropy"}),
    "muon": ({}, {"surrounding", "regression"}),
    "shift": ({"sigma_mm": 12}, {"surrounding", "regression"}),
    "teacher": ({"weight": 0.1}, {"regression", "consistency"}),
    "both": ({"depths": [1, 1, 1, 1]}, {"regression", "bone", "entropy"}),
}
NETWORKS = {"convnext": "ConvNeXtA2J", "awr": "AWR", "integral": "Integral"}
OWN_CONFIGS = {"both": "src/configs/both.py"}

# With three blocks, strided and not, of a ResNet-18's eight.
COMMANDS = """
import json, sys
import a2j_jax
from a2j_jax.cli.main import main
from a2j_jax.models.resnet import ARCHITECTURES
assert a2j_jax.__file__.startswith({site!r}), a2j_jax.__file__
ARCHITECTURES["resnet18"] = ARCHITECTURES["resnet18"]._replace(blocks=(0, 1, 1, 1))
for line in json.load(sys.stdin):
    print({mark!r}, flush=True)
    assert main(line) == 0, line
print({mark!r}, flush=True)
"""
MARK = "$ a2j"  # before what a command prints
USES = """
import json
import numpy as np
from a2j_jax import Predictor
from my_paper.ensemble import joints_mm
from my_paper.saliency import saliency
predictors = [Predictor.from_checkpoint(f"runs/{name}") for name in ("adamw", "terms")]
depth = np.load("frame.npy")
center = (320.0, 240.0, 600.0)
mean, spread = joints_mm(predictors, depth, center)
slope = saliency(predictors[0], depth, center, 3)
networks = {name: type(Predictor.from_checkpoint(f"runs/{name}").model).__name__
            for name in ("convnext", "awr", "integral")}
print(json.dumps({"mean": mean.tolist(), "spread": spread.tolist(), "slope": float(slope.max()),
                  "size": slope.shape, "networks": networks}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package of the page, and a frame."""
    folder = tmp_path_factory.mktemp("research")
    for name in ("my_paper", "configs"):
        (folder / "src" / name).mkdir(parents=True)
    for block in blocks("docs/extending.md"):
        name, _, _ = block.removeprefix("# ").partition("\n")
        (folder / "src" / name).write_text(block)
    v, u = np.mgrid[:480, :640]
    ball = np.hypot(u - 320, v - 240) < 60
    np.save(folder / "frame.npy", np.where(ball, 590.0 + (u + 2 * v) % 15, 2000.0))
    return folder


class Outside:
    """Processes in the folder, which see the wheel and the package of the page, and nothing of the checkout."""

    def __init__(self, folder: Path, site: Path):
        self.folder, self.site = folder, site
        path = os.pathsep.join([str(site), str(folder / "src")])
        self._environment = {**os.environ, "PYTHONPATH": path}

    def a2j(self, *lines: list[object], then: str = "") -> list[str]:
        """Runs commands one after the other, and a program after them, in a new process; returns what each printed."""
        done = subprocess.run(
            [sys.executable, "-c", COMMANDS.format(site=str(self.site), mark=MARK) + then],
            cwd=self.folder,
            env=self._environment,
            input=json.dumps([[str(word) for word in line] for line in lines]),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout.split(MARK)[1:]


@pytest.fixture(scope="module")
def outside(folder: Path, wheel_site: Path) -> Outside:
    """All recipes trained."""
    found, lines = Outside(folder, wheel_site), []
    for name, (options, _) in RECIPES.items():
        values = {"name": name, **SMALL}
        values |= {} if name in OWN_CONFIGS else {"parts": f"my_paper.{name}:parts"}
        values |= {f"options.{key}": value for key, value in options.items()}
        values |= {"optim.ema_decay": 0.9} if name == "teacher" else {}
        words = [f"--config.{key}={value}" for key, value in values.items()]
        lines.append(["train", "--config", OWN_CONFIGS.get(name, "quickstart"), *words])
    found.a2j(*lines)
    return found


@pytest.mark.parametrize("name", list(RECIPES))
def test_its_terms_are_learned_and_logged(outside: Outside, name: str) -> None:
    log = (outside.folder / "runs" / name / "metrics.jsonl").read_text().splitlines()
    steps = [one for one in map(json.loads, log) if one["kind"] == "train"]
    assert [one["step"] for one in steps] == [1, 2]
    assert all(RECIPES[name][1] <= one.keys() for one in steps)
    assert all(np.isfinite(value) for one in steps for value in one.values() if value != "train")
    assert all(one["grad_norm"] > 0 for one in steps)


def test_a_new_process_reads_them(outside: Outside) -> None:
    """By every command, and by the lines of the page around a predictor."""
    center = ["--center", "320,240,600", "--json"]
    printed = outside.a2j(
        *(["predict", f"runs/{name}", "frame.npy", *center] for name in RECIPES),
        ["eval", "--workdir", "runs/awr", "--json"],
        ["eval", "--workdir", "runs/both", "--json"],
        ["figure", "7", "--checkpoint", "runs/awr", "--checkpoint", "runs/adamw", "--out", "seven"],
        ["bench", "--checkpoint", "runs/convnext", "--rounds", "1", "--batch", "1", "--json"],
        ["export", "runs/awr", "awr.stablehlo"],
        ["export", "runs/convnext", "convnext.onnx"],
        ["train", "--config", "runs/shift/config.json", "--config.optim.steps=3"],
        then=USES,
    )
    predicted = [json.loads(text) for text in printed[: len(RECIPES)]]
    assert {one["track"] for one in predicted} == {"synthetic_hand"}
    joints = {str(one["frames"][0]["joints_xyz_mm"]) for one in predicted}
    assert len(joints) == len(RECIPES)  # different networks
    scores = [json.loads(text)["mean_error_mm"] for text in printed[len(RECIPES) :][:2]]
    assert scores[0] != scores[1]
    assert (outside.folder / "seven" / "figure_7.png").is_file()
    assert (outside.folder / "awr.stablehlo").is_file()
    assert (outside.folder / "runs" / "shift" / "checkpoints" / "3").is_dir()
    found = json.loads(printed[-1])
    assert found["networks"] == NETWORKS
    assert np.shape(found["mean"]) == (21, 3)
    assert np.isfinite(found["mean"]).all()
    assert min(found["spread"]) > 0
    assert found["size"] == [32, 32]
    assert found["slope"] > 0
