"""Time saved in a training step by the CPU's own lowering of 1x1 convolutions and max pooling.

    python benchmarks/lowering.py --backbone resnet50 --crop_size 96 --batch_size 8

Both lowerings take turns in one process; medians.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial

import jax
import numpy as np
from rich.console import Console

from a2j_jax.evaluation.tables import Table, print_table
from a2j_jax.losses import objective
from a2j_jax.models import layers
from a2j_jax.models.a2j import A2J, init_variables
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
    arguments = parser.parse_args()

    choices: dict[str, Callable[[], bool]] = {"own": lambda: True, "native": lambda: False}
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
    names = {name: f"{name} (used here)" if name == used else name for name in medians}
    rows = [
        (names[name], f"{value:.1f}", f"{value / medians['native']:.2f}")
        for name, value in medians.items()
    ]
    print_table(
        Table(title, ("lowering", "ms per training step", "relative"), tuple(rows)), Console()
    )


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
