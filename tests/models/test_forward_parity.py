"""The network against recorded outputs of the official PyTorch program."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from a2j_jax.models.a2j import A2J
from a2j_jax.models.anchors import STRIDE, aggregate, anchor_grid
from a2j_jax.models.resnet import ResNet
from a2j_jax.weights.convert import variables_from_official
from tests import recipe

NAMES = {3: "state_dict_hand_k14.json", 2: "state_dict_body2d_k19.json"}


def to_width_major(rows_first: np.ndarray, height: int, width: int) -> np.ndarray:
    """Our anchor order (cells row by row) -> the official one (cells column by column)."""
    batch, _, *rest = rows_first.shape
    cells = rows_first.reshape(batch, height // STRIDE, width // STRIDE, 16, *rest)
    return cells.swapaxes(1, 2).reshape(rows_first.shape)


def relative_norm(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dims"), [("hand", 3), ("body", 3), ("body2d", 2)])
def test_forward_equals_the_official_program(parity: Path, name: str, dims: int) -> None:
    golden = np.load(parity / f"forward_{name}.npz")
    joints, height, width = (int(golden[key]) for key in ("K", "H", "W"))
    model = A2J(joints, dims)
    images = recipe.images(int(golden["B"]), height, width)
    expected = jax.eval_shape(model.init, jax.random.key(0), images)
    tensors = recipe.state_dict(parity / NAMES[dims], joints)
    variables = variables_from_official(tensors, expected)

    trunk = {group: tree["trunk"] for group, tree in variables.items()}

    @jax.jit
    def computed(variables: Any, trunk: Any) -> tuple[Any, Any]:
        return model.apply(variables, images), ResNet().apply(trunk, images, train=False)

    heads, features = computed(variables, trunk)
    prediction = aggregate(heads, anchor_grid(height, width))

    ours = np.asarray(prediction.joints)[..., [1, 0, 2][:dims]]  # (row, column, depth)
    np.testing.assert_allclose(ours, golden["joints"], atol=0.01)

    def official(x: jax.Array) -> np.ndarray:
        return to_width_major(np.asarray(x), height, width)

    assert relative_norm(official(heads.proposal), golden["proposal"]) < 1e-5
    assert relative_norm(official(heads.offset)[..., ::-1], golden["offset"]) < 1e-5
    if dims == 3:
        assert relative_norm(official(heads.depth), golden["depth"]) < 1e-5
    else:
        assert heads.depth is None

    assert relative_norm(features.common.mean((1, 2)), golden["common_mean"]) < 1e-5
    assert relative_norm(features.regression.mean((1, 2)), golden["regression_mean"]) < 1e-5
