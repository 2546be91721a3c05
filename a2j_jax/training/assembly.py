"""A config taken apart: the one place where its values become a track, a model, an optimiser, a step."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from a2j_jax import augment, input_pipeline
from a2j_jax.config import AugmentConfig, Config, OptimConfig
from a2j_jax.errors import UserError
from a2j_jax.losses import DEPTH_TERMS, a2j_losses
from a2j_jax.models.a2j import A2J
from a2j_jax.models.anchors import aggregate, anchor_grid, confidence
from a2j_jax.track_files import find_track
from a2j_jax.tracks import TrackSpec, with_crop_size
from a2j_jax.training.optimizer import adam_with_l2, learning_rate_schedule
from a2j_jax.training.step import Batch, Objective, Prepare

Predict = Callable[[Any, Mapping[str, Any]], tuple[jax.Array, jax.Array]]


def track_of(config: Config) -> TrackSpec:
    """The track of an experiment, at its crop size and with its augmentation."""
    track = find_track(config.track)
    if config.data.crop_size is not None:
        track = with_crop_size(track, config.data.crop_size)
    return dataclasses.replace(
        track,
        mean=track.mean if config.data.mean is None else config.data.mean,
        std=track.std if config.data.std is None else config.data.std,
        augmentation=_augmentation(track, config.augment),
    )


def with_statistics(config: Config) -> Config:
    """The config with the data set's own mean and std, where it asks for the computed ones.

    Raises:
      UserError: the data set has none.
    """
    data = config.data
    if data.normalization == "published" or (data.mean is not None and data.std is not None):
        return config
    found = input_pipeline.metadata(data.dir, track_of(config)).get("statistics")
    if not found or not found["std"] > 0:
        raise UserError(
            f"data set in {data.dir} has no usable statistics of its training crops: build it anew with a "
            "training split, or set --config.data.normalization=published"
        )
    data = dataclasses.replace(data, mean=found["mean"], std=found["std"])
    return dataclasses.replace(config, data=data)


def _augmentation(track: TrackSpec, settings: AugmentConfig) -> Any:
    names = [f.name for f in dataclasses.fields(track.augmentation)]
    chosen = {name: getattr(settings, name) for name in names}
    given = {name: value for name, value in chosen.items() if value is not None}
    return dataclasses.replace(track.augmentation, **given)


def model_of(config: Config, track: TrackSpec) -> A2J:
    """The network of an experiment."""
    settings = config.model
    return A2J(
        num_joints=track.num_joints,
        joint_dims=track.joint_dims,
        backbone=settings.backbone,
        width=settings.width,
        head_features=settings.head_features,
        head_depth=settings.head_depth,
        dtype=None if settings.dtype == "float32" else jnp.dtype(settings.dtype),
    )


def schedule_of(settings: OptimConfig, steps: int, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate of an experiment by step."""
    return learning_rate_schedule(
        settings.schedule,
        settings.learning_rate,
        total_steps=steps,
        steps_per_epoch=steps_per_epoch,
        warmup_steps=settings.warmup_steps,
        decay_every_epochs=settings.decay_every_epochs,
        decay_factor=settings.decay_factor,
    )


def optimizer_of(settings: OptimConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Adam with coupled L2."""
    return adam_with_l2(schedule, settings.weight_decay)


def objective_of(config: Config, track: TrackSpec) -> Objective:
    """The losses of Eqs. (4)-(7) with an experiment's constants."""
    weight = config.loss.regression_weight
    anchors = anchor_grid(track.crop_size, track.crop_size)

    def objective(heads: Any, joints: jax.Array, valid: jax.Array) -> Any:
        return a2j_losses(
            heads,
            joints,
            valid,
            anchors,
            regression_weight=track.loss_lambda if weight is None else weight,
            alpha=config.loss.alpha,
            depth_term=DEPTH_TERMS[config.loss.preset],
        )

    return objective


def prepare_of(config: Config, track: TrackSpec) -> Prepare:
    """What happens to a training batch on the device before the network sees it."""

    def prepare(batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        size = batch["canvas"].shape[0]
        if config.augment.enabled:
            draws = augment.draw(key, size, track)
        else:
            draws = augment.no_draws(size, track)
        return augment.augment(
            batch["canvas"],
            batch["box_px"],
            batch["window_px"],
            batch["center_uvd"][:, 2],
            batch["joints_uvd"],
            draws,
            track,
            border=config.augment.border,
        )

    return prepare


def predict_of(model: A2J, track: TrackSpec) -> Predict:
    """`predict(variables, batch) -> (joints (B, K, D) in crop coordinates, confidence (B, K))`, jitted."""
    anchors = anchor_grid(track.crop_size, track.crop_size)

    @jax.jit
    def predict(variables: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
        images = augment.evaluation_images(batch["canvas"], batch["center_uvd"][:, 2], track)
        heads: Any = model.apply(variables, images)
        prediction = aggregate(heads, anchors)
        return prediction.joints, jnp.asarray(confidence(prediction.spread))

    def on_what_it_needs(variables: Any, batch: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
        return predict(variables, {name: batch[name] for name in ("canvas", "center_uvd")})

    return on_what_it_needs


def expected_variables(model: A2J, track: TrackSpec) -> Any:
    """Shapes and dtypes of a model's variables, without computing them."""
    images = jax.ShapeDtypeStruct((1, track.crop_size, track.crop_size, 1), jnp.float32)
    return jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)
