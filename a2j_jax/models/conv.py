"""How a convolution and a pooling are lowered on the platform they will run on, and nothing else.

GPU and TPU take XLA's own convolution and window reduction. On the CPU a 1x1 convolution is a matrix
product and XLA is told so, and the 3x3 max pooling is two passes of three shifted slices: the gradient
of a window reduction is a scatter there, that of a slice is not. `benchmarks/lowering.py` prints what
each choice is worth.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from a2j_jax import lowering


def _is_cpu() -> bool:
    return lowering.platform() == "cpu"


def conv2d(images: jax.Array, kernel: jax.Array, stride: int = 1, dilation: int = 1) -> jax.Array:
    """Convolve with PyTorch's symmetric padding of `dilation * (k // 2)`.

    Args:
      images: (B, H, W, Cin).
      kernel: (k, k, Cin, Cout), k odd, of the dtype of `images`.
      stride: step between output positions, both axes.
      dilation: step between the taps of the kernel, both axes.

    Returns:
      (B, ceil(H / stride), ceil(W / stride), Cout).
    """
    size = kernel.shape[0]
    if size == 1 and _is_cpu():
        return jnp.einsum("bhwi,io->bhwo", images[:, ::stride, ::stride], kernel[0, 0])
    padding = dilation * (size // 2)
    return lax.conv_general_dilated(
        images,
        kernel,
        window_strides=(stride, stride),
        padding=((padding, padding), (padding, padding)),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def deconv2d(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Transposed convolution of stride 2 and padding 1, as PyTorch's `ConvTranspose2d(4, 2, 1)`.

    Args:
      images: (B, H, W, Cin).
      kernel: (4, 4, Cin, Cout), of the dtype of `images`: what one pixel becomes.

    Returns:
      (B, 2 H, 2 W, Cout).
    """
    return lax.conv_general_dilated(
        images,
        kernel[::-1, ::-1],
        window_strides=(1, 1),
        padding=((2, 2), (2, 2)),
        lhs_dilation=(2, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def max_pool_3x3_stride_2(images: jax.Array) -> jax.Array:
    """Take the maximum of every 3x3 window with stride 2 and padding 1.

    The padding is explicit: `max_pool(padding=((1, 1), (1, 1)))` is exported to ONNX as VALID, silently.

    Args:
      images: (B, H, W, C) of a floating dtype.

    Returns:
      (B, ceil(H / 2), ceil(W / 2), C).
    """
    # A numpy constant: JAX differentiates a window maximum only where it sees the initial value.
    lowest = np.asarray(-np.inf, images.dtype)
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=lowest)
    if _is_cpu():
        return _max_of_three(_max_of_three(padded, axis=1), axis=2)
    return lax.reduce_window(padded, lowest, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID")


def _max_of_three(padded: jax.Array, axis: int) -> jax.Array:
    count = (padded.shape[axis] - 3) // 2 + 1
    taps = [
        lax.slice_in_dim(padded, start, start + 2 * count - 1, stride=2, axis=axis)
        for start in range(3)
    ]
    return jnp.maximum(jnp.maximum(taps[0], taps[1]), taps[2])
