"""The record of a run: each start with what repeats it, metrics across restarts, TensorBoard, Weights & Biases."""

import struct
import subprocess
import sys
import time
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

import a2j_jax
from a2j_jax.errors import UserError
from a2j_jax.runs import run_dir
from a2j_jax.runs.run_dir import STARTS_FILE, read_starts
from a2j_jax.training.logs import (
    METRICS_FILE,
    Pace,
    RunLog,
    WandbLog,
    peak_flops,
    read_metrics,
    record_start,
    require_wandb,
)
from tests import faults


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=me", "-c", "user.email=me@here")
    done = subprocess.run(
        ["git", "-C", folder, *who, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that the package seems to be run from."""
    folder = tmp_path / "checkout" / "a2j_jax"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("answer = 41\n")
    git(folder.parent, "init", "--quiet", "--initial-branch=trunk")
    git(folder.parent, "add", ".")
    git(folder.parent, "commit", "--quiet", "--message=one")
    monkeypatch.setattr(a2j_jax, "__file__", str(folder / "__init__.py"))
    return folder


def test_every_start_is_a_line(tmp_path: Path) -> None:
    first = record_start(tmp_path, command="a2j train --config x", step=0)
    second = record_start(tmp_path, command=None, step=7, parallel="mesh", batch_per_device=4)
    assert (first, second) == (1, 2)
    one, two = read_starts(tmp_path)
    assert (one["start"], one["command"], one["step"]) == (1, "a2j train --config x", 0)
    assert (two["step"], two["parallel"], two["batch_per_device"]) == (7, "mesh", 4)
    assert one["time"].endswith("+00:00")
    assert one["versions"]["jax"] == metadata.version("jax")
    assert {"python", "a2j_jax", "grain", "orbax-checkpoint"} < set(one["versions"])
    assert sum(one["devices"].values()) >= one["processes"] == 1


def test_everything_installed_is_listed_without_addresses(tmp_path: Path) -> None:
    """In another file once it has changed."""
    for _ in range(2):
        record_start(tmp_path, command=None, step=0)
    lines = (tmp_path / "requirements.txt").read_text().splitlines()
    assert f"numpy=={metadata.version('numpy')}" in lines
    assert lines == sorted(lines)
    assert not any("/" in line or "@" in line for line in lines)
    (tmp_path / "requirements.txt").write_text("numpy==1.0\n")  # as if it had been so then
    for _ in range(2):
        record_start(tmp_path, command=None, step=0)
    assert (tmp_path / "requirements.txt").read_text() == "numpy==1.0\n"
    assert [start["requirements"] for start in read_starts(tmp_path)] == [
        "requirements.txt", "requirements.txt", "requirements-3.txt", "requirements-3.txt",
    ]  # fmt: skip


def source_of(workdir: Path) -> Any:
    """The source that a start records."""
    record_start(workdir, command=None, step=0)
    return read_starts(workdir)[-1]["source"]


def test_the_source_is_that_of_the_package_and_what_was_changed_is_kept(
    package: Path, tmp_path: Path
) -> None:
    commit = git(package, "rev-parse", "HEAD")
    assert source_of(tmp_path) == {"commit": commit, "branch": "trunk", "dirty": False}
    (package / "__init__.py").write_text("answer = 42\n")
    (package / "notes.py").write_text("")
    source = source_of(tmp_path)
    assert source["dirty"]
    (diff,) = tmp_path.glob("*.diff")
    assert diff.name == source["diff"] == f"source-{commit[:7]}-2.diff"
    assert diff.read_text().startswith("# untracked: a2j_jax/notes.py\n")
    git(package.parent, "checkout", "--quiet", ".")
    git(package.parent, "apply", str(diff))
    assert (package / "__init__.py").read_text() == "answer = 42\n"

    (package / "__init__.py").write_text("answer = 42\n" * 400_000)
    text = (tmp_path / source_of(tmp_path)["diff"]).read_text()
    assert 4 * 2**20 < len(text) < 4 * 2**20 + 100
    assert text.splitlines()[-1].startswith("# cut here: 4,194,304 of 5,2")


def test_without_git_or_a_checkout_there_is_no_source(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed package has none, though its environment may lie in a checkout of something else."""
    with monkeypatch.context() as without_git:
        without_git.setenv("PATH", str(tmp_path))
        assert source_of(tmp_path) is None
    git(package, "rm", "--quiet", "--cached", "__init__.py")
    assert source_of(tmp_path) is None


def log_steps(workdir: Path, start: int, steps: range, loss: float) -> None:
    run_dir.append(workdir / STARTS_FILE, {"start": start, "step": steps[0] - 1})
    with closing(RunLog(workdir, start=start)) as log:
        for step in steps:
            log.write("train", step, {"loss": loss})


def losses(workdir: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in read_metrics(workdir)]


def test_a_line_has_what_when_and_by_which_start(tmp_path: Path) -> None:
    log_steps(tmp_path, 1, range(1, 2), 9.0)
    (line,) = read_metrics(tmp_path)
    assert line.pop("time") > 1.7e9
    assert line == {"kind": "train", "step": 1, "start": 1, "loss": 9.0}


def test_what_a_later_start_took_back_is_left_out(tmp_path: Path) -> None:
    """Killed at step 6, resumed from step 2, now at step 4: steps 5 and 6 are yet to come."""
    log_steps(tmp_path, 1, range(1, 7), 1.0)
    log_steps(tmp_path, 2, range(3, 5), 2.0)
    assert len(run_dir.read(tmp_path / METRICS_FILE)) == 8  # nothing is erased
    assert losses(tmp_path) == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]


def test_an_evaluation_follows_the_training_of_its_step(tmp_path: Path) -> None:
    with closing(RunLog(tmp_path)) as log:
        log.write("eval", 1, {"error": 5.0})
        log.write("train", 1, {"loss": 1.0})
    assert [line["kind"] for line in read_metrics(tmp_path)] == ["train", "eval"]


def test_lines_of_older_versions_are_read(tmp_path: Path) -> None:
    for step in (1, 2):
        line = {"kind": "train", "step": step, "time": 0.0, "loss": 3.0}
        run_dir.append(tmp_path / METRICS_FILE, line)
    log_steps(tmp_path, 1, range(2, 3), 2.0)
    assert losses(tmp_path) == [(1, 3.0), (2, 2.0)]


def test_tensorboard_gets_every_scalar(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event

    with closing(RunLog(tmp_path)) as log:
        log.write("train", 3, {"loss": 1.5, "grad_norm": 2.0})
    (file,) = (tmp_path / "tensorboard").iterdir()
    data, scalars = file.read_bytes(), {}
    while data:  # length, checksum of it, event, checksum of it
        (length,) = struct.unpack_from("Q", data)
        event = Event.FromString(data[12 : 12 + length])
        scalars |= {value.tag: (event.step, value.simple_value) for value in event.summary.value}
        data = data[16 + length :]
    assert scalars == {"train/loss": (3, 1.5), "train/grad_norm": (3, 2.0)}


def test_a_full_disk_is_no_silent_end(tmp_path: Path) -> None:
    """Of TensorBoard's file, too: reported by the thread that logs, and not a second time as a traceback."""
    log = RunLog(tmp_path)
    with faults.files_of_at_most(2**14):
        for call in (
            lambda: log.write("train", 1, {f"loss{n}": 1.0 for n in range(800)}),
            log.close,
        ):
            with pytest.raises(UserError, match=r"tensorboard: cannot be written \(File too large"):
                call()
    assert len(run_dir.read(tmp_path / METRICS_FILE)) == 1


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """A stand-in for the package."""
    package = Mock()
    monkeypatch.setitem(sys.modules, "wandb", package)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return package


def test_a_second_start_continues_the_same_run(wandb: Mock, tmp_path: Path) -> None:
    for step in (2, 1):  # killed after step 2, resumed from the start
        project = WandbLog(tmp_path, "hands", {"optim": {"steps": 2}})
        with closing(RunLog(tmp_path, wandb=project)) as log:
            log.write("train", step, {"loss": 3.0})
    (tmp_path / "other").mkdir()
    WandbLog(tmp_path / "other", "hands", {})
    first, second, other = (call.kwargs for call in wandb.init.call_args_list)
    assert first["id"] == second["id"] not in ("", other["id"])
    assert (first["project"], first["dir"]) == ("hands", str(tmp_path))
    assert first["config"] == {"optim": {"steps": 2}}
    assert (first["mode"], first["resume"]) == ("offline", "allow")
    # W&B drops steps that go backwards, so our step is logged as a value.
    run = wandb.init.return_value
    assert run.log.call_args.args == ({"train/loss": 3.0, "step": 1},)
    run.define_metric.assert_called_with("*", step_metric="step")
    assert run.finish.call_count == 2


def test_its_own_variable_wins(
    wandb: Mock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    WandbLog(tmp_path, "hands", {})
    assert wandb.init.call_args.kwargs["mode"] == "online"
    wandb.init.side_effect = RuntimeError("no API key\nconfigured")
    with pytest.raises(
        UserError, match="Weights & Biases refused: RuntimeError: no API key configured"
    ):
        WandbLog(tmp_path, "hands", {})


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install 'a2j-jax\[wandb\]'"):
        require_wandb()


def test_the_part_of_the_peak_that_training_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 3.0, 4.0, 11.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    pace = Pace()  # at 0 s
    assert pace.since_last(8) == {}  # at 1 s
    pace.steps += 4
    with pace.spent("evaluate"):  # 3 to 4 s
        pass
    pace.seconds["input"] += 3.0
    found = pace.since_last(8, peak=2.0)  # at 11 s: 9 s of training
    assert found == pytest.approx(
        {
            "images_per_second": 4 * 8 / 9,
            "step_ms": 9000 / 4,
            "input_wait_fraction": 3 / 9,
            "mfu": 4 / 9 / 2.0,
        }
    )
    assert peak_flops("TPU v5 lite") == 197e12
    assert peak_flops("TPU v5p") == 459e12
    assert peak_flops("cpu") is None
