"""Files of predictions against labels, or against a data set that left frames out."""

import numpy as np
import pytest

from a2j_jax.data import pipeline
from a2j_jax.errors import UserError
from a2j_jax.evaluation.compare import compare_predictions, fitting_track
from a2j_jax.evaluation.joint_files import JointSet, write_joints
from tests.evaluation import made_up
from tfds_builders.build import prepare

NUMBERS = (0, 2, 3, 7)  # the frames the data set has, of 9 in the distribution
MADE_UP = made_up.comparison()
LABELS = MADE_UP.labels.joints_uvd
#: Predictions of all nine frames of the distribution, frame n wrong by n px of the crop in u.
UVD = MADE_UP.joints_uvd["A2J"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A data set of four frames: five of the distribution could not be read."""
    folder = tmp_path_factory.mktemp("data")
    prepare(made_up.TRACK, made_up.Reader(NUMBERS), folder)
    return folder


def scored(folder, against, out=None, **files):
    """Scores of methods by name; `against` is the data set, or what a file of labels holds."""
    for name, joints in files.items():
        write_joints(folder / f"{name}.npz", joints)
    if isinstance(against, JointSet):
        write_joints(folder / "labels.npz", against)
        source = {"labels": folder / "labels.npz"}
    else:
        source = {"data_dir": against}
    paths = {name: folder / f"{name}.npz" for name in files}
    return compare_predictions(paths, made_up.TRACK, out=out, **source)


def errors_of(numbers):
    return pytest.approx(float(MADE_UP.scores["A2J"].errors[numbers].mean()), rel=1e-4)


@pytest.mark.parametrize(
    "joints",
    [
        JointSet(UVD),  # of the whole distribution
        JointSet(UVD[[8, 7, 3, 2, 1, 0]], index=np.array([8, 7, 3, 2, 1, 0])),
        JointSet(UVD[[*NUMBERS]]),
    ],
    ids=["whole", "numbered", "only these"],
)
def test_rows_find_their_frames(tmp_path, data_dir, joints):
    scores = scored(tmp_path, data_dir, A=joints)
    assert scores["frames"] == 4
    assert scores["mean_error_mm"] == errors_of([*NUMBERS])


@pytest.mark.usefixtures("no_matplotlib")
def test_missing_frames_are_reported(tmp_path, data_dir, capsys):
    """Scored on what is there, which every row of every table says."""
    part, out = JointSet(UVD[[0, 7]], index=np.array([0, 7])), tmp_path / "report"
    scores = scored(tmp_path, data_dir, out, A=part, official=JointSet(LABELS))
    assert list(scores) == ["track", "frames", "frames_of", "methods"]
    assert (scores["frames"], scores["frames_of"]) == (2, 9)
    assert scores["methods"]["A"]["mean_error_mm"] == errors_of([0, 7])
    assert scores["methods"]["official"]["mean_error_mm"] == 0.0
    page = (out / "report.html").read_text()
    for text in ("A (2 of 9 frames)", "official (2 of 9 frames)", f"{tmp_path}/A.npz"):
        assert text in page
    assert (out / "scores.json").is_file()
    assert "holds 2 of the 4 frames" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("built", "stated", "used"),
    [
        pytest.param([48], None, 48, id="the only one"),
        pytest.param([48], 96, 48, id="whatever the file states"),
        pytest.param([48, 96], 96, 96, id="of several, that of the file"),
        pytest.param([48, 96], None, made_up.TRACK.crop_size, id="else the track's"),
        pytest.param([], 96, made_up.TRACK.crop_size, id="built before it was recorded"),
    ],
)
def test_the_crop_size_of_predictions(tmp_path, monkeypatch, built, stated, used):
    about = {"track": {"crop_size": stated}} if stated else {}
    write_joints(tmp_path / "p.npz", JointSet(UVD, about=about))
    monkeypatch.setattr(pipeline, "crop_sizes", lambda *_: built)
    files = {"A": tmp_path / "p.npz"}
    assert fitting_track(made_up.TRACK, files, "data").crop_size == used


def test_labels_of_a_file_win_over_the_data_sets(tmp_path, data_dir):
    write_joints(tmp_path / "p.npz", JointSet(UVD))
    scores = compare_predictions(
        {"A": tmp_path / "p.npz"}, made_up.TRACK, labels=tmp_path / "p.npz", data_dir=data_dir
    )
    assert scores["mean_error_mm"] == 0.0


def test_against_labels_alone(tmp_path):
    valid = np.ones(LABELS.shape[:2], bool)
    valid[3] = False
    scores = scored(tmp_path, JointSet(LABELS, valid), A=JointSet(UVD))
    assert scores["mean_error_mm"] == errors_of([0, 1, 2, 4, 5, 6, 7, 8])
    assert list(tmp_path.glob("*.html")) == []
    # The seen subjects of HANDS 2017: predictions of all frames, labels of a part.
    part = np.array([1, 4, 6])
    labels = JointSet(LABELS[part], index=part)
    scores = scored(tmp_path, labels, A=JointSet(UVD, index=np.arange(9)))
    assert scores["frames"] == 3
    assert scores["mean_error_mm"] == errors_of(part)
    with pytest.raises(UserError, match="labels, or a data set"):
        scored(tmp_path, None, A=JointSet(UVD))
