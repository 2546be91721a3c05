"""What an experiment is: typed, frozen dataclasses, overridden on the command line by dotted names.

A config file is a Python file with `get_config() -> Config`. A `Config` is unpacked once, where a run is put
together (`a2j_jax.training.experiment`); the library's functions take plain arguments.
"""

import ast
import dataclasses
import difflib
import importlib.util
import json
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from a2j_jax.errors import UserError


@dataclass(frozen=True)
class ModelConfig:
    """The network; the defaults are the paper's."""

    backbone: Literal["resnet18", "resnet34", "resnet50"] = "resnet50"
    width: int = 64  # channels of the trunk's first stage
    head_features: int = 256
    head_depth: int = 4
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation; weights stay float32
    init_from: str | None = None  # official A2J or ImageNet weights: .pth, .safetensors or .npz


@dataclass(frozen=True)
class DataConfig:
    """Which examples, and where they lie."""

    dir: str = "data"  # TFDS data directory
    crop_size: int | None = None  # None: the track's
    train_split: str = "train"
    eval_split: str = "test"  # scored while training
    eval_frames: int | None = None  # None: the whole split
    # Frames to render when an embedded data set is not built yet.
    train_frames: int = 20_000
    validation_frames: int = 1_000
    test_frames: int = 2_000
    seed: int = 0  # of the embedded data set


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

    preset: Literal["official", "paper"] = "official"  # depth term: plain L1, or smooth L1
    regression_weight: float | None = None  # lambda of Eq. (7); None: the track's
    alpha: float = 0.5  # Eq. (4)


@dataclass(frozen=True)
class OptimConfig:
    """Adam with coupled L2, and its schedule."""

    batch_size: int = 64
    epochs: float = 35
    steps: int | None = None  # instead of epochs
    learning_rate: float = 3.5e-4
    weight_decay: float = 1e-4
    schedule: Literal["constant", "step", "cosine"] = "step"
    decay_every_epochs: int = 10
    decay_factor: float = 0.2
    warmup_steps: int = 0


@dataclass(frozen=True)
class RunConfig:
    """Bookkeeping of a run."""

    seed: int = 12345
    log_every: int = 20  # steps
    eval_every: int | None = None  # steps; None: once an epoch. A checkpoint follows each evaluation
    keep_best: int = 1  # checkpoints, beside the latest


@dataclass(frozen=True)
class Config:
    """One experiment."""

    name: str
    track: str
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)


def config_folders() -> list[Path]:
    """Where config files are looked for by name: the working directory's, the wheel's, the checkout's."""
    package = Path(__file__).resolve().parent
    return [Path("configs"), package / "configs", package.parent / "configs"]


def load_config(name_or_path: str) -> Config:
    """Load a config by name ("quickstart") or by path ("my/experiment.py").

    Raises:
      UserError: no such config (naming the nearest one), or a file without `get_config`.
    """
    path = Path(name_or_path)
    if path.suffix != ".py":
        path = _find_config(name_or_path)
    if not path.is_file():
        raise UserError(f"config file not found: {path}")
    spec = importlib.util.spec_from_file_location(f"a2j_config_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config()
    except Exception as error:  # a config is the user's program: whatever it raises is theirs to mend
        raise UserError(f"{path}: {type(error).__name__}: {error}") from error
    if not isinstance(config, Config):
        raise UserError(f"{path}: get_config() must return a Config, not {type(config).__name__}")
    return config


def _find_config(name: str) -> Path:
    found = {p.stem: p for folder in reversed(config_folders()) for p in folder.glob("[!_]*.py")}
    if name not in found:
        raise UserError(f"no config {name!r}{_nearest(name, found)}; there are: {_listed(found)}")
    return found[name]


def override(config: Config, dotted: str, text: str) -> Config:
    """Set one value by its dotted name, e.g. `override(config, "optim.learning_rate", "1e-4")`.

    Raises:
      UserError: an unknown name (naming the nearest valid one) or a value of the wrong type.
    """
    return _replace(config, dotted.split("."), text, dotted)


def _replace(node: Any, path: list[str], text: str, dotted: str) -> Any:
    names = [f.name for f in dataclasses.fields(node)]
    head, rest = path[0], path[1:]
    if head not in names:
        prefix = dotted[: len(dotted) - len(".".join(path))]
        near = _nearest(head, names, prefix)
        raise UserError(f"unknown config key {dotted!r}{near}; valid here: {_listed(names)}")
    value = getattr(node, head)
    if dataclasses.is_dataclass(value):
        if not rest:
            inner = _listed(f"{dotted}.{f.name}" for f in dataclasses.fields(value))
            raise UserError(f"config key {dotted!r} is a group; set one of: {inner}")
        return dataclasses.replace(node, **{head: _replace(value, rest, text, dotted)})
    if rest:
        raise UserError(f"unknown config key {dotted!r}: {head!r} is a value, not a group")
    hint = typing.get_type_hints(type(node))[head]
    return dataclasses.replace(node, **{head: _parse(text, hint, dotted)})


def _parse(text: str, hint: Any, dotted: str) -> Any:
    try:
        raw: Any = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raw = {"true": True, "false": False, "none": None}.get(text.lower(), text)
    try:
        return _coerce(raw, hint)
    except TypeError:
        wanted = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        raise UserError(f"config key {dotted!r}: {text!r} is not a valid {wanted}") from None


def _coerce(raw: Any, hint: Any) -> Any:
    """Check `raw` against a type hint of a config field; JSON lists become tuples, ints become floats."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for option in arguments:
            try:
                return _coerce(raw, option)
            except TypeError:
                continue
        raise TypeError
    if origin is Literal:
        if raw in arguments:
            return raw
        raise TypeError
    if origin is tuple:
        if isinstance(raw, (tuple, list)) and len(raw) == len(arguments):
            return tuple(_coerce(r, a) for r, a in zip(raw, arguments, strict=True))
        raise TypeError
    if hint is float and isinstance(raw, int) and not isinstance(raw, bool):
        return float(raw)
    if hint is type(None) and raw is None:
        return None
    if isinstance(hint, type) and type(raw) is hint:
        return raw
    raise TypeError


def to_json(config: Config) -> str:
    """The whole config as JSON, as checkpoints carry it."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_json(text: str) -> Config:
    """The inverse of `to_json`.

    Raises:
      UserError: not a config, or one with keys this version does not know.
    """
    try:
        return _from_dict(Config, json.loads(text))
    except (json.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"not a config of this version of a2j_jax: {error}") from error


def _from_dict(cls: Any, values: dict[str, Any]) -> Any:
    hints = typing.get_type_hints(cls)
    unknown = set(values) - set(hints)
    if unknown:
        raise KeyError(f"unknown keys {sorted(unknown)}")
    arguments = {}
    for name, value in values.items():
        hint = hints[name]
        is_group = dataclasses.is_dataclass(hint)
        arguments[name] = _from_dict(hint, value) if is_group else _coerce(value, hint)
    return cls(**arguments)


def _nearest(name: str, valid: typing.Iterable[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.4)
    return f"; did you mean {prefix + near[0]!r}?" if near else ""


def _listed(names: typing.Iterable[str]) -> str:
    return ", ".join(sorted(names))
