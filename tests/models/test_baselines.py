"""Global regression and the FCN of Table 8, and what is read off their answers: small worked examples."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.models.a2j import GlobalRegression, HeatMapFCN, PoseNetwork
from a2j_jax.models.anchors import Heads, HeatMaps, PoseVector, decode, peaks
from a2j_jax.models.layers import Deconv
from tests import tiny

WIDTH = 8


def answer(model: PoseNetwork, size: int) -> Any:
    """Shapes and dtypes of what two crops are answered with."""
    images = jax.ShapeDtypeStruct((2, size, size, 1), np.float32)
    return jax.eval_shape(model.apply, tiny.shapes(model, size), images)


@pytest.mark.parametrize("dims", [2, 3])
def test_global_regression_answers_a_vector(dims: int) -> None:
    model = GlobalRegression(5, dims, "resnet18", width=WIDTH)
    found = answer(model, 32)
    assert isinstance(found, PoseVector)
    assert found.joints.shape == (2, 5, dims)
    assert found.joints.dtype == jnp.float32


def test_an_untrained_vector_is_the_middle_of_the_crop() -> None:
    """In units of the crop's side from its middle: zero is the middle, one is a side."""
    model = GlobalRegression(2, 3, "resnet18", width=WIDTH)
    variables = tiny.made_up(tiny.shapes(model, 32))
    layer = variables["params"]["output"]
    layer["kernel"][:] = 0
    layer["bias"][:] = [0, 0, 0, 0.25, -0.5, 1]
    found = model.apply(variables, np.ones((1, 32, 32, 1), np.float32)).joints
    np.testing.assert_allclose(found, [[[16, 16, 0], [24, 0, 32]]])


@pytest.mark.parametrize(("size", "side"), [(32, 8), (48, 16), (64, 16)])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_fcn_answers_maps_of_a_quarter_of_the_crop(size: int, side: int, dims: int) -> None:
    """Three halvings of a side that 32 does not divide are rounded up: the maps then reach over the crop."""
    model = HeatMapFCN(5, dims, "resnet18", width=WIDTH, deconv_features=8)
    found = answer(model, size)
    assert isinstance(found, HeatMaps)
    assert found.maps.shape == (2, side, side, 5)
    assert (found.depth is None) == (dims == 2)


def test_a_deconvolution_puts_its_kernel_around_every_pixel() -> None:
    """Pixel 1 of a row of 3, weight 1..4: at stride 2 and padding 1 it lands on pixels 1 to 4 of 6."""
    x = np.zeros((1, 3, 3, 1), np.float32)
    x[0, 1, 1, 0] = 1.0
    row = np.arange(1.0, 5.0, dtype=np.float32)
    kernel = (row[:, None] * row)[:, :, None, None]
    found = Deconv(1).apply({"params": {"kernel": kernel}}, x)[0, :, :, 0]
    wanted = np.zeros((6, 6))
    wanted[1:5, 1:5] = row[:, None] * row
    np.testing.assert_allclose(found, wanted)


def maps(height: int = 4, width: int = 5, **pixels: float) -> np.ndarray:
    """One map, zero but for pixels named r<row>c<column>."""
    values = np.zeros((1, height, width, 1), np.float32)
    for name, value in pixels.items():
        values[0, int(name[1]), int(name[3]), 0] = value
    return values


@pytest.mark.parametrize(
    ("pixels", "uv"),
    [
        ({"r2c2": 1.0}, (8, 8)),  # equal neighbors: the pixel itself, 4 px of the crop each
        ({"r2c2": 1.0, "r2c3": 0.5}, (9, 8)),  # a quarter of 4 px to the right
        ({"r2c2": 1.0, "r2c1": 0.2, "r2c3": 0.1}, (7, 8)),
        ({"r2c2": 1.0, "r1c2": 0.9}, (8, 7)),
        ({"r2c2": 1.0, "r3c2": 0.1, "r2c3": 0.1}, (9, 9)),
        ({"r0c4": 1.0, "r1c4": 0.9, "r0c3": 0.9}, (16, 0)),  # on the border: no moving
    ],
)
def test_the_peak_moves_a_quarter_of_a_pixel_to_the_higher_neighbour(
    pixels: dict[str, float], uv: tuple[float, float]
) -> None:
    joints, height = peaks(HeatMaps(jnp.asarray(maps(**pixels)), None))
    np.testing.assert_allclose(joints, [[uv]])
    np.testing.assert_allclose(height, [[1.0]])


def test_depth_is_read_at_the_peak() -> None:
    depth = jnp.arange(20.0).reshape(1, 4, 5, 1)
    joints, _ = peaks(HeatMaps(jnp.asarray(maps(r1c3=0.7)), depth))
    np.testing.assert_allclose(joints, [[[12, 4, 8]]])


def test_every_joint_has_its_own_peak() -> None:
    both = np.concatenate([maps(r0c0=0.3), maps(r3c4=0.6)], axis=-1)
    joints, height = peaks(HeatMaps(jnp.asarray(both), None))
    np.testing.assert_allclose(joints, [[[0, 0], [16, 12]]])
    np.testing.assert_allclose(height, [[0.3, 0.6]])


def test_decoding_is_by_what_was_answered() -> None:
    vector = decode(PoseVector(jnp.ones((1, 2, 3))), 32)
    np.testing.assert_array_equal(vector.joints, np.ones((1, 2, 3)))
    np.testing.assert_array_equal(vector.confidence, np.ones((1, 2)))
    peak = decode(HeatMaps(jnp.asarray(maps(r2c2=1.5)), None), 32)
    np.testing.assert_allclose(peak.joints, [[[8, 8]]])
    np.testing.assert_allclose(
        peak.confidence, [[1.0]]
    )  # a height over one is no more than certain
    anchors = (1, 64, 2)
    votes = decode(Heads(jnp.zeros(anchors), jnp.zeros((*anchors, 2)), None), 32)
    np.testing.assert_allclose(votes.joints, [[[16, 16], [16, 16]]], rtol=1e-6)
    assert float(votes.confidence.max()) < 0.5


def test_without_proposals_every_anchor_weighs_alike() -> None:
    rng = np.random.default_rng(0)
    offset, depth = rng.normal(size=(1, 64, 2, 2)), rng.normal(size=(1, 64, 2))
    found = decode(Heads(None, jnp.asarray(offset), jnp.asarray(depth)), 32).joints
    np.testing.assert_allclose(found[..., :2], 16 + offset.mean(1), atol=1e-5)
    np.testing.assert_allclose(found[..., 2], depth.mean(1), atol=1e-5)
