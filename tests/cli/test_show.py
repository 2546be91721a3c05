"""`a2j show`: a rendered frame, and the line that predicts on it; a sheet of rendered scenes."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from a2j_jax.files import is_ours
from a2j_jax.inference.frames import read_frame
from a2j_jax.synthetic.render import SHIFTED_SENSORS
from a2j_jax.synthetic.views import SHIFTED
from a2j_jax.tracks import get_track


@pytest.mark.slow
@pytest.mark.parametrize("name", ["synthetic_hand", "synthetic_body_top"])
def test_a_rendered_frame_is_predicted_on_by_the_line_that_is_printed(
    a2j, checkpoints, tmp_path, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    track = get_track(name)
    line = a2j("show", name, "--frame", "f.png", "--seed", "3").out
    depth = read_frame("f.png")
    assert depth.shape == track.frame_size[::-1]
    assert is_ours(tmp_path / "f.png")
    a2j("show", name, "--frame", "f.png", "--seed", "4")  # its own file is replaced
    other = read_frame("f.png")
    assert not np.array_equal(other, depth)
    assert a2j("show", name, "--frame", "f.png", "--seed", "3").out == line
    np.testing.assert_array_equal(read_frame("f.png"), depth)

    program, *words = shlex.split(line)
    assert program == "a2j"
    option = words[words.index("--center" if track.crop_by == "center" else "--box") + 1]
    where = [float(x) for x in option.split(",")]
    if track.crop_by == "center":
        u, v, d = where
        rows, columns = np.nonzero(np.abs(depth - d) < 150)
        assert np.hypot(rows - v, columns - u).min() < 20
    run = checkpoints / ("synthetic_hand" if name == "synthetic_hand" else "itop_front")
    words[words.index("RUN")] = str(run)
    contents = json.loads(a2j(*words, "--json").out)
    (frame,) = contents["frames"]
    assert Path("overlay.png").exists()
    if track.crop_by == "center":
        assert frame["center_uvd"] == where
    else:
        np.testing.assert_allclose(frame["box_px"], where, atol=1)


def test_a_sheet_of_scenes_without_a_data_set(a2j, tmp_path, monkeypatch):
    """Only what is to be rendered is checked: compiling it takes half a minute."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()  # is not looked at
    asked = []

    def blank(seed, indices, **settings):
        asked.append((seed, len(indices), settings["view"].scene, settings["sensor"]))
        box, side = np.array([280.0, 200.0, 360.0, 280.0]), 48 + 2 * settings["margin"]
        joints = np.full((21, 3), (320.0, 240.0, 700.0))
        example = {"joints_uvd": joints, "box_px": box, "window_px": box, "center_uvd": joints[0]}
        return [{**example, "canvas": np.full((side, side), 700, np.uint16)} for _ in indices]

    monkeypatch.setattr("tfds_builders.rendered.generate", blank)
    a2j("show synthetic_hand --scenes shifted --crop_size 48 --frames 3 --seed 5")
    assert asked == [(5, 3, SHIFTED, SHIFTED_SENSORS)]
    assert (tmp_path / "sheet.png").exists()
