"""Adam with coupled L2 and LAMB against hand-written ones, and the learning rate where it changes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from a2j_jax.runs.experiment import resolve
from a2j_jax.training.step import adam_with_l2, learning_rate_schedule, optimizer_of
from tests import tiny

LEARNING_RATE, L2 = 3.5e-2, 1e-1  # large, so that a mistake shows within three steps


def adam_by_hand(
    parameters: np.ndarray, gradients: list[np.ndarray], rates: list[float]
) -> np.ndarray:
    """PyTorch's documentation of Adam, line by line, with weight_decay = L2."""
    theta, m, v = parameters.astype(np.float64), 0.0, 0.0
    for t, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        g = gradient + L2 * theta
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        theta = theta - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return theta


@pytest.mark.parametrize("rates", [[LEARNING_RATE] * 3, [0.0, 0.1, 0.02]])
def test_three_steps_equal_pytorchs_adam(rates: list[float]) -> None:
    rng = np.random.default_rng(0)
    start = {name: rng.standard_normal((3, 4)).astype(np.float32) for name in ("kernel", "bias")}
    gradients = [
        {name: rng.standard_normal((3, 4)).astype(np.float32) for name in start} for _ in range(3)
    ]
    optimizer = adam_with_l2(lambda step: jnp.asarray(rates)[step], L2)
    parameters, state = start, optimizer.init(start)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, parameters)
        parameters = optax.apply_updates(parameters, updates)
    for name, found in parameters.items():
        wanted = adam_by_hand(start[name], [g[name] for g in gradients], rates)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_the_decay_is_coupled() -> None:
    """Scaled by the adaptive step: without a gradient, a parameter of any size moves by the learning rate."""
    optimizer = adam_with_l2(LEARNING_RATE, L2)
    parameters = jnp.array([1e-3, 1.0, 100.0])
    updates, _ = optimizer.update(jnp.zeros(3), optimizer.init(parameters), parameters)
    np.testing.assert_allclose(updates, -LEARNING_RATE * jnp.ones(3), rtol=1e-3)


def lamb_by_hand(
    parameters: np.ndarray, gradients: list[np.ndarray], rates: list[float]
) -> np.ndarray:
    """Algorithm 2 of You et al. 2020 (arXiv 1904.00962) for one tensor, phi(z) = z, with Adam's bias corrections."""
    theta, m, v = parameters.astype(np.float64), 0.0, 0.0
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        r = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6) + L2 * theta
        theta = theta - rate * np.linalg.norm(theta) / np.linalg.norm(r) * r
    return theta


def test_three_steps_equal_lamb() -> None:
    rng, rates = np.random.default_rng(0), [0.0, 0.1, 0.02]
    start = {name: rng.standard_normal((3, 4)).astype(np.float32) for name in ("kernel", "bias")}
    gradients = [
        {name: rng.standard_normal((3, 4)).astype(np.float32) for name in start} for _ in range(3)
    ]
    given = {"optim.optimizer": "lamb", "optim.weight_decay": str(L2)}
    experiment = resolve(tiny.changed(tiny.config(), given))
    optimizer = optimizer_of(experiment, lambda step: jnp.asarray(rates)[step])
    parameters, state = start, optimizer.init(start)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, parameters)
        parameters = optax.apply_updates(parameters, updates)
    for name, found in parameters.items():
        wanted = lamb_by_hand(start[name], [g[name] for g in gradients], rates)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


QUARTER = 1 + np.cos(np.pi / 4)


@pytest.mark.parametrize(
    ("kind", "options", "steps", "expected"),
    [
        pytest.param("constant", {}, 10, {0: 1, 9: 1, 1000: 1}, id="constant"),
        pytest.param(
            "step", {}, 245, {0: 1, 69: 1, 70: 0.2, 139: 0.2, 140: 0.04, 209: 0.04, 210: 0.008, 244: 0.008},
            id="official: x 0.2 after every 10 epochs of 7 steps",
        ),
        pytest.param(
            "step", {"decay_every": 21, "decay_factor": 0.1}, 100, {20: 1, 21: 0.1, 42: 0.01, 63: 1e-3},
            id="paper: x 0.1 after every 7 epochs of 3 steps",
        ),
        pytest.param(
            "step", {"warmup_steps": 4, "decay_every": 20}, 100,
            {0: 0, 1: 0.25, 2: 0.5, 3: 0.75, 4: 1, 19: 1, 20: 0.2, 40: 0.04},
            id="a warm-up does not move the falls",
        ),
        pytest.param(
            "step", {"warmup_steps": 40, "decay_every": 20}, 100,
            {10: 0.25, 20: 0.5, 39: 0.975, 40: 0.04, 59: 0.04, 60: 0.008},
            id="falls at 20 and 40 that a warm-up covers are made up for at its end",
        ),
        pytest.param(
            "cosine", {"peak": 2.0, "warmup_steps": 10}, 110,
            {0: 0, 5: 1, 10: 2, 35: QUARTER, 60: 1, 85: 2 - QUARTER, 110: 0, 500: 0},
            id="cosine falls to zero at the end",
        ),
        pytest.param("cosine", {}, 10, {0: 1}, id="without a warm-up it starts at the peak"),
    ],
)  # fmt: skip
def test_the_learning_rate(
    kind: str, options: dict[str, Any], steps: int, expected: dict[int, float]
) -> None:
    options = {"peak": 1.0, "decay_every": 70, "decay_factor": 0.2, **options}
    schedule = learning_rate_schedule(kind, total_steps=steps, **options)
    for step, rate in expected.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-5, abs=1e-6), step
        assert float(jax.jit(schedule)(jnp.int32(step))) == pytest.approx(rate, rel=1e-5, abs=1e-6)
