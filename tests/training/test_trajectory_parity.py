"""Four Adam steps against the official program's recorded trajectory, in float64 and in float32."""

import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from a2j_jax.losses import objective
from a2j_jax.models.a2j import A2J
from a2j_jax.runs.sharding import TrainState
from a2j_jax.training.step import adam_with_l2, make_train_step
from a2j_jax.weights.convert import official_from_variables, variables_from_official
from tests import recipe

MODEL = A2J(14)
COLUMNS = ("loss", "surrounding", "regression", "grad_norm")
official_names = partial(official_from_variables, backbone="resnet50", joint_dims=3)


class Run(NamedTuple):
    golden: dict[str, Any]
    trajectory: np.ndarray  # (4, 4), columns as in COLUMNS
    gradients: dict[str, np.ndarray]  # of step 0, official names and layout
    after: dict[str, np.ndarray]  # variables after four steps, likewise


def four_steps(parity: Path, golden_file: str, dtype: type) -> Run:
    golden = json.loads((parity / golden_file).read_text())
    tensors = recipe.state_dict(parity / "state_dict_hand_k14.json", 14)
    x, joints = (a.astype(dtype) for a in recipe.training_data())
    expected = jax.eval_shape(MODEL.init, jax.random.key(0), x[0])
    variables = variables_from_official(
        {name: t.astype(dtype) for name, t in tensors.items()},
        expected,
    )
    losses = partial(objective, crop_size=96, regression_weight=3.0, alpha=0.5, depth_term="l1")
    optimizer = adam_with_l2(3.5e-4, 1e-4)
    valid = np.ones((4, 14), bool)

    # XLA has no library's convolutions in float64: optimizing them is worth its time.
    options: Any = {"xla_backend_optimization_level": 3} if dtype is np.float64 else None
    step = jax.jit(
        make_train_step(MODEL, optimizer, lambda batch, _: (batch["x"], batch), losses),
        compiler_options=options,
    )
    state, rows = TrainState.create(variables, optimizer), []
    for s in range(4):
        batch = {"x": x[s], "joints": joints[s], "valid": valid}
        state, metrics = step(state, batch, jax.random.key(0))
        rows.append([float(metrics[name]) for name in COLUMNS])
        if s == 0:
            # Adam's first moment after one step is (1 - b1) (gradient + L2 * parameter).
            moment, before = state.opt_state[1].mu, variables["params"]
            grads = jax.tree.map(lambda m, p: m / 0.1 - 1e-4 * p, moment, before)
            stats = variables["batch_stats"]
            gradients = official_names({"params": grads, "batch_stats": stats})
    return Run(golden, np.array(rows), gradients, official_names(state.variables))


@pytest.fixture(scope="module")
def run64(parity: Path) -> Run:
    with jax.enable_x64(True):
        return four_steps(parity, "train_trajectory_float64.json", np.float64)


@pytest.fixture(scope="module")
def run32(parity: Path) -> Run:
    return four_steps(parity, "train_trajectory.json", np.float32)


@pytest.mark.slow
def test_losses_and_gradient_norms_in_float64(run64: Run) -> None:
    np.testing.assert_allclose(run64.trajectory, run64.golden["trajectory"], rtol=1e-10)


@pytest.mark.slow
def test_every_gradient_of_the_first_step_in_float64(run64: Run) -> None:
    compared = 0
    for name, (norm, total, absolute) in run64.golden["grads_step0"].items():
        gradient = run64.gradients[name]
        # A bias in front of a batch norm has no gradient: both programs find rounding errors there.
        scale = max(absolute, 1e-6)
        assert abs(np.linalg.norm(gradient) - norm) < 1e-6 * scale, name
        assert abs(gradient.sum() - total) < 1e-6 * scale, name
        compared += 1
    assert compared > 150


@pytest.mark.slow
def test_every_tensor_after_four_adam_steps_in_float64(run64: Run) -> None:
    golden = {k: v for k, v in run64.golden["state_after"].items() if ".fc." not in k}
    assert golden.keys() == run64.after.keys()
    for name, (total, absolute) in golden.items():
        assert abs(run64.after[name].sum() - total) < 1e-6 * absolute, name


@pytest.mark.slow
def test_trajectory_in_float32(run32: Run, parity: Path) -> None:
    golden = np.array(run32.golden["trajectory"])
    np.testing.assert_allclose(run32.trajectory[:, :3], golden[:, :3], rtol=1e-3)
    assert abs(run32.trajectory[0, 3] / golden[0, 3] - 1) < 1e-4
    # Whole gradient tensors; the bound is the official program's own float32 noise where it is loud.
    subset = np.load(parity / "grads_step0_subset.npz")
    for name in subset.files:
        error = np.linalg.norm(run32.gradients[name] - subset[name])
        loud = 5e-2 if "layer4" in name else 1e-2 if "conv1" in name else 1e-3
        assert error < loud * np.linalg.norm(subset[name]), name
