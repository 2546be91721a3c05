"""Random numbers by the handful: many small variables from one call of the generator.

Every sampler in a program costs XLA a third of a second of compilation on a CPU, and a posed hand
has fifty random variables; so each function here draws all of its variables at once.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

_Shapes = Sequence[tuple[int, ...]]
_BELL_LIMIT = 2.0


def draw(
    key: jax.Array, uniform: _Shapes = (), bell: _Shapes = ()
) -> tuple[list[jax.Array], list[jax.Array]]:
    """Independent float32 variables of the given shapes.

    Args:
        key: used up by this call.
        uniform: shapes of those that are uniform on [0, 1).
        bell: shapes of those that are standard normal, truncated at ±2: variation without freaks.
            (Their standard deviation is 0.88.)

    Returns:
        Two lists of arrays, in the order of the shapes.
    """
    sizes = [math.prod(shape) for shape in (*uniform, *bell)]
    flat = jax.random.uniform(key, (sum(sizes),))
    split = sum(sizes[: len(uniform)])
    bounds = math.erf(_BELL_LIMIT / math.sqrt(2.0)) * (2.0 * flat[split:] - 1.0)
    flat = jnp.concatenate([flat[:split], math.sqrt(2.0) * jax.lax.erf_inv(bounds)])
    pieces = jnp.split(flat, np.cumsum(sizes)[:-1])
    shaped = [p.reshape(shape) for p, shape in zip(pieces, (*uniform, *bell), strict=True)]
    return shaped[: len(uniform)], shaped[len(uniform) :]
