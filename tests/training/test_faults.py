"""Runs that are killed, told to stop or starved of disk lose nothing. `benchmarks/faults.py` tries it more often."""

import signal
import time
from pathlib import Path

import pytest

from a2j_jax.config import Config
from a2j_jax.training.run import run_experiment
from tests import faults

pytestmark = pytest.mark.slow  # every start takes seconds

STEPS = 12


@pytest.fixture(scope="module")
def config(tiny_data: Path) -> Config:
    return faults.config(tiny_data, STEPS, evaluate=6, save=3)


@pytest.fixture(scope="module")
def in_peace(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    workdir = tmp_path_factory.mktemp("in_peace") / "run"
    run_experiment(config, workdir)
    return workdir


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
    for number in (signal.SIGTERM, signal.SIGINT):
        with faults.Start(config, workdir) as start:
            start.wait_for_steps(1)
            status, said = start.end(by=number)
            start.check_where_it_began()
        assert status == 128 + number
        step = faults.newest(workdir)
        assert f"{number.name}: stopped after step {step} of {STEPS}; checkpoint saved" in said[-1]
    run_experiment(config, workdir)
    assert faults.differences(config, workdir, in_peace) == []
    records = [(line["kind"], line["step"]) for line in faults.logged(workdir)]
    assert len(records) == len(set(records))  # no step was done twice


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
