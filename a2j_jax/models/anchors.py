"""Outputs of the networks and their decoding to joints: anchors (paper Sec. 3, Eqs. 1 and 2), vectors, heat maps."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, assert_never

import jax
import jax.numpy as jnp
import numpy as np

STRIDE = 16  # pixels per cell of the feature map
ANCHOR_POSITIONS = (2, 6, 10, 14)  # pixels from a cell's corner, both axes: a grid of stride 4
ANCHORS_PER_CELL = len(ANCHOR_POSITIONS) ** 2
ANCHOR_SPACING_PX = 4.0
MAP_STRIDE = 4  # px of the crop per px of a heat map


class Heads(NamedTuple):
    """Predictions of every anchor a for every joint j, float32 (A anchors, K joints).

    Attributes:
      proposal: (B, A, K) P_j(a), logit of the anchor's weight; None: equal weights.
      offset: (B, A, K, 2) O_j(a), (u, v) from the anchor to the joint, px of the crop.
      depth: (B, A, K) D_j(a), network units of the track; None in 2D mode.
    """

    proposal: jax.Array | None
    offset: jax.Array
    depth: jax.Array | None


class PoseVector(NamedTuple):
    """Outputs of global regression, float32.

    Attributes:
      joints: (B, K, 3) u px, v px of the crop, depth in network units; (B, K, 2) in 2D mode.
    """

    joints: jax.Array


class HeatMaps(NamedTuple):
    """Outputs of the FCN, float32; pixel (i, j) of a map lies at (4 j, 4 i) px of the crop.

    Attributes:
      maps: (B, h, w, K) scores of each position.
      depth: (B, h, w, K) depth of the joint at each position, network units; None in 2D mode.
    """

    maps: jax.Array
    depth: jax.Array | None


Outputs = Heads | PoseVector | HeatMaps


class Prediction(NamedTuple):
    """Joints in crop coordinates, and statistics of the anchors' votes.

    Attributes:
      joints: (B, K, 3) u px, v px, depth in network units; (B, K, 2) in 2D mode.
      spread: (B, K) weighted RMS distance of the in-plane votes to the joint, px.
      weights: (B, A, K) normalized anchor weights; the sum over anchors is 1.
    """

    joints: jax.Array
    spread: jax.Array
    weights: jax.Array


def anchor_grid(height: int, width: int) -> np.ndarray:
    """Anchor positions S(a) on a crop, in the order of `Heads`.

    Args:
      height, width: of the crop in pixels, divisible by 16; else a ValueError.

    Returns:
      (A, 2) float32, (u, v) in pixels of the crop, A = height / 4 * width / 4.
    """
    if height % STRIDE or width % STRIDE or height <= 0 or width <= 0:
        raise ValueError(f"a crop of {height}x{width} px: both sides must be divisible by {STRIDE}")
    rows, columns, inner_rows, inner_columns = np.meshgrid(
        np.arange(0, height, STRIDE),
        np.arange(0, width, STRIDE),
        ANCHOR_POSITIONS,
        ANCHOR_POSITIONS,
        indexing="ij",
    )
    uv = np.stack([columns + inner_columns, rows + inner_rows], axis=-1)
    return uv.reshape(-1, 2).astype(np.float32)


def at_least_float32(x: jax.Array) -> jax.Array:
    """Casts to float32 unless x is wider: for softmax, aggregation and losses."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def anchor_weights(heads: Heads) -> jax.Array:
    """P~_j(a), (B, A, K): softmax over anchors of P_j(a), Eq. (2); without proposals 1 / A (Table 7)."""
    if heads.proposal is None:
        shape = heads.offset.shape[:3]
        return jnp.full(shape, 1.0 / shape[1], at_least_float32(heads.offset).dtype)
    return jax.nn.softmax(at_least_float32(heads.proposal), axis=1)


def aggregate(heads: Heads, anchors: jax.Array | np.ndarray) -> Prediction:
    """Averages the anchors' votes, Eqs. (1) and (2).

    S_j = sum_a P~_j(a) (S(a) + O_j(a)),  D_j = sum_a P~_j(a) D_j(a),  P~ = softmax over anchors of P.

    Args:
      heads: predictions of all anchors.
      anchors: (A, 2) S(a), from `anchor_grid`.

    Returns:
      A `Prediction`; under jit, unused parts are not computed.
    """
    weights = anchor_weights(heads)
    votes = jnp.asarray(anchors)[None, :, None, :] + at_least_float32(heads.offset)
    uv = jnp.einsum("bak,bakc->bkc", weights, votes, precision="highest")
    squared_px = jnp.square(votes - uv[:, None]).sum(-1)
    spread = jnp.sqrt(jnp.einsum("bak,bak->bk", weights, squared_px, precision="highest"))
    if heads.depth is None:
        return Prediction(uv, spread, weights)
    depth = jnp.einsum("bak,bak->bk", weights, at_least_float32(heads.depth), precision="highest")
    return Prediction(jnp.concatenate([uv, depth[..., None]], axis=-1), spread, weights)


def confidence(spread_px: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """Spread of the votes (...,) px -> (0, 1]: 1 where all coincide, 1/2 at a spread of one anchor spacing."""
    return 1.0 / (1.0 + spread_px / ANCHOR_SPACING_PX)


def peaks(outputs: HeatMaps) -> tuple[jax.Array, jax.Array]:
    """The highest pixel of each map, moved a quarter of a pixel toward its higher neighbors.

    As published, except near the edge of a map, where the published program moves along neither axis and this one along
    each axis with two neighbors: a difference of at most 1 px of the crop.

    Returns:
      Joints (B, K, 3) in crop coordinates, u px, v px, depth in network units read at the highest pixel, or
      (B, K, 2) without depth; and (B, K) the height there.
    """
    maps = outputs.maps
    batch, height, width, joints = maps.shape
    flat = maps.reshape(batch, height * width, joints)
    best = flat.argmax(axis=1)  # (B, K)
    row, column = best // width, best % width

    def at(i: jax.Array, j: jax.Array) -> jax.Array:
        index = i.clip(0, height - 1) * width + j.clip(0, width - 1)
        return jnp.take_along_axis(flat, index[:, None], axis=1)[:, 0]

    # On the border there is no neighbor to compare with.
    across = jnp.sign(at(row, column + 1) - at(row, column - 1))
    down = jnp.sign(at(row + 1, column) - at(row - 1, column))
    across = jnp.where((column > 0) & (column < width - 1), across, 0.0)
    down = jnp.where((row > 0) & (row < height - 1), down, 0.0)
    uv = MAP_STRIDE * jnp.stack([column + 0.25 * across, row + 0.25 * down], axis=-1)
    score = at(row, column)
    if outputs.depth is None:
        return uv, score
    depth = outputs.depth.reshape(batch, height * width, joints)
    depth = jnp.take_along_axis(depth, best[:, None], axis=1)[:, 0]
    return jnp.concatenate([uv, depth[..., None]], axis=-1), score


class Estimate(NamedTuple):
    """Joints in crop coordinates, and their confidence."""

    joints: jax.Array  # (B, K, 3) u px, v px, depth in network units; (B, K, 2) in 2D mode
    confidence: jax.Array  # (B, K) in [0, 1]


def decode(outputs: Outputs, crop_size: int) -> Estimate:
    """Joints of a batch of square crops.

    Confidence is `confidence` of the anchors' spread (A2J), the height of the peak (heat maps), or 1 (vectors).

    Args:
      outputs: of the network.
      crop_size: side of the crops, px.
    """
    match outputs:
        case Heads():
            prediction = aggregate(outputs, anchor_grid(crop_size, crop_size))
            return Estimate(prediction.joints, jnp.asarray(confidence(prediction.spread)))
        case HeatMaps():
            joints, height = peaks(outputs)
            return Estimate(joints, height.clip(0.0, 1.0))
        case PoseVector(joints):
            return Estimate(joints, jnp.ones(joints.shape[:2], joints.dtype))
        case _:
            assert_never(outputs)


def jit_with_decoding(
    network: Callable[..., Any], crop_size: int, in_shardings: Any = None, out_shardings: Any = None
) -> Callable[..., Estimate]:
    """`decode(network(...), crop_size)`, jitted as two programs.

    As one program the network is slower on XLA's CPU backend (jaxlib 0.10.2, ResNet-50, one NYU crop: 219 ms instead of
    152 on two cores).

    Args:
      network: a function of arrays that returns a network's outputs.
      crop_size: side of the crops, px.
      in_shardings, out_shardings: of its arguments, and of its and `decode`'s results, as for `jax.jit`.
    """
    placed = {} if in_shardings is None else {"in_shardings": in_shardings}
    outputs = jax.jit(network, **placed, out_shardings=out_shardings)
    joints = jax.jit(partial(decode, crop_size=crop_size), out_shardings=out_shardings)
    return lambda *arguments: joints(outputs(*arguments))
