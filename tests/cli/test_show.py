"""`a2j show --frame`: a rendered frame, and the line that predicts on it."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from a2j_jax.files import is_ours
from a2j_jax.inference.frames import read_frame
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
