"""The state of a training run, and the type of the step that advances it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import struct

from a2j_jax.data.crops import Batch

if TYPE_CHECKING:  # inference reads checkpoints without it
    import optax


class TrainState(struct.PyTreeNode):
    """Everything a step reads and rewrites; saved whole."""

    step: jax.Array  # () int32, steps taken
    params: Any
    batch_stats: Any  # running means and variances
    opt_state: Any
    ema: Any  # moving average of {"params", "batch_stats"}; None: not kept
    skipped: jax.Array  # () int32, updates left out because they were not finite
    skipped_in_a_row: jax.Array  # () int32, of those the ones up to the last step

    @classmethod
    def create(
        cls,
        variables: dict[str, Any],
        optimizer: "optax.GradientTransformation",
        *,
        average: bool = False,
    ) -> "TrainState":
        """Start from initialized or converted variables {"params", "batch_stats"}."""
        params = variables["params"]
        # A copy each: a step that is given its state to rewrite may not be given an array twice.
        zero, nothing, none = (jnp.zeros((), jnp.int32) for _ in range(3))
        return cls(
            step=zero,
            params=params,
            batch_stats=variables["batch_stats"],
            opt_state=optimizer.init(params),
            ema=jax.tree.map(jnp.copy, dict(variables)) if average else None,
            skipped=nothing,
            skipped_in_a_row=none,
        )

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


Metrics = dict[str, jax.Array]
#: (state, batch, key of the run) -> (next state, scalar metrics)
TrainStep = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]
