"""What an experiment is: typed, frozen dataclasses, overridden on the command line by dotted names.

Files of them are read by `a2j_jax.config_files`. A `Config` is unpacked once, where a run is put
together (`a2j_jax.training.assembly`); the library's functions take plain arguments.
"""

import dataclasses
import difflib
import json
import operator
import sys
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from a2j_jax.errors import UserError
from a2j_jax.files import local_path
from a2j_jax.typed_values import coerce, described, parse


@dataclass(frozen=True)
class ModelConfig:
    """The network; the defaults are the paper's."""

    # A2J, or what Table 8 compares it with: global regression, or an FCN with heat maps.
    paradigm: Literal["a2j", "regression", "heat_maps"] = "a2j"
    backbone: Literal["resnet18", "resnet34", "resnet50"] = "resnet50"
    width: int = 64  # channels of the trunk's first stage
    stem_channels: Literal[1, 3] = 3  # of the first kernel: 3 as ImageNet's, or 1, their sum
    head_features: int = 256  # hidden channels of A2J's heads, or of the FCN's deconvolutions
    head_depth: int = 4
    proposals: bool = True  # false (Table 7): no proposal branch, every anchor weighs alike
    one_branch: bool = False  # true (Table 7): offset and depth from one branch
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation; weights stay float32
    remat: bool = False  # recompute residual blocks in the backward pass: less memory, more work
    # Official A2J or ImageNet weights (.pth, .safetensors, .npz), or a run or converted checkpoint (a folder).
    init_from: str | None = None


@dataclass(frozen=True)
class DataConfig:
    """Which examples, and where they lie."""

    dir: str = "data"  # TFDS data directory
    crop_size: int | None = None  # None: the track's
    train_split: str = "train"
    eval_split: str = "test"  # scored while training
    eval_frames: int | None = None  # the first so many, rounded up to whole batches; None: all
    # Mean and std of the crops: the track's published ones, or those its builder computed.
    normalization: Literal["published", "computed"] = "published"
    mean: float | None = None  # given here, or filled in from the data set: kept with checkpoints
    std: float | None = None
    # Filled in where an embedded data set was rendered for another camera than the track's: fx, fy, u0, v0; W, H.
    camera: tuple[float, float, float, float] | None = None
    frame_size: tuple[int, int] | None = None
    # Frames to render when an embedded data set is not built yet.
    train_frames: int = 20_000
    validation_frames: int = 1_000
    test_frames: int = 2_000
    seed: int = 0  # of the embedded data set
    on_bad_example: Literal["fail", "skip"] = "fail"  # an example on disk that cannot be read


@dataclass(frozen=True)
class AugmentConfig:
    """Training augmentation; None takes the track's official value."""

    enabled: bool = True
    max_rotation_deg: float | None = None
    scale_range: tuple[float, float] | None = None
    box_jitter_px: int | None = None
    noise_probability: float | None = None
    noise_sigma: float | None = None
    border: Literal["canvas", "crop"] = "canvas"  # "crop" fills as the official code does


@dataclass(frozen=True)
class LossConfig:
    """Eqs. (4)-(7)."""

    preset: Literal["official", "paper"] = "official"  # alpha; depth term: plain L1, or smooth L1
    regression_weight: float | None = None  # lambda of Eq. (7); None: the track's
    alpha: float | None = None  # Eq. (4); None: the preset's for the track
    surrounding: bool = True  # false (Table 7): without the surrounding loss, Eq. (6)


@dataclass(frozen=True)
class OptimConfig:
    """Adam with coupled L2, and its schedule; None takes the preset's value for the track (`tracks.py`)."""

    preset: Literal["official", "paper"] = "official"
    batch_size: int = 64  # of all devices together
    accumulate: int = 1  # a batch goes through the network in this many parts
    epochs: float | None = None
    steps: int | None = None  # instead of epochs
    learning_rate: float = 3.5e-4
    weight_decay: float = 1e-4
    schedule: Literal["constant", "step", "cosine"] = "step"
    decay_every_epochs: int | None = None
    decay_factor: float | None = None
    warmup_steps: int = 0
    freeze: tuple[str, ...] = ()  # prefixes of parameters that stay as they are, e.g. ("trunk/",)
    ema_decay: float | None = None  # of an average of the weights, evaluated beside them
    skip_nonfinite_updates: int = 0  # in a row, before the run stops


@dataclass(frozen=True)
class RunConfig:
    """Bookkeeping of a run."""

    seed: int = 12345
    log_every: int = 20  # steps
    eval_every: int | None = None  # steps, then evaluate and save; None: once an epoch
    save_every: int | None = (
        None  # steps, then save without evaluating; None: only with an evaluation
    )
    keep_best: int = 1  # checkpoints, beside the latest
    wandb: str | None = (
        None  # project to log to with Weights & Biases, offline unless WANDB_MODE says otherwise
    )


@dataclass(frozen=True)
class Config:
    """One experiment."""

    name: str
    track: str
    # How devices share a step (training/parallel.py); auto: jit on one device, mesh on several.
    parallel: Literal["auto", "jit", "pmap", "mesh"] = "auto"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)


# Of this machine's file system; kept as typed, and expanded where they are opened.
_PATHS = ("data.dir", "model.init_from")

# Anything smaller would fail later, and less clearly.
_AT_LEAST: dict[str, float] = {
    "augment.noise_probability": 0,
    "augment.noise_sigma": 0,
    "augment.max_rotation_deg": 0,
    "augment.box_jitter_px": 0,
    "model.width": 1,
    "model.head_features": 1,
    "model.head_depth": 0,
    "data.eval_frames": 1,
    "data.seed": 0,
    "optim.batch_size": 1,
    "optim.accumulate": 1,
    "optim.epochs": 0,
    "optim.steps": 1,
    "optim.learning_rate": 0,
    "optim.decay_factor": 0,
    "optim.weight_decay": 0,
    "optim.decay_every_epochs": 1,
    "optim.warmup_steps": 0,
    "optim.ema_decay": 0,
    "optim.skip_nonfinite_updates": 0,
    "run.seed": 0,
    "run.log_every": 1,
    "run.eval_every": 1,
    "run.save_every": 1,
    "run.keep_best": 1,
}


# Up to here, this included.
_AT_MOST: dict[str, float] = {
    "augment.noise_probability": 1,
    "optim.decay_factor": 1,
    "optim.ema_decay": 1,
    "run.seed": 2**32 - 1,
}


def checked(config: Config) -> Config:
    """The config, lists made tuples and whole numbers floats where it says so.

    Raises:
      UserError: a value of the wrong type or size.
    """
    config = _from_dict(Config, dataclasses.asdict(config))
    _check_sizes(config)
    return config


def variant(base: Config, name: str, **groups: dict[str, Any]) -> Config:
    """Another experiment: the base with other values, called after both.

    Args:
      base: what it differs from.
      name: what is different; the experiment is called "<base>-<name>".
      groups: values to replace in a group, e.g. `model={"proposals": False}`.
    """
    changed = {
        group: dataclasses.replace(getattr(base, group), **values)
        for group, values in groups.items()
    }
    return dataclasses.replace(base, name=f"{base.name}-{name}", **changed)


def override(config: Config, dotted: str, text: str) -> Config:
    """Set one value by its dotted name, e.g. `override(config, "optim.learning_rate", "1e-4")`.

    Raises:
      UserError: an unknown name (naming the nearest valid one), or a value of the wrong type or size.
    """
    changed: Config = _replace(config, dotted.split("."), text, dotted)
    _check_sizes(changed)
    return changed


def _replace(node: Any, path: list[str], text: str, dotted: str) -> Any:
    names = [f.name for f in dataclasses.fields(node)]
    head, rest = path[0], path[1:]
    if head not in names:
        near = _nearest_key(dotted)
        raise UserError(f"unknown config key {dotted!r}{near}; valid here: {listed(names)}")
    value = getattr(node, head)
    if dataclasses.is_dataclass(value):
        if not rest:
            inner = listed(f"{dotted}.{f.name}" for f in dataclasses.fields(value))
            raise UserError(f"config key {dotted!r} is a group; set one of: {inner}")
        return dataclasses.replace(node, **{head: _replace(value, rest, text, dotted)})
    if rest:
        raise UserError(f"unknown config key {dotted!r}: {head!r} is a value, not a group")
    hint = typing.get_type_hints(type(node))[head]
    return dataclasses.replace(node, **{head: _parse(text, hint, dotted)})


def _parse(text: str, hint: Any, dotted: str) -> Any:
    try:
        return parse(text, hint)
    except TypeError:
        raise UserError(
            f"config key {dotted!r}: {text!r} is not a valid {described(hint)}"
        ) from None


def _check_sizes(config: Config) -> None:
    for dotted in _PATHS:
        if (name := operator.attrgetter(dotted)(config)) is not None:
            local_path(name, f"config key {dotted!r}")
    for dotted, least in _AT_LEAST.items():
        value = operator.attrgetter(dotted)(config)
        most = _AT_MOST.get(dotted, sys.float_info.max)
        if value is not None and not least <= value <= most:
            up_to = f" and at most {most:g}" if dotted in _AT_MOST else ""
            raise UserError(
                f"config key {dotted!r}: {value} is not a number of at least {least}{up_to}"
            )
    if config.data.std is not None and not 0 < config.data.std < float("inf"):
        raise UserError(f"config key 'data.std': {config.data.std} is not a number above 0")
    smallest, largest = config.augment.scale_range or (1.0, 1.0)
    if not 0 < smallest <= largest < float("inf"):
        raise UserError(
            f"config key 'augment.scale_range': {smallest},{largest} are not two numbers above 0, the smaller one first"
        )


def to_json(config: Config) -> str:
    """The whole config as JSON, as checkpoints carry it."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_json(text: str) -> Config:
    """The inverse of `to_json`.

    Raises:
      UserError: not a config, or one with keys or values this version does not know.
    """
    try:
        return _from_dict(Config, json.loads(text))
    except (json.JSONDecodeError, TypeError) as error:
        raise UserError(f"not a config of this version of a2j_jax: {error}") from error
    except UserError as error:
        raise UserError(f"not a config of this version of a2j_jax: {error}") from error


def _from_dict(cls: Any, values: Any, prefix: str = "") -> Any:
    """Build a config dataclass from nested dicts, checking names and types."""
    if not isinstance(values, dict):
        raise UserError(f"{prefix.rstrip('.') or 'the whole'} is not a group of keys: {values!r}")
    hints = typing.get_type_hints(cls)
    unknown = [f"{prefix}{name}" for name in values if name not in hints]
    if unknown:
        raise UserError(f"unknown keys: {listed(unknown)}")
    arguments = {}
    for name, value in values.items():
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            arguments[name] = _from_dict(hint, value, f"{prefix}{name}.")
            continue
        try:
            arguments[name] = coerce(value, hint)
        except TypeError:
            raise UserError(
                f"config key {prefix + name!r}: {value!r} is not a valid {described(hint)}"
            ) from None
    return cls(**arguments)


def _nearest_key(dotted: str) -> str:
    """The most alike full name: by all of it and by its last part, so that a forgotten group is found too."""

    def likeness(key: str) -> float:
        pairs = (dotted, key), (dotted.rpartition(".")[2], key.rpartition(".")[2])
        return sum(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)

    best = max(_all_keys(Config), key=likeness)
    return f"; did you mean {best!r}?" if likeness(best) > 1.0 else ""


def _all_keys(cls: Any, prefix: str = "") -> list[str]:
    keys = []
    for name, hint in typing.get_type_hints(cls).items():
        keys.append(prefix + name)
        if dataclasses.is_dataclass(hint):
            keys += _all_keys(hint, f"{prefix}{name}.")
    return keys


def listed(names: typing.Iterable[str]) -> str:
    """Names in order, as a message lists them."""
    return ", ".join(sorted(names))
