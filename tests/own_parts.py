"""Parts as somebody outside this package would write them: one of every kind, and A2J on a trunk that compiles soon."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from a2j_jax.baselines import GlobalRegression, global_regression
from a2j_jax.data import targets
from a2j_jax.losses import Losses, masked_mean
from a2j_jax.models.a2j import A2J, PoseNetwork, a2j_settings, network_settings
from a2j_jax.models.anchors import Estimate
from a2j_jax.models.layers import BatchNorm, Conv
from a2j_jax.models.resnet import Features
from a2j_jax.parts import Parts
from a2j_jax.training.step import make_train_step


class Tiny(PoseNetwork):
    """A network without batch norm, with dropout: two layers, and a bias that only the objective teaches."""

    drop: float = 0.5

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        x = nn.relu(nn.Conv(4, (5, 5), strides=8)(images)).mean((1, 2))
        x = nn.Dropout(self.drop, deterministic=not train)(x)
        joints = nn.Dense(self.num_joints * self.joint_dims)(x)
        return {"joints": joints.reshape(x.shape[0], self.num_joints, self.joint_dims)}

    def decode(self, outputs: dict[str, jax.Array], crop_size: int) -> Estimate:
        joints = outputs["joints"] + crop_size / 2
        return Estimate(joints, jnp.ones(joints.shape[:2]))


class Trunk(nn.Module):
    """Two convolutions with batch norm, at stride 16."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> Features:
        x = Conv(6, 3, stride=4, name="conv1")(images)
        x = BatchNorm(self.axis_name, name="bn1")(x, train, relu=True)
        y = Conv(8, 3, stride=4, name="layer1_conv")(x)
        y = BatchNorm(self.axis_name, name="layer1_bn")(y, train, relu=True)
        return Features(common=y, regression=y)


class _Quick(PoseNetwork):
    """A network on that trunk: a step of it compiles in a quarter of the time of one of a ResNet-18."""

    def trunk_features(self, images: jax.Array, train: bool, output_stride: int) -> Features:
        features: Features = Trunk(self.axis_name, name="trunk")(images, train)
        return features


class QuickA2J(_Quick, A2J): ...


class QuickRegression(_Quick, GlobalRegression): ...


def quick(config: Any, track: Any) -> Parts:
    """For tests of runs, whatever they train."""
    return Parts(network=QuickA2J(**a2j_settings(config.model, track)))


def quick_regression(config: Any, track: Any) -> Parts:
    """For tests of processes, each of which traces and compiles."""
    network = QuickRegression(**network_settings(config.model, track))
    return dataclasses.replace(global_regression(config, track), network=network)


def parts(config: Any, track: Any, *, drop: float = 0.5) -> Parts:
    """One of every kind."""
    network = Tiny(track.num_joints, track.joint_dims, drop=drop)

    def prepare(batch: Any, keys: jax.Array) -> Any:
        images, found = targets.prepare(batch, keys, track=track, enabled=False)
        return images, found | {"weight": jnp.full(len(keys), 2.0)}

    def objective(outputs: Any, found: Any, *, count: jax.Array, step: jax.Array) -> Losses:
        error = jnp.abs(outputs["joints"] + track.crop_size / 2 - found["joints"]).mean(-1)
        total = masked_mean(error * found["weight"][:, None], found["valid"], count)
        return Losses(total, {"of_ours": total, "step_seen": step.astype(jnp.float32)})

    def make_step(*arguments: Any, **settings: Any) -> Any:
        step = make_train_step(*arguments, **settings)

        def told(state: Any, batch: Any, key: jax.Array) -> Any:
            state, metrics = step(state, batch, key)
            return state, metrics | {"own_step": jnp.float32(1)}

        return told

    return Parts(
        network=network,
        objective=objective,
        prepare=prepare,
        optimizer=optax.adamw,
        schedule=lambda steps, epoch: optax.linear_schedule(1e-2, 0.0, steps),
        make_step=make_step,
    )
