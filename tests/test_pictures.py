"""Pictures: the right pixels where they are known, and no crash or warning elsewhere; pages, and files of figures."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from a2j_jax import pictures
from a2j_jax.errors import UserError
from a2j_jax.pictures import Figure, Tile, contact_sheet, depth_to_gray, new_page, write_figure
from a2j_jax.tracks import TRACKS, get_track

HAND = get_track("synthetic_hand").skeleton


@pytest.mark.slow
def test_its_cache_is_private_and_not_missed(tmp_path):
    """Whatever the umask; and where there is no room for one, pictures are drawn without a word."""
    (tmp_path / "file").touch()
    program = "import os; os.umask(0); from a2j_jax.pictures import new_figure; new_figure(1, 1)"
    for cache in (tmp_path / "cache", tmp_path / "file"):
        env = {key: value for key, value in os.environ.items() if key != "MPLCONFIGDIR"}
        env |= {"XDG_CACHE_HOME": str(cache), "XDG_CONFIG_HOME": str(cache)}
        env["PYTHONPATH"] = os.pathsep.join(sys.path)
        done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True)
        assert (done.returncode, done.stdout + done.stderr) == (0, b"")
    made = [tmp_path / "cache", *(tmp_path / "cache").rglob("*")]
    assert len(made) > 2
    assert not any(path.stat().st_mode & 0o077 for path in made)


def test_depth_is_gray_near_dark_and_background_white():
    depth = np.array([[0, 700, 750], [800, 2001, np.nan]])
    gray = depth_to_gray(depth, far=900)
    assert gray.dtype == np.float32
    np.testing.assert_array_equal(gray[[0, 1, 1], [0, 1, 2]], 1.0)
    assert gray[0, 1] < gray[0, 2] < gray[1, 0] < 1.0
    for flat in (0.0, np.nan, 700.0):  # nothing is divided by zero
        assert np.isfinite(depth_to_gray(np.full((4, 4), flat))).all()


def test_sheet_has_one_place_per_tile(tmp_path):
    near = np.full((32, 32), 500.0)
    near[:, 16:] = 600.0
    tiles = [Tile(near) if i == 3 else Tile(np.zeros((32, 32))) for i in range(5)]
    path = contact_sheet(tiles, HAND, tmp_path / "new" / "sheet.png", columns=3)
    with Image.open(path) as image:
        gray = np.asarray(image.convert("L"))
    height, width = gray.shape
    assert width == pytest.approx(height * 3 / 2, rel=0.02)
    # Tile 3 is the first of the second row; the others are white.
    assert gray[height * 3 // 4, width // 12] < 128
    assert gray[height // 4, width // 12] == 255
    assert gray[height * 3 // 4, width // 2] == 255


def test_joints_are_drawn_in_limb_colors_where_they_are(tmp_path):
    uv = np.full((21, 2), 50.0)
    uv[[2, 9, 10, 11]] = [[10, 20], [10, 40], [10, 60], [10, 80]]  # a straight index finger
    path = contact_sheet([Tile(np.zeros((100, 100)), uv)], HAND, tmp_path / "one.png")
    with Image.open(path) as image:
        rgb = np.asarray(image.convert("RGB")).astype(int)
    wanted = tuple(int(pictures.LIMB_COLORS[1][i : i + 2], 16) for i in (1, 3, 5))
    scale = rgb.shape[0] / 100
    there = rgb[round(30 * scale), round(10 * scale) - 4 : round(10 * scale) + 5]
    assert (np.abs(there - wanted).sum(-1) < 40).any()


def test_unlabelled_joints_are_left_out(tmp_path):
    uv = np.full((21, 2), np.nan)
    tile = Tile(np.zeros((40, 40)), uv, uv, "nothing", np.zeros(21, bool))
    path = contact_sheet([tile], HAND, tmp_path / "none.png")
    with Image.open(path) as image:
        middle = np.asarray(image.convert("L"))[60:-30, 30:-30]
    assert (middle == 255).all()


@pytest.mark.parametrize("name", sorted({t.skeleton.name: n for n, t in TRACKS.items()}.values()))
def test_every_skeleton_can_be_drawn(name, tmp_path):
    skeleton = get_track(name).skeleton
    uv = np.random.default_rng(0).uniform(0, 64, (len(skeleton), 3))
    tiles = [Tile(np.ones((64, 64)), uv, uv + 3, "one")]
    assert contact_sheet(tiles, skeleton, tmp_path / "s.png", title=name).stat().st_size > 1000


def test_the_suffix_decides_between_png_and_svg(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it would now raise
    tiles = [Tile(np.ones((8, 8)), np.full((21, 2), 4.0))]
    first, second = (contact_sheet(tiles, HAND, tmp_path / n / "s.svg") for n in ("a", "b"))
    assert first.read_text().rstrip().endswith("</svg>")
    assert first.read_bytes() == second.read_bytes()  # no date, no random ids
    assert "http://purl.org" not in first.read_text()  # matplotlib's own metadata
    assert contact_sheet(tiles, HAND, tmp_path / "s.png").read_bytes()[:4] == b"\x89PNG"


def test_bad_requests_are_one_clear_line(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="21 joints of skeleton"):
        contact_sheet([Tile(np.ones((8, 8)), np.zeros((14, 2)))], HAND, tmp_path / "s.png")
    with pytest.raises(UserError, match="no examples"):
        contact_sheet([], HAND, tmp_path / "s.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        contact_sheet([Tile(np.ones((8, 8)))], HAND, tmp_path / "file" / "s.png")
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    assert not pictures.have_matplotlib()
    with pytest.raises(UserError, match=r"pip install 'a2j-jax\[viz\]'"):
        contact_sheet([Tile(np.ones((8, 8)))], HAND, tmp_path / "t.png")
    assert not (tmp_path / "t.png").exists()


COMMAND = "a2j figure 9 --checkpoint $RUN"


def test_the_caption_is_below_everything_else_and_ends_with_the_command():
    figure = new_page(4.0, 2.0, "Figure 9. " + "Nothing at all. " * 20, COMMAND)
    axes = figure.subplots()
    axes.set_xlabel("label")
    figure.draw_without_rendering()
    assert figure.get_size_inches()[1] > 2.0
    command, caption = figure.texts
    assert caption.get_text().startswith("Figure 9.")
    assert caption.get_text().count("\n") > 3
    assert command.get_text() == f"$ {COMMAND}"
    assert not command.get_parse_math()
    below, above = (text.get_window_extent() for text in (command, caption))
    assert 0 <= below.y0 < below.y1 < above.y0 < above.y1 < axes.get_tightbbox().y0
    assert max(below.x1, above.x1) <= figure.bbox.x1


def test_four_files_hold_picture_and_numbers(tmp_path):
    rows = [{"joint": "wrist", "weight": 0.5}, {"joint": "tip, index", "weight": 0.25}]
    page = new_page(4.0, 2.0, "Figure 9.", COMMAND)
    figure = Figure(page, {"figure": 9, "rows": rows}, rows)
    written = write_figure(figure, tmp_path / "new", "figure_9")
    assert [path.name for path in written] == [
        f"figure_9{suffix}" for suffix in (".png", ".svg", ".json", ".csv")
    ]
    png, svg, contents, table = written
    assert png.read_bytes()[:4] == b"\x89PNG"
    assert svg.read_text().rstrip().endswith("</svg>")
    found = json.loads(contents.read_text())
    assert found.pop("written_by").startswith("a2j_jax")
    assert found == figure.contents
    with table.open(newline="") as file:
        assert [{**row, "weight": float(row["weight"])} for row in csv.DictReader(file)] == rows
    with pytest.raises(UserError):
        write_figure(figure, png, "figure_9")  # a folder that is a file
