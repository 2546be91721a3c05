"""The config of an experiment: typed, frozen dataclasses whose values the command line overrides by dotted names.

`a2j_jax.config_files` reads files of them. At the entry of a program, `a2j_jax.runs.experiment.resolve` makes an
`Experiment` of a config.
"""

import ast
import contextlib
import dataclasses
import difflib
import json
import operator
import types
import typing
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from a2j_jax.errors import UserError, did_you_mean, printable
from a2j_jax.files import local_path, parse_json

LARGEST_COUNT = 10**9  # of steps, frames and the like: anything larger is a slip
LARGEST_SEED = 2**32 - 1
MOST_RENDERED = 10**7  # frames of a split that is rendered here


def _key(default: Any, says: str, least: float | None = None, most: float | None = None) -> Any:
    """A key of a config: its default, what it means (`a2j config` prints it), and the range of a number or of each."""
    bounds = None if least is None or most is None else (least, most)
    return field(default=default, metadata={"says": says, "bounds": bounds})


@dataclass(frozen=True)
class ModelConfig:
    """The network; the defaults are the paper's."""

    paradigm: Literal["a2j", "regression", "heat_maps"] = _key(
        "a2j",
        "the network: A2J, or what Table 8 compares it with: global regression, or an FCN with heat maps",
    )
    backbone: Literal["resnet18", "resnet34", "resnet50"] = _key("resnet50", "the trunk")
    width: int = _key(64, "channels of the trunk's first stage", 1, 1024)
    stem_channels: Literal[1, 3] = _key(
        3, "input channels of the first kernel: 3 as ImageNet's, or 1, their sum"
    )
    head_features: int = _key(
        256, "hidden channels of A2J's heads, or of the FCN's deconvolutions", 1, 4096
    )
    head_depth: int = _key(4, "hidden convolutions of each of A2J's heads", 0, 64)
    proposals: bool = _key(
        True, "false (Table 7): no proposal branch, all anchors have the same weight"
    )
    one_branch: bool = _key(False, "true (Table 7): offset and depth from one branch")
    dtype: Literal["float32", "bfloat16"] = _key(
        "float32", "type of the computation; weights stay float32"
    )
    remat: bool = _key(
        False, "recompute residual blocks in the backward pass: less memory, more work"
    )
    init_from: str | None = _key(
        None,
        "weights to start from: official A2J or ImageNet weights (.pth, .safetensors, .npz), or the folder of a run "
        "or converted checkpoint; none: random",
    )


@dataclass(frozen=True)
class DataConfig:
    """Which examples, and where they lie."""

    dir: str = _key("data", "TFDS data directory")
    crop_size: int | None = _key(
        None, "side of the network's input, px, a multiple of 16; none: the track's", 16, 2048
    )
    train_split: str = _key("train", "split to learn from")
    eval_split: str = _key("test", "split that is scored while training")
    eval_frames: int | None = _key(
        None,
        "score only the first frames, this many, rounded up to whole batches; none: all",
        1,
        LARGEST_COUNT,
    )
    normalization: Literal["published", "computed"] = _key(
        "published",
        "mean and std of the crops: the track's published ones, or those of the data set",
    )
    mean: float | None = _key(
        None, "mean of the crops, in image units; none: see normalization", -1e6, 1e6
    )
    std: float | None = _key(None, "their standard deviation; none: see normalization", 1e-9, 1e6)
    camera: tuple[float, float, float, float] | None = _key(
        None,
        "fx, fy, u0, v0 of the frames, px; filled in where an embedded data set was rendered for another camera than "
        "the track's",
        -1e6,
        1e6,
    )
    frame_size: tuple[int, int] | None = _key(
        None, "their width and height, px; filled in likewise", 1, 8192
    )
    train_frames: int = _key(
        20_000, "frames to render, where an embedded data set is not built yet", 0, MOST_RENDERED
    )
    validation_frames: int = _key(1_000, "the same, of the validation split", 0, MOST_RENDERED)
    test_frames: int = _key(2_000, "the same, of the test split", 0, MOST_RENDERED)
    seed: int = _key(0, "seed of the rendered scenes", 0, LARGEST_SEED)
    on_bad_example: Literal["fail", "skip"] = _key(
        "fail", "what to do about an example on disk that cannot be read"
    )


@dataclass(frozen=True)
class AugmentConfig:
    """Training augmentation; None takes the track's official value."""

    enabled: bool = _key(True, "augment at all")
    max_rotation_deg: float | None = _key(
        None,
        "in-plane rotation is uniform in plus or minus this, degrees; none: the track's",
        0,
        360,
    )
    scale_range: tuple[float, float] | None = _key(
        None,
        "uniform range of the in-plane scale, the smaller one first; none: the track's",
        0.01,
        100,
    )
    box_jitter_px: int | None = _key(
        None, "each edge of the crop moves by up to this many frame px; none: the track's", 0, 1000
    )
    noise_probability: float | None = _key(
        None, "chance that a rectangle of the crop gets Gaussian noise; none: the track's", 0, 1
    )
    noise_sigma: float | None = _key(
        None, "standard deviation of that noise, in normalized units; none: the track's", 0, 1000
    )
    border: Literal["canvas", "crop"] = _key(
        "canvas",
        "what moves into the crop: the stored surroundings, or background as in the official code",
    )


@dataclass(frozen=True)
class LossConfig:
    """Eqs. (4)-(7)."""

    preset: Literal["official", "paper"] = _key(
        "official", "alpha, and the depth term: plain L1 (official) or smooth L1 (paper)"
    )
    regression_weight: float | None = _key(None, "lambda of Eq. (7); none: the track's", 0, 1e6)
    alpha: float | None = _key(
        None, "weight of the in-plane term, Eq. (4); none: the preset's for the track", 0, 1e6
    )
    surrounding: bool = _key(True, "false (Table 7): without the surrounding loss, Eq. (6)")


@dataclass(frozen=True)
class OptimConfig:
    """Adam with coupled L2, and its schedule; None takes the preset's value for the track (`tracks.py`)."""

    preset: Literal["official", "paper"] = _key(
        "official",
        "epochs, decay_every_epochs and decay_factor: of the authors' program, or of the paper",
    )
    batch_size: int = _key(64, "images per step, of all devices together", 1, 2**20)
    accumulate: int = _key(
        1, "a batch goes through the network in this many parts, to save memory", 1, 2**20
    )
    epochs: float | None = _key(None, "length of the run; none: the preset's", 0, 10**6)
    steps: int | None = _key(
        None, "length of the run in steps, instead of epochs", 1, LARGEST_COUNT
    )
    learning_rate: float = _key(3.5e-4, "learning rate after the warm-up", 0, 10)
    weight_decay: float = _key(1e-4, "weight of the L2 term in the gradient", 0, 10)
    schedule: Literal["constant", "step", "cosine"] = _key(
        "step", "how the learning rate falls: not at all, by a factor every few epochs, or to zero"
    )
    decay_every_epochs: int | None = _key(
        None, "schedule=step: epochs between two falls; none: the preset's", 1, 10**6
    )
    decay_factor: float | None = _key(
        None, "schedule=step: factor of each fall; none: the preset's", 0, 1
    )
    warmup_steps: int = _key(
        0, "steps in which the learning rate rises from zero", 0, LARGEST_COUNT
    )
    freeze: tuple[str, ...] = _key(
        (), "prefixes of parameters that are not trained, e.g. trunk/layer1,trunk/layer2"
    )
    ema_decay: float | None = _key(
        None,
        "decay per step of a moving average of the weights, scored beside them; none: no average",
        0,
        1,
    )
    skip_nonfinite_updates: int = _key(
        0,
        "updates in a row that may be skipped because they are not finite, before the run stops",
        0,
        10**6,
    )


@dataclass(frozen=True)
class RunConfig:
    """Bookkeeping of a run."""

    seed: int = _key(
        12345,
        "seed of the weights, the order of the examples and the augmentation",
        0,
        LARGEST_SEED,
    )
    log_every: int = _key(20, "steps between two lines of the log", 1, LARGEST_COUNT)
    eval_every: int | None = _key(
        None,
        "steps between two evaluations, each with a checkpoint; none: once an epoch",
        1,
        LARGEST_COUNT,
    )
    save_every: int | None = _key(
        None,
        "steps between two checkpoints without an evaluation; none: no such checkpoints",
        1,
        LARGEST_COUNT,
    )
    keep_best: int = _key(1, "checkpoints to keep, beside the latest", 1, 10_000)
    wandb: str | None = _key(
        None,
        "project to log to with Weights & Biases, offline unless WANDB_MODE says otherwise; none: not used",
    )


@dataclass(frozen=True)
class Config:
    """One experiment."""

    name: str = field(metadata={"says": "of the experiment, and of its folder below runs/"})
    track: str = field(
        metadata={"says": "data set and protocol: a track, or a folder with track.json"}
    )
    parallel: Literal["auto", "jit", "pmap", "mesh"] = _key(
        "auto",
        "how devices share a step (docs/scaling.md); auto: jit on one device, mesh on several",
    )
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)


# Of this machine's file system; kept as typed, and expanded where they are opened.
_PATHS = ("data.dir", "model.init_from")


class Key(NamedTuple):
    """One key of a config.

    Attributes:
      name: dotted.
      says: what it means.
      hint: its type.
      bounds: smallest and largest number; None where it is no number.
      default: None for `name` and `track`, too, which have none.
    """

    name: str
    says: str
    hint: Any
    bounds: tuple[float, float] | None
    default: Any

    @property
    def kind(self) -> str:
        """The type in words: "int", "float or none", "value; one of jit, mesh"."""
        return _in_words(self.hint)


def keys(cls: Any = Config, prefix: str = "") -> Iterator[Key]:
    """All keys, group by group."""
    hints = typing.get_type_hints(cls)
    for one in dataclasses.fields(cls):
        name, hint = prefix + one.name, hints[one.name]
        if dataclasses.is_dataclass(hint):
            yield from keys(hint, f"{name}.")
        else:
            default = None if one.default is dataclasses.MISSING else one.default
            yield Key(name, one.metadata["says"], hint, one.metadata.get("bounds"), default)


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
    hint = {key.name: key.hint for key in keys()}.get(dotted)
    if hint is None:
        raise _unknown_key(dotted)
    try:
        value = _parse(text, hint)
    except TypeError:
        raise _not_valid(dotted, text, hint) from None
    group, _, name = dotted.rpartition(".")
    if group:
        name, value = group, dataclasses.replace(getattr(config, group), **{name: value})
    changed = dataclasses.replace(config, **{name: value})
    _check_sizes(changed)
    return changed


def checked(config: Config) -> Config:
    """The config, with lists made tuples and integers made floats where the types say so.

    Raises:
      UserError: a value of the wrong type or size.
    """
    config = _from_dict(Config, dataclasses.asdict(config))
    _check_sizes(config)
    return config


def to_json(config: Config) -> str:
    """The config as JSON, as run directories hold it."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_json(text: str) -> Config:
    """The inverse of `to_json`.

    Raises:
      UserError: not a config, or one with keys or values this version does not know.
    """
    return from_dict(parse_json(text, "the config"))


def from_dict(values: Any) -> Config:
    """A config of nested dicts, as JSON has them.

    Raises:
      UserError: keys or values that this version does not know, or no `name` or `track`.
    """
    try:
        config: Config = _from_dict(Config, values)
    except (TypeError, UserError) as error:
        raise UserError(f"not a config of this version of a2j_jax: {error}") from error
    return config


def _from_dict(cls: Any, values: Any, prefix: str = "") -> Any:
    """Build a config dataclass from nested dicts, checking names and types."""
    if not isinstance(values, dict):
        raise UserError(
            f"{prefix.rstrip('.') or 'the config'} is not a group of keys: {_shown(values)}"
        )
    hints = typing.get_type_hints(cls)
    if unknown := [f"{prefix}{name}" for name in values if name not in hints]:
        raise UserError(f"unknown keys: {listed(unknown)}")
    arguments = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            arguments[name] = _from_dict(hints[name], value, f"{prefix}{name}.")
            continue
        try:
            arguments[name] = _coerce(value, hints[name])
        except TypeError:
            raise _not_valid(prefix + name, value, hints[name]) from None
    return cls(**arguments)


def _parse(text: str, hint: Any) -> Any:
    """A value from the command line: a Python literal, or the text itself, or its parts between commas.

    Raises:
      TypeError: none of these is of that type.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about text that looks like Python: "1or"
            raw: Any = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # as it documents
        raw = {"true": True, "false": False, "none": None}.get(text.lower(), text)
    for value in (raw, text):  # the text itself: a folder may be called 2017
        with contextlib.suppress(TypeError):
            return _coerce(value, hint)
    return _coerce(text.split(","), hint)


def _coerce(raw: Any, hint: Any) -> Any:
    """Check a value against a type hint; JSON lists become tuples, ints become floats.

    Raises:
      TypeError: it is of another type.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for option in arguments:
            with contextlib.suppress(TypeError):
                return _coerce(raw, option)
    elif origin is Literal:
        for option in arguments:
            if type(raw) is type(option) and raw == option:  # True is not 1
                return option
    elif origin is tuple and isinstance(raw, (tuple, list)):
        if arguments[1:] == (...,):
            arguments = (arguments[0],) * len(raw)
        if len(raw) == len(arguments):
            return tuple(map(_coerce, raw, arguments))
    elif hint is float and type(raw) is int:
        with contextlib.suppress(OverflowError):
            return float(raw)
    elif isinstance(hint, type) and type(raw) is hint:
        return raw
    raise TypeError


def _check_sizes(config: Config) -> None:
    for key in keys():
        value = operator.attrgetter(key.name)(config)
        if value is None:
            continue
        if key.name in _PATHS:
            local_path(value, f"config key {key.name!r}")
        if key.bounds is not None:
            least, most = key.bounds
            for number in value if isinstance(value, tuple) else (value,):
                if not least <= number <= most:  # NaN among them
                    raise UserError(
                        f"config key {key.name!r}: {_shown(number)} is not a number of at least {least:.10g} and at "
                        f"most {most:.10g}"
                    )
    name = config.name
    if "/" in name or name in ("", ".", "..") or printable(name, 200) != name:
        raise UserError(f"config key 'name': {_shown(name)} is not the name of a folder")
    smallest, largest = config.augment.scale_range or (1.0, 1.0)
    if smallest > largest:
        raise UserError(
            f"config key 'augment.scale_range': {smallest},{largest}; expected two numbers, the smaller one first"
        )


def _not_valid(dotted: str, value: Any, hint: Any) -> UserError:
    """A value of the wrong type; for a misspelled word with the nearest valid one (`bf16`: bfloat16)."""
    words = [word for word in typing.get_args(hint) if isinstance(word, str)]
    near = did_you_mean(value, words, cutoff=0.45) if isinstance(value, str) else ""
    return UserError(
        f"config key {dotted!r}: {_shown(value)} is not a valid {_in_words(hint)}{near}"
    )


def _unknown_key(dotted: str) -> UserError:
    """A name that is no key: that of a group, or a wrong one."""
    names = [key.name for key in keys()]
    below = listed(name for name in names if name.startswith(f"{dotted}."))
    if below:
        return UserError(f"config key {dotted!r} is a group; set one of: {below}")
    inside = [name for name in names if name.partition(".")[0] == dotted.partition(".")[0]]
    valid = listed(inside or dict.fromkeys(name.partition(".")[0] for name in names))
    return UserError(f"unknown config key {dotted!r}{_nearest_key(dotted)}; valid here: {valid}")


def _nearest_key(dotted: str) -> str:
    """The most similar full name, by all of it and by its last part, so that a forgotten group is found too."""

    def likeness(key: str) -> float:
        pairs = (dotted, key), (dotted.rpartition(".")[2], key.rpartition(".")[2])
        return sum(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)

    names = [key.name for key in keys()]
    groups = dict.fromkeys(name.partition(".")[0] for name in names)
    best = max([*groups, *names], key=likeness)
    return f"; did you mean {best!r}?" if likeness(best) > 1.0 else ""


def _in_words(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return f"value; one of {', '.join(map(str, typing.get_args(hint)))}"
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(_in_words, typing.get_args(hint)))
    if hint is type(None):
        return "none"
    return hint.__name__ if type(hint) is type else str(hint).replace("typing.", "")


def _shown(value: Any) -> str:
    return printable(repr(value), 80)


def listed(names: Iterable[str]) -> str:
    """Names in order, as a message lists them."""
    return ", ".join(sorted(names))
