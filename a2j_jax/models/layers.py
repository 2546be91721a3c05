"""Convolution, pooling and batch normalization with PyTorch's semantics, lowered for the platform they run on.

GPU and TPU use XLA's convolution and window reduction. On the CPU a 1x1 convolution is written as a matrix product, a
3x3 one of many channels is Winograd's, which XLA's CPU compiler lacks, and the 3x3 max pooling is two passes of three
shifted slices, whose gradient is not a scatter; `benchmarks/lowering.py` measures them. All layers
follow the dtype of their input: float32, bfloat16 (weights and statistics stay float32), or float64 in the parity test.

The gradient of batch norm, together with the sum and the ReLU that may follow it, is written by hand. JAX's own
gradient keeps the differences from the mean, and XLA's CPU compiler then computes the normalized activations again in
every place that reads them; and it needs two sums over all devices, one after the other. The gradient here needs only
the layer's input and output, which the convolutions before and after it keep anyway, and sums once. Forward and
backward are `lowering.island`s in float32 and float64, unless their axis is mapped.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jax.sharding import PartitionSpec
from numpy.typing import NDArray

from a2j_jax import lowering
from a2j_jax.errors import UserError

# --- Convolution and pooling


def _is_cpu() -> bool:
    return lowering.platform() == "cpu"


def conv2d(images: jax.Array, kernel: jax.Array, stride: int = 1, dilation: int = 1) -> jax.Array:
    """Convolves with PyTorch's symmetric padding of `dilation * (k // 2)`.

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
        seen = images[:, ::stride, ::stride]
        # In two dimensions: the gradients of an einsum transpose the larger operand.
        return (seen.reshape(-1, seen.shape[-1]) @ kernel[0, 0]).reshape(*seen.shape[:3], -1)
    if size == 3 and stride == 1 and _winograd_pays(images, kernel):
        return _winograd_in_training(images, kernel, dilation)
    padding = dilation * (size // 2)
    return lax.conv_general_dilated(
        images,
        kernel,
        window_strides=(stride, stride),
        padding=((padding, padding), (padding, padding)),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _winograd_pays(images: jax.Array, kernel: jax.Array) -> bool:
    """Where the three convolutions of a training step are quicker by Winograd's, on two cores.

    Small maps do not fill tiles, and few crops do not make up for transforming the kernel in every call. The number of
    crops is a symbol in what is exported.
    """
    crops = images.shape[0]
    many = isinstance(crops, int) and crops >= 4
    wide, large = min(kernel.shape[2:]) >= 64, min(images.shape[1:3]) >= 11
    return _is_cpu() and images.dtype == jnp.float32 and many and wide and large


def max_pool_3x3_stride_2(images: jax.Array) -> jax.Array:
    """The maximum of every 3x3 window with stride 2 and padding 1.

    Args:
      images: (B, H, W, C) of a floating dtype.

    Returns:
      (B, ceil(H / 2), ceil(W / 2), C).
    """
    # A numpy constant: JAX differentiates a window maximum only where it sees the initial value.
    lowest = np.asarray(-np.inf, images.dtype)
    around = ((0, 0), (1, 1), (1, 1), (0, 0))
    if _is_cpu():
        padded = jnp.pad(images, around, constant_values=lowest)
        return _max_of_three(_max_of_three(padded, axis=1), axis=2)
    # Padded by the window itself: a TPU would write and read the padded map.
    return lax.reduce_window(images, lowest, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), around)


def _max_of_three(padded: jax.Array, axis: int) -> jax.Array:
    count = (padded.shape[axis] - 3) // 2 + 1
    taps = [
        lax.slice_in_dim(padded, start, start + 2 * count - 1, stride=2, axis=axis)
        for start in range(3)
    ]
    return jnp.maximum(jnp.maximum(taps[0], taps[1]), taps[2])


# --- 3x3 convolution by Winograd's F(m x m, 3x3), m = 2 or 4 (Lavin and Gray, CVPR 2016).
# A tile of (m + 2)^2 inputs gives m^2 outputs: Y = A^T [(G g G^T) * (B^T d B)] A, where g is the kernel and d the tile.
# Summed over channels, the product in the middle is one matrix product for each place of a tile. m = 4 multiplies 36
# times where the plain convolution does 144 times, m = 2 16 times for 36, with kernels of half the size.

_G = {
    2: np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
    4: np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24,
}
_Kernel = TypeVar("_Kernel", NDArray[np.floating], jax.Array)


def winograd_kernel(kernel: _Kernel, m: int = 2) -> _Kernel:
    """G g G^T of a kernel (3, 3, Cin, Cout) -> ((m + 2)^2, Cin, Cout), of the same dtype."""
    both = np.kron(_G[m], _G[m]).astype(kernel.dtype)  # rows and columns at once
    flat: Any = both @ kernel.reshape(9, -1)
    return flat.reshape(-1, *kernel.shape[2:])  # type: ignore[no-any-return]


def winograd_conv2d(images: jax.Array, transformed: jax.Array, dilation: int = 1) -> jax.Array:
    """Convolves with a transformed kernel, stride 1, zeros around: `conv2d` to rounding.

    Args:
      images: (B, H, W, Cin).
      transformed: (16, Cin, Cout) or (36, Cin, Cout), of `winograd_kernel`.
      dilation: step between the taps of the kernel, d: the d * d images of every d-th pixel are convolved as such.

    Returns:
      (B, H, W, Cout).
    """
    if dilation == 1:
        return _tiled(images, transformed)
    batch, height, width, channels = images.shape
    rows, columns = -(-height // dilation), -(-width // dilation)
    padding = ((0, 0), (0, rows * dilation - height), (0, columns * dilation - width), (0, 0))
    phases = jnp.pad(images, padding).reshape(batch, rows, dilation, columns, dilation, channels)
    phases = phases.transpose(2, 4, 0, 1, 3, 5).reshape(-1, rows, columns, channels)
    out = _tiled(phases, transformed)
    out = out.reshape(dilation, dilation, batch, rows, columns, -1).transpose(2, 3, 0, 4, 1, 5)
    return out.reshape(batch, rows * dilation, columns * dilation, -1)[:, :height, :width]


def _winograd(images: jax.Array, kernel: jax.Array, dilation: int) -> jax.Array:
    return winograd_conv2d(images, winograd_kernel(kernel), dilation)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _winograd_in_training(images: jax.Array, kernel: jax.Array, dilation: int) -> jax.Array:
    """`winograd_conv2d` by a kernel (3, 3, Cin, Cout) that changes from call to call; gradients are computed likewise.

    Each is a `lowering.island`: the transformed kernels and tiles of one layer are gone when the next is computed.
    """

    @lowering.island
    def forward(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return _winograd(images, kernel, dilation)

    return forward(images, kernel)


def _winograd_forward(images: jax.Array, kernel: jax.Array, dilation: int) -> tuple[jax.Array, Any]:
    return _winograd_in_training(images, kernel, dilation), (images, kernel)


def _winograd_backward(dilation: int, saved: Any, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    images, kernel = saved

    @lowering.island
    def of_images(kernel: jax.Array, dy: jax.Array) -> jax.Array:
        return _winograd(dy, kernel[::-1, ::-1].swapaxes(2, 3), dilation)

    @lowering.island
    def of_kernel(images: jax.Array, kernel: jax.Array, dy: jax.Array) -> jax.Array:
        forward = partial(_winograd, images, dilation=dilation)
        return jax.vjp(forward, kernel)[1](dy)[0]  # type: ignore[no-any-return]

    return of_images(kernel, dy), of_kernel(images, kernel, dy)


_winograd_in_training.defvjp(_winograd_forward, _winograd_backward)


def _tiled(images: jax.Array, transformed: jax.Array) -> jax.Array:
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


# --- Batch normalization

# Smaller arrays stay on a TPU's chip, where another pass takes little; those that may be read again cannot.
# docs/scaling.md has what other sizes take.
ONE_PASS_BYTES = 3 * 2**20

_Saved = tuple[jax.Array, jax.Array | None, jax.Array, jax.Array, jax.Array]


@partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7))
def normalize(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    shortcut: jax.Array | None,
    near: jax.Array | None,
    relu: bool,
    epsilon: float,
    axis_name: str | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalizes, adds the shortcut and applies the ReLU.

    Args:
      x: (..., C) of a floating dtype.
      scale, bias: (C,).
      shortcut: (..., C) to add to the normalized x; or None.
      near: (C,) where the mean is expected, see `batch_moments`; or None.
      relu: whether negative results become zero.
      epsilon: added to the variance.
      axis_name: mapped axis over which statistics are shared.

    Returns:
      The result (..., C), and mean and biased variance (C,) of x, through which no gradient flows.
    """
    return _forward(x, scale, bias, shortcut, near, relu, epsilon, axis_name)[0]


def _forward(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    shortcut: jax.Array | None,
    near: jax.Array | None,
    relu: bool,
    epsilon: float,
    axis_name: str | None,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[_Saved, bool, bool]]:
    def forward(
        x: jax.Array, scale: jax.Array, bias: jax.Array, shortcut: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        mean, var = batch_moments(x, near, epsilon, axis_name)
        gain = scale * lax.rsqrt(var + epsilon)
        y = x * gain.astype(x.dtype) + (bias - mean * gain).astype(x.dtype)
        return _finished(y, shortcut, relu), mean, var

    forward = lowering.island(forward) if _is_plain(x, axis_name) else forward
    y, mean, var = forward(x, scale, bias, shortcut)
    saved = x, y if relu else None, scale, mean, lax.rsqrt(var + epsilon)
    return (y, mean, var), (saved, shortcut is not None, near is not None)


def _backward(
    relu: bool,
    epsilon: float,
    axis_name: str | None,
    kept: tuple[_Saved, bool, bool],
    cotangents: tuple[jax.Array, ...],
) -> tuple[jax.Array | None, ...]:
    saved, has_shortcut, has_near = kept
    if _is_plain(saved[0], axis_name):
        dx, d_scale, d_bias, dy = _gradients_alone(*saved, cotangents[0])
    else:
        dx, d_scale, d_bias, dy = _gradients(*saved, cotangents[0], axis_name)
    no_gradient = jnp.zeros_like(d_bias) if has_near else None
    return dx, d_scale, d_bias, dy if has_shortcut else None, no_gradient


def _is_plain(x: jax.Array, axis_name: str | None) -> bool:
    return axis_name is None and x.dtype in (jnp.float32, jnp.float64)


def _gradients(
    x: jax.Array,
    y: jax.Array | None,
    scale: jax.Array,
    mean: jax.Array,
    inverse_deviation: jax.Array,
    dy: jax.Array,
    axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Gradients of x, scale, bias and shortcut; those of scale and bias are this device's share of them."""
    if y is not None:
        dy = lax.select(y > 0, dy, jnp.zeros_like(dy))
    axes, count = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    wide_x, wide_dy = x.astype(mean.dtype), dy.astype(mean.dtype)
    d_bias = wide_dy.sum(axes)
    d_scale = (wide_dy * (wide_x - mean)).sum(axes) * inverse_deviation
    all_bias, all_scale = d_bias, d_scale
    if axis_name is not None:
        count *= lax.axis_size(axis_name)
        all_bias, all_scale = lax.psum(jnp.stack([d_bias, d_scale]), axis_name)
    gain = scale * inverse_deviation
    slope = gain * inverse_deviation * all_scale / count
    dx = gain * wide_dy - slope * wide_x + (slope * mean - gain * all_bias / count)
    return dx.astype(x.dtype), d_scale, d_bias, dy


_gradients_alone = lowering.island(_gradients)
normalize.defvjp(_forward, _backward)


def _finished(y: jax.Array, shortcut: jax.Array | None, relu: bool) -> jax.Array:
    y = y if shortcut is None else y + shortcut
    return nn.relu(y) if relu else y


def _group_size(over: int | str, rows: int) -> int:
    """Rows that are normalized together, of those that are traced for: a device's under pmap, else those of all."""
    devices = _split_over()[1]
    size = max(rows // devices, 1) if over == "local" else int(over)
    if rows % (devices * size):
        raise UserError(
            f"--config.model.ghost_size={size} does not divide the {rows / devices:g} rows that a device has of a "
            "batch, or of a part of it"
        )
    return size


def batch_moments(
    x: jax.Array, near: jax.Array | None, epsilon: float, axis_name: str | None
) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance (C,) of x (..., C), at least in float32, over all devices.

    Each device computes those of its rows and sends them once: of moments, unlike of sums, nothing cancels. On a TPU
    it adds up x - near and its square in one pass, which XLA does while a convolution writes x, if x is large. Where
    `near` is too far from the mean for that to be exact, as it may be in the first steps of a run, it reads x again.

    Args:
      x: rows of this device; or of all devices of the mesh that the step is traced for (`sharding.Layout.wrap`).
      near: (C,), where the mean is expected; None: two passes over the rows at hand.
      epsilon: is added to the variance, which need not be more exact than that.
      axis_name: mapped axis over which the moments are shared.
    """
    axis, devices = _split_over()
    # On a CPU XLA splits the plain program as well.
    if not _is_cpu() and near is not None and devices > 1 and x.shape[0] % devices == 0:
        spread, same = PartitionSpec(axis), PartitionSpec()
        local = partial(batch_moments, epsilon=epsilon, axis_name=axis)
        return jax.shard_map(
            local, in_specs=(spread, same), out_specs=(same, same), check_vma=False
        )(x, near)
    is_large = x.size * x.dtype.itemsize >= ONE_PASS_BYTES
    if near is None or lowering.platform() != "tpu" or not is_large:
        mean, var = _moments(x)
    else:
        mean, var = _moments_near(x, near, epsilon)
    if axis_name is None:
        return mean, var
    means, variances = lax.all_gather(jnp.stack([mean, var]), axis_name, axis=1)
    mean = means.mean(0)
    return mean, variances.mean(0) + jnp.square(means - mean).mean(0)


def _split_over() -> tuple[str | None, int]:
    """The axis and number of devices that XLA splits the traced program over, see `sharding.Layout.wrap`."""
    mesh = jax.sharding.get_abstract_mesh()
    if len(mesh.auto_axes) != 1:  # none, or pmap's, which is mapped
        return None, 1
    return mesh.auto_axes[0], mesh.size


def _moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance of (..., C) in two passes."""
    axes = tuple(range(x.ndim - 1))
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = x.mean(axes)
    return mean, jnp.square(x - mean).mean(axes)


def _moments_near(x: jax.Array, near: jax.Array, epsilon: float) -> tuple[jax.Array, jax.Array]:
    """The same in one pass, where `near` is within some deviations of the mean."""
    axes = tuple(range(x.ndim - 1))
    away = x.astype(jnp.promote_types(x.dtype, jnp.float32)) - near
    first, second = away.mean(axes), jnp.square(away).mean(axes)
    var = jnp.maximum(second - jnp.square(first), 0)
    # The difference has the rounding errors of its terms.
    is_near = (jnp.square(first) <= 16 * (var + epsilon)).all()
    return lax.cond(is_near, lambda _: (near + first, var), _moments, x)


# --- Layers

Initializer = Callable[..., jax.Array]

# He et al. 2015, fan-out, as in torchvision and the official code without ImageNet weights.
kaiming_normal_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
xavier_normal = nn.initializers.xavier_normal()


def _prepared(layer: nn.Module) -> Mapping[str, jax.Array] | None:
    """What `prepared.prepare_for_inference` put in the place of a convolution's parameters; None where it did not."""
    return layer.variables["params"] if layer.has_variable("params", "shift") else None


class Conv(nn.Module):
    """A square convolution with symmetric padding; (B, H, W, Cin) -> (B, H/stride, W/stride, features)."""

    features: int
    size: int
    stride: int = 1
    dilation: int = 1
    use_bias: bool = False
    kernel_init: Initializer = kaiming_normal_fan_out

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if (prepared := _prepared(self)) is not None:
            if "winograd" in prepared:
                y = winograd_conv2d(x, prepared["winograd"].astype(x.dtype), self.dilation)
            else:
                y = conv2d(x, prepared["kernel"].astype(x.dtype), self.stride, self.dilation)
            return y + prepared["shift"].astype(x.dtype)
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        y = conv2d(x, kernel.astype(x.dtype), self.stride, self.dilation)
        if self.use_bias:
            bound = (self.size**2 * x.shape[-1]) ** -0.5  # PyTorch's: 1 / sqrt(fan-in)
            uniform = partial(jax.random.uniform, minval=-bound, maxval=bound)
            bias = self.param("bias", uniform, (self.features,), jnp.float32)
            y = y + bias.astype(x.dtype)
        return y


class DepthStem(nn.Module):
    """The trunk's first convolution, on a depth image given once: (B, H, W, 1) -> (B, H/2, W/2, features).

    The official network repeats the image over the three input channels of an ImageNet kernel. Convolution is linear:
    convolving one channel with the kernel summed over its inputs gives the same output and gradients for a third of the
    work, and the kernel keeps its ImageNet shape. With `channels=1` the sum itself is the weight: the same output, a
    third of the parameters, but other updates by Adam and L2.
    """

    features: int
    channels: int = 3

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if (prepared := _prepared(self)) is not None:
            y = conv2d(x, prepared["kernel"].astype(x.dtype), stride=2)
            return y + prepared["shift"].astype(x.dtype)
        shape = (7, 7, self.channels, self.features)
        kernel = self.param("kernel", kaiming_normal_fan_out, shape, jnp.float32)
        return conv2d(x, kernel.sum(axis=2, keepdims=True).astype(x.dtype), stride=2)


class Deconv(nn.Module):
    """Transposed convolution, as PyTorch's `ConvTranspose2d(4, 2, 1)` without bias.

    (B, H, W, Cin) -> (B, 2 H, 2 W, features).
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if (prepared := _prepared(self)) is not None:
            y = _deconv(x, prepared["kernel"].astype(x.dtype))
            return y + prepared["shift"].astype(x.dtype)
        shape = (4, 4, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(0.001), shape, jnp.float32)
        return _deconv(x, kernel.astype(x.dtype))


def _deconv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel[::-1, ::-1],
        window_strides=(1, 1),
        padding=((2, 2), (2, 2)),
        lhs_dilation=(2, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


class BatchNorm(nn.Module):
    """Batch normalization as in PyTorch, over all axes but the last.

    Normalizes with the biased variance of the batch, but the running variance is *unbiased*, unlike that of
    `flax.linen.BatchNorm`. Statistics are at least float32. With `axis_name`, the batch is spread over that
    mapped axis.

    `over` says which rows are normalized together: "global", those of all devices; "local", those of each device; or a
    number, so many consecutive ones ("ghost" batch norm, Hoffer et al. 2017, arXiv:1705.08741). Running statistics are
    then averages over these groups of their means and unbiased variances.
    """

    axis_name: str | None = None
    over: int | str = "global"
    momentum: float = 0.9  # of the old value: PyTorch's 0.1 of the new one
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool,
        *,
        shortcut: jax.Array | None = None,
        relu: bool = False,
    ) -> jax.Array:
        """Normalizes x (..., C), adds `shortcut` (..., C) to the result and applies a ReLU, where asked to."""
        if not train and self.has_variable("params", "folded"):
            return _finished(x, shortcut, relu)  # the convolution before it does this, too
        features = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, features, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, features, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, features, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, features, jnp.float32)

        if not train:
            gain = scale * lax.rsqrt(running_var.value + self.epsilon)
            shift = bias - running_mean.value * gain
            return _finished(x * gain.astype(x.dtype) + shift.astype(x.dtype), shortcut, relu)
        count = x.size // x.shape[-1]
        if self.over == "global":
            near = lax.stop_gradient(running_mean.value)
            y, mean, var = normalize(
                x, scale, bias, shortcut, near, relu, self.epsilon, self.axis_name
            )
            count *= 1 if self.axis_name is None else lax.axis_size(self.axis_name)
        else:
            rows = _group_size(self.over, x.shape[0])
            count = count // x.shape[0] * rows

            def one(x: jax.Array, shortcut: jax.Array | None) -> tuple[jax.Array, ...]:
                return normalize(x, scale, bias, shortcut, None, relu, self.epsilon, None)

            groups = jax.tree.map(lambda v: v.reshape(-1, rows, *v.shape[1:]), (x, shortcut))
            y, means, variances = jax.vmap(one)(*groups)
            y, mean, var = y.reshape(x.shape), means.mean(0), variances.mean(0)
            if self.axis_name is not None:
                mean, var = lax.pmean((mean, var), self.axis_name)
        if not self.is_initializing():
            mean, var = lax.stop_gradient((mean, var))
            unbiased = var * (count / max(count - 1, 1))
            keep = self.momentum
            running_mean.value = keep * running_mean.value + (1 - keep) * mean
            running_var.value = keep * running_var.value + (1 - keep) * unbiased
        return y
