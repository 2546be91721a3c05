"""Layers: all lowerings, Winograd's too, give the same values and gradients; batch norm and stem are PyTorch's."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.errors import UserError
from a2j_jax.lowering import island, lowering_for, made_once, platform
from a2j_jax.models import layers


def both_lowerings(
    f: Callable[..., jax.Array], *arguments: jax.Array, tolerance: float = 1e-4
) -> np.ndarray:
    """The value of f, which has the same gradients in both."""
    results = []
    for target in ("cpu", "tpu"):

        def both(*arguments: jax.Array) -> tuple[jax.Array, ...]:  # a new one: traced again
            value = f(*arguments)
            weights = jnp.cos(jnp.arange(value.size)).reshape(value.shape)
            argnums = tuple(range(len(arguments)))
            return value, *jax.grad(lambda *a: (f(*a) * weights).sum(), argnums)(*arguments)

        with lowering_for(target):
            results.append(tuple(map(np.asarray, jax.jit(both)(*arguments))))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7 if tolerance else 0, atol=tolerance)
    return results[0][0]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("side", [8, 9])
def test_convolution(stride: int, size: int, side: int) -> None:
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (2, side, side, 3))
    kernel = jax.random.normal(keys[1], (size, size, 3, 4))
    found = both_lowerings(lambda x, k: layers.conv2d(x, k, stride), x, kernel)
    assert found.shape == (2, -(-side // stride), -(-side // stride), 4)


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("sides", [(1, 1), (2, 5), (7, 4), (9, 9)])
@pytest.mark.parametrize("m", [2, 4])
def test_winograds_convolution(m: int, sides: tuple[int, int], dilation: int) -> None:
    """Values and gradients of the direct one, on maps of even and odd sides."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, *sides, 6)), jnp.float32)
    kernel = rng.standard_normal((3, 3, 6, 4)).astype(np.float32)
    transformed = layers.winograd_kernel(kernel, m)
    assert transformed.dtype == np.float32

    def direct(x: jax.Array) -> jax.Array:
        return layers.conv2d(x, jnp.asarray(kernel), dilation=dilation)

    def quick(x: jax.Array) -> jax.Array:
        return layers.winograd_conv2d(x, jnp.asarray(transformed), dilation)

    @jax.jit
    def found(x: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
        return [(f(x), jax.grad(lambda x, f=f: jnp.sin(f(x)).sum())(x)) for f in (quick, direct)]

    (values, slopes), (wanted, wanted_slopes) = found(x)
    np.testing.assert_allclose(values, wanted, atol=1e-4)
    np.testing.assert_allclose(slopes, wanted_slopes, atol=1e-3)


@pytest.mark.parametrize("m", [2, 4])
def test_winograds_convolution_in_float64_is_exact_to_its_rounding(m: int) -> None:
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, kernel = rng.standard_normal((1, 7, 6, 5)), rng.standard_normal((3, 3, 5, 3))
        found = layers.winograd_conv2d(
            jnp.asarray(x), jnp.asarray(layers.winograd_kernel(kernel, m))
        )
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, layers.conv2d(jnp.asarray(x), kernel), atol=1e-12)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("sides", [(11, 12), (13, 11)])
def test_winograds_convolution_in_training(sides: tuple[int, int], dilation: int) -> None:
    """Values and both gradients of XLA's convolution, where `layers.conv2d` takes Winograd's."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((4, *sides, 64)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((3, 3, 64, 66)) / 24, jnp.float32)

    def found(platform: str) -> list[Any]:
        with lowering_for(platform):

            def loss(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
                y = layers.conv2d(x, kernel, dilation=dilation)
                return jnp.sin(y).sum(), y

            gradients, y = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(x, kernel)
            return [y, *gradients]

    taken = jax.make_jaxpr(partial(layers.conv2d, dilation=dilation))(x, kernel)
    assert ("conv_general_dilated" in str(taken)) == (jax.default_backend() != "cpu")
    for ours, native in zip(found("cpu"), found("gpu"), strict=True):
        np.testing.assert_allclose(ours, native, atol=2e-4)


@pytest.mark.parametrize("side", [8, 9])
def test_max_pooling(side: int) -> None:
    x = jax.random.normal(jax.random.key(0), (2, side, side, 3)) - 5.0
    found = both_lowerings(layers.max_pool_3x3_stride_2, x, tolerance=0)
    assert found.shape == (2, -(-side // 2), -(-side // 2), 3)


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


def test_an_error_ends_a_lowering() -> None:
    with pytest.raises(ZeroDivisionError), lowering_for("tpu"):
        raise ZeroDivisionError
    assert platform() == jax.default_backend()


def test_a_program_is_made_once_for_each_platform_and_float() -> None:
    made = made_once(lambda size, **more: object())
    default = made(3)
    assert made(3) is default
    assert made(4) is not default
    assert made(3, name="other") is not default
    with lowering_for("tpu"):
        assert made(3) is not default
    with jax.enable_x64(True):
        assert made(3) is not default
    assert made(3) is default
    assert made([3]) is not made([3])  # has no hash


def test_batch_norm_keeps_the_unbiased_running_variance() -> None:
    x = jax.random.normal(jax.random.key(0), (3, 2, 2, 4)) * 3 + 1
    layer = layers.BatchNorm()
    variables = layer.init(jax.random.key(0), x, train=False)
    y, updated = layer.apply(variables, x, train=True, mutable=["batch_stats"])
    flat = np.asarray(x).reshape(-1, 4)
    np.testing.assert_allclose(y.reshape(-1, 4).mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(y.reshape(-1, 4).var(0), 1, atol=1e-4)
    stats = updated["batch_stats"]
    np.testing.assert_allclose(stats["mean"], 0.1 * flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * flat.var(0, ddof=1), rtol=1e-5)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_shortcut", [False, True])
def test_batch_norm(with_shortcut: bool, relu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    monkeypatch.setattr(layers, "ONE_PASS_BYTES", 0)
    x, shortcut = (jax.random.normal(key, (3, 5, 7, 4)) * 2 + 1 for key in keys[:2])
    scale, bias = jax.random.normal(keys[2], (2, 4))
    layer = layers.BatchNorm()
    running = layer.init(jax.random.key(0), x, train=False)["batch_stats"]

    def normalized(
        x: jax.Array, shortcut: jax.Array, scale: jax.Array, bias: jax.Array
    ) -> jax.Array:
        variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": running}
        more = {"shortcut": shortcut if with_shortcut else None, "relu": relu}
        y, _ = layer.apply(variables, x, train=True, mutable=["batch_stats"], **more)
        return y

    with jax.enable_x64(True):
        arguments = [np.asarray(value, np.float64) for value in (x, shortcut, scale, bias)]
        exact = both_lowerings(normalized, *arguments, tolerance=1e-9)
    found = both_lowerings(normalized, x, shortcut, scale, bias)
    np.testing.assert_allclose(found, exact, atol=1e-5)
    plain = (x - x.mean((0, 1, 2))) / x.std((0, 1, 2)) * scale + bias
    plain = plain + shortcut if with_shortcut else plain
    np.testing.assert_allclose(found, jnp.maximum(plain, 0) if relu else plain, atol=1e-3)


@pytest.mark.parametrize("one_pass_bytes", [0, layers.ONE_PASS_BYTES])
def test_batch_norm_far_from_zero(one_pass_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Means of 1,000 deviations, and running means of zero: as exact as float32 inputs are."""
    monkeypatch.setattr(layers, "ONE_PASS_BYTES", one_pass_bytes)
    layer, mapped = layers.BatchNorm(), layers.BatchNorm(axis_name="devices")
    x = np.random.default_rng(0).normal(1000, 1, (8, 9, 9, 4)).astype(np.float32)
    x[..., 3] /= 1000
    variables = layer.init(jax.random.key(0), x, train=False)
    flat = x.reshape(-1, 4).astype(np.float64)
    moments = flat.mean(0), flat.var(0, ddof=1)
    wanted = ((flat - moments[0]) / np.sqrt(flat.var(0) + layer.epsilon)).reshape(x.shape)
    later = {"mean": moments[0].astype(np.float32), "var": np.ones(4, np.float32)}
    for running in (variables["batch_stats"], later):
        known = {**variables, "batch_stats": running}

        def apply(module: layers.BatchNorm, x: jax.Array, known: Any = known) -> Any:
            return module.apply(known, x, train=True, mutable=["batch_stats"])

        for target in ("cpu", "tpu"):
            with lowering_for(target):
                y, updated = jax.jit(partial(apply, layer))(x)
                shards, parts = jax.vmap(partial(apply, mapped), axis_name="devices")(
                    x.reshape(4, 2, *x.shape[1:])
                )
            parts = jax.tree.map(lambda v: v[0], parts)
            for y_, stats in (
                (y, updated["batch_stats"]),
                (shards.reshape(x.shape), parts["batch_stats"]),
            ):
                np.testing.assert_allclose(y_, wanted, atol=1e-3)
                for name, moment in zip(("mean", "var"), moments, strict=True):
                    new = 0.9 * running[name] + 0.1 * moment
                    np.testing.assert_allclose(stats[name], new, rtol=1e-5)


def test_ghost_batch_norm_is_that_of_consecutive_rows() -> None:
    keys = jax.random.split(jax.random.key(0), 2)
    x, shortcut = (jax.random.normal(key, (12, 3, 3, 5)) * 2 + 1 for key in keys)
    plain, ghost = layers.BatchNorm(), layers.BatchNorm(over=4)
    variables = plain.init(jax.random.key(0), x, train=False)

    def apply(module: layers.BatchNorm, variables: Any, x: jax.Array, shortcut: jax.Array) -> Any:
        more = {"train": True, "mutable": ["batch_stats"], "relu": True}
        return module.apply(variables, x, shortcut=shortcut, **more)

    def each(variables: Any, *inputs: jax.Array) -> Any:
        parts = [apply(plain, variables, *(v[i : i + 4] for v in inputs)) for i in range(0, 12, 4)]
        y, stats = zip(*parts, strict=True)
        return jnp.concatenate(y), jax.tree.map(lambda *v: sum(v) / 3, *stats)

    def with_gradients(f: Any) -> Any:
        def loss(*arguments: Any) -> Any:
            y, stats = f(*arguments)
            return jnp.sum(y * jnp.cos(jnp.arange(y.size)).reshape(y.shape)), (y, stats)

        return jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))

    wanted = with_gradients(each)(variables, x, shortcut)
    for target in ("cpu", "tpu"):
        with lowering_for(target):
            found = with_gradients(partial(apply, ghost))(variables, x, shortcut)
        jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), found, wanted)
    unlike = layers.BatchNorm(over=5)
    with pytest.raises(UserError, match=r"model\.ghost_size=5 .* 12 rows"):
        apply(unlike, variables, x, shortcut)
    # Evaluation does not know of groups.
    for one in (ghost, unlike):
        np.testing.assert_array_equal(
            one.apply(variables, x, train=False), plain.apply(variables, x, train=False)
        )


def test_batch_norm_in_bfloat16_is_the_native_one() -> None:
    x = jax.random.normal(jax.random.key(0), (3, 5, 7, 4), jnp.bfloat16)
    layer = layers.BatchNorm()
    variables = layer.init(jax.random.key(0), x, train=False)
    apply = jax.jit(partial(layer.apply, train=True, mutable=["batch_stats"]))
    y, _ = apply(variables, x)
    assert y.dtype == jnp.bfloat16
    assert "call" not in apply.lower(variables, x).as_text()


def test_an_island_is_kept_apart_on_the_cpu_alone() -> None:
    def program(x: jax.Array) -> jax.Array:
        return island(lambda x: jnp.where(x > 1, x, 1))(x) * 2

    x = jnp.arange(3.0)
    np.testing.assert_array_equal(jax.jit(program)(x), [2, 2, 4])
    compiled = jax.jit(program).lower(x).compile().as_text()
    assert len(re.findall(r"\bcall\(", compiled)) == 1  # what is called within it is not
    with lowering_for("tpu"):
        assert "inlineable" not in jax.jit(lambda x: program(x)).lower(x).as_text()


def test_batch_norm_over_a_mapped_axis_is_that_of_the_whole_batch() -> None:
    x = jax.random.normal(jax.random.key(1), (4, 3, 2, 2, 5))
    layer, mapped = layers.BatchNorm(), layers.BatchNorm(axis_name="devices")
    variables = layer.init(jax.random.key(0), x[0], train=False)
    whole, stats = layer.apply(
        variables, x.reshape(12, 2, 2, 5), train=True, mutable=["batch_stats"]
    )
    parts, part_stats = jax.vmap(
        lambda shard: mapped.apply(variables, shard, train=True, mutable=["batch_stats"]),
        axis_name="devices",
    )(x)
    np.testing.assert_allclose(parts.reshape(whole.shape), whole, atol=1e-5)
    for name in ("mean", "var"):
        np.testing.assert_allclose(
            part_stats["batch_stats"][name][0], stats["batch_stats"][name], rtol=1e-5
        )


@pytest.mark.parametrize("channels", [1, 3])
def test_stem_equals_the_repeated_image(channels: int) -> None:
    image = jax.random.normal(jax.random.key(2), (1, 16, 16, 1))
    stem = layers.DepthStem(8, channels)
    params = stem.init(jax.random.key(0), image)
    repeated = layers.conv2d(
        jnp.repeat(image, channels, axis=-1), params["params"]["kernel"], stride=2
    )
    np.testing.assert_allclose(stem.apply(params, image), repeated, atol=1e-5)


def test_a_deconvolution_puts_its_kernel_around_every_pixel() -> None:
    """Pixel 1 of a row of 3, weight 1..4: at stride 2 and padding 1 it lands on pixels 1 to 4 of 6."""
    x = np.zeros((1, 3, 3, 1), np.float32)
    x[0, 1, 1, 0] = 1.0
    row = np.arange(1.0, 5.0, dtype=np.float32)
    kernel = (row[:, None] * row)[:, :, None, None]
    found = layers.Deconv(1).apply({"params": {"kernel": kernel}}, x)[0, :, :, 0]
    wanted = np.zeros((6, 6))
    wanted[1:5, 1:5] = row[:, None] * row
    np.testing.assert_allclose(found, wanted)
