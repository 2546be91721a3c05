"""Anchors, and the decoding of every kind of output: small worked examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.models.anchors import (
    Heads,
    HeatMaps,
    PoseVector,
    aggregate,
    anchor_grid,
    confidence,
    decode,
    peaks,
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


def test_decoding_is_by_what_was_answered() -> None:
    vector = decode(PoseVector(jnp.ones((1, 2, 3))), 32)
    np.testing.assert_array_equal(vector.joints, np.ones((1, 2, 3)))
    np.testing.assert_array_equal(vector.confidence, np.ones((1, 2)))
    peak = decode(HeatMaps(jnp.asarray(maps(r2c2=1.5)), None), 32)
    np.testing.assert_allclose(peak.joints, [[[8, 8]]])
    np.testing.assert_allclose(peak.confidence, [[1.0]])  # a height over one is certain
    anchors = (1, 64, 2)
    votes = decode(Heads(jnp.zeros(anchors), jnp.zeros((*anchors, 2)), None), 32)
    np.testing.assert_allclose(votes.joints, [[[16, 16], [16, 16]]], rtol=1e-6)
    assert float(votes.confidence.max()) < 0.5
