"""Batch normalization by the statistics of a batch, with the sum and the ReLU that may follow, and its gradient.

Differentiated by JAX and compiled by XLA for a CPU, the normalized activations are computed again in each place that
reads them, through all the blocks of a stage, and the differences from the mean are kept. Here the gradient is written
out: besides parameters and statistics it needs the input and the output, which the convolutions on both sides keep as
well. Each direction is a `lowering.island`.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from a2j_jax import lowering

_Saved = tuple[jax.Array, jax.Array | None, jax.Array, jax.Array, jax.Array]


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def normalize(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    shortcut: jax.Array | None,
    relu: bool,
    epsilon: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalizes, adds the shortcut and applies the ReLU.

    Args:
      x: (..., C) of float32 or float64.
      scale, bias: (C,).
      shortcut: (..., C) to add to the normalized x; or None.
      relu: whether negative results become zero.
      epsilon: added to the variance.

    Returns:
      The result (..., C), and mean and biased variance (C,) of x, through which no gradient flows.
    """
    return _forward(x, scale, bias, shortcut, relu, epsilon)[0]


def _forward(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    shortcut: jax.Array | None,
    relu: bool,
    epsilon: float,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[_Saved, bool]]:
    @lowering.island
    def forward(
        x: jax.Array, scale: jax.Array, bias: jax.Array, shortcut: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        axes = tuple(range(x.ndim - 1))
        mean = x.mean(axes)
        var = jnp.square(x - mean).mean(axes)
        gain = scale * lax.rsqrt(var + epsilon)
        y = x * gain + (bias - mean * gain)
        y = y if shortcut is None else y + shortcut
        return (jnp.maximum(y, 0) if relu else y), mean, var

    y, mean, var = forward(x, scale, bias, shortcut)
    saved = x, y if relu else None, scale, mean, lax.rsqrt(var + epsilon)
    return (y, mean, var), (saved, shortcut is not None)


def _backward(
    relu: bool, epsilon: float, kept: tuple[_Saved, bool], cotangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    saved, has_shortcut = kept
    dx, d_scale, d_bias, dy = _gradients(*saved, cotangents[0])
    return dx, d_scale, d_bias, dy if has_shortcut else None


@lowering.island
def _gradients(
    x: jax.Array,
    y: jax.Array | None,
    scale: jax.Array,
    mean: jax.Array,
    inverse_deviation: jax.Array,
    dy: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Gradients of x, scale, bias and shortcut."""
    if y is not None:
        dy = lax.select(y > 0, dy, jnp.zeros_like(dy))
    axes, count = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    d_bias = dy.sum(axes)
    d_scale = (dy * (x - mean)).sum(axes) * inverse_deviation
    gain = scale * inverse_deviation
    slope = gain * inverse_deviation * d_scale / count
    dx = gain * dy - slope * x + (slope * mean - gain * d_bias / count)
    return dx, d_scale, d_bias, dy


normalize.defvjp(_forward, _backward)
