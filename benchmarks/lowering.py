"""Time saved in a training step by the CPU's own lowering (1x1 convolutions, max pooling, batch norm), and in inference
by prepared variables (`a2j_jax.models.prepared`).

    python benchmarks/lowering.py --backbone resnet50 --crop_size 96 --batch_size 8
    python benchmarks/lowering.py --torch --crop_size 176                  # beside the official network and loss
    taskset -c 0 python benchmarks/lowering.py --profile --crop_size 176   # where a step spends its time
    python benchmarks/lowering.py --inference --backbone resnet50 --crop_size 176 --batch_size 1

All take turns in one process; medians. `--cpu_time` counts the process's processor time over the number of cores, which
other load on the machine changes less. A profile needs one core: on several, operations run side by side.
"""

import argparse
import gzip
import json
import os
import platform
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from a2j_jax.evaluation.tables import Table, print_table
from a2j_jax.losses import objective
from a2j_jax.lowering import lowering_for
from a2j_jax.models.a2j import A2J, init_variables
from a2j_jax.models.prepared import prepare_for_inference
from a2j_jax.runs.sharding import TrainState
from a2j_jax.tools.speed import take_turns
from a2j_jax.training.step import adam_with_l2, make_train_step

JOINTS = 14


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="resnet50")
    for name, default in (("width", 64), ("crop_size", 96), ("batch_size", 8), ("steps", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, about in (
        ("inference", "time prepared variables instead"),
        ("torch", "time the official network and loss in PyTorch, too"),
        ("profile", "print the time of our step by kind of operation"),
        ("cpu_time", "processor time over cores, for a busy machine"),
    ):
        parser.add_argument(f"--{name}", action="store_true", help=about)
    arguments = parser.parse_args()

    if arguments.profile:
        print_profile(arguments)
        return
    if arguments.inference:
        runs, base, what, used = inference_of(arguments), "plain", "forward", "prepared"
    else:
        runs = {"own": step_of(arguments, True), "native": step_of(arguments, False)}
        base, what = "native", "training step"
        used = "own" if jax.default_backend() == "cpu" else "native"
        if arguments.torch:
            runs["PyTorch"] = torch_step_of(arguments)
    clock = processor_time if arguments.cpu_time else time.perf_counter
    times = take_turns(runs, arguments.steps, clock=clock)
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


def processor_time() -> float:
    """Seconds of the process's processor time per core."""
    return time.process_time() / len(os.sched_getaffinity(0))


def network_and_batch(arguments: argparse.Namespace) -> tuple[A2J, Any, dict[str, np.ndarray]]:
    """Network, variables and random data."""
    size, batch_size = arguments.crop_size, arguments.batch_size
    model = A2J(JOINTS, backbone=arguments.backbone, width=arguments.width)
    rng = np.random.default_rng(0)
    batch = {
        "x": rng.standard_normal((batch_size, size, size, 1)).astype(np.float32),
        "joints": rng.uniform(0, size, (batch_size, JOINTS, 3)).astype(np.float32),
        "valid": np.ones((batch_size, JOINTS), bool),
    }
    return model, init_variables(model, jax.random.key(0, impl="rbg"), size, size), batch


def compiled_step(arguments: argparse.Namespace, own: bool) -> tuple[Any, Callable[[], None]]:
    """The compiled training step under a lowering, our own or the native one, and a call of it."""
    model, variables, batch = network_and_batch(arguments)
    optimizer = adam_with_l2(1e-4, 1e-4)
    losses = partial(objective, crop_size=arguments.crop_size, regression_weight=3.0)
    step = make_train_step(model, optimizer, lambda batch, _: (batch["x"], batch), losses)
    state, key = TrainState.create(variables, optimizer), jax.random.key(0)
    with lowering_for("cpu" if own else "gpu"):
        compiled = jax.jit(step, donate_argnums=0).lower(state, batch, key).compile()
    states = [jax.tree.map(jnp.array, state)]  # copies: moments begin as one array of zeros

    def run() -> None:
        states[0], _ = jax.block_until_ready(compiled(states[0], batch, key))

    return compiled, run


def step_of(arguments: argparse.Namespace, own: bool) -> Callable[[], None]:
    """A training step under a lowering, our own or the native one."""
    return compiled_step(arguments, own)[1]


def torch_step_of(arguments: argparse.Namespace) -> Callable[[], None]:
    """The official training step in PyTorch: network, Eqs. (4) to (7) with the plain L1 of depths, Adam with L2."""
    import torch

    from a2j_jax.tools.torch_reference import OfficialA2J

    model, _, batch = network_and_batch(arguments)
    network = OfficialA2J(model, arguments.crop_size).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=1e-4)
    images = torch.from_numpy(batch["x"][:, None, :, :, 0]).expand(-1, 3, -1, -1)
    joints = torch.from_numpy(batch["joints"])
    anchors = network.anchors[None, :, None]
    smooth_l1 = torch.nn.functional.smooth_l1_loss

    def run() -> None:
        common, regression = network.Backbone["model"](images)
        weights = network.classificationModel(common).softmax(dim=1)
        in_plane = (weights * (anchors + network.regressionModel(regression))).sum(dim=1)
        depth = (weights * network.DepthRegressionModel(regression)).sum(dim=1)[..., 0]
        regression_loss = 0.5 * smooth_l1(in_plane, joints[..., :2])
        regression_loss = regression_loss + (depth - joints[..., 2]).abs().mean()
        surrounding = smooth_l1((weights * anchors).sum(dim=1), joints[..., :2])
        optimizer.zero_grad()
        (3.0 * regression_loss + surrounding).backward()
        optimizer.step()

    return run


def print_profile(arguments: argparse.Namespace) -> None:
    """Milliseconds of one step of ours by kind of operation, from JAX's profiler; best on one core.

    An operation's time is its shortest in all steps, as other load interrupts long ones.
    """
    compiled, run = compiled_step(arguments, own=True)
    run()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(arguments.steps):
                run()
        trace = next(Path(folder).rglob("*.trace.json.gz"))
        events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    times = defaultdict(list)
    for event in events:
        if name := event.get("args", {}).get("hlo_op"):
            times[name].append(event["dur"] / 1e3)
    kinds = operation_kinds(compiled.as_text())
    sums: dict[str, float] = defaultdict(float)
    for name, found in times.items():
        calls = max(1, round(len(found) / arguments.steps))
        sums[kinds.get(name, "other")] += calls * min(found)
    sums.pop("call", None)  # the operations within are counted
    total = sum(sums.values())
    rows = [
        (kind, f"{ms:.0f}", f"{ms / total:.0%}")
        for kind, ms in sorted(sums.items(), key=lambda item: -item[1])
    ]
    title = f"{arguments.backbone}, {arguments.batch_size} x {arguments.crop_size} px"
    rows.append(("sum", f"{total:.0f}", ""))
    print_table(Table(title, ("operations", "ms", "share"), tuple(rows)), Console())


def operation_kinds(program: str) -> dict[str, str]:
    """Name of each operation of a compiled program -> its kind.

    A fusion is of the kind of the heaviest operation within, a plain loop of the kind of its last one.
    """
    bodies = dict(re.findall(r"^%(\S+) \(.*?\{$(.*?)^\}", program, re.MULTILINE | re.DOTALL))
    kinds = {}
    for name, text in re.findall(r"^  (?:ROOT )?%(\S+) = (.*)$", program, re.MULTILINE):
        called = re.search(r"calls=%([\w.\-]+)", text)
        inside = bodies.get(called[1], "") if called else ""
        if " convolution(" in text + inside:
            kind = "convolutions"
        elif " dot(" in text + inside:
            kind = "matrix products (1x1 convolutions)"
        elif " call(" in text:
            kind = "call"
        elif " reduce(" in inside or " reduce(" in text:
            kind = "reductions"
        elif "transpose" in name or "copy" in name:
            kind = "copies and transposes"
        elif "/optimizer/" in text:
            kind = "optimizer"
        else:
            kind = "element-wise"
        kinds[name] = kind
    return kinds


if __name__ == "__main__":
    main()
