"""What a run logs: lines that tell which start wrote them, read back without what was taken back."""

import struct
from pathlib import Path

import pytest

from a2j_jax.errors import UserError
from a2j_jax.runs import run_dir
from a2j_jax.runs.run_dir import STARTS_FILE
from a2j_jax.training.logs import METRICS_FILE, RunLog, read_metrics


def log_steps(workdir: Path, start: int, steps: range, loss: float) -> None:
    run_dir.append(workdir / STARTS_FILE, {"start": start, "step": steps[0] - 1})
    log = RunLog(workdir, start=start)
    for step in steps:
        log.write("train", step, {"loss": loss})
    log.close()


def test_a_line_says_what_when_and_by_which_start(tmp_path: Path) -> None:
    log_steps(tmp_path, 1, range(1, 2), 9.0)
    (line,) = read_metrics(tmp_path)
    assert line.pop("time") > 1.7e9
    assert line == {"kind": "train", "step": 1, "start": 1, "loss": 9.0}


def test_what_a_later_start_took_back_is_left_out(tmp_path: Path) -> None:
    """Killed at step 6, gone on from step 2, now at step 4: steps 5 and 6 are yet to come."""
    log_steps(tmp_path, 1, range(1, 7), 1.0)
    log_steps(tmp_path, 2, range(3, 5), 2.0)
    assert len(run_dir.read(tmp_path / METRICS_FILE)) == 8  # nothing is erased
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path)] == [
        (1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0),
    ]  # fmt: skip


def test_an_evaluation_follows_the_training_of_its_step(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.write("eval", 1, {"error": 5.0})
    log.write("train", 1, {"loss": 1.0})
    log.close()
    assert [line["kind"] for line in read_metrics(tmp_path)] == ["train", "eval"]


def test_lines_of_older_versions_are_read(tmp_path: Path) -> None:
    run_dir.append(tmp_path / METRICS_FILE, {"kind": "train", "step": 1, "time": 0.0, "loss": 3.0})
    run_dir.append(tmp_path / METRICS_FILE, {"kind": "train", "step": 2, "time": 0.0, "loss": 3.0})
    log_steps(tmp_path, 1, range(2, 3), 2.0)
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path)] == [(1, 3.0), (2, 2.0)]


def test_tensorboard_gets_every_scalar(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event

    log = RunLog(tmp_path)
    log.write("train", 3, {"loss": 1.5, "grad_norm": 2.0})
    log.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    data, scalars = file.read_bytes(), {}
    while data:  # length, checksum of it, event, checksum of it
        (length,) = struct.unpack_from("Q", data)
        event = Event.FromString(data[12 : 12 + length])
        scalars |= {value.tag: (event.step, value.simple_value) for value in event.summary.value}
        data = data[16 + length :]
    assert scalars == {"train/loss": (3, 1.5), "train/grad_norm": (3, 2.0)}


def test_a_full_disk_is_no_silent_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of TensorBoard's file, too: told by the thread that logs, and not a second time as a traceback."""
    monkeypatch.setattr("a2j_jax.training.logs._FLUSH_SECONDS", 0.0)
    log = RunLog(tmp_path)

    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log._events._file, "flush", full)
    with pytest.raises(UserError, match=r"tensorboard: cannot be written \(No space left"):
        log.write("train", 1, {"loss": 1.0})
    with pytest.raises(UserError, match="No space left"):
        log.close()


class Project:
    """What `RunLog` needs of Weights & Biases."""

    def __init__(self) -> None:
        self.lines: list[tuple] = []

    def write(self, *line: object) -> None:
        self.lines.append(line)

    def close(self) -> None:
        self.lines.append(("closed",))


def test_a_project_is_written_to_and_closed(tmp_path: Path) -> None:
    project = Project()
    log = RunLog(tmp_path, wandb=project)  # type: ignore[arg-type]
    log.write("eval", 2, {"error": 5.0})
    log.close()
    assert project.lines == [("eval", 2, {"error": 5.0}), ("closed",)]
