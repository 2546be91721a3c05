"""Files of predictions against labels, or against a data set that left frames out."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from a2j_jax.data import pipeline
from a2j_jax.errors import UserError
from a2j_jax.evaluation import compare
from a2j_jax.evaluation.joint_files import JointSet, write_joints
from tests.evaluation import made_up

NUMBERS = [0, 2, 3, 7]  # the frames the data set has, of 9 in the distribution


@pytest.fixture
def data_dir(monkeypatch: pytest.MonkeyPatch) -> str:
    """A data set of four frames, without the disk."""
    stored = [made_up.example(n) for n in NUMBERS]

    def batches(*_: Any, **__: Any) -> Iterator[Any]:
        yield made_up.batch(numbers=NUMBERS) | {"mask": np.ones(4, bool)}

    monkeypatch.setattr(pipeline, "num_frames", lambda *_: 4)
    monkeypatch.setattr(pipeline, "eval_batches", batches)
    monkeypatch.setattr(pipeline, "example_reader", lambda *_: stored.__getitem__)
    info = SimpleNamespace(
        metadata={"provenance": {"frames": {"test": 9}}},
        splits={"test": SimpleNamespace(num_examples=4)},
    )
    found = SimpleNamespace(data_path="made up", name=made_up.TRACK.name, info=info)
    monkeypatch.setattr(pipeline, "find_dataset", lambda *_: found)
    return "data"


def everything() -> JointSet:
    """Predictions of all nine frames of the distribution, frame n wrong by n px of the crop in u."""
    return JointSet(made_up.comparison().joints_uvd["A2J"])


def errors_of(numbers: Any) -> float:
    errors: np.ndarray = made_up.comparison().scores["A2J"].errors[numbers]
    return float(errors.mean())


@pytest.mark.parametrize("kind", ["whole distribution", "numbered", "only these"])
def test_rows_find_their_frames(tmp_path: Path, data_dir: str, kind: str) -> None:
    joints = everything()
    if kind == "numbered":
        shuffled = np.array([8, 7, 3, 2, 1, 0])
        joints = JointSet(joints.joints_uvd[shuffled], index=shuffled)
    elif kind == "only these":
        joints = JointSet(joints.joints_uvd[NUMBERS])
    write_joints(tmp_path / "p.npz", joints)
    scores = compare.compare_predictions(
        {"A": tmp_path / "p.npz"}, made_up.TRACK, data_dir=data_dir
    )
    assert scores["frames"] == 4
    assert scores["mean_error_mm"] == pytest.approx(errors_of(NUMBERS), rel=1e-4)


def test_missing_frames_are_reported(
    tmp_path: Path, data_dir: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scored on what is there, which every row of every table says."""
    write_joints(
        tmp_path / "p.npz", JointSet(everything().joints_uvd[[0, 7]], index=np.array([0, 7]))
    )
    write_joints(tmp_path / "all.txt", everything())
    files = {"A": tmp_path / "p.npz", "official": tmp_path / "all.txt"}
    scores = compare.compare_predictions(
        files, made_up.TRACK, data_dir=data_dir, out=tmp_path / "report"
    )
    assert (scores["frames"], scores["frames_of"]) == (2, 9)
    for method in scores["methods"].values():
        assert method["mean_error_mm"] == pytest.approx(errors_of([0, 7]), rel=1e-4)
    page = (tmp_path / "report" / "report.html").read_text()
    assert "A (2 of 9 frames)" in page
    assert "official (2 of 9 frames)" in page
    assert "made_up/7" in page
    told = " ".join(capsys.readouterr().err.split())
    assert "holds 2 of the 4 frames" in told
    uvd = np.zeros((5, 21, 3))
    write_joints(tmp_path / "none.npz", JointSet(uvd, index=np.arange(20, 25)))
    write_joints(tmp_path / "five.npz", JointSet(uvd))
    for name, message in {
        "none": "frame 20.*, and .* frame 0",
        "five": "5 frames without .* 4 frames",
    }.items():
        with pytest.raises(UserError, match=message):
            compare.compare_predictions(
                {"A": tmp_path / f"{name}.npz"}, made_up.TRACK, data_dir=data_dir
            )


def test_labels_of_a_file_win_over_the_data_sets(tmp_path: Path, data_dir: str) -> None:
    write_joints(tmp_path / "p.npz", everything())
    scores = compare.compare_predictions(
        {"A": tmp_path / "p.npz"}, made_up.TRACK, labels=tmp_path / "p.npz", data_dir=data_dir
    )
    assert scores["mean_error_mm"] == 0.0


def test_several_methods_and_the_report(tmp_path: Path, data_dir: str) -> None:
    better = dataclasses.replace(everything(), joints_uvd=made_up.comparison().labels.joints_uvd)
    write_joints(tmp_path / "a.npz", everything())
    write_joints(tmp_path / "b.npz", better)
    scores = compare.compare_predictions(
        {"A": tmp_path / "a.npz", "B": tmp_path / "b.npz"},
        made_up.TRACK,
        data_dir=data_dir,
        out=tmp_path / "report",
        command="a2j eval",
    )
    assert list(scores) == ["track", "frames", "frames_of", "methods"]
    assert scores["methods"]["B"]["mean_error_mm"] == 0.0
    page = (tmp_path / "report" / "report.html").read_text()
    assert "made_up/7" in page  # the worst of the four, by its name
    assert str(tmp_path / "a.npz") in page
    assert (tmp_path / "report" / "scores.json").is_file()


def test_against_labels_alone(tmp_path: Path) -> None:
    uvd = made_up.comparison().labels.joints_uvd
    valid = np.ones(uvd.shape[:2], bool)
    valid[3] = False
    write_joints(tmp_path / "labels.npz", JointSet(uvd, valid))
    write_joints(tmp_path / "p.npz", everything())
    scores = compare.compare_predictions(
        {"A": tmp_path / "p.npz"}, made_up.TRACK, labels=tmp_path / "labels.npz"
    )
    assert scores["mean_error_mm"] == pytest.approx(errors_of([0, 1, 2, 4, 5, 6, 7, 8]), rel=1e-4)
    assert list(tmp_path.glob("*.html")) == []


def test_labels_of_some_frames_only(tmp_path: Path) -> None:
    """The seen subjects of HANDS 2017: predictions of all frames, labels of a part."""
    part = np.array([1, 4, 6])
    uvd = made_up.comparison().labels.joints_uvd[part]
    write_joints(tmp_path / "labels.npz", JointSet(uvd, index=part))
    write_joints(tmp_path / "p.npz", dataclasses.replace(everything(), index=np.arange(9)))
    scores = compare.compare_predictions(
        {"A": tmp_path / "p.npz"},
        made_up.TRACK,
        labels=tmp_path / "labels.npz",
        out=tmp_path / "out",
    )
    assert scores["frames"] == 3
    assert scores["mean_error_mm"] == pytest.approx(errors_of(part), rel=1e-4)


def test_nothing_to_compare_with(tmp_path: Path) -> None:
    write_joints(tmp_path / "p.npz", everything())
    with pytest.raises(UserError, match="labels, or a data set"):
        compare.compare_predictions({"A": tmp_path / "p.npz"}, made_up.TRACK)
