"""Reports: the table's numbers, the files, the page, and what happens without matplotlib."""

import dataclasses
import io
import itertools
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from a2j_jax.errors import UserError
from a2j_jax.evaluation import plots, report, tables
from a2j_jax.evaluation.joint_files import JointSet
from a2j_jax.evaluation.scores import score_errors, score_predictions
from a2j_jax.evaluation.tables import Table
from a2j_jax.files import MARK
from a2j_jax.tracks import get_track, with_crop_size
from tests.evaluation import made_up

PLOTS = ("success_curve", "success_curve_mean", "per_joint", "error_depth", "error_distance")


def of_track(name):
    return made_up.comparison(with_crop_size(get_track(name), 64))


def printed(scores, width=120):
    out = io.StringIO()
    report.print_scores(scores, Console(file=out, width=width))
    return out.getvalue()


@pytest.mark.parametrize("track", ["nyu", "itop_front", "k2hpd"])
def test_rows_do_not_wrap_at_80_columns(track):
    spec = get_track(track)
    uvd = np.random.default_rng(0).uniform(50, 200, (3, spec.num_joints, spec.joint_dims))
    one = dataclasses.replace(
        score_predictions(uvd + 1, uvd, spec), frames_of=39_732, centers={"depth": 3}
    )
    names = ("A2J, best step 1200, EMA", "a_name_without_any_space", "mean pose", "crop center")
    text = printed(dict.fromkeys(names, one), width=80)
    assert max(map(len, text.splitlines())) <= 80
    labels = [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")]
    for label in (f"AUC 0–80 {one.unit} by worst joint", f"mean error ({one.unit})"):
        assert labels.count(label) == 2  # three methods, and one
    assert f"{track} · 3 of 39,732 frames" in text
    assert text.count("depth)") == len(names)


def test_every_row_of_every_table_is_printed():
    errors = np.full((4, 15), 50.0)
    errors[:2, :2] = 150.0
    errors[:, 3] = np.nan
    itop = get_track("itop_front")
    scores = {"A2J": score_errors(errors, itop), "mean pose": score_errors(errors + 9, itop)}
    text = printed(scores)
    lines = (line.split("│")[1:-1] for line in text.splitlines() if line.startswith("│"))
    found = {tuple(cell.strip() for cell in cells) for cells in lines}
    for table in itertools.chain(*tables.score_tables(scores)):
        assert set(table.rows) <= found
        assert table.title in text
    assert "paper: mAP@10 cm (%) 88.0" in text


def page(comparison, folder):
    return report.write_report(comparison, folder)[0].read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A report with everything: a baseline, facts, the run's checkpoints and the command."""
    one = made_up.comparison()
    scores = {**one.scores, "mean pose": score_errors(np.full((9, 21), 55.5), one.track)}
    out = tmp_path_factory.mktemp("report") / "eval"
    told = dataclasses.replace(
        one,
        scores=scores,
        facts=[("centers from", "nyu_center_test.mat (8,252 frames)")],
        run=Table("", ("", "step"), (("best checkpoint", "940"), ("final checkpoint", "1,880"))),
        command="a2j eval --workdir 'my run' --out <here>",
    )
    written = report.write_report(told, out)
    assert written[0] == out / "report.html"
    assert sorted(written) == sorted(out.iterdir())
    return out


def test_report_writes_the_page_and_every_plot_twice(folder):
    assert {path.name for path in folder.iterdir()} == {"report.html"} | {
        f"{name}.{kind}" for name in (*PLOTS, "frames") for kind in ("png", "svg")
    }
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            assert np.asarray(image.convert("L")).std() > 10
    for path in folder.glob("*.svg"):
        assert path.read_text().rstrip().endswith("</svg>")


def test_the_page_has_facts_scores_and_frames(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "nyu_center_test.mat (8,252 frames)" in text
    assert "final checkpoint" in text
    assert "a2j eval --workdir &#39;my run&#39; --out &lt;here&gt;" in text
    mean = made_up.comparison().scores["A2J"].mean_error
    assert f"{mean:.2f}" in text
    assert text.count("<svg") == len(PLOTS)
    assert text.count("<img") == 9  # of nine frames three worst, three median, three best
    assert "made_up/8" in text  # the worst frame, by the name the distribution gave it
    # The baseline is neither headline nor drawn.
    assert "55.50" in text
    assert "mean pose: mean error" not in text


@pytest.mark.usefixtures("no_matplotlib")
def test_a_report_replaces_an_earlier_one_entirely_or_not_at_all(tmp_path):
    def contents():
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def write(command):
        told = dataclasses.replace(made_up.comparison(), command=command)
        return report.write_report(told, tmp_path, {"frames": 9}, JointSet(told.labels.joints_uvd))

    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "per_joint_protocol.png").write_bytes(b"mine, not drawn here")
    (tmp_path / "per_joint_protocol.svg").write_text(f"an earlier report's, {MARK}")
    written = [path.name for path in write("first")]
    assert written == ["scores.json", "predictions.npz", "report.html"]
    before = contents()
    assert before["mine.txt"] == b"mine"
    assert "per_joint_protocol.png" in before
    assert "per_joint_protocol.svg" not in before

    with made_up.small_disk(1_000), pytest.raises(UserError, match="cannot be written"):
        write("second")
    assert contents() == before

    write("third")
    assert contents().keys() == before.keys()
    assert b"third" in contents()["report.html"]


@pytest.fixture(scope="session")
def widest(tmp_path_factory):
    """The page of several methods, with a command that is hard to break."""
    command = "a2j eval --predictions " + "a_long_name_without_any_space" * 8
    told = dataclasses.replace(made_up.several(4), command=command)
    return report.write_report(told, tmp_path_factory.mktemp("widest"))[0]


def test_several_methods_stand_beside_each_other(widest):
    """In a page that needs nothing but itself."""
    text = widest.read_text(encoding="utf-8")
    assert text.count("<img") == 3 * 2 * 4  # worst, median, best: two frames of four methods
    assert text.count("<li><strong>") == 4
    assert "ranked by method 0" in text
    assert "counted from 0" in text
    for source in re.findall(r'(?:src|href|data|action)="([^"]*)"', text):
        assert source.startswith(("data:image/png;base64,", "#")), source[:80]
    assert not re.search(r"<(script|link|iframe|object|base)\b|@import|url\((?!#)", text)
    ids = re.findall(r'<clipPath id="([^"]*)"', text)
    assert len(set(ids)) == len(ids)  # a plot is not clipped by another's frame


@pytest.mark.usefixtures("no_matplotlib")
def test_the_papers_table_stands_beside_ours(tmp_path):
    nyu = of_track("nyu")
    text = page(nyu, tmp_path)
    for told in (
        "Table 3 of the paper",
        "Not in the paper",
        "Tompson",  # whose data set it is, and its notes
        "14 of the 36 joints",
        "Table 7: without the surrounding loss",
    ):
        assert told in text
    assert "A2J: mean error (mm)" not in text
    own = dataclasses.replace(nyu, own_rows={"table7": "no_surrounding_loss"})
    assert "A2J: mean error (mm)" in page(own, tmp_path / "own")
    assert "of the paper" not in page(made_up.comparison(), tmp_path / "synthetic")


@pytest.mark.slow
def test_tracks_have_the_unit_the_headline_and_the_plots_of_their_protocol(tmp_path):
    text = page(of_track("k2hpd"), tmp_path)
    assert "mean error (px)" in text
    assert "(mm)" not in text
    assert "mean PDJ" in text
    drawn = {path.stem for path in tmp_path.glob("*.png")}
    assert drawn == {*PLOTS, "per_joint_protocol", "frames"} - {"error_depth"}


@pytest.mark.usefixtures("no_matplotlib")
def test_the_headline_of_bodies_is_their_map(tmp_path):
    text = page(of_track("itop_front"), tmp_path)
    assert "lower body" in text
    assert "success AUC, 0–80 mm" not in text


def test_frames_without_labels_do_not_disturb(tmp_path):
    one = made_up.comparison()
    errors, valid = one.scores["A2J"].errors.copy(), np.ones((9, 21), bool)
    errors[4], valid[4] = np.nan, False
    uvd = one.labels.joints_uvd.copy()
    uvd[4] = np.nan
    scores = {"A2J": score_errors(errors, one.track)}
    bare = dataclasses.replace(one, scores=scores, labels=JointSet(uvd, valid), fetch=None)
    assert "frame 4<" not in page(bare, tmp_path)


@pytest.mark.usefixtures("no_matplotlib")
def test_without_matplotlib_the_numbers_are_still_written(tmp_path, logged):
    written = report.write_report(made_up.comparison(), tmp_path)
    assert [path.name for path in written] == ["report.html"]
    assert logged[:-1] == ["no pictures: they need matplotlib, pip install 'a2j-jax[viz]'"]
    text = written[0].read_text()
    assert "pip install" in text
    assert "<svg" not in text
    assert "middle mcp" in text


def test_written_files_are_one_line(logged):
    report.log_written([Path("out/scores.json"), Path("out/a.png"), Path("out/a.svg")])
    assert logged == ["wrote out: scores.json, a.png (plots also as .svg)"]


CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [1200, 420])
def test_a_browser_shows_it_without_scrolling_sideways(widest, tmp_path, width):
    shot = tmp_path / "shot.png"
    subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", "--hide-scrollbars", f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},4000", f"--screenshot={shot}",
            widest.as_uri(),
        ],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    with Image.open(shot) as image:
        rgb = np.asarray(image.convert("RGB")).astype(int)
    background = rgb[0, 0]
    drawn = np.abs(rgb - background).sum(-1) > 30
    assert drawn.mean() > 0.02
    # Nothing reaches into the margin on the right, as it would where content is too wide.
    assert not drawn[:, -8:].any()
    assert drawn[:, width - 120 :].any()


EVIL = "<script>alert('1')</script> & \"more\""


@pytest.mark.parametrize("side", [1, 3])
def test_a_page_is_well_formed_and_nothing_escapes(side):
    tile = {"png": "iVBORw==", "error": EVIL, "caption": "A2J"}
    bars = plots.joint_bars({EVIL: [1.0, 2.0, 3.0]}, ("one", "two"), EVIL)
    text = report.render_page(
        EVIL,
        subtitle=EVIL,
        cards=[(EVIL, EVIL, EVIL)],
        tables=[Table(EVIL, ("", EVIL), ((EVIL, EVIL),), notes=(EVIL,))],
        plots=[report.Plot("per_joint", bars, EVIL, EVIL)],
        frames={EVIL: [{"title": EVIL, "tiles": [tile] * side}] * 2},
        command=EVIL,
        facts=[(EVIL, EVIL)],
    )
    body = ElementTree.fromstring(text[text.index("<body>") : text.index("</html>")])
    assert "script" not in {element.tag for element in body.iter()}
    assert text.startswith("<!DOCTYPE html>")
    assert f"--side: {side}" in text
    assert text.count('class="group"') == 2
    assert text.count("data:image/png;base64,iVBORw==") == 2 * side
    svg = text[text.index("<svg") : text.index("</svg>")]  # in the page's own colors
    assert "currentColor" in svg
    assert plots.INK not in svg
    assert plots.GRID not in svg


def test_a_table_has_heads_and_marks_the_strong_row():
    table = Table("t", ("", "A", "B"), (("x", "1.0", "–"), ("y", "2.0", "words")), frozenset({1}))
    text = report.render_page("title", tables=[table])
    assert '<th scope="col">A</th>' in text
    assert '<tr><th scope="row">x</th><td>1.0</td><td>–</td></tr>' in text
    assert '<tr class="strong"><th scope="row">y</th>' in text
    assert '<td class="text">words</td>' in text
    assert "<section>" not in text  # a section without contents
