"""Resolving a config: its values win, the track fills in the rest."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.config import override
from a2j_jax.config_files import load_config
from a2j_jax.models.a2j import variable_shapes
from a2j_jax.models.anchors import Heads, anchor_grid
from a2j_jax.runs.experiment import resolve
from a2j_jax.tracks import get_track
from a2j_jax.training.run import schedule_of
from tests import tiny


def test_what_a_config_leaves_open_is_the_tracks() -> None:
    config = override(tiny.config(track="itop_front"), "data.crop_size", "None")
    assert resolve(config).track == get_track("itop_front")


def test_what_a_config_says_wins() -> None:
    config = tiny.config(track="itop_front")
    for key, value in {"scale_range": "0.9,1.1", "noise_probability": "0"}.items():
        config = override(config, f"augment.{key}", value)
    track = resolve(config).track
    assert track.crop_size == tiny.SIZE
    official = get_track("itop_front").augmentation
    assert track.augmentation == dataclasses.replace(
        official, scale_range=(0.9, 1.1), noise_probability=0.0
    )


@pytest.mark.parametrize("track", ["synthetic_hand", "k2hpd"])
def test_the_network_has_the_tracks_joints_and_the_configs_size(track: str) -> None:
    config = override(tiny.config(track=track), "model.dtype", "bfloat16")
    experiment = resolve(config)
    spec, model = experiment.track, experiment.model
    assert (model.num_joints, model.joint_dims) == (spec.num_joints, spec.joint_dims)
    assert (model.backbone, model.width, model.head_features, model.head_depth) == (
        "resnet18",
        8,
        8,
        1,
    )
    assert model.dtype == jnp.bfloat16
    expected = variable_shapes(model, spec.crop_size)
    assert {leaf.dtype for leaf in jax.tree.leaves(expected)} == {np.dtype(np.float32)}
    assert ("depth_head" in expected["params"]) == (spec.joint_dims == 3)


def losses(track: str, **changes: str) -> Any:
    """Of made-up heads that agree on a point 50 px from every joint, at 10 units' distance."""
    config = tiny.config(track=track)
    for key, value in changes.items():
        config = override(config, f"loss.{key}", value)
    experiment = resolve(config)
    spec = experiment.track
    shape = (1, tiny.SIZE**2 // 16, spec.num_joints)
    anchors = anchor_grid(tiny.SIZE, tiny.SIZE)
    offset = jnp.broadcast_to(-anchors[None, :, None], (*shape, 2))
    heads = Heads(jnp.zeros(shape), offset, jnp.zeros(shape))
    joints = jnp.broadcast_to(jnp.array([30.0, 40.0, 2.0]), (1, spec.num_joints, 3))
    return experiment.objective(heads, joints, jnp.ones(joints.shape[:2], bool))


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
    schedule = schedule_of(resolve(config).config, 3)
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
    resolved = resolve(config).config
    optim, loss = resolved.optim, resolved.loss
    assert (optim.epochs, optim.decay_every_epochs, optim.decay_factor) == expected
    assert (optim.learning_rate, optim.weight_decay) == (3.5e-4, 1e-4)
    assert loss.alpha == alpha
    own = dataclasses.replace(config, optim=dataclasses.replace(config.optim, decay_factor=0.5))
    assert resolve(own).config.optim.decay_factor == 0.5
