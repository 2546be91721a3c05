"""From what a network answers to joints, whichever paradigm it is of."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, assert_never

import jax
import jax.numpy as jnp

from a2j_jax.models.anchors import Heads, aggregate, anchor_grid, confidence
from a2j_jax.models.baselines import HeatMaps, PoseVector, peaks

Outputs = Heads | PoseVector | HeatMaps


class Estimate(NamedTuple):
    """Joints in crop coordinates, and how sure the network is of them."""

    joints: jax.Array  # (B, K, 3) u px, v px, depth in network units; (B, K, 2) in 2D mode
    confidence: jax.Array  # (B, K) in [0, 1]


def decode(outputs: Outputs, crop_size: int) -> Estimate:
    """Joints of a batch of square crops.

    Confidence is how near the anchors' votes lie together (A2J), or the height of the peak (heat maps). A vector
    (global regression) says nothing of it: 1 throughout.

    Args:
      outputs: what the network answered.
      crop_size: side of the crops, px.
    """
    match outputs:
        case Heads():
            prediction = aggregate(outputs, anchor_grid(crop_size, crop_size))
            return Estimate(prediction.joints, jnp.asarray(confidence(prediction.spread)))
        case HeatMaps():
            joints, height = peaks(outputs)
            return Estimate(joints, height.clip(0.0, 1.0))
        case PoseVector(joints):
            return Estimate(joints, jnp.ones(joints.shape[:2], joints.dtype))
        case _:
            assert_never(outputs)


def jit_with_decoding(
    network: Callable[..., Any],
    crop_size: int,
    in_shardings: Any = None,
    out_shardings: Any = None,
) -> Callable[..., Estimate]:
    """`decode(network(...), crop_size)`, jitted.

    As two programs: where one also decodes, XLA's CPU compiler makes a slower network of it (jaxlib 0.10.2, ResNet-50,
    one NYU crop: 219 ms instead of 152 on two cores).

    Args:
      network: makes a network's outputs of arrays.
      crop_size: side of the crops, px.
      in_shardings, out_shardings: of its arguments, and of what it and `decode` return, as `jax.jit` takes them.
    """
    placed = {} if in_shardings is None else {"in_shardings": in_shardings}
    outputs = jax.jit(network, **placed, out_shardings=out_shardings)
    joints = jax.jit(partial(decode, crop_size=crop_size), out_shardings=out_shardings)
    return lambda *arguments: joints(outputs(*arguments))
