"""Checkpoints: which are kept and chosen, what comes back, and one clear line for what cannot."""

import asyncio
import contextlib
import gc
import json
import logging
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest

from a2j_jax.errors import UserError
from a2j_jax.runs import checkpoints as module
from a2j_jax.runs.checkpoints import RunCheckpoints, load_variables, save_variables
from a2j_jax.runs.experiment import resolve
from a2j_jax.runs.load import restore
from a2j_jax.runs.run_dir import kept_checkpoints, ranking_metrics, read_config, write_config
from a2j_jax.runs.sharding import TrainState
from a2j_jax.training.optim import adam_with_l2
from tests import tiny
from tests.faults import files_of_at_most
from tests.tiny import SMALL, state_at


def save_run(workdir: Path, errors: dict[int, float | None], keep_best: int = 1) -> None:
    """Saves of these steps by their error; None: saved without an evaluation."""
    checkpoints = RunCheckpoints(workdir, keep_best)
    for step, error in errors.items():
        save_and_wait(checkpoints, state_at(step, step), {"error": error} if error else None)
    checkpoints.close()


def save_and_wait(checkpoints: RunCheckpoints, state: TrainState, metrics: Any) -> None:
    checkpoints.save(state, {"position": int(state.step)}, to_be_scored=metrics is not None)
    checkpoints.wait()
    if metrics is not None:
        checkpoints.score(int(state.step), metrics)


def kept(workdir: Path) -> list[int]:
    return [int(path.name) for path in kept_checkpoints(workdir)]


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


def test_the_latest_and_the_best_are_kept(run: Path) -> None:
    assert sorted(p.name for p in (run / "checkpoints").iterdir() if p.is_dir()) == ["20", "40"]


def test_the_best_is_the_one_with_the_lowest_error_even_after_reopening(run: Path) -> None:
    checkpoints = RunCheckpoints(run)
    assert (checkpoints.best_step(), checkpoints.latest_step()) == (20, 40)
    checkpoints.close()
    assert ranking_metrics(run) == {20: {"error": 5.0}, 40: {"error": 7.0}}


def test_a_reopened_run_still_knows_its_best(tmp_path: Path) -> None:
    save_run(tmp_path, {10: 5.0, 20: 8.0})
    save_run(tmp_path, {30: 7.0, 40: 6.0})
    assert list(ranking_metrics(tmp_path)) == [10, 40]
    save_run(tmp_path, {50: 4.0})
    assert list(ranking_metrics(tmp_path)) == [50]


def test_several_of_the_best_are_kept(tmp_path: Path) -> None:
    save_run(tmp_path, {10: 5.0, 20: 8.0, 30: 6.0, 40: 9.0}, keep_best=2)
    assert list(ranking_metrics(tmp_path)) == [10, 30, 40]


def test_a_save_without_an_evaluation_is_kept_while_it_is_the_latest(tmp_path: Path) -> None:
    save_run(tmp_path, {10: None})
    assert kept(tmp_path) == [10]
    save_run(tmp_path, {15: None, 20: 5.0, 25: None})
    assert kept(tmp_path) == [20, 25]  # the best stays
    save_run(tmp_path, {30: 6.0, 35: None})
    assert kept(tmp_path) == [20, 35]
    save_run(tmp_path, {40: 4.0})
    assert kept(tmp_path) == [40]
    assert ranking_metrics(tmp_path) == {40: {"error": 4.0}}


def test_saves_without_an_evaluation_do_not_take_the_place_of_the_best_ones(tmp_path: Path) -> None:
    save_run(tmp_path, {10: 5.0, 15: None, 20: 7.0, 25: None, 30: 6.0, 35: None}, keep_best=2)
    assert kept(tmp_path) == [10, 30, 35]


@pytest.mark.parametrize(("asked", "step"), [("best", 20), ("latest", 25)])
def test_the_best_is_the_best_of_those_evaluated(tmp_path: Path, asked: str, step: int) -> None:
    save_run(tmp_path, {20: 5.0, 25: None})
    assert load_variables(tmp_path, SMALL, asked)[1] == step
    checkpoints = RunCheckpoints(tmp_path)
    assert (checkpoints.best_step(), checkpoints.latest_step()) == (20, 25)
    checkpoints.close()


def test_a_run_that_was_never_evaluated_has_its_latest(tmp_path: Path) -> None:
    save_run(tmp_path, {10: None, 15: None})
    assert load_variables(tmp_path, SMALL, "best")[1] == 15


def test_the_average_of_the_weights_ranks_where_there_is_one(tmp_path: Path) -> None:
    checkpoints = RunCheckpoints(tmp_path)
    for step, error, of_average in ((10, 9.0, 4.0), (20, 3.0, 5.0), (30, 8.0, 6.0)):
        save_and_wait(checkpoints, state_at(step), {"error": error, "error_ema": of_average})
    checkpoints.close()
    assert kept(tmp_path) == [10, 30]
    assert load_variables(tmp_path, SMALL)[1] == 10
    assert ranking_metrics(tmp_path)[10] == {"error": 9.0, "error_ema": 4.0}


@pytest.mark.parametrize("seed", range(6))
def test_a_checkpoint_whose_deletion_was_cut_off_is_never_chosen(
    run: Path, tmp_path: Path, seed: int
) -> None:
    """A kill may come while an older one is deleted, file by file and in any order."""
    workdir = tmp_path / "run"
    shutil.copytree(run, workdir)
    save_run(workdir, {50: 4.0})
    shutil.copytree(run / "checkpoints" / "20", workdir / "checkpoints" / "20")
    files = sorted(p for p in (workdir / "checkpoints" / "20").rglob("*") if p.is_file())
    rng = random.Random(seed)
    for path in rng.sample(files, rng.randrange(1, len(files))):
        path.unlink()
    assert load_variables(workdir, SMALL)[1] == 50
    checkpoints = RunCheckpoints(workdir)
    assert (checkpoints.best_step(), checkpoints.latest_step()) == (50, 50)
    assert tiny.same(checkpoints.restore(state_at(0), 50)[0], state_at(50, 50))
    checkpoints.close()
    save_run(workdir, {60: 9.0})
    assert kept(workdir) == [50, 60]  # what was left of it is gone


@pytest.mark.parametrize("asked", ["best", "latest"])
def test_of_equal_errors_one_is_kept_and_it_is_the_best(tmp_path: Path, asked: str) -> None:
    save_run(tmp_path, {10: 5.0, 20: 5.0, 30: 5.0, 40: 6.0})
    assert len(kept(tmp_path)) == 2
    best, latest = kept(tmp_path)
    assert load_variables(tmp_path, SMALL, asked)[1] == {"best": best, "latest": latest}[asked]


@pytest.mark.parametrize(
    ("asked", "step"), [("best", 20), ("latest", 40), (20, 20), (40, 40), ("40", 40)]
)
def test_variables_of_a_step(run: Path, asked: int | str, step: int) -> None:
    variables, found = load_variables(run, SMALL, asked)
    assert found == step
    assert tiny.same(variables, jax.tree.map(lambda leaf: leaf + np.float32(step), SMALL))


def test_a_training_state_comes_back_whole(run: Path) -> None:
    checkpoints = RunCheckpoints(run)
    state, position = checkpoints.restore(state_at(0), 40)
    checkpoints.close()
    assert tiny.same(state, state_at(40, 40))
    assert position == {"position": 40}


def test_a_save_that_was_cut_off_does_not_count(run: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(run, workdir)
    shutil.copytree(
        workdir / "checkpoints" / "40", workdir / "checkpoints" / "50.orbax-checkpoint-tmp-123"
    )
    assert load_variables(workdir, SMALL, "latest")[1] == 40
    checkpoints = RunCheckpoints(workdir)
    assert checkpoints.latest_step() == 40
    checkpoints.close()


def test_reading_leaves_a_run_as_it_was(run: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    load_variables(run, SMALL)
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*")} == before


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
    message = complaint(save_variables, tmp_path, SMALL, tiny.config())
    assert "already exists; name a new folder" in message
    assert "already exists" in complaint(
        save_variables, tmp_path / "notes.txt", SMALL, tiny.config()
    )
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
    ("expected", "said"),
    [
        (
            changed("params/trunk/kernel", np.zeros((100, 201), np.float32)),
            "params/trunk/kernel is (100, 200), expected (100, 201)",
        ),
        (
            changed("params/trunk/kernel", np.zeros((50, 200), np.float32)),
            "params/trunk/kernel is (100, 200), expected (50, 200)",
        ),
        (
            changed("params/more/kernel", np.zeros(3, np.float32)),
            "params/more/kernel is missing, expected (3,)",
        ),
        (changed("params/head/bias", None), "params/head/bias is (4,), expected none"),
    ],
)
def test_another_architecture(run: Path, expected: Any, said: str) -> None:
    """Orbax itself would cut or pad a tensor of another shape without a word."""
    message = complaint(load_variables, run, expected)
    assert f"{run}/checkpoints/20 holds weights of another model" in message
    assert f"1 tensors differ ({said})" in message
    checkpoints = RunCheckpoints(run)
    other = TrainState.create(expected, adam_with_l2(1e-3, 0.0))
    assert said in complaint(checkpoints.restore, other, 40)
    checkpoints.close()


def test_the_state_of_another_optimizer_is_not_damage(run: Path) -> None:
    other = TrainState.create(SMALL, optax.sgd(1e-3, momentum=0.9))
    with contextlib.closing(RunCheckpoints(run)) as checkpoints:
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


def test_folders_without_a_checkpoint(tmp_path: Path) -> None:
    assert "checkpoint folder not found" in complaint(restore, tmp_path / "none")
    assert "config.json not found" in complaint(restore, tmp_path)
    assert "no checkpoint in" in complaint(load_variables, tmp_path, SMALL)
    write_config(tmp_path, tiny.config())
    assert "no checkpoint in" in complaint(restore, tmp_path)
    (tmp_path / "checkpoints").mkdir()
    assert "no complete checkpoint in" in complaint(restore, tmp_path)
    assert "not found" in complaint(restore, tmp_path / "config.json")


def test_a_step_that_was_not_kept(run: Path) -> None:
    assert "no checkpoint of step 10" in complaint(load_variables, run, SMALL, 10)
    assert "kept: 20, 40" in complaint(load_variables, run, SMALL, 10)


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


@AFTERWARDS
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("kept", [0.0, 0.5])
@pytest.mark.parametrize("which", ["tensors", "manifest.ocdbt", "_METADATA"])
def test_a_damaged_checkpoint(run: Path, tmp_path: Path, which: str, kept: float) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(run, workdir)
    item = workdir / "checkpoints" / "20" / "variables"
    path = largest_file(item) if which == "tensors" else item / which
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    message = complaint(load_variables, workdir, SMALL)
    assert f"{workdir}/checkpoints/20: this checkpoint is damaged or incomplete" in message
    assert "delete that folder to use what else is kept (step 40)" in message
    assert "--step" not in message  # which `train` and `predict` do not have
    assert load_variables(workdir, SMALL, "latest")[1] == 40  # the other one is whole


@AFTERWARDS
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("item", ["optimizer", "iterator"])
def test_a_damaged_training_state(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, item: str
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(run, workdir)
    path = largest_file(workdir / "checkpoints" / "40" / item)
    path.write_bytes(b"")
    monkeypatch.setattr("sys.unraisablehook", sys.unraisablehook)  # to be put back
    before = sys.unraisablehook
    checkpoints = RunCheckpoints(workdir)
    assert "damaged or incomplete" in complaint(checkpoints.restore, state_at(0), 40)
    checkpoints.close()
    assert sys.unraisablehook is not before  # what is still under way stays quiet


@AFTERWARDS
@pytest.mark.usefixtures("quiet")
def test_the_only_checkpoint_is_damaged(tmp_path: Path) -> None:
    save_run(tmp_path, {10: 1.0})
    (tmp_path / "checkpoints" / "10" / "variables" / "_METADATA").write_text("{")
    message = complaint(load_variables, tmp_path, SMALL)
    assert "it is the only one here: train into a new --workdir" in message


@pytest.mark.parametrize("content", ["", '{"error": 5', "[1]", '{"loss": 1.0}', '{"error": NaN}'])
@pytest.mark.parametrize("where", ["manifest.json", "metrics/metrics"])
def test_damaged_metrics(
    run: Path, tmp_path: Path, content: str, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of before there were manifests too."""
    workdir = tmp_path / "run"
    shutil.copytree(run, workdir)
    (workdir / "checkpoints" / "20" / "manifest.json").unlink()
    path = workdir / "checkpoints" / "20" / where
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    for open_it in (ranking_metrics, lambda w: load_variables(w, SMALL)):
        message = complaint(open_it, workdir)
        assert f"{path} is damaged" in message
        assert f"delete the folder of that checkpoint, {workdir / 'checkpoints' / '20'}" in message
    assert load_variables(workdir, SMALL, "latest")[1] == 40
    with contextlib.closing(RunCheckpoints(workdir)) as checkpoints:
        assert checkpoints.best_step() == 40
    assert "20.damaged" in capsys.readouterr().err
    assert load_variables(workdir, SMALL)[1] == 40


def old_format(folder: Path, metrics: Any) -> None:
    """What a version without manifests would have left."""
    (folder / "manifest.json").unlink()
    (folder / "metrics").mkdir()
    (folder / "metrics" / "metrics").write_text(json.dumps(metrics))


def test_checkpoints_without_digests(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "run")
    for step, error in ((20, 5.0), (40, 7.0)):
        old_format(tmp_path / "run/checkpoints" / str(step), {"error": error})
    for _ in range(2):
        assert load_variables(tmp_path / "run", SMALL)[1] == 20
    assert capsys.readouterr().err.count("without digests") == 1
    save_run(tmp_path / "run", {50: 6.0})
    assert kept(tmp_path / "run") == [20, 50]


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


@AFTERWARDS
@pytest.mark.usefixtures("quiet")
def test_a_flipped_bit_is_never_loaded(run: Path, tmp_path: Path) -> None:
    """Every file of a checkpoint, at 30 positions each."""
    folder, rng = tmp_path / "run" / "checkpoints" / "40", random.Random(0)
    shutil.copytree(run, tmp_path / "run")
    checkpoints = RunCheckpoints(tmp_path / "run")
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert len(files) > 10
    for path in files:
        whole = path.read_bytes()
        for _ in range(30):
            flip(path, rng)
            assert path.relative_to(folder).as_posix() in complaint(
                checkpoints.restore, state_at(0), 40
            )
            path.write_bytes(whole)
    assert tiny.same(checkpoints.restore(state_at(0), 40)[0], state_at(40, 40))
    checkpoints.close()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "variables/_METADATA").unlink(), "variables/_METADATA is missing"),
        (lambda folder: (folder / "variables/more").write_text("x"), "variables/more was not written"),
        (lambda folder: os.truncate(folder / "variables/_METADATA", 9), "has 9 bytes where"),
    ],
)  # fmt: skip
def test_missing_additional_and_truncated_files(
    run: Path, tmp_path: Path, harm: Any, said: str
) -> None:
    shutil.copytree(run, tmp_path / "run")
    harm(tmp_path / "run/checkpoints/40")
    message = complaint(load_variables, tmp_path / "run", SMALL, "latest")
    assert said in message
    assert "step 20" in message
    assert load_variables(tmp_path / "run", SMALL)[1] == 20


def test_what_does_no_harm(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a desktop, a link in place of a folder; and without permission a checkpoint is not damaged."""
    shutil.copytree(run, tmp_path / "elsewhere")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/checkpoints").symlink_to(tmp_path / "elsewhere/checkpoints")
    (tmp_path / "run/checkpoints/20/variables/.DS_Store").write_text("x")
    (tmp_path / "run/checkpoints/notes.txt").write_text("x")
    assert load_variables(tmp_path / "run", SMALL)[1] == 20
    save_run(tmp_path / "run", {50: 4.0})
    assert kept(tmp_path / "run") == [50]
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "permission" in complaint(load_variables, tmp_path / "run", SMALL)


@pytest.mark.parametrize("purged", ["folder", "files", "bit"])
def test_a_damaged_newest_checkpoint_is_put_aside(
    run: Path, tmp_path: Path, purged: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "run")
    newest = tmp_path / "run/checkpoints/40"
    for path in [p for p in newest.rglob("*") if p.is_file()]:
        if purged != "bit":
            path.unlink()
    if purged == "folder":
        shutil.rmtree(newest)
        newest.mkdir()
    if purged == "bit":
        flip(largest_file(newest / "variables"), random.Random(1))
    assert "damaged" in complaint(load_variables, tmp_path / "run", SMALL, "latest")
    checkpoints = RunCheckpoints(tmp_path / "run")
    found = checkpoints.restore_latest(state_at(0))
    assert found is not None
    assert tiny.same(found[0], state_at(20, 20))
    said = capsys.readouterr().err
    assert said.count("40.damaged") == 1
    assert (tmp_path / "run/checkpoints/40.damaged").is_dir()
    save_and_wait(checkpoints, state_at(40, 40), {"error": 1.0})
    checkpoints.close()
    assert load_variables(tmp_path / "run", SMALL)[1] == 40


def test_a_broken_state_is_discarded_and_the_one_before_it_is_still_there(tmp_path: Path) -> None:
    save_run(tmp_path, {10: 5.0, 15: None})
    with contextlib.closing(RunCheckpoints(tmp_path)) as checkpoints:
        checkpoints.save(state_at(20), {}, to_be_scored=True)
        checkpoints.wait()
        assert kept(tmp_path) == [10, 15, 20]
        checkpoints.discard(20)
        assert checkpoints.latest_step() == 15
    assert kept(tmp_path) == [10, 15]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("stop", [KeyboardInterrupt, asyncio.CancelledError])
def test_an_interrupted_restore_is_not_a_damaged_checkpoint(
    run: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    def stopped(*_: Any) -> None:
        try:
            raise stop
        except BaseException as error:
            raise Exception("Encountered error while reading array index") from error

    monkeypatch.setattr(module, "_check_structure", stopped)
    with pytest.raises(KeyboardInterrupt):
        load_variables(run, SMALL)


def test_a_save_that_fails_is_told_and_the_one_before_is_kept(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(run, workdir)
    checkpoints = RunCheckpoints(workdir)
    with files_of_at_most(2**12):
        message = complaint(save_and_wait, checkpoints, state_at(50, 50), {"error": 1.0})
    checkpoints.close()
    assert message.startswith(f"{workdir}/checkpoints: the last checkpoint could not be saved")
    assert "(File too large); step 40 is kept. Run the same command again" in message
    assert capfd.readouterr().err == ""
    assert kept(workdir) == [20, 40]
    save_run(workdir, {50: 1.0})  # the same again, with room
    assert kept(workdir) == [50]


def test_a_first_save_that_fails(tmp_path: Path) -> None:
    checkpoints = RunCheckpoints(tmp_path)
    with files_of_at_most(2**12):
        message = complaint(save_and_wait, checkpoints, state_at(50, 50), {"error": 1.0})
    checkpoints.close()
    assert "(File too large); none was saved before" in message


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
