"""Random variables have the right shapes and laws; rotations turn the right way and are uniform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.synthetic import sampling
from a2j_jax.synthetic.sampling import draw


def test_laws():
    (u, _), (b, c) = draw(jax.random.key(1), uniform=[(20000,), ()], bell=[(20000,), (1, 5)])
    assert c.shape == (1, 5)
    assert draw(jax.random.key(0), uniform=[(3,)])[1] == []
    u, b = np.asarray(u), np.asarray(b)
    assert 0 <= u.min() < u.max() < 1
    assert abs(u.mean() - 0.5) < 0.01
    assert -2 <= b.min() < -1.9
    assert 1.9 < b.max() <= 2
    assert abs(b.mean()) < 0.02
    assert abs(b.std() - 0.88) < 0.01
    assert abs(np.mean(np.abs(b) < 1) - 0.6827 / 0.9545) < 0.01
    assert abs(np.corrcoef(u, b)[0, 1]) < 0.03


@pytest.mark.parametrize(("axis", "start", "end"), [("x", 1, 2), ("y", 2, 0), ("z", 0, 1)])
def test_a_quarter_turn_takes_one_axis_to_the_next(axis, start, end):
    turn = np.asarray(sampling.rotation(axis, jnp.array([jnp.pi / 2, 0.0])))
    np.testing.assert_allclose(turn[0] @ np.eye(3)[start], np.eye(3)[end], atol=1e-6)
    np.testing.assert_allclose(turn[1], np.eye(3), atol=1e-6)


def test_gaussian_quaternions_make_uniform_rotations():
    quaternions = jax.random.normal(jax.random.key(1), (4000, 4))
    turns = jax.jit(jax.vmap(sampling.rotation_from_quaternion))(quaternions)
    turns = np.asarray(turns)
    np.testing.assert_allclose(turns @ turns.mT, np.broadcast_to(np.eye(3), turns.shape), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(turns), 1.0, atol=1e-5)
    # On SO(3) every entry has mean 0 and mean square 1/3, and the trace has mean 0.
    np.testing.assert_allclose(turns.mean(0), 0.0, atol=0.04)
    np.testing.assert_allclose((turns**2).mean(0), 1 / 3, atol=0.03)
