"""Runs that are killed, told to stop or starved of disk lose nothing. `benchmarks/faults.py` tries it more often."""

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from a2j_jax.config import Config
from a2j_jax.data import pipeline
from a2j_jax.errors import Stopped
from a2j_jax.training.run import run_experiment
from tests import faults

pytestmark = pytest.mark.slow  # every start takes seconds

STEPS = 12


@pytest.fixture(scope="module")
def config(tiny_data: Path) -> Config:
    return faults.config(tiny_data, STEPS, evaluate=6)


@pytest.fixture(scope="module")
def in_peace(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    workdir = tmp_path_factory.mktemp("in_peace") / "run"
    run_experiment(config, workdir)
    return workdir


@pytest.fixture(autouse=True)
def _clear_executables() -> Iterator[None]:
    yield
    jax.clear_caches()


def test_killed(config: Config, in_peace: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    for steps, in_save in ((1, False), (1, True), (3, False)):
        with faults.Start(config, workdir) as start:
            start.wait_for_steps(steps)
            if in_save:
                start.wait_for_save()
            assert start.end(by=signal.SIGKILL).status == -signal.SIGKILL
            start.check_where_it_began()
        if faults.newest(workdir) is not None:
            faults.check_whole(workdir)
    run_experiment(config, workdir)
    assert faults.differences(config, workdir, in_peace) == []


def test_told_to_stop(config: Config, in_peace: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    with faults.Start(config, workdir) as start:
        start.wait_for_steps(2)
        status, said = start.end(by=signal.SIGTERM)
    step = faults.newest(workdir)
    assert status == 143
    assert said[-1] == (
        f"a2j: SIGTERM: stopped after step {step} of {STEPS}; "
        "checkpoint saved; rerun the same command to resume"
    )
    run_experiment(config, workdir)
    assert faults.differences(config, workdir, in_peace) == []
    told = [(line["kind"], line["step"]) for line in faults.logged(workdir)]
    assert len(told) == len(set(told))  # no step was done twice


def test_told_to_stop_in_an_evaluation(config: Config, in_peace: Path, tmp_path: Path) -> None:
    """The step is saved before it is evaluated, and the next start begins with its evaluation."""
    workdir = tmp_path / "run"
    with faults.Start(config, workdir) as start:
        start.wait_until(lambda: faults.newest(workdir) == config.run.eval_every, pause=0.001)
        began = time.monotonic()
        status, said = start.end(by=signal.SIGTERM)
    assert status == 143, said
    assert time.monotonic() - began < 20  # 2 s on a machine without other work
    run_experiment(config, workdir)
    assert faults.differences(config, workdir, in_peace) == []


def test_a_checkpoint_that_does_not_fit(config: Config, in_peace: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    with faults.Start(config, workdir) as start:
        start.wait_until(lambda: faults.newest(workdir) is not None)
        faults.limit_files(start.pid, 2**16)
        message = faults.check_complaint(start.end(), workdir, faults.newest(workdir))
    assert "could not be saved (File too large); step " in message
    faults.check_whole(workdir)
    run_experiment(config, workdir)
    assert faults.differences(config, workdir, in_peace) == []


class Interrupting:
    """Batches that come with Ctrl-C at some steps."""

    def __init__(self, batches: Any, at: list[int]):
        self.batches, self.at = batches, at

    def __next__(self) -> Any:
        batch = next(self.batches)
        if self.at and self.batches.get_state()["next_index"] == self.at[0]:
            self.at.pop(0)
            signal.raise_signal(signal.SIGINT)
        return batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.batches, name)


def test_interrupted_at_random_steps(
    config: Config, in_peace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = sorted(random.Random(0).sample(range(1, STEPS), 3))
    left = list(moments)
    make = pipeline.train_batches
    monkeypatch.setattr(
        pipeline,
        "train_batches",
        lambda *args, **options: Interrupting(make(*args, **options), left),
    )
    for moment in moments:
        with pytest.raises(Stopped, match=f"SIGINT: stopped after step {moment} of {STEPS}"):
            run_experiment(config, tmp_path)
        assert faults.newest(tmp_path) == moment
    run_experiment(config, tmp_path)
    assert faults.differences(config, tmp_path, in_peace) == []
