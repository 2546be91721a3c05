"""A whole experiment: trained, interrupted, resumed, refused, and stopped when it breaks."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from a2j_jax.config import Config, override
from a2j_jax.data import pipeline
from a2j_jax.errors import UserError
from a2j_jax.evaluation.evaluate_run import evaluate_checkpoint
from a2j_jax.geometry import Camera
from a2j_jax.runs.experiment import resolve
from a2j_jax.runs.load import restore
from a2j_jax.runs.run_dir import ranking_metrics, read_config, write_config
from a2j_jax.runs.state import TrainState
from a2j_jax.training.run import run_experiment
from tests import tiny
from tfds_builders.build import build

pytestmark = pytest.mark.slow  # a training step compiles


@pytest.fixture(scope="module")
def finished(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainState]:
    """A run of six steps, never interrupted."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    return workdir, run_experiment(tiny.config(tiny_data), workdir)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def lines(workdir: Path, kind: str) -> list[dict[str, float]]:
    records = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [record for record in records if record["kind"] == kind]


def test_a_run_leaves_its_record(finished: tuple[Path, TrainState], tiny_data: Path) -> None:
    workdir, state = finished
    assert int(state.step) == 6
    assert read_config(workdir) == resolve(tiny.config(tiny_data)).config
    train, scores = lines(workdir, "train"), lines(workdir, "eval")
    assert [record["step"] for record in train] == [1, 2, 3, 4, 5, 6]
    assert [record["step"] for record in scores] == [3, 6]
    assert {"loss", "surrounding", "regression", "grad_norm", "learning_rate"} <= train[0].keys()
    rates = [record["learning_rate"] for record in train]  # two steps of warm-up, then a cosine
    np.testing.assert_allclose(rates[:3], [0, 5e-4, 1e-3], atol=1e-9)
    assert rates[2] > rates[3] > rates[4] > rates[5] > 0
    assert all(record["frames"] == 16 for record in scores)
    assert any((workdir / "tensorboard").glob("events.out.tfevents.*"))
    kept = ranking_metrics(workdir)
    assert kept[6] == {name: scores[1][name] for name in ("error", "frames")}


def test_a_run_knows_its_data_from_anywhere(
    finished: tuple[Path, TrainState],
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    monkeypatch.chdir(tiny_data.parent)
    longer = override(tiny.config(tiny_data.name), "optim.steps", "7")
    run_experiment(longer, workdir)
    assert read_config(workdir).data.dir == str(tiny_data)


def test_the_trained_checkpoint_is_what_was_returned(finished: tuple[Path, TrainState]) -> None:
    workdir, state = finished
    assert tiny.same(restore(workdir, "latest").variables, state.variables)


class Interrupted:
    """Batches that stop coming, as if the process were killed."""

    def __init__(self, batches: Any, after: int):
        self.batches, self.left = batches, after

    def __next__(self) -> Any:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return next(self.batches)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.batches, name)


def interrupt(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    make = pipeline.train_batches
    monkeypatch.setattr(
        pipeline,
        "train_batches",
        lambda *args, **options: Interrupted(make(*args, **options), after),
    )


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    finished: tuple[Path, TrainState],
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tiny.config(tiny_data)
    with monkeypatch.context() as patch:
        interrupt(patch, after=4)  # one step beyond the checkpoint, which has to be done again
        with pytest.raises(KeyboardInterrupt):
            run_experiment(config, tmp_path)
    assert list(ranking_metrics(tmp_path)) == [3]
    capsys.readouterr()

    state = run_experiment(config, tmp_path)
    assert "resuming from step 3 of 6" in capsys.readouterr().err
    assert tiny.same(state, finished[1])
    whole = {record["step"]: record["loss"] for record in lines(finished[0], "train")}
    for record in lines(tmp_path, "train"):
        assert record["loss"] == whole[record["step"]]
    assert lines(tmp_path, "eval")[-1]["error"] == lines(finished[0], "eval")[-1]["error"]


def test_another_seed_is_another_run(
    finished: tuple[Path, TrainState], tiny_data: Path, tmp_path: Path
) -> None:
    state = run_experiment(override(tiny.config(tiny_data), "run.seed", "1"), tmp_path)
    assert not tiny.same(state.params, finished[1].params)


def test_a_finished_run_has_nothing_left_to_train(
    finished: tuple[Path, TrainState], tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir, state = finished
    before = {p: p.stat().st_mtime_ns for p in (workdir / "checkpoints").rglob("*")}
    again = run_experiment(tiny.config(tiny_data), workdir)
    assert "this run is finished at step 6; nothing left to train" in capsys.readouterr().err
    assert tiny.same(again, state)
    config = (workdir / "config.json").read_bytes()
    run_experiment(tiny.config(tiny_data, steps=5), workdir)  # shorter than what was done
    assert capsys.readouterr().err == "this run is finished at step 6; nothing left to train\n"
    assert (workdir / "config.json").read_bytes() == config
    assert {p: p.stat().st_mtime_ns for p in (workdir / "checkpoints").rglob("*")} == before


@pytest.mark.parametrize(
    ("dotted", "value", "said"),
    [
        ("track", "nyu", "track: 'synthetic_hand' there, 'nyu' now"),
        ("data.crop_size", "48", "data.crop_size: 32 there, 48 now"),
        ("data.crop_size", "None", "data.crop_size: 32 there, 176 now"),
        ("model.backbone", "resnet34", "model.backbone: 'resnet18' there, 'resnet34' now"),
        ("model.head_features", "16", "model.head_features: 8 there, 16 now"),
    ],
)
def test_a_work_directory_is_of_one_model_and_track(
    finished: tuple[Path, TrainState], tiny_data: Path, dotted: str, value: str, said: str
) -> None:
    workdir, _ = finished
    before = contents(workdir)
    with pytest.raises(UserError) as caught:
        run_experiment(override(tiny.config(tiny_data), dotted, value), workdir)
    assert said in str(caught.value)
    assert "name another --workdir" in str(caught.value)
    assert contents(workdir) == before


def test_a_run_can_be_made_longer(
    finished: tuple[Path, TrainState],
    tiny_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workdir = tmp_path / "longer"
    shutil.copytree(finished[0], workdir)
    monkeypatch.chdir(tiny_data.parent)
    config = tiny.config(Path(tiny_data.name), steps=7)  # which is the same folder
    state = run_experiment(config, workdir)
    assert int(state.step) == 7
    headline, resuming, values, *_ = capsys.readouterr().err.splitlines()
    assert headline.startswith("tiny: resnet18")
    assert resuming == "resuming from step 6 of 7"
    assert values.startswith(
        "with other values than before: optim.steps: 6 there, 7 now. The cosine"
    )
    assert "learning rate 9.5e-05 from here on, where it was 0" in values
    assert read_config(workdir) == resolve(tiny.config(tiny_data, steps=7)).config


def test_a_run_goes_on_without_what_it_started_from(
    finished: tuple[Path, TrainState],
    tiny_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Weights that have gone since do not matter; that the data have other frames is said."""
    workdir = tmp_path / "longer"
    shutil.copytree(finished[0], workdir)
    gone = override(tiny.config(tiny_data), "model.init_from", "gone.npz")
    write_config(workdir, resolve(gone).config)
    starts = workdir / "starts.jsonl"
    assert '"frames": 64' in starts.read_text()
    starts.write_text(starts.read_text().replace('"frames": 64', '"frames": 99'))
    state = run_experiment(override(gone, "optim.steps", "7"), workdir)
    assert int(state.step) == 7
    assert "before: 99 training frames, now 64: " in capsys.readouterr().err


def test_the_recipes_of_the_docs(
    finished: tuple[Path, TrainState],
    tiny_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Another learning rate, a frozen part and a chosen step are new runs from the weights of the first."""
    workdir, state = finished
    config = override(tiny.config(tiny_data, steps=1), "optim.learning_rate", "0")
    refused(config, workdir, "optim.learning_rate: 0.001 there.*init_from=.*@latest")
    best = min(ranking_metrics(workdir), key=lambda step: ranking_metrics(workdir)[step]["error"])
    for step, wanted in (("latest", state.params), (best, restore(workdir).variables["params"])):
        config = override(config, "model.init_from", f"{workdir}@{step}")
        started = run_experiment(config, tmp_path / str(step))
        assert tiny.same(started.params, wanted), step  # a learning rate of 0 changes nothing
    said = capsys.readouterr().err
    assert "1 steps are few" in said
    assert "mean pose" in said
    config = override(config, "model.init_from", f"{workdir}@99")
    refused(config, tmp_path / "x", "no checkpoint of step 99.*kept")


def refused(config: Config, workdir: Path, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        run_experiment(config, workdir)
    assert "\n" not in str(caught.value)


def test_nothing_is_written_before_the_inputs_are_known_to_be_good(
    tiny_data: Path, tmp_path: Path
) -> None:
    workdir, config = tmp_path / "run", tiny.config(tiny_data)
    refused(tiny.config(tmp_path / "none"), workdir, "no data directory")
    refused(override(config, "track", "nuy"), workdir, "did you mean 'nyu'")
    refused(override(config, "data.crop_size", "48"), workdir, "do not fit .* at crop size 48")
    refused(override(config, "data.crop_size", "40"), workdir, "multiple of 16")
    refused(override(config, "data.train_split", "trian"), workdir, "no split 'trian'")
    refused(override(config, "data.eval_split", "validaton"), workdir, "no split 'validaton'")
    refused(override(config, "model.init_from", "none.npz"), workdir, "weights file not found")
    no_train = tmp_path / "no_train"
    build("synthetic_hand", no_train, crop_size=tiny.SIZE, train=0, validation=0, test=2)
    computed = override(tiny.config(no_train), "data.normalization", "computed")
    refused(computed, workdir, r"no usable statistics.*data\.normalization=published")
    refused(tiny.config(tiny_data, batch_size=65), workdir, "fewer than a batch of 65")
    refused(tiny.config(tiny_data, steps=None, epochs=0.01), workdir, "nothing to train")
    assert not workdir.exists()
    workdir.write_text("mine")
    refused(config, workdir, "is a file; name a folder")
    assert workdir.read_text() == "mine"


def test_computed_statistics_are_those_of_the_data_set_and_are_recorded(
    tiny_data: Path, tmp_path: Path
) -> None:
    config = override(tiny.config(tiny_data, steps=1), "data.normalization", "computed")
    run_experiment(config, tmp_path)
    found = pipeline.metadata(tiny_data, resolve(config).track)["statistics"]
    track = restore(tmp_path).experiment.track
    assert (track.mean, track.std) == (found["mean"], found["std"])
    assert (track.mean, track.std) != (-2.62, 27.02)
    assert track.mean == pytest.approx(-2.62, abs=3)  # 64 hands against 3,000
    assert track.std == pytest.approx(27.02, abs=5)


def test_the_camera_that_frames_were_rendered_for_is_recorded(tmp_path: Path) -> None:
    camera = Camera(300.0, 301.0, 160.0, 120.0)
    build(
        "synthetic_hand", tmp_path / "data", crop_size=tiny.SIZE, train=8, validation=8, test=0,
        camera=camera, frame_size=(320, 240),
    )  # fmt: skip
    run_experiment(tiny.config(tmp_path / "data", steps=1), tmp_path / "run")
    track = restore(tmp_path / "run").experiment.track
    assert (track.camera, track.frame_size) == (camera, (320, 240))


def test_the_loss_falls_when_few_frames_are_learnt_by_heart(
    tiny_data: Path, tmp_path: Path
) -> None:
    config = tiny.config(tiny_data, batch_size=16, steps=60, learning_rate=3e-2, warmup_steps=0)
    config = dataclasses.replace(
        config,
        optim=dataclasses.replace(config.optim, schedule="constant"),
        data=dataclasses.replace(config.data, train_split="train[:16]", eval_split="train[:16]"),
        augment=dataclasses.replace(config.augment, enabled=False),
        run=dataclasses.replace(config.run, eval_every=60),
    )
    run_experiment(config, tmp_path)
    losses = [record["loss"] for record in lines(tmp_path, "train")]
    assert losses[-1] < 0.4 * losses[0]
    assert lines(tmp_path, "eval")[0]["error"] < 30  # mm; "crop center" and "mean pose" are at 50


def test_evaluation_reports_best_and_final(
    finished: tuple[Path, TrainState], tmp_path: Path
) -> None:
    workdir, _ = finished
    before = contents(workdir)
    scores = evaluate_checkpoint(workdir, batch_size=8, out=tmp_path / "report")
    assert scores["frames"] == tiny.FRAMES["test"]  # each once, though the last batch is padded
    assert {"mean pose", "crop center"} <= scores["compared"].keys()
    assert (tmp_path / "report" / "scores.json").is_file()
    assert contents(workdir) == before
    with pytest.raises(UserError, match="trained on track 'synthetic_hand', not 'nyu'"):
        evaluate_checkpoint(workdir, track_name="nyu")
    with pytest.raises(UserError, match="no checkpoint of step 5"):
        evaluate_checkpoint(workdir, step=5)
    with pytest.raises(UserError, match="no data directory"):
        evaluate_checkpoint(workdir, data_dir=tmp_path / "none")


def test_an_average_of_the_weights_ranks_and_is_what_a_checkpoint_gives(
    tiny_data: Path, tmp_path: Path
) -> None:
    config = tiny.config(tiny_data, ema_decay=0.5)
    state = run_experiment(config, tmp_path)
    assert tiny.same(restore(tmp_path, "latest").variables, state.ema)
    assert tiny.same(restore(tmp_path, "latest", "raw").variables, state.variables)
    assert not tiny.same(state.ema, state.variables)

    logged = {record["step"]: record["error_ema"] for record in lines(tmp_path, "eval")}
    assert restore(tmp_path).step == min(logged, key=logged.__getitem__)
    scores = evaluate_checkpoint(tmp_path, split="validation", batch_size=8)
    assert scores["mean_error_mm"] == pytest.approx(min(logged.values()), rel=1e-5)
    assert "A2J, raw weights" in scores["compared"]


def test_only_a_run_that_averages_has_an_average(finished: tuple[Path, TrainState]) -> None:
    with pytest.raises(UserError, match=r"holds no average.*ema_decay"):
        restore(finished[0], "latest", "ema")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("optim.freeze", "('trunk/layer9',)", "no parameter begins with 'trunk/layer9'"),
        ("optim.freeze", "('',)", "leaves nothing to train"),
        ("optim.accumulate", "3", "batch_size=8 does not spread evenly over 1 devices and 3 parts"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    tiny_data: Path, tmp_path: Path, key: str, value: str, said: str
) -> None:
    with pytest.raises(UserError) as caught:
        run_experiment(override(tiny.config(tiny_data), key, value), tmp_path / "run")
    assert said in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.fixture(autouse=True)
def _clear_executables() -> Iterator[None]:
    yield
    jax.clear_caches()
