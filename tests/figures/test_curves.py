"""Figure 7: the numbers drawn and written are the scores'."""

import dataclasses

import numpy as np
import pytest

from a2j_jax.config import override
from a2j_jax.errors import UserError
from a2j_jax.evaluation.compare import compared_files
from a2j_jax.evaluation.joint_files import JointSet, write_joints
from a2j_jax.evaluation.scores import score_errors, success_rate
from a2j_jax.figures.curves import figure_7, score_checkpoints
from a2j_jax.runs.checkpoints import save_variables
from a2j_jax.tracks import get_track
from tests import tiny

NYU = get_track("nyu")


def scores(seed, scale):
    return score_errors(np.random.default_rng(seed).gamma(3.0, scale, (50, 14)), NYU)


def test_curves_and_bars_are_those_of_the_scores():
    methods = {"ours": scores(0, 3.0), "theirs": scores(1, 5.0)}
    drawn = figure_7(methods, source="track nyu", command="a2j figure 7")
    axes = {one.get_label(): one for one in drawn.drawing.axes}
    for by in ("worst", "mean"):
        curves = drawn.contents[f"success_{by}_joint"]
        for line, (name, one) in zip(axes[by].lines, methods.items(), strict=True):
            np.testing.assert_allclose(line.get_xdata(), curves["thresholds"])
            rates = curves["fraction_of_frames"][name]
            np.testing.assert_allclose(line.get_ydata(), 100 * np.array(rates))
            expected = success_rate(one.errors, curves["thresholds"], by)
            np.testing.assert_allclose(rates, expected)
    *of_methods, paper = axes["joints"].containers
    # Of the paper's A2J only the mean error is known.
    assert [bar.get_width() for bar in paper] == [0.0] * 14 + [8.61]
    assert drawn.contents["paper"]["V2V"] == {"mean_error_mm": 9.22, "fps": 35.0}
    for group, one in zip(of_methods, methods.values(), strict=True):
        widths = [bar.get_width() for bar in group]
        np.testing.assert_allclose(widths, [*one.per_joint, one.mean_error])
    assert drawn.contents["methods"]["ours"]["mean_error_mm"] == methods["ours"].mean_error
    published, ours, theirs = (
        [(row["what"], row["at"], row["value"]) for row in drawn.table if row["method"] == name]
        for name in ("A2J in the paper", *methods)
    )
    assert set(published) == {("error_mm", "mean", 8.61), ("published", "fps", 105.06)}
    assert len(published) + len(ours) + len(theirs) == len(drawn.table)
    assert sum(what == "success_worst_joint" for what, _, _ in ours) == 401
    bars = {at: value for what, at, value in ours if what == "error_mm"}
    numbers = (*methods["ours"].per_joint, methods["ours"].mean_error)
    assert bars == dict(zip((*NYU.skeleton.joints, "mean"), numbers, strict=True))


@pytest.mark.slow
def test_checkpoints_and_files_on_the_same_frames(tiny_data, tmp_path):
    runs = {}
    for seed in (0, 1):
        runs[f"seed {seed}"] = tmp_path / str(seed)
        config = tiny.config(tiny_data)
        save_variables(runs[f"seed {seed}"], tiny.variables(seed=seed), config)
    uvd = np.full((tiny.FRAMES["test"], 21, 3), (320.0, 240.0, 700.0))
    write_joints(file := tmp_path / "constant.npz", JointSet(uvd))
    found = score_checkpoints(runs, {"constant": file}, data_dir=None, split="test")
    assert list(found) == ["seed 0", "seed 1", "constant"]
    assert {one.frames for one in found.values()} == {tiny.FRAMES["test"]}
    assert len({one.mean_error for one in found.values()}) == 3
    track = dataclasses.replace(get_track("synthetic_hand"), crop_size=tiny.SIZE)
    alone = compared_files({"c": file}, track, data_dir=tiny_data, split="test")
    assert alone.scores["c"].mean_error == found["constant"].mean_error


@pytest.mark.slow
def test_other_frames_are_no_comparison(tiny_data, tmp_path, logged):
    from tfds_builders.build import build

    frames = {"train": 2, "validation": 2, "test": tiny.FRAMES["test"]}
    build("synthetic_hand", tmp_path / "data", crop_size=tiny.SIZE, seed=1, **frames)
    runs = {"a": tiny_data, "b": tmp_path / "data"}
    for name, data_dir in runs.items():
        save_variables(tmp_path / name, tiny.variables(), tiny.config(data_dir))
    folders = {name: tmp_path / name for name in runs}
    with pytest.raises(UserError, match=r"b has 20 frames in split 'test'.* 20 others: .*the same"):
        score_checkpoints(folders, {}, data_dir=None, split="test")
    assert not any("evaluating" in line for line in logged)  # refused before that
    other = override(tiny.config(tiny_data), "track", "hands2017")
    save_variables(tmp_path / "c", tiny.variables(), other)
    folders["c"] = tmp_path / "c"
    with pytest.raises(UserError, match=r"c of track 'hands2017': figure 7 compares"):
        score_checkpoints(folders, {}, data_dir=None, split="test")
