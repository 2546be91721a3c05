"""The training losses of A2J, Eqs. (4) to (7) of the paper, and what an objective is.

Sums over joints are means, as in the official code; lambda and alpha have the same effect.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from a2j_jax.config import LossConfig
from a2j_jax.errors import UserError
from a2j_jax.models.anchors import Heads, aggregate, anchor_grid, anchor_weights
from a2j_jax.tracks import TrackSpec

TAU_UV_PX = 1.0  # Eq. (5), tau_1
TAU_DEPTH = 3.0  # Eq. (5), tau_2, network units of depth (mm for hands)
ALPHA = 0.5  # Eq. (4), balances the in-plane term against depth

DepthTerm = Literal["l1", "smooth_l1"]
# The official code computes the smooth L1 of the depth and then uses the plain L1; the paper says smooth L1.
DEPTH_TERMS: dict[str, DepthTerm] = {"official": "l1", "paper": "smooth_l1"}


class Losses(NamedTuple):
    """Scalars of one batch, float32."""

    total: jax.Array  # the minimized loss
    terms: dict[str, jax.Array]  # its terms by name, before weighting


#: What a network should have found, by name: "joints" (B, K, 3 or 2) in crop coordinates (u px, v px, depth in network
#: units), "valid" (B, K) bool, and what else `prepare` adds; see `data.augment.prepare`.
Targets = Mapping[str, jax.Array]

#: (outputs, targets, *, count, step) -> losses of these rows: sums over joints divided by `count`, the number of
#: labeled joints in the entire batch, so that losses and gradients of its parts add up; `step` is () int32, from 0.
Objective = Callable[..., Losses]

#: (outputs, targets, *, count, step) -> one more term, a scalar, summed and divided likewise
Term = Callable[..., jax.Array]


def with_terms(objective: Objective, **terms: tuple[float, Term]) -> Objective:
    """An objective with further terms: name in the log -> weight and function, `bone=(0.1, bone_length)`.

    Raises:
      UserError: no finite weight and function; when the objective is called, a name that it has a term of already, or a
        function that returns something else than a scalar.
    """
    for name, pair in terms.items():
        if not (isinstance(pair, tuple) and len(pair) == 2 and callable(pair[1])):
            raise UserError(f"with_terms: {name}: expected (weight, function), found {pair!r}")
        number = isinstance(pair[0], int | float | np.generic | jax.Array)
        if not number or np.shape(pair[0]) != () or not np.isfinite(pair[0]):
            raise UserError(f"with_terms: {name}: expected a finite weight, found {pair[0]!r}")

    def extended(outputs: Any, targets: Targets, **about: Any) -> Losses:
        total, found = objective(outputs, targets, **about)
        for name, (weight, term) in terms.items():
            if name in found:
                raise UserError(
                    f"with_terms: the objective has a term {name!r} already; choose another name"
                )
            value = term(outputs, targets, **about)
            if jnp.shape(value) != ():
                raise UserError(
                    f"with_terms: {name} has shape {jnp.shape(value)}: expected a scalar; "
                    "a2j_jax.losses.masked_mean makes one of (B, K) values"
                )
            total, found = total + weight * value, {**found, name: value}
        return Losses(total, found)

    return extended


def smooth_l1(x: jax.Array, tau: float) -> jax.Array:
    """Smooth L1, Eq. (5): x^2 / (2 tau) for |x| < tau, |x| - tau / 2 beyond; elementwise."""
    absolute = jnp.abs(x)
    return jnp.where(absolute < tau, jnp.square(x) / (2 * tau), absolute - tau / 2)


def objective(
    heads: Heads,
    targets: Targets,
    crop_size: int,
    *,
    count: jax.Array,
    step: jax.Array | None = None,
    **constants: Any,
) -> Losses:
    """`a2j_losses` of square crops of `crop_size` px, as an `Objective` once that and the constants are bound.

    Targets are "joints" and "valid"; the step is not used.
    """
    anchors = anchor_grid(crop_size, crop_size)
    return a2j_losses(heads, targets["joints"], targets["valid"], anchors, count=count, **constants)


def objective_of(settings: LossConfig, track: TrackSpec) -> Objective:
    """The losses of A2J with the constants of a config, its presets filled in: `objective_of(config.loss, track)`."""
    weight = settings.regression_weight
    return partial(
        objective,
        crop_size=track.crop_size,
        regression_weight=track.loss_lambda if weight is None else weight,
        alpha=settings.alpha,
        depth_term=DEPTH_TERMS[settings.preset],
        surrounding=settings.surrounding,
    )


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
      joints: (B, K, 3) ground truth in crop coordinates (u px, v px, depth in network units), or (B, K, 2).
      valid: (B, K) bool or {0, 1}; joints marked 0 do not count.
      anchors: (A, 2) anchor positions S(a), px.
      regression_weight: lambda of Eq. (7).
      alpha, depth_term: as in `regression_loss`.
      surrounding: whether loss_2 is part of the total (Table 7). Without proposals it is left out in any case.
      count: number of joints to divide the sums by; None: the valid ones here. Where these rows are part of a batch,
        pass the number in the entire batch: the parts' losses and gradients then add up.

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
    loss_2 = masked_mean(error.mean(-1), valid, count)
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
      joints, valid, count: as in `a2j_losses`.
      alpha: weight of the in-plane term.
      depth_term: "smooth_l1" is the paper's, "l1" the official code's.
    """
    mean = partial(masked_mean, valid=valid, count=count)
    error = predicted - joints
    loss = alpha * mean(smooth_l1(error[..., :2], TAU_UV_PX).mean(-1))
    if joints.shape[-1] == 2:
        return loss
    depth = error[..., 2]
    return loss + mean(jnp.abs(depth) if depth_term == "l1" else smooth_l1(depth, TAU_DEPTH))


def masked_mean(values: jax.Array, valid: jax.Array, count: jax.Array) -> jax.Array:
    """The sum of the values (B, K) of joints that are valid, over `count`."""
    return (values * valid.astype(values.dtype)).sum() / jnp.maximum(count, 1).astype(values.dtype)
