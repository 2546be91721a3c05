"""Checkpoints: which are kept and chosen, what comes back, and one clear line for what cannot."""

import asyncio
import gc
import json
import logging
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest

from a2j_jax.errors import UserError
from a2j_jax.runs.checkpoints import RunCheckpoints, failures_as, load_variables, save_variables
from a2j_jax.runs.experiment import resolve
from a2j_jax.runs.load import restore
from a2j_jax.runs.run_dir import (
    choose_step,
    kept_checkpoints,
    ranking_metrics,
    read_config,
    write_config,
)
from a2j_jax.runs.sharding import TrainState
from a2j_jax.training.step import adam_with_l2
from tests import tiny
from tests.faults import files_of_at_most
from tests.tiny import SMALL, state_at


def save_run(workdir: Path, errors: dict[int, float | None], keep_best: int = 1) -> None:
    """Saves of these steps by their error; None: saved without an evaluation."""
    with closing(RunCheckpoints(workdir, keep_best)) as checkpoints:
        for step, error in errors.items():
            save_and_wait(checkpoints, state_at(step, step), {"error": error} if error else None)


def save_and_wait(checkpoints: RunCheckpoints, state: TrainState, metrics: Any) -> None:
    checkpoints.save(state, {"position": int(state.step)}, to_be_scored=metrics is not None)
    checkpoints.wait()
    if metrics is not None:
        checkpoints.score(int(state.step), metrics)


def kept(workdir: Path) -> list[int]:
    return [int(path.name) for path in kept_checkpoints(workdir)]


def load(workdir: Path, step: int | str = "best", expected: Any = SMALL) -> tuple[Any, int]:
    folder = choose_step(workdir, step)
    return load_variables(folder, expected)[0], int(folder.name)


def complaint(call: Any, *arguments: Any) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    return message


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Best at step 20, latest at step 40."""
    workdir = tmp_path_factory.mktemp("run")
    save_run(workdir, {10: 9.0, 20: 5.0, 30: 8.0, 40: 7.0})
    return workdir


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be damaged."""
    return Path(shutil.copytree(run, tmp_path / "run"))


ALTERNATING = {10: 5.0, 15: None, 20: 7.0, 25: None, 30: 6.0, 35: None}


@pytest.mark.parametrize(
    ("starts", "keep_best", "left", "best"),
    [
        ([{10: 9.0, 20: 5.0, 30: 8.0, 40: 7.0}], 1, [20, 40], 20),
        ([{10: 5.0, 20: 8.0}, {30: 7.0, 40: 6.0}], 1, [10, 40], 10),
        ([{10: 5.0, 20: 8.0}, {30: 7.0, 40: 6.0}, {50: 4.0}], 1, [50], 50),
        ([{10: 5.0, 20: 8.0, 30: 6.0, 40: 9.0}], 2, [10, 30, 40], 10),
        # A save without an evaluation is kept while it is the latest, and takes no place of the best.
        ([{10: None, 15: None}], 1, [15], 15),
        ([{10: None}, {15: None, 20: 5.0, 25: None}], 1, [20, 25], 20),
        ([{20: 5.0, 25: None}, {30: 6.0, 35: None}], 1, [20, 35], 20),
        ([{20: 5.0, 25: None}, {30: 6.0, 35: None}, {40: 4.0}], 1, [40], 40),
        ([ALTERNATING], 2, [10, 30, 35], 10),
        # Of equal errors one is kept.
        ([{10: 5.0, 20: 5.0, 30: 5.0, 40: 6.0}], 1, [10, 40], 10),
    ],
)
def test_the_latest_and_the_best_are_kept(
    tmp_path: Path,
    starts: list[dict[int, float | None]],
    keep_best: int,
    left: list[int],
    best: int,
) -> None:
    for errors in starts:
        save_run(tmp_path, errors, keep_best)
    assert kept(tmp_path) == left
    assert load(tmp_path, "best")[1] == best
    assert load(tmp_path, "latest")[1] == left[-1]
    errors = {step: error for some in starts for step, error in some.items()}
    assert ranking_metrics(tmp_path) == {n: {"error": errors[n]} for n in left if errors[n]}


def test_the_average_of_the_weights_ranks_where_there_is_one(tmp_path: Path) -> None:
    with closing(RunCheckpoints(tmp_path)) as checkpoints:
        for step, error, of_average in ((10, 9.0, 4.0), (20, 3.0, 5.0), (30, 8.0, 6.0)):
            save_and_wait(checkpoints, state_at(step), {"error": error, "error_ema": of_average})
    assert kept(tmp_path) == [10, 30]
    assert load(tmp_path)[1] == 10
    assert ranking_metrics(tmp_path)[10] == {"error": 9.0, "error_ema": 4.0}


@pytest.mark.parametrize("seed", range(6))
def test_a_checkpoint_whose_deletion_was_cut_off_is_never_chosen(
    run: Path, copy: Path, seed: int
) -> None:
    """A kill may come while an older one is deleted, file by file and in any order."""
    save_run(copy, {50: 4.0})
    shutil.copytree(run / "checkpoints" / "20", copy / "checkpoints" / "20")
    files = sorted(p for p in (copy / "checkpoints" / "20").rglob("*") if p.is_file())
    rng = random.Random(seed)
    for path in rng.sample(files, rng.randrange(1, len(files))):
        path.unlink()
    for step in ("best", "latest"):
        assert load(copy, step)[1] == 50
    with closing(RunCheckpoints(copy)) as checkpoints:
        assert checkpoints.latest_step() == 50
        assert tiny.same(checkpoints.restore(state_at(0), 50)[0], state_at(50, 50))
    save_run(copy, {60: 9.0})
    assert kept(copy) == [50, 60]  # what was left of it is gone


@pytest.mark.parametrize(
    ("asked", "step"), [("best", 20), ("latest", 40), (20, 20), (40, 40), ("40", 40)]
)
def test_variables_of_a_step(run: Path, asked: int | str, step: int) -> None:
    variables, found = load(run, asked)
    assert found == step
    assert tiny.same(variables, jax.tree.map(lambda leaf: leaf + np.float32(step), SMALL))


def test_a_training_state_comes_back_and_the_run_is_left_as_it_was(run: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    with closing(RunCheckpoints(run)) as checkpoints:
        state, position = checkpoints.restore(state_at(0), 40)
    assert tiny.same(state, state_at(40, 40))
    assert position == {"position": 40}
    load(run)
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*")} == before


def test_a_save_that_was_cut_off_does_not_count(copy: Path) -> None:
    folder = copy / "checkpoints"
    shutil.copytree(folder / "40", folder / "50.orbax-checkpoint-tmp-123")
    assert load(copy, "latest")[1] == 40
    with closing(RunCheckpoints(copy)) as checkpoints:
        assert checkpoints.latest_step() == 40


def test_a_converted_checkpoint(tmp_path: Path) -> None:
    config = tiny.config(track="nyu")
    folder = tmp_path / "deep" / "converted"
    save_variables(folder, tiny.variables("nyu"), config)
    restored = restore(folder)
    assert tiny.same(restored.variables, tiny.variables("nyu"))
    assert (restored.experiment, restored.step) == (resolve(config), 0)
    assert restore(folder, "latest").step == 0


def test_a_checkpoint_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for folder in (tmp_path, tmp_path / "notes.txt"):
        message = complaint(save_variables, folder, SMALL, tiny.config())
        assert f"{folder} already exists" in message
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def changed(path: str, value: Any) -> Any:
    """SMALL with one tensor replaced, added or (None) removed."""
    tree = jax.tree.map(lambda leaf: leaf, SMALL)
    *groups, name = path.split("/")
    inner: Any = tree
    for group in groups:
        inner = inner.setdefault(group, {})
    inner.pop(name, None)
    if value is not None:
        inner[name] = value
    return tree


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("trunk/kernel", np.zeros((100, 201), np.float32), "is (100, 200), expected (100, 201)"),
        ("trunk/kernel", np.zeros((50, 200), np.float32), "is (100, 200), expected (50, 200)"),
        ("more/kernel", np.zeros(3, np.float32), "is missing, expected (3,)"),
        ("head/bias", None, "is (4,), expected none"),
    ],
)
def test_another_architecture(run: Path, name: str, value: Any, said: str) -> None:
    """Orbax itself would cut or pad a tensor of another shape without a word."""
    expected, said = changed(f"params/{name}", value), f"(params/{name} {said})"
    message = complaint(load, run, "best", expected)
    assert f"{run}/checkpoints/20 holds weights of another model" in message
    assert said in message
    other = TrainState.create(expected, adam_with_l2(1e-3, 0.0))
    with closing(RunCheckpoints(run)) as checkpoints:
        assert said in complaint(checkpoints.restore, other, 40)


@pytest.mark.parametrize(
    "optimizer", [optax.sgd(1e-3, momentum=0.9), optax.adamw(1e-3), optax.lion(1e-3)]
)
def test_the_state_of_another_optimizer_is_not_damage(run: Path, optimizer: Any) -> None:
    other = TrainState.create(SMALL, optimizer)
    with closing(RunCheckpoints(run)) as checkpoints:
        message = complaint(checkpoints.restore, other, 40)
    assert "another optimizer" in message
    assert "damaged" not in message


def test_an_edited_config_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "converted"
    save_variables(folder, tiny.variables(), tiny.config())
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"resnet18"', '"resnet34"'))
    (folder / "checkpoints/0/manifest.json").unlink()  # as before there were manifests
    message = complaint(restore, folder)
    assert "holds weights of another model" in message
    assert "was config.json changed?" in message
    (folder / "config.json").write_text(text.replace('"head_features": 8', '"head_features": 16'))
    assert "is (8,), expected (16,)" in complaint(restore, folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optim.learning_rate", 3e-3),
        ("data.crop_size", 48),
        ("loss.alpha", 0.25),
        ("data.dir", "x"),
    ],
)
def test_a_config_that_was_changed_since(tmp_path: Path, key: str, value: Any) -> None:
    save_variables(tmp_path / "c", tiny.variables(), tiny.config())
    path = tmp_path / "c" / "config.json"
    contents = json.loads(path.read_text())
    group, name = key.split(".")
    contents[group][name] = value
    path.write_text(json.dumps(contents))
    if key == "data.dir":  # moved
        assert restore(tmp_path / "c").config.data.dir == value
    else:
        message = complaint(restore, tmp_path / "c")
        assert key in message
        assert "config.json" in message


def test_folders_without_a_checkpoint(run: Path, tmp_path: Path) -> None:
    assert "checkpoint folder not found" in complaint(restore, tmp_path / "none")
    assert "config.json not found" in complaint(restore, tmp_path)
    assert "no checkpoint in" in complaint(load, tmp_path)
    write_config(tmp_path, tiny.config())
    assert "no checkpoint in" in complaint(restore, tmp_path)
    (tmp_path / "checkpoints").mkdir()
    assert "no complete checkpoint in" in complaint(restore, tmp_path)
    assert "not found" in complaint(restore, tmp_path / "config.json")
    message = complaint(load, run, 10)
    assert "no checkpoint of step 10" in message
    assert "kept: 20, 40" in message


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b'{"name": "x", "color": 1}'])
def test_a_config_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    message = complaint(read_config, tmp_path)
    assert f"{tmp_path / 'config.json'}: " in message
    assert "delete it and train with the run's own config again" in message


@pytest.fixture
def quiet() -> Iterator[None]:
    """Reads of a damaged file that Orbax started together may still end, and complain, after the first."""
    yield
    time.sleep(0.1)
    gc.collect()
    logging.getLogger("asyncio").setLevel(logging.NOTSET)


AFTERWARDS = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def largest_file(folder: Path) -> Path:
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != "commit_success.txt"]
    return max(files, key=lambda p: p.stat().st_size)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda item: os.truncate(largest_file(item), 0), "has 0 bytes where"),
        (lambda item: os.truncate(item / "_METADATA", 9), "has 9 bytes where"),
        (lambda item: (item / "_METADATA").unlink(), "variables/_METADATA is missing"),
        (lambda item: (item / "more").write_text("x"), "variables/more was not written"),
    ],
)
def test_a_damaged_checkpoint(copy: Path, harm: Any, said: str) -> None:
    harm(copy / "checkpoints/40/variables")
    message = complaint(load, copy, "latest")
    assert f"{copy}/checkpoints/40: this checkpoint is damaged or incomplete" in message
    assert said in message
    assert "(step 20)" in message
    assert "--step" not in message  # which `train` and `predict` do not have
    assert load(copy)[1] == 20  # the other one is good
    shutil.rmtree(copy / "checkpoints/20")
    assert "it is the only one here" in complaint(load, copy, "latest")


@AFTERWARDS
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("item", ["optimizer", "iterator"])
def test_a_damaged_training_state(copy: Path, monkeypatch: pytest.MonkeyPatch, item: str) -> None:
    os.truncate(largest_file(copy / "checkpoints" / "40" / item), 0)
    monkeypatch.setattr("sys.unraisablehook", sys.unraisablehook)  # to be put back
    before = sys.unraisablehook
    with closing(RunCheckpoints(copy)) as checkpoints:
        assert "damaged or incomplete" in complaint(checkpoints.restore, state_at(0), 40)
    assert sys.unraisablehook is not before  # what is still under way stays quiet


@pytest.mark.parametrize("content", ["", '{"error": 5', "[1]", '{"loss": 1.0}', '{"error": NaN}'])
@pytest.mark.parametrize("where", ["manifest.json", "metrics/metrics"])
def test_damaged_metrics(copy: Path, content: str, where: str, logged: list[str]) -> None:
    """Those of before there were manifests too."""
    folder = copy / "checkpoints" / "20"
    (folder / "manifest.json").unlink()
    path = folder / where
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    for open_it in (ranking_metrics, load):
        message = complaint(open_it, copy)
        assert f"{path} is damaged" in message
        assert f"delete the folder of that checkpoint, {folder}" in message
    assert load(copy, "latest")[1] == 40
    RunCheckpoints(copy).close()
    assert any("20.damaged" in line for line in logged)
    assert load(copy)[1] == 40


def test_checkpoints_without_digests(copy: Path, logged: list[str]) -> None:
    """As a version without manifests left them."""
    for step, error in ((20, 5.0), (40, 7.0)):
        folder = copy / "checkpoints" / str(step)
        (folder / "manifest.json").unlink()
        (folder / "metrics").mkdir()
        (folder / "metrics" / "metrics").write_text(json.dumps({"error": error}))
    for _ in range(2):
        assert load(copy)[1] == 20
    assert " ".join(logged).count("without digests") == 1
    with closing(RunCheckpoints(copy)) as checkpoints:
        assert tiny.same(checkpoints.restore(state_at(0), 40)[0], state_at(40, 40))
        (copy / "checkpoints/40/variables/_METADATA").unlink()
        assert "damaged or incomplete" in complaint(checkpoints.restore, state_at(0), 40)
    save_run(copy, {50: 6.0})
    assert kept(copy) == [20, 50]


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


@AFTERWARDS
@pytest.mark.usefixtures("quiet")
@pytest.mark.slow
def test_a_flipped_bit_is_never_loaded(copy: Path) -> None:
    """Every file of a checkpoint, at 30 positions each."""
    folder, rng = copy / "checkpoints" / "40", random.Random(0)
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert len(files) > 10
    with closing(RunCheckpoints(copy)) as checkpoints:
        for path in files:
            content, name = path.read_bytes(), path.relative_to(folder).as_posix()
            for _ in range(30):
                flip(path, rng)
                assert name in complaint(checkpoints.restore, state_at(0), 40)
                path.write_bytes(content)
        assert tiny.same(checkpoints.restore(state_at(0), 40)[0], state_at(40, 40))


def test_what_does_no_harm(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a desktop, a link in place of a folder; and without permission a checkpoint is not damaged."""
    (copy / "checkpoints").rename(tmp_path / "elsewhere")
    (copy / "checkpoints").symlink_to(tmp_path / "elsewhere")
    (copy / "checkpoints/20/variables/.DS_Store").write_text("x")
    (copy / "checkpoints/notes.txt").write_text("x")
    assert load(copy)[1] == 20
    save_run(copy, {50: 4.0})
    assert kept(copy) == [50]
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "permission" in complaint(load, copy)


@pytest.mark.parametrize("purged", ["folder", "files", "bit"])
def test_a_damaged_newest_checkpoint_is_put_aside(
    copy: Path, purged: str, logged: list[str]
) -> None:
    newest = copy / "checkpoints/40"
    if purged == "bit":
        flip(largest_file(newest / "variables"), random.Random(1))
    elif purged == "folder":
        shutil.rmtree(newest)
        newest.mkdir()
    else:
        for path in [p for p in newest.rglob("*") if p.is_file()]:
            path.unlink()
    assert "damaged" in complaint(load, copy, "latest")
    with closing(RunCheckpoints(copy)) as checkpoints:
        found = checkpoints.restore_latest(state_at(0))
        assert found is not None
        assert tiny.same(found[0], state_at(20, 20))
        assert " ".join(logged).count("40.damaged") == 1
        assert (copy / "checkpoints/40.damaged").is_dir()
        save_and_wait(checkpoints, state_at(40, 40), {"error": 1.0})
    assert load(copy)[1] == 40


def test_a_broken_state_is_discarded_and_the_one_before_it_is_still_there(tmp_path: Path) -> None:
    save_run(tmp_path, {10: 5.0, 15: None})
    with closing(RunCheckpoints(tmp_path)) as checkpoints:
        checkpoints.save(state_at(20), {}, to_be_scored=True)
        checkpoints.wait()
        assert kept(tmp_path) == [10, 15, 20]
        checkpoints.discard(20)
        assert checkpoints.latest_step() == 15
    assert kept(tmp_path) == [10, 15]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("stop", [KeyboardInterrupt, asyncio.CancelledError])
def test_an_interruption_is_not_a_failure(stop: type[BaseException]) -> None:
    """Orbax raises its own exception for whatever stops a read."""
    failure = Exception("Encountered error while reading array index")
    failure.__cause__ = stop()
    with pytest.raises(KeyboardInterrupt), failures_as(lambda error: UserError(str(error))):
        raise failure


def test_a_save_that_fails_is_reported_and_the_one_before_is_kept(
    copy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for workdir, there in ((copy, "step 40 is kept"), (tmp_path / "new", "none was saved before")):
        with closing(RunCheckpoints(workdir)) as checkpoints, files_of_at_most(2**12):
            message = complaint(save_and_wait, checkpoints, state_at(50, 50), {"error": 1.0})
        assert message.startswith(f"{workdir}/checkpoints: the last checkpoint could not be saved")
        assert f"(File too large); {there}. " in message
        assert capfd.readouterr().err == ""
    assert kept(copy) == [20, 40]
    save_run(copy, {50: 1.0})  # the same again, with room
    assert kept(copy) == [50]


def test_a_converted_checkpoint_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    with files_of_at_most(2**14):
        message = complaint(save_variables, tmp_path / "c", tiny.variables(), tiny.config())
    assert "cannot be written (File too large)" in message
    assert not (tmp_path / "c").exists()


def test_a_config_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    write_config(tmp_path, tiny.config())
    with files_of_at_most(100):
        message = complaint(write_config, tmp_path, tiny.config(steps=99))
    assert f"{tmp_path / 'config.json'}: cannot be written (File too large)" in message
    assert read_config(tmp_path) == tiny.config()
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_weights_of_no_known_kind_are_refused(run: Path) -> None:
    expected: Any = jax.eval_shape(lambda: SMALL)
    with pytest.raises(UserError, match="weights 'rae': expected one of raw, ema, best"):
        load_variables(run / "checkpoints" / "20", expected, "rae")  # type: ignore[arg-type]
