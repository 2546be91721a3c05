"""Time saved in a training step by the CPU's own lowering of 1x1 convolutions and max pooling, and in inference by
prepared variables (`a2j_jax.models.prepared`).

    python benchmarks/lowering.py --backbone resnet50 --crop_size 96 --batch_size 8
    python benchmarks/lowering.py --inference --backbone resnet50 --crop_size 176 --batch_size 1

Both ways take turns in one process; medians.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from rich.console import Console

from a2j_jax.evaluation.tables import Table, print_table
from a2j_jax.losses import objective
from a2j_jax.models import layers
from a2j_jax.models.a2j import A2J, init_variables
from a2j_jax.models.prepared import prepare_for_inference
from a2j_jax.runs.sharding import TrainState
from a2j_jax.training.optim import adam_with_l2
from a2j_jax.training.step import make_train_step


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="resnet50")
    for name, default in (("width", 64), ("crop_size", 96), ("batch_size", 8), ("steps", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--inference", action="store_true", help="time prepared variables instead")
    arguments = parser.parse_args()

    choices: dict[str, Callable[[], bool]] = {"own": lambda: True, "native": lambda: False}
    if arguments.inference:
        runs = inference_of(arguments)
    else:
        runs = {name: step_of(arguments, choice) for name, choice in choices.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.steps):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)

    medians = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    title = (
        f"{arguments.backbone}, width {arguments.width}, {arguments.batch_size} x "
        f"{arguments.crop_size} px, {jax.devices()[0].device_kind}, {platform.machine()}, "
        f"jax {jax.__version__}"
    )
    used = "own" if jax.default_backend() == "cpu" else "native"
    used, base, what = (
        ("prepared", "plain", "forward")
        if arguments.inference
        else (used, "native", "training step")
    )
    rows = [
        (f"{name} (used here)" if name == used else name, f"{ms:.1f}", f"{ms / medians[base]:.2f}")
        for name, ms in medians.items()
    ]
    print_table(Table(title, ("way", f"ms per {what}", "relative"), tuple(rows)), Console())


def inference_of(arguments: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """The compiled network with plain and with prepared variables, on random data."""
    size = arguments.crop_size
    model = A2J(21, backbone=arguments.backbone, width=arguments.width)
    plain = init_variables(model, jax.random.key(0, impl="rbg"), size, size)
    images = jax.random.normal(jax.random.key(1), (arguments.batch_size, size, size, 1))
    both = {"plain": plain, "prepared": prepare_for_inference(model, plain, size)}

    def run_of(variables: Any) -> Callable[[], None]:
        network, placed = jax.jit(partial(model.apply, train=False)), jax.device_put(variables)

        def run() -> None:
            jax.block_until_ready(network(placed, images))

        run()
        return run

    return {name: run_of(variables) for name, variables in both.items()}


def step_of(arguments: argparse.Namespace, is_cpu: Callable[[], bool]) -> Callable[[], None]:
    """One compiled training step under a lowering, on random data."""
    layers._is_cpu = is_cpu
    size, batch_size = arguments.crop_size, arguments.batch_size
    model = A2J(21, backbone=arguments.backbone, width=arguments.width)
    variables = init_variables(model, jax.random.key(0, impl="rbg"), size, size)
    optimizer = adam_with_l2(1e-4, 1e-4)
    losses = partial(objective, crop_size=size, regression_weight=3.0)
    step = make_train_step(model, optimizer, lambda batch, _: (batch["x"], batch), losses)
    rng = np.random.default_rng(0)
    batch = {
        "x": rng.standard_normal((batch_size, size, size, 1)).astype(np.float32),
        "joints": rng.uniform(0, size, (batch_size, 21, 3)).astype(np.float32),
        "valid": np.ones((batch_size, 21), bool),
    }
    state, key = TrainState.create(variables, optimizer), jax.random.key(0)
    compiled = jax.jit(step).lower(state, batch, key).compile()

    def run() -> None:
        jax.block_until_ready(compiled(state, batch, key))

    run()
    return run


if __name__ == "__main__":
    main()
