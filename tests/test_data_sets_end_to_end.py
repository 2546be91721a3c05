"""Every data set, from the files its authors ship to a report: build, two training steps, evaluation.

All through the command line, as a user would; frames are made up, formats are not.
"""

import importlib
import json

import numpy as np
import pytest

from a2j_jax.cli.main import main
from a2j_jax.tracks import get_track

TRACKS = ("nyu", "icvl", "hands2017", "itop_front", "itop_top", "k2hpd")
SIZE = 32
NETWORK = {
    "parts": "tests.own_parts:quick",
    "model.head_features": 8,
    "model.head_depth": 1,
    "data.crop_size": SIZE,
    "data.normalization": "computed",
    "optim.batch_size": 4,
    "optim.steps": 2,
    "run.eval_every": 2,
}

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def a2j(capsys, *words):
    """Runs a command; returns what it printed on stdout."""
    assert main([str(word) for word in words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("track", TRACKS)
def test_from_raw_files_to_a_report(track, tmp_path, capsys):
    raw, data, run = tmp_path / "raw", tmp_path / "data", tmp_path / "run"
    options = {"track": track} if track.startswith("itop") else {}
    distribution = importlib.import_module(f"tests.distributions.{track.split('_')[0]}")
    distribution.write(raw, {"train": 9, "test": 5}, **options)

    a2j(capsys, "build", track, "--manual_dir", raw, "--data_dir", data, "--crop_size", SIZE)
    (sheet,) = data.glob(f"{track}/crop{SIZE}/*/examples.png")
    assert sheet.stat().st_size > 10_000

    # Labels of the test split of HANDS 2017 are not public: score its training frames meanwhile.
    labeled = "train" if track == "hands2017" else "test"
    settings = {**NETWORK, "track": track, "data.dir": data, "data.eval_split": labeled}
    words = [f"--config.{key}={value}" for key, value in settings.items()]
    a2j(capsys, "train", "--config", "quickstart", "--workdir", run, *words)

    folder = tmp_path / "report"
    words = ("--workdir", run, "--split", labeled, "--out", folder, "--json")
    scores = json.loads(a2j(capsys, "eval", *words))
    spec = get_track(track)
    unit = "mm" if spec.joint_dims == 3 else "px"
    assert scores["track"] == track
    assert scores["frames"] >= 5
    assert 0 < scores[f"mean_error_{unit}"] < np.inf
    assert len(scores[f"per_joint_{unit}"]) == spec.num_joints
    own = {"mean_error_mm": "auc", "map_10cm": "map_10cm_groups", "pdj": "pdj_mean"}
    assert own[spec.protocol] in scores
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert track in report
    assert "labels" in report or "depth" in report  # where crops came from
    assert report.count("<svg") + report.count("data:image/") >= 4


def test_frames_without_public_labels_become_a_submission(tmp_path, capsys):
    """Which names the frames by their numbers, of which a part of the box file leaves some out."""
    from a2j_jax.runs.checkpoints import save_variables
    from tests import tiny
    from tests.distributions import hands2017

    raw, data, checkpoint = (tmp_path / name for name in ("raw", "data", "checkpoint"))
    hands2017.write(raw, {"test": 6})
    boxes = raw / "frame" / "BoundingBox.txt"
    boxes.write_text(
        "".join(boxes.read_text().splitlines(keepends=True)[row] for row in (4, 2, 5, 3))
    )
    a2j(capsys, "build", "hands2017", "--manual_dir", raw, "--data_dir", data, "--crop_size", SIZE)
    words = [f"--config.{key}={value}" for key, value in NETWORK.items()]
    words += ["--config.track=hands2017", f"--config.data.dir={data}"]
    assert main(["train", "--config", "quickstart", "--workdir", str(tmp_path / "run"), *words,
                 "--config.data.train_split=test", "--config.data.eval_split=test",
                 "--config.data.normalization=published"]) == 2  # fmt: skip
    assert "split 'test' of track 'hands2017' has no labels" in capsys.readouterr().err
    save_variables(checkpoint, tiny.variables("hands2017"), tiny.config(data, "hands2017"))
    out, text = tmp_path / "out", tmp_path / "joints.txt"
    words = ("--track", "hands2017", "--data_dir", data, "--out", out, "--write", text, "--json")
    answer = json.loads(a2j(capsys, "eval", "--checkpoint", checkpoint, *words))
    del answer["crops_from"]
    assert answer == {
        "track": "hands2017",
        "frames": 4,
        "predictions": str(out / "predictions.npz"),
        "submission": str(out / "submission.txt"),
        "step": 0,
        "split": "test",
        "unreadable": 0,
    }
    assert len(list(out.iterdir())) == 2
    assert np.loadtxt(text).shape == (4, 63)
    lines = (out / "submission.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == [
        f"frame/images/image_D{number:08d}.png" for number in range(3, 7)
    ]
    assert all(len(line.rstrip("\t").split("\t")) == 64 for line in lines)
