"""An entire experiment: trained, resumed, refused. `test_faults.py`: killed, and told to stop."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a2j_jax import lowering
from a2j_jax.config import Config, override
from a2j_jax.data import pipeline
from a2j_jax.errors import UserError
from a2j_jax.evaluation.evaluate_run import evaluate_checkpoint
from a2j_jax.geometry import Camera
from a2j_jax.runs.checkpoints import save_variables
from a2j_jax.runs.experiment import resolve
from a2j_jax.runs.load import restore
from a2j_jax.runs.run_dir import ranking_metrics, read_config, read_starts, write_config
from a2j_jax.runs.sharding import TrainState
from a2j_jax.training.run import run_experiment
from tests import tiny
from tfds_builders.build import build

pytestmark = pytest.mark.slow  # a training step compiles


def cosine(data: Path, **optim: Any) -> Config:
    """The config of `finished`."""
    return tiny.quick(data, schedule="cosine", **optim)


@pytest.fixture(scope="module")
def finished(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainState]:
    """A run of six steps, never interrupted."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    return workdir, run_experiment(cosine(tiny_data), workdir)


@pytest.fixture
def copy(finished: tuple[Path, TrainState], tmp_path: Path) -> Path:
    """A copy of that run."""
    return Path(shutil.copytree(finished[0], tmp_path / "copy"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def lines(workdir: Path, kind: str) -> list[dict[str, float]]:
    records = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [record for record in records if record["kind"] == kind]


def test_a_run_leaves_its_record(finished: tuple[Path, TrainState], tiny_data: Path) -> None:
    workdir, state = finished
    assert int(state.step) == 6
    assert read_config(workdir) == resolve(cosine(tiny_data)).config
    train, scores = lines(workdir, "train"), lines(workdir, "eval")
    assert [record["step"] for record in train] == [1, 2, 3, 4, 5, 6]
    assert [record["step"] for record in scores] == [3, 6]
    assert {"loss", "surrounding", "regression", "grad_norm", "learning_rate"} <= train[0].keys()
    rates = [record["learning_rate"] for record in train]  # two steps of warm-up, then a cosine
    np.testing.assert_allclose(rates[:3], [0, 5e-4, 1e-3], atol=1e-9)
    assert rates[2] > rates[3] > rates[4] > rates[5] > 0
    assert all(record["frames"] == 16 for record in scores)
    assert any((workdir / "tensorboard").glob("events.out.tfevents.*"))
    assert ranking_metrics(workdir)[6] == {name: scores[1][name] for name in ("error", "frames")}
    assert tiny.same(restore(workdir, "latest").variables, state.variables)
    with pytest.raises(UserError, match=r"holds no average.*ema_decay"):
        restore(workdir, "latest", "ema")


def test_a_finished_run_is_left_as_it_is(
    finished: tuple[Path, TrainState], tiny_data: Path, logged: list[str]
) -> None:
    workdir, state = finished
    before = contents(workdir)
    for steps in (6, 5):  # as many, and fewer than were done
        again = run_experiment(cosine(tiny_data, steps=steps), workdir)
        assert tiny.same(again, state)
    finished_at, beyond = logged
    assert "finished at step 6" in finished_at
    assert "at step 6, beyond the 5 steps" in beyond
    assert "continues it" not in beyond
    other = override(cosine(tiny_data), "track", "nyu")  # which has no data here
    refused(other, workdir, "track: 'synthetic_hand' there, 'nyu' now.*name another --workdir")
    assert contents(workdir) == before


def test_a_stopped_run_that_is_asked_for_fewer_steps_names_how_to_continue(
    copy: Path, tiny_data: Path, logged: list[str]
) -> None:
    write_config(copy, resolve(cosine(tiny_data, steps=4000)).config)
    run_experiment(cosine(tiny_data, steps=5), copy)
    (line,) = logged
    assert "at step 6, beyond the 5 steps" in line
    assert f"4000; a2j train --config {copy / 'config.json'}" in line


def test_a_start_that_left_no_checkpoint_is_named_and_may_become_another_run(
    copy: Path, tiny_data: Path, logged: list[str]
) -> None:
    shutil.rmtree(copy / "checkpoints")
    run_experiment(override(cosine(tiny_data, steps=1), "run.seed", "1"), copy)
    assert any(str(copy) in line and "starting at step 0" in line for line in logged)
    before, *_, now = (line["loss"] for line in lines(copy, "train"))
    assert now != before  # of the first step


def test_a_run_can_be_made_longer(
    copy: Path, tiny_data: Path, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_data.parent)
    config = cosine(Path(tiny_data.name), steps=7)  # which is the same folder
    state = run_experiment(config, copy)
    assert int(state.step) == 7
    headline, resuming, values, *_ = logged
    assert headline.startswith("tiny: QuickA2J")
    assert resuming == "resuming from step 6 of 7"
    assert "optim.steps: 6 there, 7 now. The cosine" in values
    assert "learning rate 9.5e-05 from here on, where it was 0" in values
    assert read_config(copy) == resolve(cosine(tiny_data, steps=7)).config


def test_a_run_continues_without_what_it_started_from(
    copy: Path, tiny_data: Path, logged: list[str]
) -> None:
    """Weights that have gone since do not matter; other frames and other devices are reported."""
    gone = override(cosine(tiny_data), "model.init_from", "gone.npz")
    write_config(copy, resolve(gone).config)
    starts = copy / "starts.jsonl"
    (start,) = read_starts(copy)
    assert start["frames"] == 64
    starts.write_text(json.dumps({**start, "frames": 99, "batch_per_device": 4}) + "\n")
    state = run_experiment(override(gone, "optim.steps", "7"), copy)
    assert int(state.step) == 7
    assert any("before: 99 training frames, now 64: " in line for line in logged)
    assert any("before: jit on 2 x " in line for line in logged)


def test_the_recipes_of_the_docs(
    finished: tuple[Path, TrainState], tiny_data: Path, tmp_path: Path, logged: list[str]
) -> None:
    """Another learning rate, a frozen part and a chosen step are new runs from the weights of the first."""
    workdir, state = finished
    config = override(cosine(tiny_data, steps=1), "optim.learning_rate", "0")
    refused(config, workdir, "optim.learning_rate: 0.001 there.*init_from=.*@latest")
    best = min(ranking_metrics(workdir), key=lambda step: ranking_metrics(workdir)[step]["error"])
    for step, wanted in (("latest", state.params), (best, restore(workdir).variables["params"])):
        config = override(config, "model.init_from", f"{workdir}@{step}")
        started = run_experiment(config, tmp_path / str(step))
        assert tiny.same(started.params, wanted), step  # a learning rate of 0 changes nothing
    assert "1 steps are few" in " ".join(logged)
    config = override(config, "model.init_from", f"{workdir}@99")
    refused(config, tmp_path / "x", "no checkpoint of step 99.*kept")


def refused(config: Config, workdir: Path, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        run_experiment(config, workdir)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("data.dir", "none", "no data directory"),
        ("track", "nuy", "did you mean 'nyu'"),
        ("data.crop_size", "48", "do not fit .* at crop size 48"),
        ("data.crop_size", "40", "multiple of 16"),
        ("data.train_split", "trian", "no split 'trian'"),
        ("data.eval_split", "validaton", "no split 'validaton'"),
        ("model.init_from", "none.npz", "weights file not found"),
        ("optim.batch_size", "65", "fewer than a batch of 65"),
        ("optim.freeze", "('trunk/layer9',)", "no parameter begins with 'trunk/layer9'"),
        ("optim.freeze", "('',)", "leaves nothing to train"),
        ("optim.accumulate", "3", "batch_size=8 does not spread evenly over 1 devices and 3 parts"),
    ],
)
def test_nothing_is_written_before_the_inputs_are_known_to_be_good(
    tiny_data: Path, tmp_path: Path, key: str, value: str, said: str
) -> None:
    refused(override(tiny.quick(tiny_data), key, value), tmp_path / "run", said)
    assert not list(tmp_path.iterdir())


def test_other_inputs_that_are_refused(tiny_data: Path, tmp_path: Path) -> None:
    workdir, no_train = tmp_path / "run", tmp_path / "no_train"
    build("synthetic_hand", no_train, crop_size=tiny.SIZE, train=0, validation=0, test=2)
    computed = override(tiny.quick(no_train), "data.normalization", "computed")
    refused(computed, workdir, r"no usable statistics.*data\.normalization=published")
    refused(tiny.quick(tiny_data, steps=None, epochs=0.01), workdir, "nothing to train")
    assert not workdir.exists()
    workdir.write_text("mine")
    refused(tiny.quick(tiny_data), workdir, "is a file; name a folder")
    assert workdir.read_text() == "mine"


def test_computed_statistics_are_those_of_the_data_set_and_are_recorded(
    tiny_data: Path, tmp_path: Path
) -> None:
    config = override(tiny.quick(tiny_data, steps=1), "data.normalization", "computed")
    run_experiment(config, tmp_path)
    found = pipeline.metadata(tiny_data, resolve(config).track)["statistics"]
    track = restore(tmp_path).experiment.track
    assert (track.mean, track.std) == (found["mean"], found["std"])
    assert (track.mean, track.std) != (-2.62, 27.02)
    assert track.mean == pytest.approx(-2.62, abs=3)  # 64 hands against 3,000
    assert track.std == pytest.approx(27.02, abs=5)


def test_the_camera_that_frames_were_rendered_for_is_recorded(
    tmp_path: Path, logged: list[str]
) -> None:
    camera = Camera(300.0, 301.0, 160.0, 120.0)
    build(
        "synthetic_hand", tmp_path / "data", crop_size=tiny.SIZE, train=8, validation=0, test=0,
        camera=camera, frame_size=(320, 240),
    )  # fmt: skip
    config = override(tiny.quick(tmp_path / "data", steps=1), "data.eval_split", "train")
    run_experiment(config, tmp_path / "run")
    track = restore(tmp_path / "run").experiment.track
    assert (track.camera, track.frame_size) == (camera, (320, 240))
    assert logged[-2].startswith("worse than the mean pose: error ")  # of so few frames


def test_the_loss_falls_when_few_frames_are_learnt_by_heart(
    tiny_data: Path, tmp_path: Path
) -> None:
    config = tiny.config(tiny_data, steps=60, learning_rate=3e-2, warmup_steps=0)
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, train_split="train[:8]", eval_split="train[:8]"),
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
    config = tiny.quick(tiny_data, ema_decay=0.5)
    state = run_experiment(config, tmp_path)
    assert tiny.same(restore(tmp_path, "latest").variables, state.ema)
    assert tiny.same(restore(tmp_path, "latest", "raw").variables, state.variables)
    assert not tiny.same(state.ema, state.variables)

    logged = {record["step"]: record["error_ema"] for record in lines(tmp_path, "eval")}
    assert restore(tmp_path).step == min(logged, key=logged.__getitem__)
    scores = evaluate_checkpoint(tmp_path, split="validation", batch_size=8)
    assert scores["mean_error_mm"] == pytest.approx(min(logged.values()), rel=1e-5)
    assert "A2J, raw weights" in scores["compared"]


def test_debugging_names_what_breaks_first(tiny_data: Path, tmp_path: Path) -> None:
    config = cosine(tiny_data)
    run_experiment(config, tmp_path / "sound", debug=["nans", "transfers"])
    variables = tiny.made_up(tiny.shapes(resolve(config).model))
    variables["params"]["trunk"]["layer1_conv"]["kernel"] *= np.float32(3e38)
    save_variables(tmp_path / "weights", variables, config)
    broken = dataclasses.replace(
        config, model=dataclasses.replace(config.model, init_from=str(tmp_path / "weights"))
    )
    with pytest.raises(UserError, match="step 1: not finite: the output of trunk/layer1_conv"):
        run_experiment(broken, tmp_path / "broken", debug=["nans"])


def test_preset_flags_are_compiled_with_and_recorded(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny.quick(tiny_data)
    run_experiment(config, tmp_path / "cpu", preset_flags=True)
    assert read_starts(tmp_path / "cpu")[0]["preset_flags"] == {}

    with lowering.lowering_for("gpu"):  # XLA knows the names of its flags on all platforms
        run_experiment(config, tmp_path / "gpu", preset_flags=True)
        flags = read_starts(tmp_path / "gpu")[0]["preset_flags"]
        assert flags["xla_gpu_enable_latency_hiding_scheduler"] is True
        mapped = dataclasses.replace(config, parallel="pmap")
        with pytest.raises(UserError, match="--preset_flags: pmap"):
            run_experiment(mapped, tmp_path / "refused", preset_flags=True)
        monkeypatch.setitem(lowering.PRESET_FLAGS["gpu"], "xla_gpu_none", True)
        with pytest.raises(UserError, match="xla_gpu_none"):
            run_experiment(config, tmp_path / "refused", preset_flags=True)
    assert not (tmp_path / "refused").exists()
