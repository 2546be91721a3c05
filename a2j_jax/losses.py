"""The training objective of A2J: Eqs. (4) to (7) of the paper.

The sums over joints are means here, as in the official code; lambda and alpha then weigh the same.
"""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from a2j_jax.models.anchors import Heads, aggregate, anchor_weights

TAU_UV_PX = 1.0  # Eq. (5), tau_1
TAU_DEPTH = 3.0  # Eq. (5), tau_2, network units of depth (mm for hands)
ALPHA = 0.5  # Eq. (4), balances the in-plane term against depth

DepthTerm = Literal["l1", "smooth_l1"]
# The official code computes the smooth L1 of the depth and then uses the plain L1; the paper says smooth L1.
DEPTH_TERMS: dict[str, DepthTerm] = {"official": "l1", "paper": "smooth_l1"}


class Losses(NamedTuple):
    """Scalars of one batch, float32."""

    total: jax.Array  # Eq. (7)
    surrounding: jax.Array  # loss_2, Eq. (6)
    regression: jax.Array  # loss_1, Eq. (4)


def smooth_l1(x: jax.Array, tau: float) -> jax.Array:
    """Smooth L1, Eq. (5): x^2 / (2 tau) for |x| < tau, |x| - tau / 2 beyond; elementwise."""
    absolute = jnp.abs(x)
    return jnp.where(absolute < tau, jnp.square(x) / (2 * tau), absolute - tau / 2)


def a2j_losses(
    heads: Heads,
    joints: jax.Array,
    valid: jax.Array,
    anchors: jax.Array | np.ndarray,
    *,
    regression_weight: float,
    alpha: float = ALPHA,
    depth_term: DepthTerm = "l1",
    count: jax.Array | None = None,
) -> Losses:
    """Joint position and surrounding losses of a batch.

    Args:
      heads: predictions of all anchors.
      joints: (B, K, 3) ground truth in crop coordinates (u px, v px, depth in network units), or (B, K, 2).
      valid: (B, K) bool or {0, 1}; joints marked 0 do not count.
      anchors: (A, 2) anchor positions S(a), px.
      regression_weight: lambda of Eq. (7).
      alpha: weight of the in-plane term of Eq. (4).
      depth_term: "smooth_l1" is the paper's, "l1" what the official code trains with.
      count: joints to divide the sums by; None: those that are valid here. Where these rows are a part of
        a batch, the number in all of it: then the losses of the parts, and their gradients, add up.

    Returns:
      `Losses`.
    """
    predicted = aggregate(heads, anchors).joints
    error_uv = predicted[..., :2] - joints[..., :2]
    # Eq. (4): alpha * in-plane term + depth term
    mean = partial(_masked_mean, valid=valid, count=valid.sum() if count is None else count)
    regression = alpha * mean(smooth_l1(error_uv, TAU_UV_PX).mean(-1))
    if heads.depth is not None:
        error_depth = predicted[..., 2] - joints[..., 2]
        per_joint = (
            jnp.abs(error_depth) if depth_term == "l1" else smooth_l1(error_depth, TAU_DEPTH)
        )
        regression = regression + mean(per_joint)
    # Eq. (6): the weighted mean anchor position should itself be the joint
    surrounded = jnp.einsum(
        "bak,ac->bkc", anchor_weights(heads.proposal), jnp.asarray(anchors), precision="highest"
    )
    error_surrounding = surrounded - joints[..., :2]
    surrounding = mean(smooth_l1(error_surrounding, TAU_UV_PX).mean(-1))
    # Eq. (7)
    return Losses(regression_weight * regression + surrounding, surrounding, regression)


def _masked_mean(values: jax.Array, valid: jax.Array, count: jax.Array) -> jax.Array:
    return (values * valid.astype(values.dtype)).sum() / jnp.maximum(count, 1).astype(values.dtype)
