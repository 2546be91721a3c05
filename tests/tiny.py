"""The smallest experiment that has every part of a real one, for tests of training and the command line."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from a2j_jax.config import Config, DataConfig, ModelConfig, OptimConfig, RunConfig, override
from a2j_jax.models.a2j import PoseNetwork, variable_shapes
from a2j_jax.runs.experiment import resolve
from a2j_jax.runs.sharding import TrainState
from a2j_jax.training.step import adam_with_l2

SIZE = 32
FRAMES = {"train": 64, "validation": 16, "test": 20}  # the last batch of "test" is not full


def config(data_dir: str | Path = "data", track: str = "synthetic_hand", **optim: Any) -> Config:
    """A width-8 ResNet-18 on 32-pixel crops, 6 steps of 8; `optim` replaces values of that group.

    Its learning rate does not depend on the number of steps: tests that differ in that share a compiled step.
    """
    settings = OptimConfig(
        batch_size=8, steps=6, learning_rate=1e-3, schedule="constant", warmup_steps=2
    )
    return Config(
        name="tiny",
        track=track,
        model=ModelConfig(backbone="resnet18", width=8, head_features=8, head_depth=1),
        data=DataConfig(
            dir=str(data_dir),
            crop_size=SIZE,
            eval_split="validation",
            **{f"{split}_frames": frames for split, frames in FRAMES.items()},
        ),
        optim=dataclasses.replace(settings, **optim),
        run=RunConfig(log_every=1, eval_every=3),
    )


def quick(data_dir: str | Path = "data", track: str = "synthetic_hand", **optim: Any) -> Config:
    """That experiment with a trunk of two convolutions, for tests of runs that have nothing to do with the network."""
    return dataclasses.replace(config(data_dir, track, **optim), parts="tests.own_parts:quick")


def changed(config: Config, values: dict[str, str]) -> Config:
    """The config with values as on the command line, by dotted key."""
    for key, text in values.items():
        config = override(config, key, text)
    return config


def shapes(model: PoseNetwork, size: int = SIZE) -> Any:
    """Shapes of a model's variables."""
    return variable_shapes(model, size)


def made_up(tree: Any, seed: int = 0) -> Any:
    """Made-up variables of these shapes, in plain nested dicts: kernels at a scale that keeps signals alive."""
    rng = np.random.default_rng(seed)

    def values(path: Any, leaf: Any) -> np.ndarray:
        kind, noise = path[-1].key, rng.standard_normal(leaf.shape)
        if kind == "kernel":
            noise *= np.sqrt(2 / np.prod(leaf.shape[:-1]))
        elif kind in ("scale", "var"):
            noise = rng.uniform(0.5, 1.5, leaf.shape)
        else:
            noise *= 0.1
        return noise.astype(np.float32)

    filled: Any = jax.tree_util.tree_map_with_path(values, tree)
    return filled


SMALL = {
    "params": {
        "trunk": {"kernel": np.arange(20_000, dtype=np.float32).reshape(100, 200)},
        "head": {"bias": np.zeros(4, np.float32)},
    },
    "batch_stats": {"bn": {"mean": np.ones(4, np.float32)}},
}


def state_at(step: int, value: float = 0.0) -> TrainState:
    """A state of the made-up variables `SMALL`, each plus a value."""
    filled = jax.tree.map(lambda leaf: leaf + np.float32(value), SMALL)
    state = TrainState.create(filled, adam_with_l2(1e-3, 1e-4))
    moved = jax.tree.map(lambda leaf: leaf + 1, state.opt_state)  # moments are not all zero
    return state.replace(step=jnp.int32(step), opt_state=moved)


def variables(track: str = "synthetic_hand", seed: int = 0) -> Any:
    """Made-up variables of the tiny network of a track."""
    settings = config(track=track)
    return made_up(shapes(resolve(settings).model), seed)


def trunk_of(official: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The trunk of an A2J in the official naming, as torchvision names it."""
    prefix = "Backbone.model."
    return {k.removeprefix(prefix): x for k, x in official.items() if k.startswith(prefix)}


def same(one: Any, other: Any) -> bool:
    """Whether two trees hold the same numbers, bit for bit."""
    equal: Callable[[Any, Any], bool] = lambda a, b: (  # noqa: E731
        np.asarray(a).dtype == np.asarray(b).dtype and np.array_equal(a, b)
    )
    return all(jax.tree.leaves(jax.tree.map(equal, one, other)))
