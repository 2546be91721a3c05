"""Random variables and rotations for hands and bodies.

Every call of a sampler costs XLA a third of a second of compilation on a CPU, and a posed hand has fifty random
variables: `draw` takes all variables of its caller from one call.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_Shapes = Sequence[tuple[int, ...]]
_BELL_LIMIT = 2.0


def draw(
    key: jax.Array, uniform: _Shapes = (), bell: _Shapes = ()
) -> tuple[list[jax.Array], list[jax.Array]]:
    """Independent float32 variables, two lists of arrays in the order of the given shapes.

    The first are uniform on [0, 1), the second standard normal, truncated at ±2 to avoid outliers (their σ is 0.88).
    This call uses up the key.
    """
    sizes = [math.prod(shape) for shape in (*uniform, *bell)]
    flat = jax.random.uniform(key, (sum(sizes),))
    split = sum(sizes[: len(uniform)])
    bounds = math.erf(_BELL_LIMIT / math.sqrt(2.0)) * (2.0 * flat[split:] - 1.0)
    flat = jnp.concatenate([flat[:split], math.sqrt(2.0) * jax.lax.erf_inv(bounds)])
    pieces = jnp.split(flat, np.cumsum(sizes)[:-1])
    shaped = [p.reshape(shape) for p, shape in zip(pieces, (*uniform, *bell), strict=True)]
    return shaped[: len(uniform)], shaped[len(uniform) :]


def lerp(limits: tuple[Any, Any], fraction: jax.Array) -> jax.Array:
    """The point a fraction (...) of the way from the first limit, a number or an array, to the second."""
    return limits[0] + (limits[1] - limits[0]) * fraction


def rotation(axis: str, angle: jax.Array) -> jax.Array:
    """Right-handed rotation matrices (..., 3, 3) about the "x", "y" or "z" axis by (...) radians."""
    c, s, o, i = jnp.cos(angle), jnp.sin(angle), jnp.zeros_like(angle), jnp.ones_like(angle)
    rows = {
        "x": [[i, o, o], [o, c, -s], [o, s, c]],
        "y": [[c, o, s], [o, i, o], [-s, o, c]],
        "z": [[c, -s, o], [s, c, o], [o, o, i]],
    }[axis]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def rotation_from_quaternion(q: jax.Array) -> jax.Array:
    """The rotation matrix (3, 3) of a quaternion (4,) of any length; uniform on SO(3) for a Gaussian quaternion."""
    w, x, y, z = q / jnp.linalg.norm(q)
    return jnp.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
