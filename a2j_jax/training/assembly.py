"""A config taken apart: the one place where its values become a track, a model, an optimiser, a step."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from a2j_jax.config import AugmentConfig, Config, OptimConfig, checked
from a2j_jax.data import augment, pipeline
from a2j_jax.data.batch import Batch
from a2j_jax.errors import UserError
from a2j_jax.geometry import Camera
from a2j_jax.losses import DEPTH_TERMS, objective
from a2j_jax.models.a2j import A2J, PoseNetwork
from a2j_jax.models.baselines import GlobalRegression, HeatMapFCN
from a2j_jax.models.decoding import decode
from a2j_jax.runs import sharding
from a2j_jax.track_files import find_track
from a2j_jax.tracks import TRACKS, TrackRecord, TrackSpec, TrainingSpec, with_crop_size
from a2j_jax.training.optim import adam_with_l2, freeze, learning_rate_schedule
from a2j_jax.training.step import Objective, Prepare, TrainStep, make_train_step

Predict = Callable[[Any, Mapping[str, Any]], tuple[np.ndarray, np.ndarray]]


def track_of(config: Config) -> TrackSpec:
    """The track of an experiment, at its crop size and with its augmentation."""
    track = find_track(config.track)
    data = config.data
    if data.crop_size is not None:
        track = with_crop_size(track, data.crop_size)
    if data.camera is not None:
        size = data.frame_size or track.frame_size
        track = dataclasses.replace(track, camera=Camera(*data.camera), frame_size=size)
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
    found = pipeline.metadata(data.dir, track_of(config)).get("statistics")
    if not found or not found["std"] > 0:
        raise UserError(
            f"data set in {data.dir} has no usable statistics of its training crops: build it again with a "
            "training split, or set --config.data.normalization=published"
        )
    data = dataclasses.replace(data, mean=found["mean"], std=found["std"])
    return dataclasses.replace(config, data=data)


def with_camera(config: Config) -> Config:
    """The config with the camera that an embedded data set was rendered for, where that is not the track's.

    Raises:
      UserError: there is no such data set.
    """
    if config.track not in TRACKS or config.data.camera is not None:
        return config
    track = track_of(config)
    stated, ours = pipeline.record_of(config.data.dir, track), TrackRecord.of(track)
    if stated.camera is None or (stated.camera, stated.frame_size) == (
        ours.camera,
        ours.frame_size,
    ):
        return config
    found: dict[str, Any] = {"camera": stated.camera, "frame_size": stated.frame_size}
    return checked(dataclasses.replace(config, data=dataclasses.replace(config.data, **found)))


def with_preset(config: Config) -> Config:
    """The config with the values of its presets, `optim`'s and `loss`'s, where it leaves them open."""
    track = find_track(config.track)
    return dataclasses.replace(
        config,
        optim=_filled(config.optim, track.training(config.optim.preset)),
        loss=_filled(config.loss, track.training(config.loss.preset)),
    )


def _filled(group: Any, values: TrainingSpec) -> Any:
    """A group of a config with a preset's values where it has None."""
    given = dataclasses.asdict(values)
    missing = {k: v for k, v in given.items() if hasattr(group, k) and getattr(group, k) is None}
    return dataclasses.replace(group, **missing)


def _augmentation(track: TrackSpec, settings: AugmentConfig) -> Any:
    names = [f.name for f in dataclasses.fields(track.augmentation)]
    chosen = {name: getattr(settings, name) for name in names}
    given = {name: value for name, value in chosen.items() if value is not None}
    return dataclasses.replace(track.augmentation, **given)


def make_model(config: Config, track: TrackSpec, axis_name: str | None = None) -> PoseNetwork:
    """The network of an experiment; `axis_name` as in `make_train_step`."""
    settings = config.model
    shared: dict[str, Any] = {
        "num_joints": track.num_joints,
        "joint_dims": track.joint_dims,
        "backbone": settings.backbone,
        "width": settings.width,
        "stem_channels": settings.stem_channels,
        "dtype": None if settings.dtype == "float32" else jnp.dtype(settings.dtype),
        "remat": settings.remat,
        "axis_name": axis_name,
    }
    if settings.paradigm == "regression":
        return GlobalRegression(**shared)
    if settings.paradigm == "heat_maps":
        return HeatMapFCN(**shared, deconv_features=settings.head_features)
    return A2J(
        **shared,
        head_features=settings.head_features,
        head_depth=settings.head_depth,
        proposals=settings.proposals,
        one_branch=settings.one_branch,
    )


def schedule_of(settings: OptimConfig, steps: int, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate of an experiment by step; of settings without gaps (`with_preset`)."""
    assert settings.decay_every_epochs is not None
    assert settings.decay_factor is not None
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
    """Adam with coupled L2, on what is not frozen."""
    return freeze(adam_with_l2(schedule, settings.weight_decay), settings.freeze)


def train_step_of(
    config: Config,
    track: TrackSpec,
    optimizer: optax.GradientTransformation,
    axis_name: str | None = None,
) -> TrainStep:
    """The pure training step of an experiment; `axis_name` as in `make_train_step`."""
    settings = config.optim
    return make_train_step(
        make_model(config, track, axis_name),
        optimizer,
        prepare_of(config, track),
        objective_of(config, track),
        axis_name,
        accumulate=settings.accumulate,
        frozen=settings.freeze,
        ema_decay=settings.ema_decay,
        skip_nonfinite=settings.skip_nonfinite_updates > 0,
    )


def objective_of(config: Config, track: TrackSpec) -> Objective:
    """The losses with an experiment's constants."""
    weight, alpha = config.loss.regression_weight, config.loss.alpha
    return partial(
        objective,
        crop_size=track.crop_size,
        regression_weight=track.loss_lambda if weight is None else weight,
        alpha=track.training(config.loss.preset).alpha if alpha is None else alpha,
        depth_term=DEPTH_TERMS[config.loss.preset],
        surrounding=config.loss.surrounding,
    )


def prepare_of(config: Config, track: TrackSpec) -> Prepare:
    """What happens to a training batch on the device before the network sees it."""

    def prepare(batch: Batch, keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        if config.augment.enabled:
            draws = augment.draw(keys, track)
        else:
            draws = augment.no_draws(len(keys), track)
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


def predict_of(
    model: PoseNetwork, track: TrackSpec, devices: Sequence[jax.Device] | None = None
) -> Predict:
    """`predict(variables, batch) -> (joints (B, K, D) in crop coordinates, confidence (B, K))`, jitted.

    Args:
      model, track: the network, and what its crops are.
      devices: of this process, that share the rows of a batch, whatever their number; all by default.
        Variables are copied to them at every call, unless they are there already (`place_variables`).
    """
    layout = sharding.local_layout(devices)

    @partial(jax.jit, in_shardings=(layout.everywhere, layout.spread), out_shardings=layout.spread)
    def predict(variables: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
        images = augment.evaluation_images(batch["canvas"], batch["center_uvd"][:, 2], track)
        outputs: Any = model.apply(variables, images)
        return decode(outputs, track.crop_size)

    def on_what_it_needs(variables: Any, batch: Mapping[str, Any]) -> Any:
        needed = {name: np.asarray(batch[name]) for name in ("canvas", "center_uvd")}
        count = len(needed["canvas"])
        missing = -count % len(layout.devices)
        if missing:
            needed = {n: np.concatenate([x, x[:1].repeat(missing, 0)]) for n, x in needed.items()}
        shared = jax.device_put(needed, layout.spread)
        found = predict(place_variables(variables, devices), shared)
        return jax.tree.map(lambda x: np.asarray(x)[:count], found) if missing else found

    return on_what_it_needs


def place_variables(variables: Any, devices: Sequence[jax.Device] | None = None) -> Any:
    """Variables, the same on all devices of a run, as `predict_of` takes them with these devices."""
    return jax.device_put(sharding.whole_here(variables), sharding.local_layout(devices).everywhere)


def expected_variables(model: PoseNetwork, track: TrackSpec) -> Any:
    """Shapes and dtypes of a model's variables, without computing them."""
    images = jax.ShapeDtypeStruct((1, track.crop_size, track.crop_size, 1), jnp.float32)
    return jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)
