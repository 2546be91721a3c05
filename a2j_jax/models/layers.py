"""Convolution, pooling and batch normalization with PyTorch's semantics, lowered for the platform they run on.

GPU and TPU use XLA's convolution and window reduction. On the CPU a 1x1 convolution is written as a matrix product, and
the 3x3 max pooling as two passes of three shifted slices, whose gradient is not a scatter; `benchmarks/lowering.py`
measures both. All layers follow the dtype of their input: float32, bfloat16 (weights and statistics stay float32), or
float64 in the parity test.

The gradient of batch norm, together with the sum and the ReLU that may follow it, is written by hand. JAX's own
gradient keeps the differences from the mean, and XLA's CPU compiler then computes the normalized activations again in
every place that reads them. The gradient here needs only the layer's input and output, which the convolutions before
and after it keep anyway. Forward and backward are `lowering.island`s.
"""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from a2j_jax import lowering
from a2j_jax.models import winograd

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


def _is_cpu() -> bool:
    return lowering.platform() == "cpu"


def _winograd_pays(images: jax.Array, kernel: jax.Array) -> bool:
    """Where the three convolutions of a training step are quicker by Winograd's, on two cores.

    Small maps do not fill tiles, and few crops do not make up for transforming the kernel in every call. The number of
    crops is a symbol in what is exported.
    """
    crops = images.shape[0]
    many = isinstance(crops, int) and crops >= 4
    wide, large = min(kernel.shape[2:]) >= 64, min(images.shape[1:3]) >= 11
    return _is_cpu() and images.dtype == jnp.float32 and many and wide and large


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
        return winograd.convolve_in_training(images, kernel, dilation)
    padding = dilation * (size // 2)
    return lax.conv_general_dilated(
        images,
        kernel,
        window_strides=(stride, stride),
        padding=((padding, padding), (padding, padding)),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


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
                y = winograd.convolve(x, prepared["winograd"].astype(x.dtype), self.dilation)
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


class BatchNorm(nn.Module):
    """Batch normalization as in PyTorch, over all axes but the last.

    Normalizes with the biased variance of the batch, but the running variance is *unbiased*, unlike that of
    `flax.linen.BatchNorm`. Statistics are computed in two passes and at least in float32. With `axis_name`, the batch
    is the global one over that mapped axis.
    """

    axis_name: str | None = None
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

        y, count = None, x.size // x.shape[-1]
        if not train:
            mean, var = running_mean.value, running_var.value
        elif _is_cpu() and self.axis_name is None and x.dtype in (jnp.float32, jnp.float64):
            y, mean, var = normalize(x, scale, bias, shortcut, relu, self.epsilon)
            mean, var = lax.stop_gradient((mean, var))
        else:
            mean, var, count = batch_moments(x, self.axis_name)
        if train and not self.is_initializing():
            unbiased = var * (count / max(count - 1, 1))
            keep = self.momentum
            running_mean.value = keep * running_mean.value + (1 - keep) * mean
            running_var.value = keep * running_var.value + (1 - keep) * unbiased
        if y is not None:
            return y
        gain = scale * lax.rsqrt(var + self.epsilon)
        shift = bias - mean * gain
        return _finished(x * gain.astype(x.dtype) + shift.astype(x.dtype), shortcut, relu)


def _finished(y: jax.Array, shortcut: jax.Array | None, relu: bool) -> jax.Array:
    y = y if shortcut is None else y + shortcut
    return nn.relu(y) if relu else y


def batch_moments(x: jax.Array, axis_name: str | None) -> tuple[jax.Array, jax.Array, int]:
    """Mean, biased variance (C,) and number of values behind them, of x (..., C), globally over `axis_name`."""
    axes = tuple(range(x.ndim - 1))
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    count = x.size // x.shape[-1]
    mean = x.mean(axes)
    if axis_name is not None:
        count *= lax.axis_size(axis_name)
        mean = lax.pmean(mean, axis_name)
    var = jnp.square(x - mean).mean(axes)
    if axis_name is not None:
        var = lax.pmean(var, axis_name)
    return mean, var, count


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
