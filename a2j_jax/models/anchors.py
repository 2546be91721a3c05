"""Anchors (paper Sec. 3): what the heads predict for each, and how they are averaged to joints, Eqs. (1) and (2)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from a2j_jax.lowering import options_for_inference

STRIDE = 16  # pixels per cell of the feature map
ANCHOR_POSITIONS = (2, 6, 10, 14)  # pixels from a cell's corner, both axes: a grid of stride 4
ANCHORS_PER_CELL = len(ANCHOR_POSITIONS) ** 2
ANCHOR_SPACING_PX = 4.0


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


def spread_px(confidence: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """The inverse of `confidence`: px of the crop."""
    return (1.0 / confidence - 1.0) * ANCHOR_SPACING_PX


class Estimate(NamedTuple):
    """Joints in crop coordinates, and their confidence."""

    joints: jax.Array  # (B, K, 3) u px, v px, depth in network units; (B, K, 2) in 2D mode
    confidence: jax.Array  # (B, K) in [0, 1]


def decode(heads: Heads, crop_size: int) -> Estimate:
    """Joints of a batch of square crops, with the `confidence` of the anchors' spread.

    Args:
      heads: of the network.
      crop_size: side of the crops, px.
    """
    prediction = aggregate(heads, anchor_grid(crop_size, crop_size))
    return Estimate(prediction.joints, jnp.asarray(confidence(prediction.spread)))


def jit_with_decoding(
    network: Callable[..., Any],
    decode: Callable[[Any], Estimate],
    in_shardings: Any = None,
    out_shardings: Any = None,
) -> tuple[Callable[..., Any], Callable[[Any], Estimate]]:
    """A network and the decoding of its outputs, jitted as two programs: `decode(network(...))`.

    Two programs, so that whoever wants the outputs alone shares the first; see `lowering.options_for_inference`.

    Args:
      network: a function of arrays that returns a network's outputs.
      decode: outputs -> joints.
      in_shardings, out_shardings: of the network's arguments, and of both results, as for `jax.jit`.
    """
    placed = {} if in_shardings is None else {"in_shardings": in_shardings}
    options = options_for_inference()
    jitted = jax.jit(network, **placed, out_shardings=out_shardings, compiler_options=options)
    return jitted, jax.jit(decode, out_shardings=out_shardings)
