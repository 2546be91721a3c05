"""Weights & Biases: one run per run directory, offline by default; tested with a stand-in for its package."""

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from a2j_jax.errors import UserError
from a2j_jax.training.logs import WandbLog, require_wandb


class Run:
    def __init__(self, given: dict[str, Any]):
        self.given, self.logged, self.axes, self.finished = given, [], [], False

    def define_metric(self, name: str, step_metric: str) -> None:
        self.axes.append((name, step_metric))

    def log(self, values: dict[str, float]) -> None:
        self.logged.append(values)

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """The runs that a stand-in for the package is asked for."""
    begun: list[Run] = []

    def init(**given: Any) -> Run:
        if given["mode"] == "online":
            raise RuntimeError("no API key\nconfigured")
        begun.append(Run(given))
        return begun[-1]

    package = types.ModuleType("wandb")
    package.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    package.init, package.Settings = init, dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", package)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return begun


def test_a_second_start_goes_on_as_the_same_run(runs: list[Run], tmp_path: Path) -> None:
    for step in (2, 1):  # killed after step 2, gone on from the start
        log = WandbLog(tmp_path, "hands", {"optim": {"steps": 2}})
        log.write("train", step, {"loss": 3.0})
        log.close()
    first, second = runs
    assert first.given["id"] == second.given["id"] != ""
    assert (first.given["project"], first.given["dir"]) == ("hands", str(tmp_path))
    assert first.given["config"] == {"optim": {"steps": 2}}
    assert (first.given["mode"], first.given["resume"]) == ("offline", "allow")
    # Steps of its own only grow, and it drops what goes back: ours are a value like others.
    assert second.logged == [{"train/loss": 3.0, "step": 1}]
    assert second.axes == [("*", "step")]
    assert first.finished


def test_another_run_directory_is_another_run(runs: list[Run], tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        WandbLog(tmp_path / name, "hands", {})
    assert runs[0].given["id"] != runs[1].given["id"]


def test_its_own_variable_says_otherwise(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    WandbLog(tmp_path, "hands", {})
    assert runs[0].given["mode"] == "disabled"
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(UserError, match="Weights & Biases refused: no API key configured"):
        WandbLog(tmp_path, "hands", {})


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'a2j-jax\[wandb\]'"):
        require_wandb()
