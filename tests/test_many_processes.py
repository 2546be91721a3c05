"""Two processes of two devices do what one process does: they train, evaluate, stop and go on together."""

import dataclasses
import json
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from a2j_jax.cli.main import main
from a2j_jax.config import to_json
from a2j_jax.runs.checkpoints import save_variables
from a2j_jax.runs.experiment import resolve
from a2j_jax.runs.run_dir import kept_checkpoints
from a2j_jax.training.logs import METRICS_FILE, read_metrics
from tests import faults, steps_in_parallel, tiny
from tests import processes_on_loopback as loopback

# `a2j`, where not so much patience is needed with a process that is not heard of.
IMPATIENT = (
    "from a2j_jax import distributed; distributed._SILENCE_SECONDS = 15; "
    "distributed._SHARED_SECONDS = 3; from a2j_jax.cli import console; console()"
)
STUCK = """
import os
from a2j_jax.cli import console
from a2j_jax.interrupts import Watchdog
from a2j_jax.runs.checkpoints import RunCheckpoints
dogs = []
begin = Watchdog.__enter__
Watchdog.__enter__ = lambda dog: dogs.append(dog) or begin(dog)
def save_to_a_disk_that_is_gone(*_, **__):
    if dogs[0].seconds < 1000: dogs[0].seconds = 4  # not before: compiling takes longer
    os.read(os.pipe()[0], 1)
RunCheckpoints.save = save_to_a_disk_that_is_gone
console()
"""
ENDLESS = 100_000
FLOAT32 = 1e-4  # what the order of sums may do to weights, by way of Adam

pytestmark = pytest.mark.slow


def largest_difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    assert one.keys() == other.keys()
    return max(float(np.abs(np.float64(one[name]) - np.float64(other[name])).max()) for name in one)


def arrays(file: Path) -> dict[str, Any]:
    with np.load(file) as found:
        return dict(found)


def test_twenty_steps_are_the_same_in_float64(tiny_data: Path, tmp_path: Path) -> None:
    """Parameters, running statistics, their average and the optimiser's state, within 1e-8, by each way of sharing.

    With gradients accumulated, part of the network frozen and a guard against broken updates.
    And a split of three frames, of which the second process gets none, is evaluated by both.
    """
    for count, asked in (
        (1, ["mesh:4:2"]),
        (2, ["mesh:4:2", "shard_map:4:2", "pmap:4:2", "few:2"]),
    ):
        (tmp_path / str(count)).mkdir()
        out = tmp_path / str(count)
        for ended in loopback.run(
            count, 4 // count, tiny_data, out, "float64", *asked, program=steps_in_parallel.PROGRAM
        ):
            assert ended.status == 0, ended.err
    start = flatten_dict(steps_in_parallel.start("float64"), sep="/")
    one = arrays(tmp_path / "1" / "mesh-4.npz")
    for mode in ("mesh", "shard_map", "pmap"):
        two = arrays(tmp_path / "2" / f"{mode}-4.npz")
        assert {name.split("/")[0] for name in one} == {
            "params",
            "batch_stats",
            "ema",
            "optimizer",
        }
        assert all(x.dtype == np.float64 for name, x in one.items() if "optimizer" not in name)
        moved = {name: np.abs(x - start[name]).max() for name, x in one.items() if name in start}
        assert max(moved.values()) > 1e-3
        apart = largest_difference(one, two)
        print(f"{mode}: {apart:.1e} apart")
        assert apart < 1e-8
    for name in steps_in_parallel.FROZEN:
        kept = [key for key in start if f"/{name}" in key]
        assert kept
        assert all((one[key] == start[key]).all() for key in kept), kept
    one, two = (
        steps_in_parallel.predicted(str(tiny_data), steps_in_parallel.SPLITS["few"], 1),
        arrays(tmp_path / "2" / "few-2.npz"),
    )
    assert two["index"].tolist() == one["index"].tolist() == [0, 1, 2]
    assert largest_difference(one, two) < 1e-3  # px and mm, of a float32 network


class Run:
    """A run directory, and the processes that have a go at it."""

    def __init__(self, folder: Path, data: Path):
        folder.mkdir(exist_ok=True)
        self.folder = folder / "run"
        self._config = folder / "tiny.json"
        settings = tiny.config(
            data, schedule="constant", steps=ENDLESS, ema_decay=0.9, freeze=("trunk/",)
        )
        parts = "tests.own_parts:quick_regression"  # every process compiles for itself
        self._settings = dataclasses.replace(settings, parts=parts)
        self._config.write_text(to_json(self._settings))

    def command(self, *options: str) -> list[object]:
        own = ["--config.run.eval_every=100000", "--config.run.save_every=4", *options]
        return ["train", "--config", self._config, "--workdir", self.folder, *own]

    def lines(self) -> int:
        log = self.folder / METRICS_FILE
        return log.read_text().count("\n") if log.exists() else 0

    def step(self) -> int:
        return int(kept_checkpoints(self.folder)[-1].name)

    def interrupted(self, number: signal.Signals, to: list[int]) -> list[loopback.Ended]:
        """Two processes go on for some steps, and some of them get a signal; how that ends."""
        before = self.lines()
        with loopback.job(2, 2, *self.command(), "--debug", "transfers", program=IMPATIENT) as job:
            job.wait_until(lambda: self.lines() >= before + 3)
            job.send(number, *to)
            return job.ended()

    def finished(self, steps: int) -> dict[str, Any]:
        """Go on to this step, in this process; returns every number of the final checkpoint."""
        words = self.command(f"--config.optim.steps={steps}")
        assert main([str(word) for word in words]) == 0
        assert self.step() == steps
        return self.numbers()

    def numbers(self) -> dict[str, Any]:
        """Every number of the newest checkpoint."""
        state, _ = faults.state_of(self._settings, self.folder)
        items = {"variables": state.variables, "ema": state.ema, "optimizer": state.opt_state}
        leaves = jax.tree_util.tree_leaves_with_path(items)
        return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def said_once(ended: list[loopback.Ended], text: str) -> None:
    assert [one.err.count(text) for one in ended] == [1] + [0] * (len(ended) - 1), ended


@pytest.mark.timeout(
    1800
)  # five jobs, one after the other; on a busy machine each takes a minute or two
def test_a_run_survives_whatever_stops_it(tiny_data: Path, tmp_path: Path) -> None:
    """Stopped three times, by two processes, and finished by one: as a run that one trained straight."""
    run = Run(tmp_path / "stopped", tiny_data)
    # All of them get it: Slurm's way.
    ended = run.interrupted(signal.SIGTERM, [0, 1])
    assert [one.status for one in ended] == [143, 143], ended
    said_once(ended, f"a2j: SIGTERM: stopped after step {run.step()} of {ENDLESS}; ")
    # One of them gets it, and all stop after the same step.
    before = run.step()
    ended = run.interrupted(signal.SIGINT, [1])
    assert [one.status for one in ended] == [143, 130], ended
    said_once(ended, f"a2j: SIGTERM: stopped after step {run.step()} of {ENDLESS}; ")
    assert run.step() > before
    # One of them dies, the one that JAX's processes talk through included: the other ends with one line.
    for dies in (1, 0):
        ended = run.interrupted(signal.SIGKILL, [dies])
        assert ended[dies].status == -signal.SIGKILL
        other = ended[1 - dies]
        assert other.status in (1, 2), ended  # 2: in a save, which keeps the step before
        assert other.last.startswith(f"a2j: error: process {1 - dies} of 2: "), ended
        assert "Traceback" not in other.err, ended
        assert "***" not in other.err, ended  # as over the stack of an abort

    earlier, steps = run.numbers(), run.step() + 2
    stopped = run.finished(steps)
    whole = Run(tmp_path / "whole", tiny_data)
    straight = whole.finished(steps)
    apart = largest_difference(stopped, straight)
    print(f"{steps} Adam steps in float32: {apart:.1e} apart")
    assert apart < FLOAT32 < largest_difference(earlier, straight) / 10
    one, two = ({(m["kind"], m["step"]): m for m in read_metrics(r.folder)} for r in (run, whole))
    assert [step for kind, step in one if kind == "train"] == list(range(1, steps + 1))
    assert one.keys() == two.keys()
    for at in one:
        score = "loss" if at[0] == "train" else "error"
        assert one[at][score] == pytest.approx(two[at][score], rel=1e-3)


def test_every_frame_is_evaluated_once(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """19 frames, six at a time: of the last one, the second process has none."""
    config = tiny.quick(tiny_data)
    variables = tiny.made_up(tiny.shapes(resolve(config).model))
    save_variables(tmp_path / "checkpoint", variables, config)
    own = ["--workdir", str(tmp_path / "checkpoint"), "--split", "test[:19]", "--batch_size", "6"]
    command = ["eval", *own, "--json", "--out"]
    assert main([*command, str(tmp_path / "one")]) == 0
    alone = json.loads(capsys.readouterr().out)
    first, second = loopback.run(2, 2, *command, tmp_path / "two")
    assert (first.status, second.status) == (0, 0), (first.err, second.err)
    together = json.loads(first.out)
    assert second.out == ""
    # gloo's native code prints lines of its own, which may break in two.
    assert "process 1 joins 2 processes" in second.err
    for text in ("evaluating step", "crop centers from", "mean error", "wrote "):
        assert (text in first.err, text in second.err) == (True, False), (text, second.err)

    assert together["frames"] == alone["frames"] == 19
    assert together.keys() == alone.keys()
    assert together["compared"].keys() == alone["compared"].keys()
    for a, b in zip(scores(together), scores(alone), strict=True):
        assert a == pytest.approx(b, abs=1e-3)
    one, two = (arrays(tmp_path / folder / "predictions.npz") for folder in ("one", "two"))
    for name in ("index", "frame_id"):
        np.testing.assert_array_equal(one.pop(name), two.pop(name))
    stated, also = (json.loads(str(found.pop("about"))) for found in (one, two))
    assert stated == also
    assert largest_difference(one, two) < 1e-3  # px and mm


def scores(contents: dict[str, Any]) -> list[float]:
    """Errors of a checkpoint and of what it is compared with."""
    all_of_them = [contents, *contents["compared"].values()]
    return [error for one in all_of_them for error in (one["mean_error_mm"], *one["per_joint_mm"])]


def test_a_mistake_ends_them_all(tiny_data: Path, tmp_path: Path) -> None:
    command = Run(tmp_path, tiny_data).command("--config.optim.batch_size=6")
    for index, ended in enumerate(loopback.run(2, 2, *command)):
        assert ended.status == 2, ended
        assert ended.last.startswith(f"a2j: error: process {index} of 2: ")
        assert "does not spread evenly over 4 devices; use 4 or 8" in ended.last
        assert "Traceback" not in ended.err
        assert "***" not in ended.err  # as over the stack of an abort


@pytest.mark.parametrize("mistaken", [0, 1])
def test_one_that_fails_ends_the_others(mistaken: int, tiny_data: Path, tmp_path: Path) -> None:
    """Only one of them is told to continue what is not there: it says so (2), the other that it lost it (1)."""
    run = Run(tmp_path, tiny_data)
    with loopback.job(2, 2, *run.command(), own={mistaken: ["--resume"]}) as job:
        ended = job.ended()
    for index, one in enumerate(ended):
        assert one.status == (2 if index == mistaken else 1), ended
        assert one.last.startswith(f"a2j: error: process {index} of 2: "), ended
        assert "Traceback" not in one.err, ended
        assert "***" not in one.err, ended


@pytest.mark.parametrize("what", ["run directory", "data set"])
def test_folders_that_are_not_the_same_for_all_are_found_before_anything_is_compiled(
    what: str, tiny_data: Path, tmp_path: Path
) -> None:
    run, other = Run(tmp_path, tiny_data), tmp_path / "other"
    own = {1: ["--workdir", str(other)]}
    if what == "data set":
        shutil.copytree(tiny_data, other)
        (about,) = other.rglob("metadata.json")
        about.write_text(about.read_text() + " ")  # another one, of the same name
        (about.parent / "digests.json").unlink()
        own = {1: [f"--config.data.dir={other}"]}
    ended = loopback.run(2, 2, *run.command(), own=own, program=IMPATIENT)
    for index, one in enumerate(ended):
        assert one.status == 2, ended
        assert one.last.startswith(f"a2j: error: process {index} of 2: the {what} "), ended
        assert f"process 1 on {socket.gethostname()}: {other}" in one.last, ended
        assert "Traceback" not in one.err, ended
    if what == "run directory":
        assert not other.exists()
        assert not any(run.folder.iterdir())  # nor is the token left there


@pytest.mark.parametrize("how", ["stall", "SIGTERM"])
def test_a_save_that_hangs_ends_the_job(how: str, tiny_data: Path, tmp_path: Path) -> None:
    run = Run(tmp_path, tiny_data)
    options = (
        ["--config.run.stall_seconds=500"] if how == "stall" else ["--config.run.grace_seconds=1"]
    )
    with loopback.job(2, 2, *run.command(*options), program=STUCK) as job:
        if how == "SIGTERM":
            job.wait_until(lambda: run.lines() >= 3)
            time.sleep(1)
            job.send(signal.SIGTERM, 0, 1)
        ended = job.ended()
    for one in ended:
        assert one.status == (1 if how == "stall" else 143) or "failed" in one.last, ended
    found = [one for one in ended if "no progress for " in one.last]
    assert found, ended
    for one in found:
        assert " in save_to_a_disk_that_is_gone" in one.err
        assert ("after SIGTERM" in one.last) == (how == "SIGTERM")
