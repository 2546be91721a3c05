"""What hand and body share: rotations about axes, ranges of angles. Right-handed, radians, pure functions."""

import jax
import jax.numpy as jnp


def lerp(limits: tuple[float, float], fraction: jax.Array) -> jax.Array:
    """The number that lies a fraction of the way (...) from the first limit to the second."""
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
    """The rotation matrix (3, 3) of a quaternion (4,) of any length.

    A Gaussian q makes it uniform on SO(3).
    """
    w, x, y, z = q / jnp.linalg.norm(q)
    return jnp.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
