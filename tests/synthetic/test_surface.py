"""Sets of cones are put together in order, and overlapping balls are counted once."""

import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.synthetic.render import along, join_cones, overlap, stack_cones


def test_rows_of_single_and_paired_cones_stack_in_order():
    points = jnp.arange(18.0).reshape(6, 3)
    pair = stack_cones((points[:2], points[2:4], jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])))
    single = stack_cones((points[4], points[5], jnp.array(5.0), jnp.array(6.0)))
    both = join_cones(pair, single)
    np.testing.assert_array_equal(both.ends_mm[:, 0], points[jnp.array([0, 1, 4])])
    np.testing.assert_array_equal(both.ends_mm[:, 1], points[jnp.array([2, 3, 5])])
    np.testing.assert_array_equal(both.radii_mm, [[1, 3], [2, 4], [5, 6]])
    np.testing.assert_array_equal(along(points[0], points[1], 1 / 3), points[0] + 1)


def test_overlap_begins_at_four_fifths_of_touching_and_counts_what_is_asked():
    centre = jnp.array([[0.0, 0, 0], [70, 0, 0], [500, 0, 0], [530, 0, 0]])
    radius, pairs = jnp.full(4, 50.0), np.triu(np.ones((4, 4), bool), 1)
    assert overlap(centre, radius, pairs) == pytest.approx(10.0**2 + 50.0**2, rel=1e-5)
    pairs[2, 3] = False
    assert overlap(centre, radius, pairs) == pytest.approx(10.0**2, rel=1e-5)
