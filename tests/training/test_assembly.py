"""A config taken apart: what it leaves open is the track's, what it says wins."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.config import from_json, override, to_json
from a2j_jax.config_files import load_config
from a2j_jax.data import pipeline
from a2j_jax.errors import UserError
from a2j_jax.geometry import Camera
from a2j_jax.models.anchors import Heads, anchor_grid
from a2j_jax.tracks import get_track
from a2j_jax.training import assembly
from tests import tiny


def test_what_a_config_leaves_open_is_the_tracks() -> None:
    config = override(tiny.config(track="itop_front"), "data.crop_size", "None")
    assert assembly.track_of(config) == get_track("itop_front")


def test_what_a_config_says_wins() -> None:
    config = tiny.config(track="itop_front")
    for key, value in {"scale_range": "0.9,1.1", "noise_probability": "0"}.items():
        config = override(config, f"augment.{key}", value)
    track = assembly.track_of(config)
    assert track.crop_size == tiny.SIZE
    official = get_track("itop_front").augmentation
    assert track.augmentation == dataclasses.replace(
        official, scale_range=(0.9, 1.1), noise_probability=0.0
    )


@pytest.mark.parametrize("track", ["synthetic_hand", "k2hpd"])
def test_the_network_has_the_tracks_joints_and_the_configs_size(track: str) -> None:
    config = override(tiny.config(track=track), "model.dtype", "bfloat16")
    spec = assembly.track_of(config)
    model = assembly.make_model(config, spec)
    assert (model.num_joints, model.joint_dims) == (spec.num_joints, spec.joint_dims)
    assert (model.backbone, model.width, model.head_features, model.head_depth) == (
        "resnet18",
        8,
        8,
        1,
    )
    assert model.dtype == jnp.bfloat16
    expected = assembly.expected_variables(model, spec)
    assert {leaf.dtype for leaf in jax.tree.leaves(expected)} == {np.dtype(np.float32)}
    assert ("depth_head" in expected["params"]) == (spec.joint_dims == 3)


def losses(track: str, **changes: str) -> Any:
    """Of made-up heads that agree on a point 50 px from every joint, at 10 units' distance."""
    config = tiny.config(track=track)
    for key, value in changes.items():
        config = override(config, f"loss.{key}", value)
    spec = assembly.track_of(config)
    shape = (1, tiny.SIZE**2 // 16, spec.num_joints)
    anchors = anchor_grid(tiny.SIZE, tiny.SIZE)
    offset = jnp.broadcast_to(-anchors[None, :, None], (*shape, 2))
    heads = Heads(jnp.zeros(shape), offset, jnp.zeros(shape))
    joints = jnp.broadcast_to(jnp.array([30.0, 40.0, 2.0]), (1, spec.num_joints, 3))
    return assembly.objective_of(config, spec)(heads, joints, jnp.ones(joints.shape[:2], bool))


def test_the_objective_has_the_tracks_weight_unless_told() -> None:
    """Eq. (7): surrounding + lambda * regression; lambda is the track's."""
    for track, weight in {"nyu": 3, "itop_front": 3}.items():
        found = losses(track)
        assert found.total == pytest.approx(
            found.terms["surrounding"] + weight * found.terms["regression"]
        )
    found = losses("nyu", regression_weight="7")
    assert found.total == pytest.approx(found.terms["surrounding"] + 7 * found.terms["regression"])


def test_presets_differ_in_the_depth_term_and_alpha_scales_the_plane() -> None:
    """L1 of 2 is 2; the paper's smooth L1 (tau = 3) of 2 is 2**2 / (2 * 3)."""
    plane = float(losses("nyu", alpha="0").terms["regression"])
    assert plane == pytest.approx(2.0)  # the depth alone
    paper = float(losses("nyu", alpha="0", preset="paper").terms["regression"])
    assert paper == pytest.approx(4 / 6)
    half, whole = (float(losses("nyu", alpha=a).terms["regression"]) - 2 for a in ("0.5", "1"))
    assert whole == pytest.approx(2 * half)
    assert half > 1


@pytest.mark.parametrize(("kind", "last"), [("constant", 1e-3), ("step", 2e-4), ("cosine", 0.0)])
def test_the_schedule_is_the_configs(kind: str, last: float) -> None:
    config = override(tiny.config(), "optim.schedule", kind)
    config = override(config, "optim.decay_every_epochs", "1")
    schedule = assembly.schedule_of(assembly.with_preset(config).optim, 6, 3)
    assert float(schedule(1)) == pytest.approx(5e-4)  # half-way through the warm-up
    assert float(schedule(2)) == pytest.approx(1e-3)
    assert float(schedule(6)) == pytest.approx(last)


@pytest.mark.parametrize(
    ("track", "preset", "expected", "alpha"),
    [
        ("nyu", "official", (35, 10, 0.2), 0.5),
        ("icvl", "official", (35, 10, 0.2), 0.5),
        ("hands2017", "official", (35, 10, 0.2), 0.5),
        ("itop_front", "official", (27, 10, 0.2), 1.0),
        ("itop_top", "official", (27, 10, 0.2), 1.0),
        ("k2hpd", "official", (27, 10, 0.2), 0.5),
        ("nyu", "paper", (34, 10, 0.1), 0.5),
        ("icvl", "paper", (17, 7, 0.1), 0.5),
        ("hands2017", "paper", (17, 7, 0.1), 0.5),
        ("itop_front", "paper", (26, 10, 0.1), 0.5),
        ("itop_top", "paper", (26, 10, 0.1), 0.5),
        ("k2hpd", "paper", (26, 10, 0.1), 0.5),
        ("synthetic_hand", "paper", (34, 10, 0.1), 0.5),
        ("synthetic_body_top", "paper", (26, 10, 0.1), 0.5),
    ],
)
def test_a_preset_fills_in_what_a_config_leaves_open(
    track: str, preset: str, expected: tuple[float, ...], alpha: float
) -> None:
    config = load_config({"synthetic_body_top": "synthetic_body"}.get(track, track))
    config = override(config, "track", track)
    config = override(override(config, "optim.preset", preset), "loss.preset", preset)
    resolved = assembly.with_preset(config)
    optim, loss = resolved.optim, resolved.loss
    assert (optim.epochs, optim.decay_every_epochs, optim.decay_factor) == expected
    assert (optim.learning_rate, optim.weight_decay) == (3.5e-4, 1e-4)
    for one in (config, resolved):
        keywords = assembly.objective_of(one, assembly.track_of(one)).keywords
        term = "smooth_l1" if preset == "paper" else "l1"
        assert keywords["depth_term"] == term
        assert (keywords["alpha"], keywords["regression_weight"]) == (alpha, 3.0)
    assert loss.alpha == alpha
    own = dataclasses.replace(config, optim=dataclasses.replace(config.optim, decay_factor=0.5))
    assert assembly.with_preset(own).optim.decay_factor == 0.5


def test_crops_are_normalised_as_published_or_as_computed(tiny_data: Path) -> None:
    published = tiny.config(tiny_data)
    assert assembly.with_statistics(published) == published
    config = assembly.with_statistics(override(published, "data.normalization", "computed"))
    found = pipeline.metadata(tiny_data, assembly.track_of(published))["statistics"]
    track = assembly.track_of(config)
    assert (track.mean, track.std) == (found["mean"], found["std"])
    assert (track.mean, track.std) != (-2.62, 27.02)
    assert track.mean == pytest.approx(-2.62, abs=3)  # 64 hands against 3,000
    assert track.std == pytest.approx(27.02, abs=5)
    # What a checkpoint carries is enough: no data set is asked again.
    away = override(config, "data.dir", "gone")
    assert assembly.with_statistics(away) == away


def test_the_camera_frames_were_rendered_for_goes_with_the_config(
    tiny_data: Path, tmp_path: Path
) -> None:
    from tfds_builders.build import build

    assert assembly.with_camera(tiny.config(tiny_data)) == tiny.config(tiny_data)
    camera = Camera(300.0, 301.0, 160.0, 120.0)
    build(
        "synthetic_hand", tmp_path, crop_size=tiny.SIZE, train=2, validation=0, test=0,
        camera=camera, frame_size=(320, 240),
    )  # fmt: skip
    config = assembly.with_camera(tiny.config(tmp_path))
    away = override(from_json(to_json(config)), "data.dir", "gone")  # as a checkpoint carries it
    track = assembly.track_of(assembly.with_camera(away))
    assert (track.camera, track.frame_size) == (camera, (320, 240))


def test_a_data_set_without_statistics_is_named(tmp_path: Path) -> None:
    from tfds_builders.build import build

    build("synthetic_hand", tmp_path, crop_size=tiny.SIZE, train=0, validation=0, test=2)
    config = override(tiny.config(tmp_path), "data.normalization", "computed")
    with pytest.raises(UserError, match=r"no usable statistics.*data\.normalization=published"):
        assembly.with_statistics(config)
