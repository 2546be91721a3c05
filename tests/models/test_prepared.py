"""Prepared variables: the network's answers stay, whatever its backbone, paradigm and dtype."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from a2j_jax.baselines import GlobalRegression, HeatMapFCN
from a2j_jax.errors import UserError
from a2j_jax.lowering import lowering_for
from a2j_jax.models import layers
from a2j_jax.models.a2j import A2J, PoseNetwork
from a2j_jax.models.prepared import prepare_for_inference
from a2j_jax.models.resnet import ARCHITECTURES
from tests import tiny

SIZE, JOINTS = 64, 5
# Channels of the last stages are many enough for Winograd's convolution.
A2J_HEADS = {"head_features": 48, "head_depth": 2}
NETWORKS: dict[str, Any] = {
    "a2j": partial(A2J, **A2J_HEADS),
    "a2j without proposals": partial(A2J, proposals=False, **A2J_HEADS),
    "a2j in one branch": partial(A2J, one_branch=True, **A2J_HEADS),
    "regression": GlobalRegression,
    "heat maps": partial(HeatMapFCN, deconv_features=16),
}


def network(kind: str, backbone: str = "resnet18", dims: int = 3, **more: Any) -> PoseNetwork:
    found: PoseNetwork = NETWORKS[kind](JOINTS, dims, backbone, width=16, **more)
    return found


@cache
def calibrated(model: PoseNetwork) -> Any:
    """Made-up variables as well-behaved as a trained network's.

    Running statistics are those of its activations, and residual branches add little to what they are added to.
    """
    params = flatten_dict(tiny.made_up(tiny.shapes(model, SIZE))["params"])
    for path in params:
        if path[-1] == "scale" and path[-2] in ("bn2", "bn3") and path[0] == "trunk":
            params[path] = 0.3 * params[path]
        if path[:1] == ("output",):  # of heat maps, whose depth is some 20 units, not 200
            params[path] = 0.1 * params[path]
    variables = tiny.made_up(tiny.shapes(model, SIZE)) | {"params": unflatten_dict(params)}
    train = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))
    before, (_, after) = variables["batch_stats"], train(variables, images(8))
    keep = layers.BatchNorm.momentum
    statistics = jax.tree.map(
        lambda new, old: (new - keep * old) / (1 - keep), after["batch_stats"], before
    )
    return {**variables, "batch_stats": statistics}


def images(rows: int = 2, size: int = SIZE) -> jax.Array:
    return jax.random.normal(jax.random.key(3), (rows, size, size, 1))


@cache
def plain_answers(model: PoseNetwork) -> tuple[np.ndarray, np.ndarray]:
    """By calibrated variables, as they are."""
    return answers(model, calibrated(model))


def answers(model: PoseNetwork, variables: Any) -> tuple[np.ndarray, np.ndarray]:
    found = model.decode(jax.jit(partial(model.apply, train=False))(variables, images()), SIZE)
    return np.asarray(found.joints), np.asarray(found.confidence)


@pytest.mark.parametrize(
    ("kind", "backbone", "dims"),
    [("a2j", "resnet18", 3)]
    + [pytest.param(kind, "resnet18", 3, marks=pytest.mark.slow) for kind in NETWORKS if kind != "a2j"]
    + [pytest.param("a2j", name, 2, marks=pytest.mark.slow) for name in ARCHITECTURES if name != "resnet18"],
)  # fmt: skip
@pytest.mark.parametrize("batch_size", [1, 8])
def test_joints_stay_to_a_ten_thousandth_of_a_pixel(
    kind: str, backbone: str, dims: int, batch_size: int
) -> None:
    model = network(kind, backbone, dims)
    variables = calibrated(model)
    prepared = prepare_for_inference(model, variables, SIZE, batch_size)
    names = {path[-1] for path in flatten_dict(prepared["params"])}
    assert "shift" in names
    assert "scale" not in names
    assert not jax.tree.leaves(prepared["batch_stats"])
    assert ("winograd" in names) == (jax.default_backend() == "cpu")
    plain, quick = plain_answers(model), answers(model, prepared)
    # Beyond 100 px (or network units of depth), float32 itself is not nearer.
    np.testing.assert_allclose(quick[0], plain[0], rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(plain[1], quick[1], atol=1e-4)


@pytest.mark.slow
def test_in_bfloat16_they_are_as_near_to_float32_as_before() -> None:
    model = network("a2j")
    variables = calibrated(model)
    exact = plain_answers(model)[0]
    half = model.clone(dtype=jnp.bfloat16)
    prepared = prepare_for_inference(half, variables, SIZE)
    assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(prepared["params"]) if x.size)
    assert "winograd" not in {path[-1] for path in flatten_dict(prepared["params"])}
    plain, quick = answers(half, variables)[0], answers(half, prepared)[0]
    assert np.abs(quick - exact).mean() < 1.5 * np.abs(plain - exact).mean()


def test_elsewhere_kernels_stay_kernels() -> None:
    """What is prepared for a GPU has batch norm folded, and its library's convolutions."""
    model = network("a2j")
    variables = calibrated(model)
    with lowering_for("gpu"):
        prepared = prepare_for_inference(model, variables, SIZE)
        names = {path[-1] for path in flatten_dict(prepared["params"])}
    assert names == {"kernel", "shift", "folded"}
    np.testing.assert_allclose(answers(model, prepared)[0], plain_answers(model)[0], atol=1e-4)


class Own(PoseNetwork):
    """The package's trunk, and a convolution whose result goes two ways: to a batch norm and beside it."""

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        x = self.features(images, train).regression
        y = layers.Conv(JOINTS * 3, 3, name="conv")(x)
        y = layers.BatchNorm(name="bn")(y, train) + y
        return y.mean((1, 2)).reshape(-1, JOINTS, 3)

    def decode(self, outputs: jax.Array, crop_size: int) -> Any:
        return outputs, jnp.ones(outputs.shape[:2])


def test_of_a_network_of_ones_own_the_trunk_alone_is_rewritten() -> None:
    model = Own(JOINTS, 3, "resnet18", width=16)
    variables = tiny.made_up(tiny.shapes(model, SIZE))
    prepared = prepare_for_inference(model, variables, SIZE)
    for name in ("conv", "bn"):
        assert prepared["params"][name].keys() == variables["params"][name].keys()
    assert "scale" not in prepared["params"]["trunk"]["bn1"]
    found, wanted = (
        jax.jit(partial(model.apply, train=False))(each, images()) for each in (prepared, variables)
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


class Penalized(Own):
    """Reads variables of its trunk itself."""

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        x = self.features(images, train).regression
        penalty = jnp.sum(self.variables["params"]["trunk"]["conv1"]["kernel"] ** 2)
        return x.mean((1, 2))[:, : JOINTS * 3].reshape(-1, JOINTS, 3) + penalty


def test_variables_that_a_network_reads_itself_stay() -> None:
    model = Penalized(JOINTS, 3, "resnet18", width=16)
    variables = tiny.made_up(tiny.shapes(model, SIZE))
    prepared = prepare_for_inference(model, variables, SIZE)
    trunk = prepared["params"]["trunk"]
    assert "kernel" in trunk["conv1"]
    assert "shift" not in trunk["conv1"]
    assert "shift" in trunk["layer1_0"]["conv1"]
    found, wanted = (
        jax.jit(partial(model.apply, train=False))(each, images()) for each in (prepared, variables)
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_variables_of_another_network_are_refused() -> None:
    model, other = network("a2j"), network("a2j", "resnet50")
    with pytest.raises(UserError, match="do not fit A2J"):
        prepare_for_inference(other, tiny.made_up(tiny.shapes(model, SIZE)), SIZE)
