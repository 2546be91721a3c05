"""Time saved in a training step by the CPU's own lowering of 1x1 convolutions and max pooling, and in inference by
prepared variables (`a2j_jax.models.prepared`).

    python benchmarks/lowering.py --backbone resnet50 --crop_size 96 --batch_size 8
    python benchmarks/lowering.py --inference --backbone resnet50 --crop_size 176 --batch_size 1

Both ways take turns in one process; medians.
"""

import argparse
import platform
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
from a2j_jax.tools.speed import take_turns
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

    if arguments.inference:
        runs, base, what, used = inference_of(arguments), "plain", "forward", "prepared"
    else:
        runs = {"own": step_of(arguments, True), "native": step_of(arguments, False)}
        base, what = "native", "training step"
        used = "own" if jax.default_backend() == "cpu" else "native"
    times = take_turns(runs, arguments.steps)
    medians = {name: np.median(values) for name, values in times.items()}
    title = (
        f"{arguments.backbone}, width {arguments.width}, {arguments.batch_size} x "
        f"{arguments.crop_size} px, {jax.devices()[0].device_kind}, {platform.machine()}, "
        f"jax {jax.__version__}"
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

    network = jax.jit(partial(model.apply, train=False))
    return {
        name: partial(finish, network, jax.device_put(variables), images)
        for name, variables in both.items()
    }


def finish(function: Callable[..., Any], *arguments: Any) -> None:
    """Calls a function and waits until its result is there."""
    jax.block_until_ready(function(*arguments))


def step_of(arguments: argparse.Namespace, own: bool) -> Callable[[], None]:
    """One compiled training step under a lowering, our own or the native one, on random data."""
    layers._is_cpu = lambda: own
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
    return partial(finish, jax.jit(step).lower(state, batch, key).compile(), state, batch, key)


if __name__ == "__main__":
    main()
