"""The training losses of A2J, Eqs. (4) to (7) of the paper, and of its baselines.

Sums over joints are means, as in the official code; lambda and alpha have the same effect.
"""

from functools import partial
from typing import Literal, NamedTuple, assert_never

import jax
import jax.numpy as jnp
import numpy as np

from a2j_jax.models.anchors import (
    MAP_STRIDE,
    Heads,
    HeatMaps,
    Outputs,
    PoseVector,
    aggregate,
    anchor_grid,
    anchor_weights,
)

TAU_UV_PX = 1.0  # Eq. (5), tau_1
TAU_DEPTH = 3.0  # Eq. (5), tau_2, network units of depth (mm for hands)
ALPHA = 0.5  # Eq. (4), balances the in-plane term against depth
HEAT_SIGMA = 2.0  # px of a heat map, as Xiao et al. (ECCV 2018)
# Weight of a heat map's depth, which their network lacks: both terms are then about equal throughout training.
HEAT_DEPTH_WEIGHT = 0.1

DepthTerm = Literal["l1", "smooth_l1"]
# The official code computes the smooth L1 of the depth and then uses the plain L1; the paper says smooth L1.
DEPTH_TERMS: dict[str, DepthTerm] = {"official": "l1", "paper": "smooth_l1"}


class Losses(NamedTuple):
    """Scalars of one batch, float32."""

    total: jax.Array  # the minimized loss
    terms: dict[str, jax.Array]  # its terms by name, before weighting


def smooth_l1(x: jax.Array, tau: float) -> jax.Array:
    """Smooth L1, Eq. (5): x^2 / (2 tau) for |x| < tau, |x| - tau / 2 beyond; elementwise."""
    absolute = jnp.abs(x)
    return jnp.where(absolute < tau, jnp.square(x) / (2 * tau), absolute - tau / 2)


def objective(
    outputs: Outputs,
    joints: jax.Array,
    valid: jax.Array,
    crop_size: int,
    *,
    regression_weight: float,
    alpha: float = ALPHA,
    depth_term: DepthTerm = "l1",
    surrounding: bool = True,
    count: jax.Array | None = None,
) -> Losses:
    """The losses of a batch of square crops, for the outputs of any paradigm.

    Args:
      outputs: of the network.
      joints: (B, K, 3) ground truth in crop coordinates (u px, v px, depth in network units), or (B, K, 2).
      valid: (B, K) bool or {0, 1}; joints marked 0 do not count.
      crop_size: side of the crops, px.
      regression_weight, surrounding: as in `a2j_losses`.
      alpha, depth_term: as in `regression_loss`; not used by heat maps.
      count: number of joints to divide the sums by; None: the valid ones here. Where these rows are part of a batch,
        pass the number in the entire batch: the parts' losses and gradients then add up.
    """
    count = valid.sum() if count is None else count
    match outputs:
        case Heads():
            return a2j_losses(
                outputs,
                joints,
                valid,
                anchor_grid(crop_size, crop_size),
                regression_weight=regression_weight,
                alpha=alpha,
                depth_term=depth_term,
                surrounding=surrounding,
                count=count,
            )
        case PoseVector(predicted):
            loss = regression_loss(
                predicted, joints, valid, alpha=alpha, depth_term=depth_term, count=count
            )
            return Losses(loss, {"regression": loss})
        case HeatMaps():
            return heat_map_losses(outputs, joints, valid, count=count)
        case _:
            assert_never(outputs)


def a2j_losses(
    heads: Heads,
    joints: jax.Array,
    valid: jax.Array,
    anchors: jax.Array | np.ndarray,
    *,
    regression_weight: float,
    alpha: float = ALPHA,
    depth_term: DepthTerm = "l1",
    surrounding: bool = True,
    count: jax.Array | None = None,
) -> Losses:
    """Joint position and surrounding losses of a batch.

    Args:
      heads: predictions of all anchors.
      joints, valid, count: as in `objective`.
      anchors: (A, 2) anchor positions S(a), px.
      regression_weight: lambda of Eq. (7).
      alpha, depth_term: as in `regression_loss`.
      surrounding: whether loss_2 is part of the total (Table 7). Without proposals it is left out in any case.

    Returns:
      `Losses` with the terms "surrounding" (loss_2) and "regression" (loss_1).
    """
    count = valid.sum() if count is None else count
    predicted = aggregate(heads, anchors).joints
    loss_1 = regression_loss(
        predicted, joints, valid, alpha=alpha, depth_term=depth_term, count=count
    )
    if heads.proposal is None or not surrounding:
        return Losses(regression_weight * loss_1, {"regression": loss_1})
    # Eq. (6): the weighted mean anchor position should be the joint.
    surrounded = jnp.einsum(
        "bak,ac->bkc", anchor_weights(heads), jnp.asarray(anchors), precision="highest"
    )
    error = smooth_l1(surrounded - joints[..., :2], TAU_UV_PX)
    loss_2 = _masked_mean(error.mean(-1), valid, count)
    # Eq. (7)
    total = regression_weight * loss_1 + loss_2
    return Losses(total, {"surrounding": loss_2, "regression": loss_1})


def regression_loss(
    predicted: jax.Array,
    joints: jax.Array,
    valid: jax.Array,
    *,
    alpha: float = ALPHA,
    depth_term: DepthTerm = "l1",
    count: jax.Array,
) -> jax.Array:
    """loss_1, Eq. (4): alpha * in-plane term + depth term; a scalar.

    Args:
      predicted: (B, K, 3) or (B, K, 2), in crop coordinates as `joints`.
      joints, valid, count: as in `objective`.
      alpha: weight of the in-plane term.
      depth_term: "smooth_l1" is the paper's, "l1" the official code's.
    """
    mean = partial(_masked_mean, valid=valid, count=count)
    error = predicted - joints
    loss = alpha * mean(smooth_l1(error[..., :2], TAU_UV_PX).mean(-1))
    if joints.shape[-1] == 2:
        return loss
    depth = error[..., 2]
    return loss + mean(jnp.abs(depth) if depth_term == "l1" else smooth_l1(depth, TAU_DEPTH))


def heat_map_losses(
    outputs: HeatMaps, joints: jax.Array, valid: jax.Array, *, count: jax.Array
) -> Losses:
    """Half the squared distance to Gaussian maps, summed over pixels, as "Simple Baselines" (Xiao et al. 2018).

    They average over pixels; the sum keeps the loss far above Adam's L2 for any size of maps. The depth loss is the
    mean of |depth - truth| weighted by the Gaussian.

    Args:
      outputs: maps (B, h, w, K), and depths.
      joints, valid, count: as in `objective`. Joints outside the map do not count.

    Returns:
      `Losses` with the terms "heat" and, in 3D, "depth" (network units).
    """
    target, on_map = gaussian_maps(joints[..., :2], *outputs.maps.shape[1:3])
    valid = valid.astype(bool) & on_map
    mean = partial(_masked_mean, valid=valid, count=count)
    heat = mean(0.5 * jnp.square(outputs.maps - target).sum((1, 2)))
    if outputs.depth is None:
        return Losses(heat, {"heat": heat})
    error = jnp.abs(outputs.depth - joints[:, None, None, :, 2])
    weight = jnp.maximum(target.sum((1, 2)), jnp.finfo(target.dtype).tiny)
    depth = mean((error * target).sum((1, 2)) / weight)
    return Losses(heat + HEAT_DEPTH_WEIGHT * depth, {"heat": heat, "depth": depth})


def gaussian_maps(joints_uv: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Target maps of joints: a Gaussian of height 1 around each joint's pixel.

    Args:
      joints_uv: (B, K, 2), px of the crop.
      height, width: of the maps, px.

    Returns:
      (B, height, width, K) float32, and (B, K) bool: whether the joint's pixel is on the map.
    """
    pixel = jnp.round(joints_uv / MAP_STRIDE)
    on_map = ((pixel >= 0) & (pixel < jnp.array([width, height]))).all(-1)

    def bump(size: int, center: jax.Array) -> jax.Array:
        distance = jnp.arange(size, dtype=center.dtype)[:, None] - center[:, None, :]
        return jnp.exp(-jnp.square(distance) / (2 * HEAT_SIGMA**2))

    across, down = bump(width, pixel[..., 0]), bump(height, pixel[..., 1])  # (B, size, K)
    return down[:, :, None, :] * across[:, None, :, :], on_map


def _masked_mean(values: jax.Array, valid: jax.Array, count: jax.Array) -> jax.Array:
    return (values * valid.astype(values.dtype)).sum() / jnp.maximum(count, 1).astype(values.dtype)
