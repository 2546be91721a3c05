"""Trains a small A2J with every way of sharing a step, and writes what came out; `test_parallel` starts it.

    python steps_in_parallel.py DATA OUT DTYPE MODE:DEVICES ...

DATA is a TFDS directory of `tests.tiny`. From the same weights, on the same batches, with augmentation and batch
normalisation: 20 Adam steps in float64, or 5 SGD steps in float32. OUT/MODE-DEVICES.npz holds the state after
them, OUT/eval-DEVICES.npz the joints of every test frame.
"""

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax.traverse_util import flatten_dict

from a2j_jax import input_pipeline
from a2j_jax.evaluation.evaluate import predict_batches
from a2j_jax.training import assembly, parallel
from a2j_jax.training.loop import BATCH_KEYS
from a2j_jax.training.optimizer import adam_with_l2
from a2j_jax.training.state import TrainState
from a2j_jax.training.step import make_train_step
from tests import tiny

ROWS = 16
# (steps, optimiser): Adam divides a gradient by its own size, and so makes much of a rounded zero in float32.
RUNS: dict[str, tuple[int, Any]] = {
    "float64": (20, adam_with_l2(3.5e-4, 1e-4)),
    "float32": (5, optax.sgd(3.5e-4)),
}


def trained(data: str, dtype: str, mode: Any, devices: int) -> TrainState:
    """The state after a run on the first of the devices."""
    config = tiny.config(data)
    track = assembly.track_of(config)
    layout = parallel.layout(mode, jax.devices()[:devices])
    model = assembly.model_of(config, track, layout.axis_name).clone(dtype=np.dtype(dtype))
    steps, optimizer = RUNS[dtype]
    step = layout.compile(
        make_train_step(
            model,
            optimizer,
            assembly.prepare_of(config, track),
            assembly.objective_of(config, track),
            layout.axis_name,
            ema_decay=0.9,
        )
    )
    variables = jax.tree.map(lambda x: x.astype(dtype), tiny.variables())
    state = layout.place(TrainState.create(variables, optimizer, average=True))
    batches = input_pipeline.train_batches(data, track, "train", ROWS, seed=0)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        batch = {name: next_ for name, next_ in next(batches).items() if name in BATCH_KEYS}
        # Devices hold different numbers of labelled joints: the losses are means over all of them.
        batch["valid"] = rng.random(batch["valid"].shape) > np.linspace(0, 0.9, ROWS)[:, None]
        state, _ = step(state, layout.share(batch), jax.random.key(0))
    return layout.gather(state)


def predicted(data: str, devices: int) -> dict[str, np.ndarray]:
    """Joints of the test split, whose number of frames is no multiple of anything."""
    config = tiny.config(data)
    track = assembly.track_of(config)
    predict = assembly.predict_of(assembly.model_of(config, track), track, jax.devices()[:devices])
    batches = input_pipeline.eval_batches(data, track, "test", 6)
    joints, frames = predict_batches(lambda batch: predict(tiny.variables(), batch), batches, track)
    return {"joints": joints.joints_uvd, "index": frames.index}


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
    """Run what the command line asks for."""
    data, out, dtype, *asked = sys.argv[1:]
    jax.config.update("jax_enable_x64", dtype == "float64")
    for mode, devices in (one.split(":") for one in asked):
        path = Path(out) / f"{mode}-{devices}.npz"
        if mode == "eval":
            np.savez(path, **predicted(data, int(devices)))
        else:
            write(path, trained(data, dtype, mode, int(devices)))


if __name__ == "__main__":
    main()
