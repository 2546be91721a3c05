"""What a run may be continued with: every difference is named, and most are refused."""

from pathlib import Path

import pytest

from a2j_jax.config import Config
from a2j_jax.errors import UserError
from a2j_jax.runs.checkpoints import save_variables
from a2j_jax.runs.experiment import differences, resolve
from a2j_jax.runs.run_dir import read_config, write_config
from a2j_jax.track_files import find_track
from a2j_jax.training import run
from tests import tiny


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    """A run with a checkpoint, as far as can be told from its files' names."""
    folder = tmp_path / "run"
    (folder / "checkpoints" / "6" / "optimizer").mkdir(parents=True)
    write_config(folder, tiny.config())
    return folder


def check_run_directory(workdir: Path, config: Config) -> None:
    run.check_run_directory(workdir, resolve(config))


def changed(values: dict[str, str]) -> Config:
    return tiny.changed(tiny.config(), values)


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("track", "nyu", "'synthetic_hand' there, 'nyu' now"),
        ("data.crop_size", "48", "32 there, 48 now"),
        ("data.crop_size", "None", "32 there, 176 now"),
        ("model.backbone", "resnet34", "'resnet18' there, 'resnet34' now"),
        ("model.head_features", "16", "8 there, 16 now"),
        ("optim.learning_rate", "5e-4", "0.001 there, 0.0005 now"),
        ("optim.batch_size", "16", "8 there, 16 now"),
        ("optim.weight_decay", "0", "0.0001 there, 0.0 now"),
        ("optim.schedule", "cosine", "'constant' there, 'cosine' now"),
        ("optim.warmup_steps", "3", "2 there, 3 now"),
        ("loss.preset", "paper", "'official' there, 'paper' now"),
        ("loss.regression_weight", "1", "3.0 there, 1.0 now"),
        ("augment.enabled", "False", "True there, False now"),
        ("augment.max_rotation_deg", "90", "180.0 there, 90.0 now"),
        ("model.init_from", "w.npz", "None there, 'w.npz' now"),
        ("model.width", "16", "8 there, 16 now"),
        ("data.train_split", "train[:10]", "'train' there, 'train[:10]' now"),
        ("data.eval_split", "test", "'validation' there, 'test' now"),
        ("data.seed", "1", "0 there, 1 now"),
        ("data.mean", "3", "-2.62 there, 3.0 now"),
        ("run.seed", "1", "12345 there, 1 now"),
    ],
)
def test_another_experiment_is_refused(workdir: Path, key: str, text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        check_run_directory(workdir, changed({key: text, "optim.steps": "9"}))
    message = str(caught.value)
    assert f"({key}: {said}); " in message  # and not the allowed one
    assert "--workdir" in message
    assert f"--config.model.init_from={workdir}@latest" in message
    assert "\n" not in message


def test_all_differences_are_named_together(workdir: Path) -> None:
    values = {"optim.learning_rate": "1e-4", "optim.batch_size": "16"}
    with pytest.raises(
        UserError, match=r"batch_size: 8 there, 16 now; optim\.learning_rate: 0\.001"
    ):
        check_run_directory(workdir, changed(values))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("optim.steps", "100"), ("optim.epochs", "99"), ("run.eval_every", "5"), ("run.log_every", "7"),
        ("run.keep_best", "3"), ("data.dir", "/moved"), ("data.train_frames", "65"),
    ],
)  # fmt: skip
def test_length_bookkeeping_and_place_may_change(workdir: Path, key: str, text: str) -> None:
    check_run_directory(workdir, changed({key: text}))
    (found,) = differences(resolve(tiny.config()), resolve(changed({key: text})))
    assert found.key == key
    assert found.now != found.there


def test_what_is_no_difference(tmp_path: Path, workdir: Path) -> None:
    """A default that is spelled out; any config in a folder without a checkpoint."""
    same = changed({"augment.max_rotation_deg": "180", "loss.regression_weight": "3"})
    assert differences(resolve(same), resolve(tiny.config())) == []
    check_run_directory(workdir, same)
    write_config(tmp_path, tiny.config())
    check_run_directory(tmp_path, changed({"model.width": "16"}))
    check_run_directory(tmp_path / "new", tiny.config())


def test_statistics_that_are_not_known_yet_are_not_compared() -> None:
    computed = changed({"data.normalization": "computed"})
    known = tiny.changed(computed, {"data.mean": "-1.5", "data.std": "20"})
    assert differences(resolve(known), resolve(computed)) == []
    found = differences(resolve(tiny.config()), resolve(known))
    assert [(d.key, d.there, d.now) for d in found] == [
        ("data.mean", -2.62, -1.5),
        ("data.std", 27.02, 20.0),
    ]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A custom track."""
    (tmp_path / "mine").mkdir()
    path = tmp_path / "mine" / "track.json"
    path.write_text('{"name": "mine", "like": "nyu"}')
    return path


def test_a_custom_track_that_was_edited(own: Path, workdir: Path) -> None:
    write_config(workdir, tiny.config(track=str(own)))
    check_run_directory(workdir, tiny.config(track=str(own)))
    own.write_text('{"name": "mine", "like": "nyu", "half_window_mm": 120}')
    with pytest.raises(UserError, match=r"track's half_window_mm: 110\.0 there, 120\.0 now"):
        check_run_directory(workdir, tiny.config(track=str(own)))


def test_the_unit_of_a_data_set_is_recorded_with_its_track(own: Path, workdir: Path) -> None:
    """And is no difference to the folder it was built from, whose track.json may not name one."""
    for unit, expected in ((None, 1.0), (1.0, 1.0), (0.125, 0.125)):
        write_config(workdir, tiny.config(track=str(own)), unit)
        assert find_track(read_config(workdir).track).depth_unit_mm == expected
        check_run_directory(workdir, tiny.config(track=str(own)))
    assert "depth_unit_mm" not in own.read_text()


@pytest.mark.parametrize("name", ["config.json", "track.json", "metrics.jsonl", "starts.jsonl"])
def test_files_of_somebody_else_are_no_run(tmp_path: Path, own: Path, name: str) -> None:
    folder, settings = tmp_path / "other", tiny.config(track=str(own))
    folder.mkdir()
    (folder / name).write_text('{"scripts": {}}')
    with pytest.raises(UserError, match=str(folder / name)):
        check_run_directory(folder, settings)
    check_run_directory(own.parent, settings)  # beside its own data
    write_config(folder, settings)
    check_run_directory(folder, settings)


def test_a_converted_checkpoint_is_no_run(tmp_path: Path) -> None:
    save_variables(tmp_path / "converted", tiny.variables(), tiny.config())
    with pytest.raises(UserError, match="converted"):
        check_run_directory(tmp_path / "converted", tiny.config())


@pytest.mark.parametrize("name", ["run[1]", "run*", "run\\1", "run\udcff"])
def test_a_folder_that_checkpoints_cannot_be_written_below(tmp_path: Path, name: str) -> None:
    for write in (
        lambda: check_run_directory(tmp_path / name, tiny.config()),
        lambda: save_variables(tmp_path / name, {}, tiny.config()),
    ):
        with pytest.raises(UserError, match="use another folder"):
            write()
    assert not list(tmp_path.iterdir())
