"""Every lowering gives the same numbers, values and gradients."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.lowering import lowering_for
from a2j_jax.models import layers


def both_lowerings(
    f: Callable[..., jax.Array], *arguments: jax.Array
) -> list[tuple[np.ndarray, ...]]:
    results = []
    for platform in ("cpu", "tpu"):
        argnums = tuple(range(len(arguments)))
        jax.clear_caches()  # the lowering is chosen while tracing
        with lowering_for(platform):
            value = jax.jit(f)(*arguments)
            weights = jnp.cos(jnp.arange(value.size)).reshape(value.shape)
            grads = jax.jit(jax.grad(lambda *a, w=weights: (f(*a) * w).sum(), argnums))(*arguments)
        results.append((np.asarray(value), *map(np.asarray, grads)))
    return results


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("side", [8, 9])
def test_convolution(stride: int, size: int, side: int) -> None:
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (2, side, side, 3))
    kernel = jax.random.normal(keys[1], (size, size, 3, 4))
    cpu, native = both_lowerings(lambda x, k: layers.conv2d(x, k, stride), x, kernel)
    assert cpu[0].shape == (2, -(-side // stride), -(-side // stride), 4)
    for ours, theirs in zip(cpu, native, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("side", [8, 9])
def test_max_pooling(side: int) -> None:
    x = jax.random.normal(jax.random.key(0), (2, side, side, 3)) - 5.0
    cpu, native = both_lowerings(layers.max_pool_3x3_stride_2, x)
    assert cpu[0].shape == (2, -(-side // 2), -(-side // 2), 3)
    for ours, theirs in zip(cpu, native, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_dilation_reads_every_other_pixel() -> None:
    kernel = jnp.zeros((3, 3, 1, 1)).at[0, 2].set(1.0)
    x = jnp.arange(49.0).reshape(1, 7, 7, 1)
    y = layers.conv2d(x, kernel, dilation=2)
    assert y.shape == x.shape
    assert float(y[0, 3, 3, 0]) == float(x[0, 1, 5, 0])


def test_the_lowering_follows_the_platform_that_is_compiled_for() -> None:
    def lowered() -> str:
        x, kernel = jnp.zeros((1, 8, 8, 3)), jnp.zeros((1, 1, 3, 4))
        return jax.jit(lambda x, k: layers.conv2d(x, k)).lower(x, kernel).as_text()

    assert "convolution" not in lowered()  # the default backend of the tests is the CPU
    with lowering_for("tpu"):
        assert "convolution" in lowered()
        with lowering_for("cpu"):
            assert "convolution" not in lowered()
        assert "convolution" in lowered()
    assert "convolution" not in lowered()
