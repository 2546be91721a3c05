"""Anchors, and the decoding of their votes: small worked examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.models.anchors import (
    Heads,
    aggregate,
    anchor_grid,
    confidence,
    decode,
)


def test_grid_has_stride_four_from_two() -> None:
    grid = anchor_grid(32, 48)
    assert grid.shape == (8 * 12, 2)
    assert sorted(set(grid[:, 0])) == list(range(2, 48, 4))
    assert sorted(set(grid[:, 1])) == list(range(2, 32, 4))
    assert len({tuple(point) for point in grid}) == len(grid)
    # Cells row by row, anchors of a cell row by row: u is what changes first.
    np.testing.assert_array_equal(grid[:5], [[2, 2], [6, 2], [10, 2], [14, 2], [2, 6]])
    np.testing.assert_array_equal(grid[16], [18, 2])


@pytest.mark.parametrize("size", [(40, 32), (32, 0)])
def test_grid_refuses_sides_that_are_not_whole_cells(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="divisible by 16"):
        anchor_grid(*size)


def heads_of(rng: np.random.Generator, anchors: int, joints: int = 3) -> Heads:
    return Heads(
        proposal=jnp.asarray(rng.normal(size=(2, anchors, joints))),
        offset=jnp.asarray(rng.normal(size=(2, anchors, joints, 2))),
        depth=jnp.asarray(rng.normal(size=(2, anchors, joints))),
    )


def test_aggregate_is_the_weighted_mean_of_the_votes() -> None:
    grid = anchor_grid(16, 32)
    heads = heads_of(np.random.default_rng(0), len(grid))
    prediction = aggregate(heads, grid)
    for b in range(2):
        for j in range(3):
            weight = np.exp(np.asarray(heads.proposal[b, :, j], np.float64))
            weight /= weight.sum()
            votes = grid + np.asarray(heads.offset[b, :, j])
            uv = weight @ votes
            depth = weight @ np.asarray(heads.depth[b, :, j])
            spread = np.sqrt(weight @ np.sum((votes - uv) ** 2, axis=1))
            np.testing.assert_allclose(prediction.joints[b, j], [*uv, depth], rtol=1e-5)
            np.testing.assert_allclose(prediction.spread[b, j], spread, rtol=1e-5)
    np.testing.assert_allclose(prediction.weights.sum(1), 1, rtol=1e-5)


def test_unanimous_anchors_are_certain() -> None:
    grid = anchor_grid(32, 32)
    joint = np.array([11.0, 20.0])
    heads = Heads(
        proposal=jnp.zeros((1, len(grid), 1)),
        offset=jnp.asarray(joint - grid)[None, :, None, :],
        depth=None,
    )
    prediction = aggregate(heads, grid)
    np.testing.assert_allclose(prediction.joints[0, 0], joint, atol=1e-4)
    assert float(prediction.spread[0, 0]) < 1e-3
    assert float(confidence(prediction.spread)[0, 0]) > 0.999
    assert confidence(np.float32(4.0)) == pytest.approx(0.5)


def test_aggregation_of_bfloat16_heads_runs_in_float32() -> None:
    grid = anchor_grid(16, 16)
    heads = jax.tree.map(
        lambda x: x.astype(jnp.bfloat16), heads_of(np.random.default_rng(1), len(grid))
    )
    assert aggregate(heads, grid).joints.dtype == jnp.float32


def test_without_proposals_every_anchor_weighs_alike() -> None:
    heads = heads_of(np.random.default_rng(0), 64)._replace(proposal=None)
    found = decode(heads, 32).joints
    np.testing.assert_allclose(found[..., :2], 16 + heads.offset.mean(1), atol=1e-5)
    np.testing.assert_allclose(found[..., 2], heads.depth.mean(1), atol=1e-5)


def test_votes_far_apart_are_not_certain() -> None:
    anchors = (1, 64, 2)
    votes = decode(Heads(jnp.zeros(anchors), jnp.zeros((*anchors, 2)), None), 32)
    np.testing.assert_allclose(votes.joints, [[[16, 16], [16, 16]]], rtol=1e-6)
    assert float(votes.confidence.max()) < 0.5
