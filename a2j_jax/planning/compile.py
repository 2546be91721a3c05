"""The training step of a config, compiled for devices that need not be here, from shapes alone."""

import re
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from a2j_jax.config import Config
from a2j_jax.errors import UserError
from a2j_jax.lowering import lowering_for
from a2j_jax.models.network import init_variables
from a2j_jax.planning.analysis import Usage, usage_of
from a2j_jax.planning.targets import Target
from a2j_jax.tracks import TrackSpec
from a2j_jax.training import assembly, parallel
from a2j_jax.training.loop import BATCH_KEYS
from a2j_jax.training.state import TrainState
from a2j_jax.training.step import TrainStep


@dataclass(frozen=True)
class DoesNotFit:
    """The compiler's refusal of a program that takes more memory than there is; bytes where it names them."""

    said: str
    needed: int | None = None


def compile_step(config: Config, target: Target) -> Usage | DoesNotFit:
    """Compile the step that `a2j train` would run at `config.optim.batch_size`; takes minutes.

    The batch is spread over all devices of the target as `parallel="mesh"` does it; pmap's numbers are the same.

    Raises:
      UserError: a batch that does not spread evenly over the devices.
    """
    config = assembly.with_preset(config)
    track = assembly.track_of(config)
    layout = parallel.layout("auto", target.devices)
    parallel.check_batch_size(config.optim.batch_size, config.optim.accumulate, len(target.devices))
    with lowering_for(target.platform):
        step, state = _step_and_state(config, track)
        batch = abstract_batch(track, config.optim.batch_size)
        lowered = layout.compile(step).lower(
            state, batch, jax.eval_shape(partial(jax.random.key, 0))
        )
    try:
        return usage_of(lowered.compile(), config.optim.accumulate)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise UserError(f"{target.name}: {' '.join(str(error).split())[:300]}") from error
        return refusal(str(error))


def _step_and_state(config: Config, track: TrackSpec) -> tuple[TrainStep, Any]:
    """The step, and the shapes of the state it takes."""
    # When the learning rate falls changes constants of the program, and nothing of what it takes.
    optimizer = assembly.optimizer_of(config.optim, assembly.schedule_of(config.optim, 1000, 100))
    model = assembly.model_of(config, track)

    def state() -> TrainState:
        variables = init_variables(model, jax.random.key(0), track.crop_size, track.crop_size)
        average = config.optim.ema_decay is not None
        return TrainState.create(variables, optimizer, average=average)

    return assembly.train_step_of(config, track, optimizer), jax.eval_shape(state)


def abstract_batch(track: TrackSpec, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of what a training step is given of a batch, as it is on a device."""
    size, joints, dims = track.canvas_size, track.num_joints, track.joint_dims
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "canvas": ((size, size), jnp.uint16),
        "joints_uvd": ((joints, dims), jnp.float32),
        "valid": ((joints,), jnp.bool_),
        "box_px": ((4,), jnp.float64),
        "window_px": ((4,), jnp.float64),
        "center_uvd": ((3,), jnp.float32),
    }
    assert shapes.keys() == set(BATCH_KEYS)
    return {
        name: jax.ShapeDtypeStruct((batch_size, *shape), jax.dtypes.canonicalize_dtype(dtype))
        for name, (shape, dtype) in shapes.items()
    }


def refusal(message: str) -> DoesNotFit:
    """What the compiler says where it runs out of memory, in one line, and the bytes it wanted."""
    line = message.split("RESOURCE_EXHAUSTED:")[-1].strip().splitlines()[0]
    found = re.search(r"\(([\d.]+)([KMGT])\) exceeds|Used ([\d.]+)([KMGT]) of", line)
    if found is None:
        return DoesNotFit(line)
    number, unit = (text for text in found.groups() if text is not None)
    return DoesNotFit(line, round(float(number) * 1024 ** ("KMGT".index(unit) + 1)))
