"""The PyTorch network that ours is timed against computes what ours does, and what the official program did."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

from a2j_jax.losses import objective
from a2j_jax.models.a2j import A2J
from a2j_jax.runs.sharding import TrainState
from a2j_jax.tools.speed import Network, forward_of, measure, random_variables
from a2j_jax.tracks import TrackSpec, get_track, with_crop_size
from a2j_jax.training.step import adam_with_l2, make_train_step
from a2j_jax.weights.convert import variables_from_official
from tests import recipe, tiny
from tests.tools import plain_frames

torch = pytest.importorskip("torch", reason="needs the extra a2j-jax[torch]")
SIZE = 32


def small(backbone: str, joint_dims: int = 3, stem_channels: int = 3) -> A2J:
    return A2J(
        14,
        joint_dims,
        backbone,
        width=8,
        stem_channels=stem_channels,
        head_features=8,
        head_depth=2,
    )


def track_like(model: A2J, size: int = SIZE) -> TrackSpec:
    return with_crop_size(get_track("nyu" if model.joint_dims == 3 else "k2hpd"), size)


def both(model: A2J, variables: Any, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joints (B, K, D) in the order of ours: ours, PyTorch's."""
    from a2j_jax.tools.torch_reference import official_forward_of

    track = track_like(model, images.shape[1])
    ours = forward_of(model, variables, track, len(images))(images).joints
    theirs = official_forward_of(model, variables, track.crop_size)(images)
    return np.asarray(ours), theirs[..., [1, 0, 2][: model.joint_dims]]


@pytest.mark.parametrize(
    "model",
    [
        small("resnet18"),
        pytest.param(small("resnet34", joint_dims=2), marks=pytest.mark.slow),
        pytest.param(small("resnet50"), marks=pytest.mark.slow),
        small("resnet50", stem_channels=1),
    ],
    ids=["resnet18", "resnet34, in-plane", "resnet50", "one input channel"],
)
def test_joints_are_ours(model):
    variables = tiny.made_up(tiny.shapes(model, SIZE))
    for head, kernels in variables["params"].items():
        if head != "trunk":  # answers of the size that a trained network's have
            kernels["output"]["kernel"] *= 0.03 if head == "proposal_head" else 0.003
    images = np.random.default_rng(1).standard_normal((2, SIZE, SIZE, 1), np.float32)
    ours, theirs = both(model, variables, images)
    assert np.ptp(ours[..., :2], axis=1).min() > 0.3  # px: joints that lie apart
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-3)


def test_weights_nobody_trained_are_fit_for_it():
    model = small("resnet18")
    variables = random_variables(model, track_like(model))
    images = np.random.default_rng(1).standard_normal((1, SIZE, SIZE, 1), np.float32)
    ours, theirs = both(model, variables, images)
    assert np.isfinite(ours).all()
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("joint_dims", [3, 2])
def test_training_steps_are_ours(joint_dims):
    from a2j_jax.tools.torch_reference import official_step_of

    model = small("resnet18", joint_dims)
    variables = random_variables(model, track_like(model))
    rng = np.random.default_rng(3)
    images = rng.standard_normal((4, SIZE, SIZE, 1), np.float32)
    joints = rng.uniform(0, SIZE, (4, 14, joint_dims)).astype(np.float32)
    settings = {"learning_rate": 1e-3, "weight_decay": 1e-2}
    theirs = official_step_of(model, variables, SIZE, regression_weight=3.0, **settings)
    optimizer = adam_with_l2(*settings.values())
    loss = partial(objective, crop_size=SIZE, regression_weight=3.0)
    step = jax.jit(
        make_train_step(model, optimizer, lambda batch, _: (batch["images"], batch), loss)
    )
    state = TrainState.create(variables, optimizer)
    batch = {"images": images, "joints": joints, "valid": np.ones((4, 14), bool)}
    for _ in range(4):
        state, found = step(state, batch, jax.random.key(0))
        assert float(found["loss"]) == pytest.approx(theirs(images, joints), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("golden", "names", "joint_dims"),
    [
        ("forward_hand.npz", "state_dict_hand_k14.json", 3),
        ("forward_body2d.npz", "state_dict_body2d_k19.json", 2),
    ],
)
def test_joints_are_the_official_programs(parity, golden, names, joint_dims):
    from a2j_jax.tools.torch_reference import official_forward_of

    recorded = np.load(parity / golden)
    joints, height, width = (int(recorded[key]) for key in ("K", "H", "W"))
    assert height == width  # as crops are
    model = A2J(joints, joint_dims)
    variables = variables_from_official(
        recipe.state_dict(parity / names, joints), tiny.shapes(model)
    )
    images = recipe.images(int(recorded["B"]), height, width)
    found = official_forward_of(model, variables, height)(np.asarray(images))
    np.testing.assert_allclose(found, recorded["joints"], rtol=0, atol=0.01)


@pytest.mark.slow
def test_it_is_timed_beside_ours(tmp_path):
    from a2j_jax.tools.torch_reference import described, device_beside_jax, official_forward_of

    model = small("resnet18")
    track = track_like(model)
    files = plain_frames.write_frames(tmp_path, track, 2)
    network = Network("small", model, random_variables(model, track))
    (row,) = measure([network], track, (2,), 3, files, official_forward_of)["networks"]
    assert row["official"]["forward_ms"]["median"] > 0
    assert device_beside_jax() == "cpu"
    assert described("cpu").startswith(torch.__version__)
