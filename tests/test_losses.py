import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.losses import DEPTH_TERMS, a2j_losses, smooth_l1
from a2j_jax.models.anchors import Heads, anchor_grid


@pytest.mark.parametrize("tau", [1.0, 3.0])
def test_smooth_l1_is_equation_5(tau: float) -> None:
    x = np.array([-10, -tau, -0.5, 0, 0.25, tau, 7.0])
    wanted = [v * v / (2 * tau) if abs(v) < tau else abs(v) - tau / 2 for v in x]
    np.testing.assert_allclose(smooth_l1(jnp.asarray(x), tau), wanted, rtol=1e-6)


GRID = anchor_grid(16, 16)
MIDDLE = GRID.mean(0)  # of uniform weights: (8, 8)


def uniform_heads(joints: int, depth: float | None) -> Heads:
    shape = (1, len(GRID), joints)
    return Heads(
        proposal=jnp.zeros(shape),
        offset=jnp.zeros((*shape, 2)),
        depth=None if depth is None else jnp.full(shape, depth),
    )


def test_worked_example() -> None:
    # One joint 4 px right of and 0.5 px below the predicted one, 2 mm nearer.
    joints = jnp.array([[[MIDDLE[0] + 4, MIDDLE[1] + 0.5, 3.0]]])
    valid = jnp.ones((1, 1), bool)
    in_plane = (3.5 + 0.125) / 2
    for preset, depth in (("official", 2.0), ("paper", 4 / 6)):
        losses = a2j_losses(
            uniform_heads(1, 5.0),
            joints,
            valid,
            GRID,
            regression_weight=3.0,
            depth_term=DEPTH_TERMS[preset],
        )
        assert float(losses.surrounding) == pytest.approx(in_plane, rel=1e-5)
        assert float(losses.regression) == pytest.approx(0.5 * in_plane + depth, rel=1e-5)
        total = 3 * losses.regression + losses.surrounding
        assert float(losses.total) == pytest.approx(float(total), rel=1e-6)


def test_surrounding_loss_ignores_offsets() -> None:
    joints = jnp.full((1, 2, 3), 3.0)
    valid = jnp.ones((1, 2), bool)
    still = uniform_heads(2, 0.0)
    moved = still._replace(offset=still.offset + 1.0)
    a, b = (a2j_losses(h, joints, valid, GRID, regression_weight=1.0) for h in (still, moved))
    assert float(a.surrounding) == float(b.surrounding)
    assert float(a.regression) != float(b.regression)


def test_invalid_joints_do_not_count() -> None:
    joints = jnp.stack([jnp.full((1, 3), 2.0), jnp.full((1, 3), 1e6)], axis=1)
    masked = a2j_losses(
        uniform_heads(2, 0.0), joints, jnp.array([[True, False]]), GRID, regression_weight=3.0
    )
    alone = a2j_losses(
        uniform_heads(1, 0.0), joints[:, :1], jnp.ones((1, 1), bool), GRID, regression_weight=3.0
    )
    np.testing.assert_allclose(masked, alone, rtol=1e-6)
    none = a2j_losses(
        uniform_heads(2, 0.0), joints, jnp.zeros((1, 2), bool), GRID, regression_weight=3.0
    )
    assert float(none.total) == 0.0


def test_two_dimensional_mode_has_no_depth_term() -> None:
    joints = jnp.full((1, 1, 2), 3.0)
    losses = a2j_losses(
        uniform_heads(1, None), joints, jnp.ones((1, 1), bool), GRID, regression_weight=1.0
    )
    assert float(losses.regression) == pytest.approx(0.5 * float(losses.surrounding), rel=1e-6)
