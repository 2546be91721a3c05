"""What a training step may do beside the plain update: parts, frozen layers, an average, skipped updates."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from a2j_jax.losses import objective
from a2j_jax.models.a2j import A2J
from a2j_jax.runs.sharding import TrainState
from a2j_jax.training.step import freeze, held_still, make_train_step
from tests import tiny
from tests.own_parts import QuickA2J

SIZE, ROWS, JOINTS = 32, 8, 5
MODEL = QuickA2J(JOINTS, head_features=4, head_depth=1)
OBJECTIVE = partial(objective, crop_size=SIZE, regression_weight=3.0)
ALL = ("trunk", "proposal_head", "offset_head", "depth_head")


@pytest.fixture(scope="module")
def variables() -> Any:
    return tiny.made_up(tiny.shapes(MODEL))


@pytest.fixture(scope="module")
def batch() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    valid = rng.random((ROWS, JOINTS)) > 0.3
    valid[:3] = False  # parts of a batch have different numbers of labeled joints
    return {
        "images": rng.normal(size=(ROWS, SIZE, SIZE, 1)).astype(np.float32),
        "joints": rng.uniform(0, SIZE, (ROWS, JOINTS, 3)).astype(np.float32),
        "valid": valid,
    }


def as_they_are(batch: Any, keys: jax.Array) -> Any:
    return batch["images"], {name: batch[name] for name in ("joints", "valid")}


def noisy(batch: Any, keys: jax.Array) -> Any:
    noise = jax.vmap(lambda key: jax.random.normal(key, (SIZE, SIZE, 1)))(keys)
    images, targets = as_they_are(batch, keys)
    return images + noise, targets


def take(
    variables: Any,
    batch: Any,
    steps: int = 1,
    prepare: Any = as_they_are,
    optimizer: Any = None,
    **options: Any,
) -> tuple[TrainState, dict[str, float]]:
    optimizer = optimizer or optax.sgd(1e-3)
    step = jax.jit(make_train_step(MODEL, optimizer, prepare, OBJECTIVE, **options))
    state = TrainState.create(variables, optimizer, average="ema_decay" in options)
    metrics: Any = {}
    for _ in range(steps):
        state, metrics = step(state, batch, jax.random.key(0))
    return state, {name: float(value) for name, value in metrics.items()}


def farthest(one: Any, other: Any) -> float:
    apart = jax.tree.map(lambda a, b: np.abs(np.float64(a) - np.float64(b)).max(), one, other)
    return max(jax.tree.leaves(apart))


def in_float64(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, tree)


def test_parts_of_a_batch_add_up_to_the_batch(variables: Any, batch: Any) -> None:
    """By running statistics a part has nothing to do with the others: the sums are the batch's."""
    with jax.enable_x64(True), nn.intercept_methods(held_still(ALL)):
        variables, batch = in_float64(variables), in_float64(batch)
        whole, metrics = take(variables, batch, 3, prepare=noisy)
        parts, of_parts = take(variables, batch, 3, prepare=noisy, accumulate=4)
    assert farthest(whole.params, parts.params) < 1e-12
    assert farthest(whole.params, variables["params"]) > 1e-4
    assert of_parts == pytest.approx(metrics, rel=1e-10)


def test_parts_keep_their_own_batch_statistics(variables: Any, batch: Any) -> None:
    whole, _ = take(variables, batch)
    parts, _ = take(variables, batch, accumulate=2)
    first = ("trunk", "bn1", "mean")
    # Means of parts average to the mean of all where the layers below have none; variances do not.
    one, other = (flatten_dict(state.batch_stats) for state in (whole, parts))
    np.testing.assert_allclose(one[first], other[first], atol=1e-6)
    assert farthest(whole.batch_stats, parts.batch_stats) > 1e-4


@pytest.mark.slow
def test_examples_draw_by_step_and_place(variables: Any, batch: Any) -> None:
    def seen(step: int, rows: slice) -> Any:
        drawn: list[Any] = []

        def prepare(part: Any, keys: jax.Array) -> Any:
            jax.debug.callback(lambda x: drawn.append(np.asarray(x)), jax.random.key_data(keys))
            return as_they_are(part, keys)

        optimizer = optax.sgd(0.0)
        train_step = make_train_step(MODEL, optimizer, prepare, OBJECTIVE)
        state = TrainState.create(variables, optimizer).replace(step=jnp.int32(step))
        jax.jit(train_step)(state, {n: x[rows] for n, x in batch.items()}, jax.random.key(0))
        jax.effects_barrier()
        return drawn[0]

    whole = seen(0, slice(0, 4))
    assert len(np.unique(whole, axis=0)) == 4
    np.testing.assert_array_equal(whole[:2], seen(0, slice(0, 2)))
    assert not np.array_equal(whole, seen(1, slice(0, 4)))


@pytest.mark.parametrize("prefix", ["trunk/layer1", "offset_head/", "trunk/bn1/"])
def test_what_is_frozen_stays_whole(variables: Any, batch: Any, prefix: str) -> None:
    optimizer = freeze(optax.chain(optax.add_decayed_weights(0.1), optax.sgd(1e-3)), (prefix,))
    state, _ = take(variables, batch, optimizer=optimizer, frozen=(prefix,))
    for kind in ("params", "batch_stats"):
        before, after = (flatten_dict(tree[kind], sep="/") for tree in (variables, state.variables))
        changed = {name for name in before if not np.array_equal(before[name], after[name])}
        assert {name for name in before if not name.startswith(prefix)} == changed


@pytest.mark.slow
def test_frozen_batch_norm_is_by_running_statistics(variables: Any, batch: Any) -> None:
    _, trained = take(variables, batch)
    _, frozen = take(variables, batch, frozen=ALL[:1])
    assert trained["loss"] != pytest.approx(frozen["loss"], rel=1e-3)
    heads = MODEL.apply(variables, batch["images"])
    _, all_frozen = take(variables, batch, frozen=ALL)
    expected = OBJECTIVE(heads, batch, count=batch["valid"].sum()).total
    assert all_frozen["loss"] == pytest.approx(float(expected), rel=1e-5)
    assert all_frozen["grad_norm"] == 0


def test_the_average_follows_the_weights(variables: Any, batch: Any) -> None:
    decay, steps = 0.15, 3  # the warm-up keeps 0.1, 0.18, 0.25, ...: it ends after the first step
    expected = jax.tree.map(np.float64, variables)
    for step in range(1, steps + 1):
        keep = min(decay, step / (9 + step))
        at, _ = take(variables, batch, step)
        expected = jax.tree.map(
            lambda a, x, keep=keep: keep * a + (1 - keep) * np.float64(x), expected, at.variables
        )
    state, _ = take(variables, batch, steps, ema_decay=decay)
    assert farthest(state.ema, expected) < 1e-5
    assert farthest(state.ema, state.variables) > 1e-5


def test_updates_that_are_not_finite_change_nothing_but_the_count(
    variables: Any, batch: Any
) -> None:
    broken = {**batch, "joints": np.full_like(batch["joints"], np.nan)}
    options: dict[str, Any] = {"skip_nonfinite": True, "ema_decay": 0.5}
    step = jax.jit(make_train_step(MODEL, optax.adam(1e-3), as_they_are, OBJECTIVE, **options))
    state = TrainState.create(variables, optax.adam(1e-3), average=True)
    counts = []
    for given in (batch, broken, broken, batch, broken):
        before = state
        state, metrics = step(state, given, jax.random.key(0))
        kept = all(
            tiny.same(getattr(state, name), getattr(before, name))
            for name in ("params", "batch_stats", "opt_state", "ema")
        )
        assert kept == (given is broken)
        assert int(state.step) == int(before.step) + 1
        counts.append((int(metrics["skipped"]), int(metrics["skipped_in_a_row"])))
    assert counts == [(0, 0), (1, 1), (2, 2), (2, 0), (3, 1)]


@pytest.mark.slow
def test_recomputed_blocks_train_the_same(batch: Any) -> None:
    optimizer, found = optax.sgd(1e-3), []
    for remat in (False, True):
        model = A2J(
            JOINTS, backbone="resnet18", width=8, head_features=8, head_depth=1, remat=remat
        )
        step = jax.jit(make_train_step(model, optimizer, as_they_are, OBJECTIVE))
        state = TrainState.create(tiny.made_up(tiny.shapes(model)), optimizer)
        found.append(step(state, batch, jax.random.key(0)))
    (plain, metrics), (again, of_again) = found
    assert farthest(plain.variables, again.variables) < 1e-5
    assert float(of_again["loss"]) == pytest.approx(float(metrics["loss"]), rel=1e-5)
