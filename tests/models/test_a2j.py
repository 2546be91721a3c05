"""The network, and its trunks."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.models.a2j import A2J, PoseNetwork, init_variables
from a2j_jax.models.resnet import ResNet
from tests import tiny


def small(**changes: object) -> A2J:
    settings = {"backbone": "resnet18", "width": 8, "head_features": 16, "head_depth": 2}
    return A2J(num_joints=5, **{**settings, **changes})


def shapes_of(model: PoseNetwork, height: int = 32, width: int = 32) -> Any:
    """Shapes and dtypes of the outputs for two crops."""
    images = jax.ShapeDtypeStruct((2, height, width, 1), np.float32)
    return jax.eval_shape(model.apply, tiny.shapes(model), images)


@pytest.mark.parametrize(("height", "width", "dims"), [(32, 64, 3), (48, 16, 3), (32, 32, 2)])
def test_any_crop_of_whole_cells(height: int, width: int, dims: int) -> None:
    model, anchors = small(joint_dims=dims), height // 4 * width // 4
    heads = shapes_of(model, height, width)
    assert heads.proposal.shape == (2, anchors, 5)
    assert heads.offset.shape == (2, anchors, 5, 2)
    assert dims == 2 or heads.depth.shape == (2, anchors, 5)
    assert (heads.depth is None) == ("depth_head" not in tiny.shapes(model)["params"])
    assert (heads.depth is None) == (dims == 2)


@pytest.mark.parametrize("shape", [(1, 40, 32, 1), (1, 32, 32, 3), (32, 32, 1)])
def test_wrong_images_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images"):
        small().init(jax.random.key(0), jnp.ones(shape))


@pytest.mark.parametrize(
    ("backbone", "parameters", "expansion"),
    [("resnet18", 11_689_512, 1), ("resnet34", 21_797_672, 1), ("resnet50", 25_557_032, 4)],
)
def test_trunks_have_torchvisions_parameters(
    backbone: str, parameters: int, expansion: int
) -> None:
    """Its published counts, without the classifier."""
    images = jax.ShapeDtypeStruct((1, 64, 96, 1), np.float32)
    run = partial(ResNet(backbone).init_with_output, train=False)
    features, shapes = jax.eval_shape(run, jax.random.key(0), images)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert count == parameters - (512 * expansion + 1) * 1000
    assert features.common.shape == (1, 4, 6, 256 * expansion)
    assert features.regression.shape == (1, 4, 6, 512 * expansion)


@pytest.mark.slow
def test_initialisation_follows_the_official_code() -> None:
    model = A2J(14, backbone="resnet18", width=16, head_features=64, head_depth=2)
    variables = init_variables(model, jax.random.key(0), 32, 32)
    trunk, head = variables["params"]["trunk"], variables["params"]["offset_head"]
    kernel = np.asarray(trunk["layer3_1"]["conv2"]["kernel"])  # Kaiming normal, fan-out
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.02)
    kernel = np.asarray(head["conv2"]["kernel"])  # Xavier normal
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 128)), rel=0.02)
    bound = 1 / np.sqrt(9 * 128)  # PyTorch's default bias of a convolution
    bias = np.asarray(head["conv1"]["bias"])
    assert 0.8 * bound < np.abs(bias).max() <= bound
    np.testing.assert_array_equal(head["bn1"]["scale"], 1)
    np.testing.assert_array_equal(head["bn1"]["bias"], 0)


def test_bfloat16_computes_close_to_float32_on_float32_weights() -> None:
    model, half = small(), small(dtype=jnp.bfloat16)
    shapes = tiny.shapes(half)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {np.dtype("float32")}
    variables = tiny.made_up(shapes)
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 1))
    full, rough = (jax.jit(m.apply)(variables, images).offset for m in (model, half))
    assert rough.dtype == jnp.float32
    assert 0 < float(jnp.abs(full - rough).max()) < 0.1 * float(jnp.abs(full).max())
