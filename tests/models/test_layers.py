import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.models.layers import BatchNorm, DepthStem, conv2d


def test_batch_norm_keeps_the_unbiased_running_variance() -> None:
    x = jax.random.normal(jax.random.key(0), (3, 2, 2, 4)) * 3 + 1
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), x, train=False)
    y, updated = layer.apply(variables, x, train=True, mutable=["batch_stats"])
    flat = np.asarray(x).reshape(-1, 4)
    np.testing.assert_allclose(y.reshape(-1, 4).mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(y.reshape(-1, 4).var(0), 1, atol=1e-4)
    stats = updated["batch_stats"]
    np.testing.assert_allclose(stats["mean"], 0.1 * flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * flat.var(0, ddof=1), rtol=1e-5)


def test_batch_norm_over_a_mapped_axis_is_that_of_the_whole_batch() -> None:
    x = jax.random.normal(jax.random.key(1), (4, 3, 2, 2, 5))
    layer, mapped = BatchNorm(), BatchNorm(axis_name="devices")
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
    stem = DepthStem(8, channels)
    params = stem.init(jax.random.key(0), image)
    repeated = conv2d(jnp.repeat(image, channels, axis=-1), params["params"]["kernel"], stride=2)
    np.testing.assert_allclose(stem.apply(params, image), repeated, atol=1e-5)
