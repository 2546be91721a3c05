"""A custom folder as docs/own_data.md has it: its lines work, and the unit of depth is never to be repeated."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from a2j_jax.inference.frames import read_frame
from a2j_jax.runs.checkpoints import save_variables
from a2j_jax.track_files import load_track
from tests import tiny
from tests.distributions import own_data

DOCS = Path(__file__).parents[2] / "docs" / "own_data.md"
TINY = [
    *("--config.model.width=8", "--config.model.head_features=8", "--config.model.head_depth=1"),
    *("--config.optim.batch_size=4", "--config.optim.steps=2", "--config.optim.warmup_steps=1"),
    "--config.run.eval_every=2",
    "--config.optim.freeze=trunk/",  # whose gradient takes long to compile
]

pytestmark = pytest.mark.slow


def test_the_lines_of_the_page(a2j, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own_data.write_rendered(Path("my_hands"), train=40, test=4, crop_size=tiny.SIZE)
    save_variables(Path("runs/quickstart"), tiny.variables(), tiny.config())
    said = {}
    blocks = re.findall(r"```console\n(.*?)```", DOCS.read_text(), re.DOTALL)
    for line in "".join(blocks).splitlines():
        program, *words = shlex.split(line.partition(">")[0])
        assert program == "a2j"
        if "runs/quickstart" in words:
            continue  # it is there
        outcome = a2j(*words, *(TINY if words[0] == "train" else ()))
        said[line] = outcome
    overlay, folder = list(said.values())[4:6]
    assert Path("overlay.png").is_file()
    assert len(json.loads(folder.out)["frames"]) == 44
    assert "camera of track my_hands: fx 240" in folder.err
    assert "1 mm per count" in overlay.err
    assert re.search(r"init\w+ from runs/quickstart.* \d+ tensors\n", list(said.values())[-1].err)


@pytest.mark.parametrize("recorded", ["track.json", "build"])
def test_the_unit_of_depth_goes_with_the_checkpoint(a2j, tmp_path, monkeypatch, recorded):
    monkeypatch.chdir(tmp_path)
    changes = {"depth_unit_mm": 0.125} if recorded == "track.json" else {}
    own_data.write_rendered(Path("mine"), train=8, test=4, unit_mm=0.125, crop_size=32, **changes)
    unit = ["--depth_unit_mm", "0.125"] if recorded == "build" else []
    built = a2j("build", "./mine", *unit)
    assert ("0.125 mm per count as given" in built.err) == (recorded == "build")
    train = ["train", "--config", "small_folder", "--config.track=./mine", *TINY]
    for _ in range(2):  # the second continues
        a2j(*train, "--workdir", "run")
    assert load_track("run/track.json").depth_unit_mm == 0.125
    Path("mine").rename("gone")
    depth = read_frame("gone/frames/0009.png", depth_unit_mm=0.125)
    outcome = a2j("predict", "run", "gone/frames/0009.png", "--json")
    assert "warning" not in outcome.err
    (frame,) = json.loads(outcome.out)["frames"]
    assert abs(frame["center_uvd"][2] - np.percentile(depth[depth > 0], 5)) < 300
    other = a2j("predict", "run", "gone/frames/0009.png", "--json", "--depth_unit_mm", "1")
    assert "1 mm per count as given; track my_hands has 0.125" in other.err
    assert "warning: gone/frames/0009.png: the hand would be" in other.err
