"""The baselines of Table 8: their networks, decoding and losses, by small worked examples."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.baselines import (
    GlobalRegression,
    HeatMapFCN,
    HeatMaps,
    PoseVector,
    gaussian_maps,
    heat_map_losses,
    peaks,
    vector_losses,
)
from a2j_jax.losses import Losses
from a2j_jax.models.a2j import PoseNetwork
from tests import tiny


def answer(model: PoseNetwork, size: int) -> Any:
    """Shapes and dtypes of the outputs for two crops."""
    images = jax.ShapeDtypeStruct((2, size, size, 1), np.float32)
    return jax.eval_shape(model.apply, tiny.shapes(model), images)


def taught(outputs: HeatMaps, joints: jax.Array) -> Losses:
    """The losses of maps, for joints that are all labeled."""
    targets = {"joints": joints, "valid": jnp.ones(joints.shape[:2], bool)}
    return heat_map_losses(outputs, targets, count=joints.shape[1])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("size", "side"), [(32, 8), (48, 16), (64, 16)])
def test_outputs_of_the_baselines(dims: int, size: int, side: int) -> None:
    """Three halvings of a side that 32 does not divide are rounded up: the maps then reach over the crop."""
    found = answer(GlobalRegression(5, dims, "resnet18", width=8), size)
    assert isinstance(found, PoseVector)
    assert (found.joints.shape, found.joints.dtype) == ((2, 5, dims), jnp.float32)
    found = answer(HeatMapFCN(5, dims, "resnet18", width=8, deconv_features=8), size)
    assert isinstance(found, HeatMaps)
    assert found.maps.shape == (2, side, side, 5)
    assert (found.depth is None) == (dims == 2)


def test_an_untrained_vector_is_the_middle_of_the_crop() -> None:
    """In units of the crop's side from its middle: zero is the middle, one is a side."""
    model = GlobalRegression(2, 3, "resnet18", width=8)
    variables = tiny.made_up(tiny.shapes(model))
    layer = variables["params"]["output"]
    layer["kernel"][:] = 0
    layer["bias"][:] = [0, 0, 0, 0.25, -0.5, 1]
    found = jax.jit(model.apply)(variables, np.ones((1, 32, 32, 1), np.float32)).joints
    np.testing.assert_allclose(found, [[[16, 16, 0], [24, 0, 32]]])


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


def test_every_joint_has_its_own_peak_at_which_depth_is_read() -> None:
    both = jnp.asarray(np.concatenate([maps(r0c0=0.3), maps(r1c3=0.6)], axis=-1))
    depth = jnp.arange(40.0).reshape(1, 4, 5, 2)
    joints, height = peaks(HeatMaps(both, depth))
    np.testing.assert_allclose(joints, [[[0, 0, 0], [12, 4, 17]]])
    np.testing.assert_allclose(height, [[0.3, 0.6]])


def test_decoding() -> None:
    vector = GlobalRegression(2).decode(PoseVector(jnp.ones((1, 2, 3))), 32)
    np.testing.assert_array_equal(vector.joints, np.ones((1, 2, 3)))
    np.testing.assert_array_equal(vector.confidence, np.ones((1, 2)))
    peak = HeatMapFCN(1, 2).decode(HeatMaps(jnp.asarray(maps(r2c2=1.5)), None), 32)
    np.testing.assert_allclose(peak.joints, [[[8, 8]]])
    np.testing.assert_allclose(peak.confidence, [[1.0]])  # a height over one is certain


def test_a_vector_is_taught_loss_1_alone() -> None:
    """4 px right of and 0.5 px below the prediction, 2 mm nearer: as in the worked example of A2J."""
    joints = jnp.array([[[4.0, 0.5, 3.0]]])
    predicted = PoseVector(jnp.array([[[0.0, 0.0, 5.0]]]))
    targets = {"joints": joints, "valid": jnp.ones((1, 1), bool)}
    found = vector_losses(predicted, targets, count=1, alpha=0.5, depth_term="l1")
    assert float(found.total) == pytest.approx(0.5 * (3.5 + 0.125) / 2 + 2.0)
    assert set(found.terms) == {"regression"}


def test_target_maps_are_gaussians_of_height_one() -> None:
    """At (9, 14) px of the crop: pixel (2, 4), for 9 / 4 and 14 / 4 are rounded; sigma is two pixels."""
    target, on_map = gaussian_maps(jnp.array([[[9.0, 14.0]]]), 6, 8)
    assert target.shape == (1, 6, 8, 1)
    assert float(target[0, 4, 2, 0]) == 1.0
    assert float(target[0, 4, 4, 0]) == pytest.approx(np.exp(-0.5))
    assert float(target[0, 3, 3, 0]) == pytest.approx(np.exp(-0.25))
    assert bool(on_map.all())


def test_joints_off_the_map_have_none_to_learn() -> None:
    places = jnp.array([[[-3.0, 8.0], [8.0, 23.0], [31.0, 8.0], [8.0, 8.0]]])
    _, on_map = gaussian_maps(places, 6, 8)
    assert on_map.tolist() == [[False, False, False, True]]
    outputs = HeatMaps(jnp.ones((1, 6, 8, 4)), None)
    found = taught(outputs, places)
    alone = taught(HeatMaps(jnp.ones((1, 6, 8, 1)), None), places[:, 3:])
    # A mean over joints, as everywhere: the others count, and add nothing.
    assert float(found.total) == pytest.approx(float(alone.total) / 4)


def test_heat_maps_worked_example() -> None:
    """An empty map is half the sum of the squared Gaussian away; depth is asked for where the Gaussian is."""
    joints = jnp.array([[[8.0, 8.0, 5.0]]])
    target, _ = gaussian_maps(joints[..., :2], 6, 6)
    depth = jnp.where(target > 0.5, 5.0, 7.0)  # right near the joint, 2 off elsewhere
    found = taught(HeatMaps(jnp.zeros_like(target), depth), joints)
    bump = np.exp(-(np.subtract.outer(np.arange(6), np.array([2])) ** 2) / 8)
    bump = (bump * bump.T).astype(np.float32)
    heat = 0.5 * np.square(bump).sum()
    off = 2 * bump[bump <= 0.5].sum() / bump.sum()
    assert float(found.terms["heat"]) == pytest.approx(heat, rel=1e-5)
    assert float(found.terms["depth"]) == pytest.approx(off, rel=1e-5)
    assert float(found.total) == pytest.approx(heat + 0.1 * off, rel=1e-5)
    right = taught(HeatMaps(target, jnp.full_like(depth, 5.0)), joints)
    assert float(right.total) == 0.0
