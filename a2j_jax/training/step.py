"""One training step, as a pure function of state, batch and key; how devices share it is decided elsewhere."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from a2j_jax.losses import Losses
from a2j_jax.models.a2j import A2J
from a2j_jax.models.anchors import Heads
from a2j_jax.training.state import TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
# (batch, key) -> normalised images (B, H, W, 1), joints (B, K, 3) in crop coordinates
Prepare = Callable[[Batch, jax.Array], tuple[jax.Array, jax.Array]]
# (heads, joints, valid) -> Losses
Objective = Callable[[Heads, jax.Array, jax.Array], Losses]
TrainStep = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]


def make_train_step(
    model: A2J,
    optimizer: optax.GradientTransformation,
    prepare: Prepare,
    objective: Objective,
    axis_name: str | None = None,
) -> TrainStep:
    """Bind a model, its optimiser, input preparation and objective into `step(state, batch, key)`.

    Args:
      model: built with the same `axis_name`, so that batch statistics are the global batch's.
      optimizer: gradient transformation the state was created with.
      prepare: augmentation and normalisation; runs on the device, inside the step.
      objective: the losses of Eqs. (4)-(7), bound to their constants.
      axis_name: mapped axis to average gradients and metrics over; None on one device.

    Returns:
      A pure function (state, batch, key) -> (state, metrics). `key` is the run's: the step's own is folded
      from the step number, so that a resumed run draws what the uninterrupted one would have. Metrics are
      float scalars: loss, surrounding, regression, grad_norm (of the loss alone, before L2).
    """

    def step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(key, state.step)
        if axis_name is not None:
            key = jax.random.fold_in(key, lax.axis_index(axis_name))
        images, joints = prepare(batch, key)

        def loss_fn(params: Any) -> tuple[jax.Array, tuple[Losses, Any]]:
            heads, updated = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                images,
                train=True,
                mutable=["batch_stats"],
            )
            losses = objective(heads, joints, batch["valid"])
            return losses.total, (losses, updated["batch_stats"])

        (_, (losses, batch_stats)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        if axis_name is not None:
            losses, grads = lax.pmean((losses, grads), axis_name)
        metrics = {
            "loss": losses.total,
            "surrounding": losses.surrounding,
            "regression": losses.regression,
            "grad_norm": optax.global_norm(grads),
        }
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        new_state = TrainState(
            step=state.step + jnp.int32(1),
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        return new_state, metrics

    return step
