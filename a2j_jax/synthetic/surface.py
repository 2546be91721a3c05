"""What the surfaces of hand and body share: building sets of round cones, and telling how far they overlap."""

import jax
import jax.numpy as jnp
import numpy as np

from a2j_jax.synthetic.render import RoundCones


def along(a: jax.Array, b: jax.Array, fraction: float) -> jax.Array:
    """The point (..., 3) a fraction of the way from a to b."""
    return a + fraction * (b - a)


def stack_cones(*rows: tuple[jax.Array, jax.Array, jax.Array, jax.Array]) -> RoundCones:
    """Rows of (end a, end b, radius a, radius b), leading axes allowed, into one set."""
    starts, ends, ra, rb = zip(*rows, strict=True)

    def points(xs: tuple[jax.Array, ...]) -> jax.Array:
        return jnp.concatenate([jnp.reshape(x, (-1, 3)) for x in xs])

    def radii(xs: tuple[jax.Array, ...]) -> jax.Array:
        return jnp.concatenate([jnp.reshape(x, (-1,)) for x in xs])

    return RoundCones(
        jnp.stack([points(starts), points(ends)], axis=1), jnp.stack([radii(ra), radii(rb)], axis=1)
    )


def join_cones(*sets: RoundCones) -> RoundCones:
    """Several sets as one, in their order."""
    return RoundCones(*(jnp.concatenate(field) for field in zip(*sets, strict=True)))


def overlap(centre: jax.Array, radius: jax.Array, counted: np.ndarray) -> jax.Array:
    """How badly balls run into each other: the sum of overlap², () mm².

    Flesh yields: overlap is counted only from a fifth of the touching distance on.

    Args:
        centre: (N, 3) mm.
        radius: (N,) mm.
        counted: (N, N) bool, the pairs that count.
    """
    gap = jnp.linalg.norm(centre[:, None] - centre[None, :] + 1e-6, axis=-1)
    depth = jnp.maximum(0.8 * (radius[:, None] + radius[None, :]) - gap, 0.0)
    return jnp.sum(jnp.where(counted, depth, 0.0) ** 2)
