"""What changes while a network trains."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct


class TrainState(struct.PyTreeNode):
    """Everything a step reads and rewrites; saved whole."""

    step: jax.Array  # () int32, steps taken
    params: Any
    batch_stats: Any  # running means and variances
    opt_state: Any

    @classmethod
    def create(
        cls, variables: dict[str, Any], optimizer: optax.GradientTransformation
    ) -> "TrainState":
        """Start from initialised or converted variables {"params", "batch_stats"}."""
        params = variables["params"]
        return cls(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=variables["batch_stats"],
            opt_state=optimizer.init(params),
        )

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}
