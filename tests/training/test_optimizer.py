"""Adam with coupled L2 against a hand-written one, and the learning rate where it changes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from a2j_jax.training.optim import adam_with_l2, learning_rate_schedule

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


def rates_at(schedule: optax.Schedule, *steps: int) -> list[float]:
    return [float(schedule(step)) for step in steps]


def test_constant() -> None:
    schedule = learning_rate_schedule("constant", 0.5, total_steps=10, steps_per_epoch=5)
    assert rates_at(schedule, 0, 9, 1000) == [0.5, 0.5, 0.5]


def test_steps_fall_at_the_ends_of_epochs() -> None:
    """The official code: x 0.2 after every 10 epochs, so first in step 10 * 7 (counted from 0)."""
    schedule = learning_rate_schedule("step", 1.0, total_steps=245, steps_per_epoch=7)
    found = rates_at(schedule, 0, 69, 70, 139, 140, 209, 210, 244)
    np.testing.assert_allclose(found, [1, 1, 0.2, 0.2, 0.04, 0.04, 0.008, 0.008], rtol=1e-5)


def test_steps_of_the_paper() -> None:
    schedule = learning_rate_schedule(
        "step",
        1.0,
        total_steps=100,
        steps_per_epoch=3,
        decay_every_epochs=7,
        decay_factor=0.1,
    )
    np.testing.assert_allclose(rates_at(schedule, 20, 21, 42, 63), [1, 0.1, 0.01, 1e-3], rtol=1e-5)


def test_a_warm_up_does_not_move_the_falls() -> None:
    schedule = learning_rate_schedule(
        "step", 1.0, total_steps=100, steps_per_epoch=2, warmup_steps=4
    )
    np.testing.assert_allclose(
        rates_at(schedule, 0, 1, 2, 3, 4, 19, 20, 40),
        [0, 0.25, 0.5, 0.75, 1, 1, 0.2, 0.04],
        rtol=1e-5,
    )


def test_falls_that_a_warm_up_covers_are_made_up_for_at_its_end() -> None:
    """Falls at 20, 40 and 60: the first two are covered, the second by the last step of the warm-up."""
    schedule = learning_rate_schedule(
        "step", 1.0, total_steps=100, steps_per_epoch=2, warmup_steps=40
    )
    np.testing.assert_allclose(
        rates_at(schedule, 10, 20, 39, 40, 59, 60), [0.25, 0.5, 0.975, 0.04, 0.04, 0.008], rtol=1e-5
    )


def test_cosine_falls_to_zero_at_the_end() -> None:
    schedule = learning_rate_schedule(
        "cosine", 2.0, total_steps=110, steps_per_epoch=9, warmup_steps=10
    )
    found = rates_at(schedule, 0, 5, 10, 35, 60, 85, 110, 500)
    quarter = 1 + np.cos(np.pi / 4)
    np.testing.assert_allclose(found, [0, 1, 2, quarter, 1, 2 - quarter, 0, 0], atol=1e-6)


def test_without_warm_up_the_first_step_is_at_the_peak() -> None:
    for kind in ("constant", "step", "cosine"):
        schedule = learning_rate_schedule(kind, 0.5, total_steps=10, steps_per_epoch=5)
        assert rates_at(schedule, 0) == [0.5]


def test_schedules_run_inside_jit() -> None:
    schedule = learning_rate_schedule(
        "step", 1.0, total_steps=100, steps_per_epoch=2, warmup_steps=4
    )
    assert float(jax.jit(schedule)(jnp.int32(20))) == pytest.approx(0.2)
