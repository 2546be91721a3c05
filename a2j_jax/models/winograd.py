"""3x3 convolution by Winograd's F(m x m, 3x3), m = 2 or 4 (Lavin and Gray, CVPR 2016).

A tile of (m + 2)^2 inputs gives m^2 outputs: Y = A^T [(G g G^T) * (B^T d B)] A, where g is the kernel and d the tile.
Summed over channels, the product in the middle is one matrix product for each place of a tile. m = 4 multiplies 36
times where the plain convolution does 144 times, m = 2 16 times for 36, with kernels of half the size. XLA's CPU
compiler has nothing of the kind; `models.prepared` uses it there.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from a2j_jax.lowering import island

_G = {
    2: np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
    4: np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24,
}


Kernel = TypeVar("Kernel", NDArray[np.floating], jax.Array)


def transform_kernel(kernel: Kernel, m: int = 2) -> Kernel:
    """G g G^T of a kernel (3, 3, Cin, Cout) -> ((m + 2)^2, Cin, Cout), of the same dtype."""
    both = np.kron(_G[m], _G[m]).astype(kernel.dtype)  # rows and columns at once
    flat: Any = both @ kernel.reshape(9, -1)
    return flat.reshape(-1, *kernel.shape[2:])  # type: ignore[no-any-return]


def convolve(images: jax.Array, transformed: jax.Array, dilation: int = 1) -> jax.Array:
    """Convolves with a transformed kernel, stride 1, zeros around: `layers.conv2d` to rounding.

    Args:
      images: (B, H, W, Cin).
      transformed: (16, Cin, Cout) or (36, Cin, Cout), of `transform_kernel`.
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


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve_in_training(images: jax.Array, kernel: jax.Array, dilation: int) -> jax.Array:
    """`convolve` by a kernel (3, 3, Cin, Cout) that changes from call to call; its gradients are computed likewise.

    Each is a `lowering.island`: the transformed kernels and tiles of one layer are gone when the next is computed.
    """

    @island
    def forward(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return convolve(images, transform_kernel(kernel), dilation)

    return forward(images, kernel)


def _forward(images: jax.Array, kernel: jax.Array, dilation: int) -> tuple[jax.Array, Any]:
    return convolve_in_training(images, kernel, dilation), (images, kernel)


def _backward(dilation: int, saved: Any, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    images, kernel = saved

    @island
    def of_images(kernel: jax.Array, dy: jax.Array) -> jax.Array:
        turned = kernel[::-1, ::-1].swapaxes(2, 3)
        return convolve(dy, transform_kernel(turned), dilation)

    @island
    def of_kernel(images: jax.Array, kernel: jax.Array, dy: jax.Array) -> jax.Array:
        def forward(kernel: jax.Array) -> jax.Array:
            return convolve(images, transform_kernel(kernel), dilation)

        return jax.vjp(forward, kernel)[1](dy)[0]  # type: ignore[no-any-return]

    return of_images(kernel, dy), of_kernel(images, kernel, dy)


convolve_in_training.defvjp(_forward, _backward)


def _convolve(images: jax.Array, transformed: jax.Array) -> jax.Array:
    batch, height, width, channels = images.shape
    m = 2 if len(transformed) == 16 else 4
    rows, columns = -(-height // m), -(-width // m)  # of tiles
    padding = ((0, 0), (1, m * rows - height + 1), (1, m * columns - width + 1), (0, 0))
    padded = jnp.pad(images, padding)
    tiles = jnp.stack(
        [
            place.reshape(-1, channels)
            for part in _of_tiles(padded, m, rows, axis=1)
            for place in _of_tiles(part, m, columns, axis=2)
        ]
    )  # ((m + 2)^2, tiles, Cin)
    products = lax.dot_general(tiles, transformed, (((2,), (1,)), ((0,), (0,))))
    places = products.reshape(m + 2, m + 2, batch, rows, columns, -1)
    # Places of the tile: rows first, columns second; each set of sums is one set of outputs.
    sums = [jnp.stack(_sums(row), axis=3) for row in _sums(places)]
    out = jnp.stack(sums, axis=2)  # (B, rows, m, columns, m, Cout)
    return out.reshape(batch, m * rows, m * columns, -1)[:, :height, :width]


def _of_tiles(padded: jax.Array, m: int, count: int, axis: int) -> tuple[jax.Array, ...]:
    """B^T d along one axis: for each of the m + 2 places, its sum in all tiles, which overlap by 2."""
    last = m * (count - 1) + 1
    d = [
        lax.slice_in_dim(padded, start, start + last, stride=m, axis=axis) for start in range(m + 2)
    ]
    if m == 2:
        return d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]
    even, odd = d[4] - 4 * d[2], d[3] - 4 * d[1]
    near, far = d[4] - d[2], 2 * (d[3] - d[1])
    ends = 4 * d[0] - 5 * d[2] + d[4], 4 * d[1] - 5 * d[3] + d[5]
    return ends[0], even + odd, even - odd, near + far, near - far, ends[1]


def _sums(y: jax.Array) -> Sequence[jax.Array]:
    """A^T y along the first axis, of length m + 2: m of them."""
    if len(y) == 4:
        return y[0] + y[1] + y[2], y[1] - y[2] - y[3]
    near, far = (y[1] + y[2], y[1] - y[2]), (y[3] + y[4], y[3] - y[4])
    first, last = y[0] + near[0] + far[0], near[1] + 8 * far[1] + y[5]
    return first, near[1] + 2 * far[1], near[0] + 4 * far[0], last
