"""Operations as ONNX: what a function of JAX computes, ONNX Runtime computes from its translation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from a2j_jax.errors import UserError
from a2j_jax.inference.onnx_graph import model_of

KERNEL = np.random.default_rng(1).standard_normal((3, 3, 4, 6)).astype(np.float32)
BIAS = np.arange(6, dtype=np.float32)
NHWC = ("NHWC", "HWIO", "NHWC")


def conv(x: jax.Array, **how: Any) -> jax.Array:
    settings = {
        "window_strides": (1, 1),
        "padding": ((1, 1), (1, 1)),
        "dimension_numbers": NHWC,
    } | how
    return lax.conv_general_dilated(x, settings.pop("kernel", KERNEL), **settings)


def pooled(x: jax.Array) -> jax.Array:
    low = np.float32(-np.inf)
    return lax.reduce_window(
        x, low, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (0, 1), (0, 0))
    )


def windows(x: jax.Array, strides: Any, padding: Any) -> jax.Array:
    return lax.reduce_window(x, np.float32(-np.inf), lax.max, (1, 2, 2, 1), strides, padding)


def along(x: jax.Array) -> jax.Array:
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    best = flat.argmax(axis=1)
    found = jnp.take_along_axis(flat, best[:, None], axis=1)[:, 0]
    return found + jnp.stack([best // 6, best % 6], -1).sum(-1)


def attention(x: jax.Array) -> jax.Array:
    y = x.reshape(x.shape[0], -1, x.shape[-1])
    return jnp.einsum("bqk,bkc->bqc", jax.nn.softmax(jnp.einsum("bqc,bkc->bqk", y, y)), y)


def layer(module: nn.Module) -> Callable[[jax.Array], jax.Array]:
    variables = module.init(jax.random.key(0), jnp.zeros((1, 5, 6, 4)))
    return lambda x: module.apply(variables, x)  # type: ignore[no-any-return]


def integers(x: jax.Array) -> jax.Array:
    return jnp.floor(x * 10).astype(jnp.int32)


FUNCTIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "convolution": conv,
    "strided": lambda x: conv(x, window_strides=(2, 1), padding=((0, 1), (2, 0))),
    "dilated": lambda x: conv(x, rhs_dilation=(2, 2), padding=((2, 2), (2, 2))),
    "grouped": lambda x: conv(x, kernel=KERNEL[:, :, :1, :4], feature_group_count=4),
    "channels first": lambda x: conv(x.transpose(0, 3, 1, 2), dimension_numbers=("NCHW", "HWIO", "NCHW")),
    "upsampling": lambda x: conv(x, lhs_dilation=(2, 2), padding=((1, 2), (2, 1))),
    "two in a row": lambda x: conv(jax.nn.relu(conv(x) + BIAS), kernel=KERNEL.transpose(0, 1, 3, 2)),
    "flax's layers": layer(nn.Sequential([nn.Conv(8, (3, 3), strides=2), nn.LayerNorm(), nn.gelu, nn.Dense(5)])),
    "flax's transposed": layer(nn.ConvTranspose(3, (4, 4), strides=(2, 2))),
    "group norm": layer(nn.GroupNorm(2)),
    "attention": attention,
    "pooling": pooled,
    "pooling of sums": lambda x: pooled(x + conv(x, kernel=KERNEL[..., :4])),
    "softmax": lambda x: jax.nn.softmax(x.reshape(x.shape[0], -1, 4), axis=1),
    "variance": lambda x: x.var((1, 2)) + x.mean((0, 1, 2)) + x.max(-1).min(-1).sum(-1, keepdims=True),
    "sum of what is repeated": lambda x: jnp.broadcast_to(x[:, :1, :1], x.shape).sum((1, 2)),
    "repeated rows": lambda x: jnp.broadcast_to(np.float32([1, 2, 3]), (x.shape[0], 3)),
    "repeated scalars": lambda x: jnp.ones((x.shape[0], 2)) * 3,
    "concatenated": lambda x: jnp.concatenate([x, jnp.full((x.shape[0], 5, 6, 1), 7.0), conv(x)], -1),
    "stacked": lambda x: jnp.stack([x, 2 * x, conv(x, kernel=KERNEL[..., :4])], axis=2),
    "split": lambda x: sum(part * n for n, part in enumerate(jnp.split(x, 2, axis=-1), 1)),
    "slices": lambda x: x[:, 1:4, ::2, 1:] + x[:, 2, 1, -1][:, None, None, None] + conv(x)[:, :3, :3, 3:],
    "every other pixel of a channel": lambda x: x[:, ::2, 1::2, 3],
    "reversed": lambda x: x[:, ::-1, :, ::-1],
    "transposed": lambda x: conv(x).transpose(3, 0, 2, 1).sum(0),
    "padded": lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 0), (0, 1)), constant_values=3.0),
    "positions": along,
    "selected": lambda x: jnp.where((x > 0) & ~(x == 1) | (x < -1), x, jnp.square(x).clip(0.1, 2.0)),
    "functions": lambda x: jnp.tanh(x) + jnp.exp(-(x**2)) + jax.nn.sigmoid(x) + lax.rsqrt(abs(x) + 1) + x**3
    + jnp.floor(x) + jnp.sign(x) * jnp.sqrt(abs(x)) + jnp.log(abs(x) + 1) + lax.erf(x) + jnp.sin(x) * jnp.cos(x),
    "activations": lambda x: jax.nn.gelu(x, approximate=False) + jax.nn.softplus(x) + jax.nn.elu(x) + jax.nn.silu(x),
    "finite": lambda x: jnp.where(jnp.isfinite(1 / jnp.floor(abs(x))), x, 9.0),
    "remainders": lambda x: x % 0.7 + jnp.round(x * 3) + jnp.ceil(x).astype(jnp.int32) % 3,
    "integers": lambda x: integers(x) // 3 + integers(x) % -3 + (integers(x) & 6) + lax.div(integers(x), jnp.int32(-4)),
    "narrow integers": lambda x: (x * 200).astype(jnp.uint8) + (x * 90).astype(jnp.int8).sum(1, keepdims=True),
    "booleans": lambda x: (x > 1).any(1) | (x > -1).all(1) | (x > 0).max(1) | (lax.max(x > 0, x > 1)).argmax(1),
    "sums over no axis": lambda x: x.sum(()),
    "with scalars": lambda x: jnp.maximum(x.sum(), 0.0) + jnp.stack([x.sum(), 2 * x.mean()]).sum() + KERNEL * x.min(),
    "a scalar": lambda x: 2 * x.sum() + 1,
    "limits as Python's numbers": lambda x: lax.clamp(-0.5, x, 0.5),
    "axes of length 1": lambda x: jnp.maximum(x[:, :1], np.zeros((1, 5, 6, 4), np.float32)) + x[:, :, :1]
    + (jnp.zeros(x.shape) + x[:, :1]),
    "convolution of what is repeated": lambda x: conv(jnp.broadcast_to(x[:, :, :1], x.shape)),
    "convolution to another dtype": lambda x: conv(
    jnp.round(x).astype(jnp.float16), kernel=np.round(KERNEL).astype(np.float16), preferred_element_type=jnp.float32),
    "so many times the rows": lambda x: jnp.broadcast_to(jnp.arange(24.0), (x.shape[0] * 5, 24)),
    "all pairs of rows": lambda x: jnp.einsum("bhwc,dhwc->bd", x, x).reshape(x.shape[0], 1, x.shape[0]),
    "called": lambda x: jax.checkpoint(lambda y: jnp.sin(y) * 2)(x),
    "places beyond the last": lambda x: jnp.take(x, jnp.array([1, 7]), axis=1, mode="clip") + jnp.take_along_axis(
    x, jnp.round(x[:, :2] * 9).astype(jnp.int32), axis=1, mode="clip"),
    "matrices": lambda x: x @ KERNEL[0, 0] + jnp.einsum("bhwc,dc->bhwd", x, KERNEL[0, 0].T),
}  # fmt: skip


def session(model: Any) -> Any:
    import onnxruntime

    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), quiet)


def translated(function: Callable[[jax.Array], jax.Array]) -> Any:
    rows = jax.export.symbolic_shape("rows")[0]
    given = {"x": jax.ShapeDtypeStruct((rows, 5, 6, 4), jnp.float32)}
    return model_of(lambda x: {"y": function(x).astype(jnp.float32)}, given)


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_onnx_runtime_computes_the_same(name: str) -> None:
    function = FUNCTIONS[name]
    running = session(translated(function))
    for rows in (1, 3):
        x = np.random.default_rng(rows).standard_normal((rows, 5, 6, 4)).astype(np.float32)
        (found,) = running.run(["y"], {"x": x})
        wanted = np.asarray(function(jnp.asarray(x)), np.float32)
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-5)


def test_activations_stay_channels_first_between_convolutions() -> None:
    """One transposition before the first, one after the last; the bias and the ReLU are beside them."""
    model = translated(FUNCTIONS["two in a row"])
    kinds = [node.op_type for node in model.graph.node]
    assert kinds == ["Transpose", "Conv", "Add", "Relu", "Conv", "Transpose", "Identity"]


def test_what_is_computed_from_constants_is_a_constant() -> None:
    model = translated(lambda x: x * jnp.exp(jnp.arange(4.0)).sum())
    assert [node.op_type for node in model.graph.node] == ["Mul", "Identity"]


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: jnp.sort(x), "'sort'"),
        (lambda x: jnp.cumsum(x, axis=1), "'cumsum'"),
        (lambda x: lax.fori_loop(0, 3, lambda i, y: y * 1.5 + i, x), "'scan'"),
        (lambda x: x + jax.random.normal(jax.random.key(0), x.shape), "random"),
        (lambda x: x.astype(jnp.bfloat16), "bfloat16"),
        (lambda x: lax.reduce_precision(x, 5, 2), "5 and 2 bits"),
        (lambda x: lax.round(x), "halves away"),
        (lambda x: x[1:] + (x.shape[0] + 1), "rows"),
        (lambda x: x[:, jnp.array([0, 2]), jnp.array([1, 3])], "gathers"),
        (lambda x: jnp.take(x, jnp.array([1, 7]), axis=1), "beyond an axis"),
        (lambda x: jnp.take(jnp.arange(4.0), x.argmax(-1)), "gathers"),
        (lambda x: conv(x, padding=((-1, 1), (0, 0))), "less than none"),
        (lambda x: conv(x, lhs_dilation=(2, 2), padding=((3, 3), (1, 1))), "less than none"),
        (lambda x: conv(jnp.concatenate([x, x]), batch_group_count=2), "groups of rows"),
        (lambda x: conv(x.astype(jnp.int32), kernel=KERNEL.astype(np.int32)), "whole numbers"),
        (lambda x: windows(x, (1, 2, 2, 1), ((0, 0), (3, 0), (0, 0), (0, 0))), "wider than a window"),
        (lambda x: windows(x, (1, 2, 2, 2), ((0, 0),) * 4), "windows"),
        (lambda x: (x > 0) > (x > 1), "booleans"),
        (lambda x: lax.pad(x, 0.0, ((0, 0, 0), (0, 0, 1), (0, 0, 0), (0, 0, 0))), "padding"),
        (lambda x: conv(x, lhs_dilation=(2, 2), rhs_dilation=(2, 2)), "both up- and downsamples"),
    ],
)  # fmt: skip
def test_what_cannot_be_translated_is_named(function: Any, named: str) -> None:
    with pytest.raises(UserError, match=named):
        translated(function)
