from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.losses import (
    DEPTH_TERMS,
    Losses,
    Targets,
    a2j_losses,
    objective,
    smooth_l1,
    with_terms,
)
from a2j_jax.models.anchors import Heads, anchor_grid


@pytest.mark.parametrize("tau", [1.0, 3.0])
def test_smooth_l1_is_equation_5(tau: float) -> None:
    x = np.array([-10, -tau, -0.5, 0, 0.25, tau, 7.0])
    wanted = [v * v / (2 * tau) if abs(v) < tau else abs(v) - tau / 2 for v in x]
    np.testing.assert_allclose(smooth_l1(jnp.asarray(x), tau), wanted, rtol=1e-6)


GRID = anchor_grid(16, 16)
TWO_JOINTS = jnp.full((1, 2, 3), 3.0)
MIDDLE = GRID.mean(0)  # of uniform weights: (8, 8)


def uniform_heads(joints: int, depth: float | None) -> Heads:
    shape = (1, len(GRID), joints)
    return Heads(
        proposal=jnp.zeros(shape),
        offset=jnp.zeros((*shape, 2)),
        depth=None if depth is None else jnp.full(shape, depth),
    )


def losses(
    heads: Heads, joints: jax.Array, valid: jax.Array | None = None, **constants: Any
) -> Losses:
    """With lambda 3; all joints are labeled, unless `valid` says otherwise."""
    valid = jnp.ones(joints.shape[:2], bool) if valid is None else valid
    return a2j_losses(heads, joints, valid, GRID, regression_weight=3.0, **constants)


def test_worked_example() -> None:
    # One joint 4 px right of and 0.5 px below the predicted one, 2 mm nearer.
    joints = jnp.array([[[MIDDLE[0] + 4, MIDDLE[1] + 0.5, 3.0]]])
    in_plane = (3.5 + 0.125) / 2
    for preset, depth in (("official", 2.0), ("paper", 4 / 6)):
        found = losses(uniform_heads(1, 5.0), joints, depth_term=DEPTH_TERMS[preset])
        assert float(found.terms["surrounding"]) == pytest.approx(in_plane, rel=1e-5)
        assert float(found.terms["regression"]) == pytest.approx(0.5 * in_plane + depth, rel=1e-5)
        total = 3 * found.terms["regression"] + found.terms["surrounding"]
        assert float(found.total) == pytest.approx(float(total), rel=1e-6)


def test_surrounding_loss_ignores_offsets() -> None:
    still = uniform_heads(2, 0.0)
    moved = still._replace(offset=still.offset + 1.0)
    a, b = (losses(heads, TWO_JOINTS) for heads in (still, moved))
    assert float(a.terms["surrounding"]) == float(b.terms["surrounding"])
    assert float(a.terms["regression"]) != float(b.terms["regression"])


def test_invalid_joints_do_not_count() -> None:
    joints = jnp.stack([jnp.full((1, 3), 2.0), jnp.full((1, 3), 1e6)], axis=1)
    heads = uniform_heads(2, 0.0)
    masked = losses(heads, joints, jnp.array([[True, False]]))
    alone = losses(uniform_heads(1, 0.0), joints[:, :1])
    np.testing.assert_allclose(jax.tree.leaves(masked), jax.tree.leaves(alone), rtol=1e-6)
    assert float(losses(heads, joints, jnp.zeros((1, 2), bool)).total) == 0.0


def test_two_dimensional_mode_has_no_depth_term() -> None:
    found = losses(uniform_heads(1, None), jnp.full((1, 1, 2), 3.0)).terms
    half = 0.5 * float(found["surrounding"])
    assert float(found["regression"]) == pytest.approx(half, rel=1e-6)


def test_without_the_surrounding_loss_only_the_joints_are_learnt() -> None:
    both, one = (
        losses(uniform_heads(2, 0.0), TWO_JOINTS, surrounding=surrounding)
        for surrounding in (True, False)
    )
    assert set(one.terms) == {"regression"}
    assert float(one.total) == pytest.approx(3 * float(both.terms["regression"]))
    assert float(both.total) > float(one.total)


def test_equal_weights_have_no_surrounding_loss() -> None:
    """The mean of all anchors is where it is, whatever the network says."""
    uniform = uniform_heads(2, 0.0)
    weighted, alike = (losses(h, TWO_JOINTS) for h in (uniform, uniform._replace(proposal=None)))
    assert set(alike.terms) == {"regression"}
    assert float(alike.terms["regression"]) == pytest.approx(float(weighted.terms["regression"]))


def test_a_term_is_added_by_its_weight_and_logged() -> None:
    joints, valid, count = TWO_JOINTS, jnp.ones((1, 2), bool), jnp.array(2)
    plain = partial(objective, crop_size=16, regression_weight=3.0)
    seen = {}

    def offsets(outputs: Heads, targets: Targets, **about: jax.Array) -> jax.Array:
        seen.update(about, joints=targets["joints"])
        return jnp.square(outputs.offset - 1.0).mean()

    given = uniform_heads(2, 0.0), {"joints": joints, "valid": valid}
    before = plain(*given, count=count, step=7)
    after = with_terms(plain, offsets=(0.1, offsets))(*given, count=count, step=7)
    assert isinstance(after, Losses)
    assert after.terms == {**before.terms, "offsets": 1.0}
    assert float(after.total) == pytest.approx(float(before.total) + 0.1)
    assert seen == {"count": count, "step": 7, "joints": joints}
