"""Trains a small A2J with every way of sharing a step, and writes what came out: `PROGRAM`, which tests start.

Its arguments: DATA OUT DTYPE MODE:DEVICES[:PARTS] ...

DATA is a TFDS directory of `tests.tiny`. From the same weights, on the same batches, with augmentation and batch
normalization: 20 Adam steps in float64 of a network on the trunk of `tests.own_parts`, without noise on the images, or
5 SGD steps in float32 of one on a ResNet, with it. With PARTS, the batch goes through in as many, some of the network
is frozen, and broken updates would be left out.
OUT/MODE-DEVICES.npz holds the state after them, OUT/eval-DEVICES.npz the joints of every test frame,
OUT/few-DEVICES.npz of fewer than a batch has rows.
OUT/norm-DEVICES.npz holds what a batch norm makes of the rows in OUT/rows.npy, in every way, as on a CPU and a TPU.
"""

import dataclasses
import itertools
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax.traverse_util import flatten_dict

from a2j_jax import distributed
from a2j_jax.cli.arguments import Parser, add_process_arguments, join_processes
from a2j_jax.data import pipeline
from a2j_jax.data.crops import step_arrays
from a2j_jax.evaluation.evaluate import predict_batches
from a2j_jax.inference.predictor import make_predict_fn, place_variables
from a2j_jax.lowering import lowering_for
from a2j_jax.models import layers
from a2j_jax.models.a2j import PoseNetwork
from a2j_jax.models.resnet import ARCHITECTURES, Architecture, BasicBlock
from a2j_jax.runs import sharding
from a2j_jax.runs.experiment import resolve
from a2j_jax.runs.sharding import TrainState
from a2j_jax.training.step import adam_with_l2, freeze, make_train_step
from tests import tiny
from tests.own_parts import QuickA2J

# Strided blocks with projected shortcuts, which compile in a third of the time of a ResNet-18.
ARCHITECTURES["resnet10"] = Architecture(BasicBlock, (0, 1, 1, 1))
PROGRAM = "from tests.steps_in_parallel import main; main()"
ROWS = 8
FROZEN = ("trunk/bn1/", "depth_head/conv1")
SPLITS = {"eval": "test", "few": "test[:3]"}
# (steps, optimizer): Adam divides a gradient by its own size, and so makes much of a rounded zero in float32.
RUNS: dict[str, tuple[int, Any]] = {
    "float64": (20, adam_with_l2(3.5e-4, 1e-4)),
    "float32": (5, optax.sgd(3.5e-4)),
}


def trained(data: str, dtype: str, layout: sharding.Layout, parts: int = 1) -> TrainState:
    """The state after a run; each process reads its share of the batches."""
    config = tiny.config(data)
    if (
        dtype == "float64"
    ):  # noise is drawn in float32, and rounded by as many rows as a device has: up to 4e-7
        without = dataclasses.replace(config.augment, noise_probability=0.0)
        config = dataclasses.replace(config, augment=without)
    experiment = resolve(config)
    track = experiment.track
    model = network(dtype).clone(dtype=np.dtype(dtype), axis_name=layout.axis_name)
    steps, optimizer = RUNS[dtype]
    frozen = FROZEN if parts > 1 else ()
    optimizer = freeze(optimizer, frozen)
    step = layout.wrap(
        make_train_step(
            model,
            optimizer,
            experiment.prepare,
            experiment.objective,
            layout.axis_name,
            accumulate=parts,
            frozen=frozen,
            ema_decay=0.9,
            skip_nonfinite=parts > 1,
        )
    )
    variables = jax.tree.map(lambda x: x.astype(dtype), start(dtype))
    state = layout.place(TrainState.create(variables, optimizer, average=True))
    placed = jax.tree.map(lambda x: x.sharding, state)
    batches = pipeline.train_batches(data, track, "train", ROWS, seed=0)
    for _ in range(steps):
        batch = step_arrays(next(batches))
        # Devices hold different numbers of labeled joints: the losses are means over all of them.
        batch["valid"] &= np.arange(track.num_joints) <= batch["joints_uvd"][:, :1, 0] % 20
        state, _ = step(state, layout.distribute(batch), jax.random.key(0))
    # Were it placed otherwise than it comes out of a step, the second step would be compiled anew.
    assert jax.tree.map(lambda x: x.sharding, state) == placed
    return sharding.whole_here(layout.gather(state))


def network(dtype: str) -> PoseNetwork:
    """A2J on two convolutions in float64, which is slow; in float32 the network of `tests.tiny`, half as wide."""
    if dtype == "float64":
        return QuickA2J(21, head_features=4, head_depth=1)
    model = resolve(tiny.config()).model
    return model.clone(backbone="resnet10", width=4, head_features=4)


def start(dtype: str) -> Any:
    """What all of them start from, float32."""
    return tiny.made_up(tiny.shapes(network(dtype)))


def predicted(data: str, split: str, devices: int) -> dict[str, np.ndarray]:
    """Joints of a split on that many devices of each process."""
    experiment, here = resolve(tiny.quick(data)), jax.local_devices()[:devices]
    track, predict = experiment.track, make_predict_fn(experiment.model, experiment.track, here)
    variables = place_variables(tiny.made_up(tiny.shapes(experiment.model)), here)
    batches = pipeline.eval_batches(data, track, split, 6)
    joints, frames = predict_batches(lambda batch: predict(variables, batch), batches, track)
    return {"joints": joints.joints_uvd, "index": frames.index}


def normalized(x: np.ndarray, over: int | str, mode: Any, devices: int) -> Any:
    """Result, running statistics and gradients of a training step of a batch norm, by "mesh", "pmap" or "shard_map"."""
    layout = sharding.layout(mode, jax.devices()[:devices])
    layer = layers.BatchNorm(layout.axis_name, over)
    variables = layer.init(jax.random.key(0), x[:1], train=False)
    spread = layout.distribute({"x": x, "weights": np.cos(x)})

    def step(_: Any, rows: Any, params: Any) -> Any:
        def loss(params: Any, x: jax.Array) -> Any:
            known = {**variables, "params": params}
            y, updated = layer.apply(known, x, train=True, mutable=["batch_stats"])
            return (y * rows["weights"]).sum(), (y, updated["batch_stats"])

        (of_params, of_x), (y, stats) = jax.grad(loss, (0, 1), has_aux=True)(params, rows["x"])
        if mode != "mesh":
            of_params = jax.lax.psum(of_params, sharding.AXIS)
            y, of_x = (jax.lax.all_gather(v, sharding.AXIS, tiled=True) for v in (y, of_x))
        return (), {"y": y, "x": of_x, **of_params, **stats}

    return layout.wrap(step)((), spread, variables["params"])[1]


def write(path: Path, state: TrainState) -> None:
    """Every leaf of a state under its name."""
    tree = {
        "params": state.params,
        "batch_stats": state.batch_stats,
        "ema": state.ema,
        "optimizer": {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(state.opt_state))},
    }
    np.savez(path, **{name: np.asarray(leaf) for name, leaf in flatten_dict(tree, sep="/").items()})


def main() -> None:
    """Run what the command line asks for, as one of several processes where the environment says so."""
    data, out, dtype, *asked = sys.argv[1:]
    jax.config.update("jax_enable_x64", dtype == "float64")
    parser = Parser()
    add_process_arguments(parser)
    join_processes(parser.parse_args([]))
    for mode, devices, *parts in (one.split(":") for one in asked):
        path = Path(out) / f"{mode}-{devices}.npz"
        if mode == "norm":
            layers.ONE_PASS_BYTES = 0
            x = np.load(Path(out) / "rows.npy").astype(dtype)
            found = {}
            for platform, over, way in itertools.product(
                ("cpu", "tpu"), ("global", "local", 2), ("mesh", "pmap", "shard_map")
            ):
                with lowering_for(platform):
                    made = normalized(x, over, way, int(devices))
                found |= {f"{over}/{platform}/{way}/{k}": np.asarray(v) for k, v in made.items()}
            np.savez(path, **found)
        elif mode in SPLITS:
            joints = predicted(data, SPLITS[mode], int(devices))
            if distributed.is_primary():
                np.savez(path, **joints)
        else:
            layout = sharding.layout(mode, jax.devices()[: int(devices)])
            state = trained(data, dtype, layout, *map(int, parts))
            if distributed.is_primary():
                write(path, state)
    distributed.leave()
