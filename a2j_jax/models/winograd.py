"""3x3 convolution by Winograd's F(2x2, 3x3): 16 products for the 36 of four outputs (Lavin and Gray, CVPR 2016).

A tile of 4x4 inputs gives 2x2 outputs: Y = A^T [(G g G^T) * (B^T d B)] A, where g is the kernel and d the tile. Summed
over channels, the product in the middle is one matrix product for each of the 16 places of a tile. XLA's CPU compiler
has nothing of the kind; `models.prepared` uses it there.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


def transform_kernel(kernel: NDArray[np.floating]) -> NDArray[np.floating]:
    """G g G^T of a kernel (3, 3, Cin, Cout) -> (16, Cin, Cout), of the same dtype; computed once."""
    both = np.kron(_G, _G)  # (16, 9): rows and columns at once
    flat = both.astype(kernel.dtype) @ kernel.reshape(9, -1)
    return flat.reshape(16, *kernel.shape[2:])


def convolve(images: jax.Array, transformed: jax.Array, dilation: int = 1) -> jax.Array:
    """Convolves with a transformed kernel, stride 1, zeros around: `layers.conv2d` to rounding.

    Args:
      images: (B, H, W, Cin).
      transformed: (16, Cin, Cout), of `transform_kernel`.
      dilation: step between the taps of the kernel, d: the d * d images of every d-th pixel are convolved as such.

    Returns:
      (B, H, W, Cout).
    """
    if dilation == 1:
        return _convolve(images, transformed)
    batch, height, width, channels = images.shape
    rows, columns = -(-height // dilation), -(-width // dilation)
    padding = ((0, 0), (0, rows * dilation - height), (0, columns * dilation - width), (0, 0))
    phases = jnp.pad(images, padding).reshape(batch, rows, dilation, columns, dilation, channels)
    phases = phases.transpose(2, 4, 0, 1, 3, 5).reshape(-1, rows, columns, channels)
    out = _convolve(phases, transformed)
    out = out.reshape(dilation, dilation, batch, rows, columns, -1).transpose(2, 3, 0, 4, 1, 5)
    return out.reshape(batch, rows * dilation, columns * dilation, -1)[:, :height, :width]


def _convolve(images: jax.Array, transformed: jax.Array) -> jax.Array:
    batch, height, width, channels = images.shape
    rows, columns = -(-height // 2), -(-width // 2)  # of tiles
    padding = ((0, 0), (1, 2 * rows - height + 1), (1, 2 * columns - width + 1), (0, 0))
    padded = jnp.pad(images, padding)
    tiles = jnp.stack(
        [
            place.reshape(-1, channels)
            for part in _of_tiles(padded, rows, axis=1)
            for place in _of_tiles(part, columns, axis=2)
        ]
    )  # (16, tiles, Cin)
    products = lax.dot_general(tiles, transformed, (((2,), (1,)), ((0,), (0,))))
    places = products.reshape(4, 4, batch, rows, columns, -1)
    # Places of the tile: rows first, columns second; each pair of sums is one pair of outputs.
    pairs = [jnp.stack(_sums(row), axis=3) for row in _sums(places)]
    out = jnp.stack(pairs, axis=2)  # (B, rows, 2, columns, 2, Cout)
    return out.reshape(batch, 2 * rows, 2 * columns, -1)[:, :height, :width]


def _of_tiles(padded: jax.Array, count: int, axis: int) -> tuple[jax.Array, ...]:
    """B^T d along one axis: for each of the 4 places, its sum or difference in all tiles, which overlap by 2."""
    d0, d1, d2, d3 = (
        lax.slice_in_dim(padded, start, start + 2 * count - 1, stride=2, axis=axis)
        for start in range(4)
    )
    return d0 - d2, d1 + d2, d2 - d1, d1 - d3


def _sums(places: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A^T m along the first axis, of length 4."""
    return places[0] + places[1] + places[2], places[1] - places[2] - places[3]
