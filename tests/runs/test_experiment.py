"""Resolving a config: its values win, the track fills in the rest."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.config import override
from a2j_jax.config_files import load_config
from a2j_jax.errors import UserError
from a2j_jax.models.a2j import variable_shapes
from a2j_jax.models.anchors import Heads, anchor_grid
from a2j_jax.runs.experiment import resolve
from a2j_jax.tracks import get_track
from a2j_jax.training import assembly
from a2j_jax.training.run import schedule_of
from tests import tiny


def test_a_config_wins_over_its_track() -> None:
    official = get_track("itop_front")
    config = tiny.config(track="itop_front")
    assert resolve(override(config, "data.crop_size", "None")).track == official
    given = {"augment.scale_range": "0.9,1.1", "augment.noise_probability": "0"}
    track = resolve(tiny.changed(config, given)).track
    assert track.crop_size == tiny.SIZE
    assert track.augmentation == dataclasses.replace(
        official.augmentation, scale_range=(0.9, 1.1), noise_probability=0.0
    )


def test_a_center_is_shifted_where_there_is_one() -> None:
    shifted = {"augment.center_shift_mm": "12"}
    track = resolve(tiny.changed(tiny.config(track="synthetic_hand"), shifted)).track
    assert track.augmentation.center_shift_mm == 12.0
    with pytest.raises(UserError, match=r"augment\.center_shift_mm"):
        resolve(tiny.changed(tiny.config(track="itop_front"), shifted))


@pytest.mark.parametrize("track", ["synthetic_hand", "k2hpd"])
def test_the_network_has_the_tracks_joints_and_the_configs_size(track: str) -> None:
    config = override(tiny.config(track=track), "model.dtype", "bfloat16")
    experiment = resolve(config)
    track, model = experiment.track, experiment.model
    assert (model.num_joints, model.joint_dims) == (track.num_joints, track.joint_dims)
    assert (model.backbone, model.width) == ("resnet18", 8)
    assert (model.head_features, model.head_depth) == (8, 1)
    assert model.dtype == jnp.bfloat16
    expected = variable_shapes(model, track.crop_size)
    assert {leaf.dtype for leaf in jax.tree.leaves(expected)} == {np.dtype(np.float32)}
    assert ("depth_head" in expected["params"]) == (track.joint_dims == 3)


def losses(track: str, **changes: str) -> Any:
    """Of made-up heads that agree on a point 50 px from every joint, at 10 units' distance."""
    given = {f"loss.{key}": value for key, value in changes.items()}
    experiment = resolve(tiny.changed(tiny.config(track=track), given))
    track = experiment.track
    shape = (1, tiny.SIZE**2 // 16, track.num_joints)
    anchors = anchor_grid(tiny.SIZE, tiny.SIZE)
    offset = jnp.broadcast_to(-anchors[None, :, None], (*shape, 2))
    heads = Heads(jnp.zeros(shape), offset, jnp.zeros(shape))
    joints = jnp.broadcast_to(jnp.array([30.0, 40.0, 2.0]), (1, track.num_joints, 3))
    valid = jnp.ones(joints.shape[:2], bool)
    return experiment.objective(heads, {"joints": joints, "valid": valid}, count=valid.sum())


def test_the_objective_has_the_tracks_weight_unless_told() -> None:
    """Eq. (7): surrounding + lambda * regression; lambda is the track's."""
    for found, weight in (
        (losses("nyu"), 3),
        (losses("itop_front"), 3),
        (losses("nyu", regression_weight="7"), 7),
    ):
        surrounding, regression = found.terms["surrounding"], found.terms["regression"]
        assert found.total == pytest.approx(surrounding + weight * regression)


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
    given = {"optim.schedule": kind, "optim.decay_every_epochs": "1"}
    schedule = schedule_of(resolve(tiny.changed(tiny.config(), given)), 3)
    assert float(schedule(1)) == pytest.approx(5e-4)  # half-way through the warm-up
    assert float(schedule(2)) == pytest.approx(1e-3)
    assert float(schedule(6)) == pytest.approx(last)


@pytest.mark.parametrize(
    ("batch", "rates"),
    [
        (4, {0: 0, 1: 0.5e-3 / 6, 6: 0.5e-3, 40: 0.5e-3}),
        (8, {0: 0, 3: 0.5e-3, 6: 1e-3, 40: 1e-3}),
        (64, {0: 0, 3: 4e-3, 6: 8e-3, 40: 8e-3}),
    ],
)
def test_the_learning_rate_grows_with_the_batch_after_a_warm_up_in_epochs(
    batch: int, rates: dict[int, float]
) -> None:
    """1e-3 for batches of 8, and two epochs of three steps to get there."""
    given = {"optim.batch_size": f"{batch}", "optim.base_batch_size": "8"}
    given |= {"optim.warmup_steps": "0", "optim.warmup_epochs": "2"}
    schedule = schedule_of(resolve(tiny.changed(tiny.config(), given)), 3)
    for step, rate in rates.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-5), step


def test_a_warm_up_is_in_steps_or_in_epochs() -> None:
    config = tiny.changed(tiny.config(), {"optim.warmup_epochs": "2"})  # and two steps
    with pytest.raises(UserError, match=r"optim\.warmup_steps.*optim\.warmup_epochs"):
        schedule_of(resolve(config), 3)


@pytest.mark.parametrize(
    ("preset", "tracks", "expected", "alpha"),
    [
        ("official", ["nyu", "icvl", "hands2017"], (35, 10, 0.2), 0.5),
        ("official", ["itop_front", "itop_top"], (27, 10, 0.2), 1.0),
        ("official", ["k2hpd"], (27, 10, 0.2), 0.5),
        ("paper", ["nyu", "synthetic_hand"], (34, 10, 0.1), 0.5),
        ("paper", ["icvl", "hands2017"], (17, 7, 0.1), 0.5),
        ("paper", ["itop_front", "itop_top", "k2hpd", "synthetic_body_top"], (26, 10, 0.1), 0.5),
    ],
)
def test_a_preset_fills_in_what_a_config_leaves_open(
    preset: str, tracks: list[str], expected: tuple[float, ...], alpha: float
) -> None:
    for track in tracks:
        config = load_config({"synthetic_body_top": "synthetic_body"}.get(track, track))
        given = {"track": track, "optim.preset": preset, "loss.preset": preset}
        config = tiny.changed(config, given)
        optim, loss = resolve(config).config.optim, resolve(config).config.loss
        assert (optim.epochs, optim.decay_every_epochs, optim.decay_factor) == expected
        assert (optim.learning_rate, optim.weight_decay) == (3.5e-4, 1e-4)
        assert loss.alpha == alpha
        own = override(config, "optim.decay_factor", "0.5")
        assert resolve(own).config.optim.decay_factor == 0.5


def test_earlier_names_still_give_the_parts_of_an_experiment() -> None:
    config = tiny.config()
    experiment = resolve(config)
    track = assembly.track_of(config)
    model = assembly.model_of(config, track)
    assert (track, model) == (experiment.track, experiment.model)
    assert assembly.expected_variables(model, track) == tiny.shapes(model)
