"""`a2j reproduce`: every row of Tables 7 to 10 trains and is scored; what is done is not done again."""

import html
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a2j_jax.config import override
from a2j_jax.config_files import load_config
from a2j_jax.evaluation.tables import TABLES
from a2j_jax.models.resnet import ARCHITECTURES
from a2j_jax.runs.experiment import resolve
from a2j_jax.runs.run_dir import kept_checkpoints
from a2j_jax.tools.reproduce import base_config
from a2j_jax.weights.convert import official_from_variables, write_state_dict
from tests import tiny
from tests.programs import A2J, Program

# Networks of this width are of this file alone: what is traced is kept for its settings, whatever the trunk.
WIDTH = 6
# Gradients of the trunk compile long.
SMALL = f"--budget smoke --config.model.width={WIDTH} --config.optim.steps=2 --config.optim.freeze=trunk/"


@pytest.fixture(autouse=True)
def _short_trunks(monkeypatch):
    """As few blocks as make three networks of different sizes."""
    for name, blocks in (
        ("resnet18", (0, 1, 1, 1)),
        ("resnet34", (0, 1, 2, 1)),
        ("resnet50", (0, 1, 1, 1)),
    ):
        monkeypatch.setitem(ARCHITECTURES, name, ARCHITECTURES[name]._replace(blocks=blocks))


@pytest.fixture(scope="module")
def smoke_data(tmp_path_factory):
    return tmp_path_factory.mktemp("smoke") / "data"


def imagenet(path: Path) -> None:
    """A ResNet-18 of that width in torchvision's naming."""
    config = load_config("table9/imagenet", base_config("synthetic_hand", "smoke"))
    model = resolve(override(config, "model.width", str(WIDTH))).model
    trunk = tiny.trunk_of(official_from_variables(tiny.made_up(tiny.shapes(model))))
    path.parent.mkdir()
    write_state_dict(path, trunk | {"fc.weight": np.zeros((10, 64), np.float32)})


def results(table: str) -> list[dict[str, Any]]:
    (path,) = Path("runs").glob(f"{table}-*/{table}.json")
    found: list[dict[str, Any]] = json.loads(path.read_text())["results"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("table", ["table7", "table8", "table9", "table10"])
def test_every_row_trains_and_is_scored(a2j, table, smoke_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    imagenet(tmp_path / "weights" / "resnet50.safetensors")
    data = "synthetic_body" if table == "table8" else "synthetic_hand"  # with PDJ
    command = f"reproduce {table} --data {data} --config.data.dir={smoke_data} {SMALL}"
    a2j(command)
    done = results(table)
    assert [one["row"] for one in done] == [row.name for row in TABLES[table].rows]
    for one in done:
        assert one["final"]["step"] == 2
        assert np.isfinite(one["final"]["mean_error_mm"])
        assert one["speed"]["frames_per_second"] > 0
        assert one["flops"] > 1e5
        assert ("pdj" in one["final"]) == (table == "table8")
    if table == "table10":
        assert sorted({one["parameters"] for one in done}) == [one["parameters"] for one in done]
    page = (tmp_path / "runs" / f"{table}-{data}-smoke" / f"{table}.html").read_text()
    assert all(row.label in html.unescape(page) for row in TABLES[table].rows)

    again = a2j(command)
    assert again.err.count("this run is finished") == len(done)
    assert "evaluating" not in again.err
    assert results(table) == done


@pytest.mark.slow
def test_a_row_without_its_weights_is_left_out_and_another_seed_is_another_run(
    a2j, smoke_data, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    options = f"--data synthetic_hand --config.data.dir={smoke_data} {SMALL}"
    outcome = a2j(f"reproduce 9 --seeds 2 {options}")
    one, two = results("table9")
    assert (one["row"], one["final"]["step"]) == ("from_scratch", 2)
    assert two["seed"] == one["seed"] + 1
    assert two["final"]["mean_error_mm"] != one["final"]["mean_error_mm"]
    said = " ".join(outcome.err.split())
    assert "not run: weights/resnet50.safetensors is not there; ImageNet's are of width 64" in said
    assert said.index("not run:") < said.index("run 1 of")
    folders = sorted(tmp_path.glob("runs/*/from_scratch/*"))
    assert [kept_checkpoints(folder)[-1].name for folder in folders] == ["2", "2"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status", "last"),
    [(signal.SIGTERM, 143, "a2j: SIGTERM: ended"), (signal.SIGINT, 130, "a2j: interrupted")],
)
@pytest.mark.parametrize("cached", [False, True], ids=["compiling", "rendering"])
def test_told_to_stop_while_its_data_set_is_built(tmp_path, number, status, last, cached):
    data = f"--config.data.dir={tmp_path}/data --config.data.train_frames=300000"
    line = f"reproduce table7 --data synthetic_hand --budget smoke --out {tmp_path}/out {data}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    if not cached:  # everything is compiled: SIGTERM does not reach Python within seconds
        environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "cache")
    out, err = tmp_path / "out.txt", tmp_path / "err.txt"
    program = Program(A2J, line.split(), environment, out, err)
    try:
        while not list(tmp_path.glob("data/*/*/incomplete.*")):
            assert program.poll() is None, err.read_text()
            time.sleep(0.02)
        program.send_signal(number)
        assert program.wait(60) == status
    finally:
        program.kill()
    said = err.read_text().splitlines()
    assert said[-1] == last
    assert said[-2].endswith("was interrupted; nothing was kept; rerun the same command")
    assert not (tmp_path / "data").exists()
