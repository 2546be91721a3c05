"""`a2j eval`: published predictions give the published number, a checkpoint gives a report."""

import html
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from a2j_jax.evaluation.joint_files import JointSet, write_joints
from tests import tiny


def test_the_authors_nyu_predictions(a2j, official):
    labels = official / "nyu" / "nyu_keypointsUVD_test.mat"
    predictions = official / "nyu_861_epoch32_UVD.txt"
    outcome = a2j(f"eval --predictions {predictions} --track nyu --labels {labels} --json")
    scores = json.loads(outcome.out)  # one object, and nothing else
    assert outcome.out.count("\n") == 1
    assert (scores["track"], scores["frames"]) == ("nyu", 8252)
    assert scores["mean_error_mm"] == pytest.approx(8.6098, abs=5e-5)
    published = [9.151, 7.143, 8.654, 6.897, 9.583, 7.373, 10.753, 8.445, 10.615, 8.224, 7.856,
                 9.276, 9.251, 7.316]  # fmt: skip
    np.testing.assert_allclose(scores["per_joint_mm"], published, atol=5e-4)
    assert scores["success_rate"]["20"] == pytest.approx(0.7056, abs=5e-5)
    assert scores["success_rate"]["40"] == pytest.approx(0.9094, abs=5e-5)
    assert "8.61" in outcome.err  # the table


def test_several_methods_at_once(a2j, tmp_path):
    truth = np.random.default_rng(0).uniform(100, 200, (5, 42))
    for name, noise in {"labels": 0.0, "near": 1.0, "far": 9.0}.items():
        np.savetxt(tmp_path / f"{name}.txt", truth + noise)
    files = f"'A2J, ours={tmp_path}/near.txt' {tmp_path}/far.txt --labels {tmp_path}/labels.txt"
    scores = json.loads(a2j(f"eval --track nyu --json --predictions {files}").out)
    assert (scores["track"], scores["frames"]) == ("nyu", 5)
    assert list(scores["methods"]) == ["A2J, ours", "far"]
    errors = [method["mean_error_mm"] for method in scores["methods"].values()]
    assert errors[0] < errors[1]
    assert {path.suffix for path in tmp_path.iterdir()} == {".txt"}  # no report unless asked for


def test_the_report_tells_the_command(a2j, tmp_path):
    labels = tmp_path / "my labels.txt"
    np.savetxt(labels, np.random.default_rng(0).uniform(100, 200, (5, 42)))
    out = tmp_path / "report"
    line = ("eval", "--predictions", labels, "--track", "nyu", "--labels", labels)
    outcome = a2j(*line)
    assert outcome.out == ""  # without --json only the table is printed
    assert "0.00" in outcome.err
    outcome = a2j(*line, "--out", out)
    page = html.unescape((out / "report.html").read_text())
    path = f"'{labels}'"  # quoted for the shell
    assert f"a2j eval --predictions {path} --track nyu --labels {path} --out {out}" in page
    assert json.loads((out / "scores.json").read_text())["mean_error_mm"] == 0.0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--predictions ok.txt --labels hands21.txt --track nyu", "14 joints"),
        ("--predictions hands21.txt --labels ok.txt --track nyu", "hands21.txt"),
        ("--predictions short.txt --labels ok.txt --track nyu", "4 frames"),
        *(
            (f"--predictions {a} --labels {b} --track nyu", name)
            for name in ("empty.txt", "words.txt", "none.txt")
            for a, b in ((name, "ok.txt"), ("ok.txt", name))
        ),
        ("--predictions ok.txt --labels ok.txt --track nuy", "did you mean 'nyu'?"),
        ("--predictions ok.txt", "--track and --labels"),
        ("--predictions ok.txt --labels ok.txt --track nyu --step best", "has no steps"),
        ("--workdir none", "checkpoint folder not found"),
        ("--workdir ok.txt", "folder not found"),
        ("--workdir empty", "config.json not found"),
        ("--workdir RUN --data_dir none", "no data directory"),
        ("--workdir RUN --data_dir empty", "holds no data set"),
        ("--workdir RUN --step 7", "no checkpoint of step 7"),
        ("--workdir RUN --track nyu", "not 'nyu'"),
        ("--workdir RUN --labels x.mat", "--labels goes with"),
    ],
)
def test_mistakes(mistake, checkpoints, line, said):
    rng = np.random.default_rng(0)
    for name, shape in {"ok": (5, 42), "short": (4, 42), "hands21": (5, 63)}.items():
        np.savetxt(f"{name}.txt", rng.uniform(100, 200, shape))
    Path("empty.txt").write_text("")
    Path("words.txt").write_text("one two\n")
    Path("empty").mkdir()
    mistake("eval " + line.replace("RUN", "CHECKPOINTS/synthetic_hand"), said)
    assert not (checkpoints / "synthetic_hand" / "eval").exists()


def test_an_edited_config(refused, checkpoints, tmp_path):
    workdir = tmp_path / "edited"
    shutil.copytree(checkpoints / "nyu", workdir)
    text = (workdir / "config.json").read_text()
    for edited, said in (
        (text.replace('"width": 8', '"width": 16'), "model.width: 8 there, 16"),
        (text.replace('"width"', '"breadth"'), "model.breadth"),
        (text[:100], "config.json: not readable as JSON"),
    ):
        (workdir / "config.json").write_text(edited)
        assert said in refused("eval", "--workdir", workdir)


@pytest.mark.slow
def test_a_checkpoint_is_scored_and_reported(a2j, checkpoints, tiny_data, tmp_path):
    options = f"--data_dir {tiny_data} --batch_size 8 --out {tmp_path}/report --json"
    scores = json.loads(a2j(f"eval --workdir {checkpoints}/synthetic_hand {options}").out)
    assert (scores["track"], scores["frames"]) == ("synthetic_hand", tiny.FRAMES["test"])
    assert len(scores["per_joint_mm"]) == 21
    assert scores["compared"].keys() == {"mean pose", "crop center"}
    written = {path.name for path in (tmp_path / "report").iterdir()}
    parts = {"report.html", "scores.json", "predictions.npz", "frames.png", "success_curve.svg"}
    assert parts <= written
    page = (tmp_path / "report" / "report.html").read_text()
    assert f"--data_dir {tiny_data}" in page
    assert "test/000" in page  # a frame, by its name
    assert not (checkpoints / "synthetic_hand" / "eval").exists()


@pytest.mark.slow
def test_own_predictions_are_scored_at_the_crop_size_of_the_data_set(
    a2j, refused, tiny_data, tmp_path
):
    """The track's own is 176 px; of files that were made at another size, too."""
    for name, depth in (("A", 700.0), ("B", 900.0)):
        uvd = np.full((tiny.FRAMES["test"], 21, 3), (320.0, 240.0, depth))
        write_joints(tmp_path / f"{name}.npz", JointSet(uvd))
    files = [f"{name}={tmp_path / name}.npz" for name in "AB"]
    line = ("eval", "--predictions", *files, "--track", "synthetic_hand", "--data_dir", tiny_data)
    methods = json.loads(a2j(*line, "--json").out)["methods"]
    assert list(methods) == ["A", "B"]
    a2j("figure", "7", *line[1:], "--out", tmp_path / "figures")
    assert f"--crop_size {tiny.SIZE} " in refused(*line, "--crop_size", 48)


_STUCK = """
import hashlib, os, signal, threading
from a2j_jax.cli import console
from a2j_jax.evaluation import compare

def stuck(*_, **__):
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # as a compilation: no signal reaches Python in it

compare.compare_predictions = stuck
console(["eval", "--predictions", "p.txt", "--track", "nyu", "--labels", "p.txt"])
"""


@pytest.mark.slow
def test_sigterm_ends_it_while_it_compiles():
    done = subprocess.run([sys.executable, "-c", _STUCK], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (143, "a2j: SIGTERM: ended\n")
