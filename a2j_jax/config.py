"""The config of an experiment: typed, frozen dataclasses whose values the command line overrides by dotted names.

pydantic checks types and ranges wherever a config is made, in Python as from JSON. `a2j_jax.config_files` reads files
of them; `a2j_jax.runs.experiment.resolve` makes an `Experiment` of a config, at the entry of a program.
"""

import ast
import dataclasses
import difflib
import json
import re
import types
import typing
import warnings
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from a2j_jax.errors import UserError, did_you_mean, printable
from a2j_jax.files import is_address, local_path, parse_json

LARGEST_COUNT = 10**9  # of steps, frames and the like: anything larger is a slip
LARGEST_SEED = 2**32 - 1
LARGEST_BATCH = 2**20
MOST_RENDERED = 10**7  # frames of a split that is rendered here
Scenes = Literal["plain", "varied", "shifted"]
SCENES: tuple[Scenes, ...] = typing.get_args(Scenes)
_STRICT = ConfigDict(
    extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
)


def _place(path: str) -> str:
    """A path, or an address in an object store; it stays as typed, and is expanded where it is opened."""
    if not is_address(path):
        local_path(path)
    return path


def _folder_name(name: str) -> str:
    if "/" in name or name in ("", ".", "..") or printable(name, 200) != name:
        raise UserError("expected the name of a folder")
    return name


def _as_json(options: dict[str, Any]) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(json.dumps(options, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError("expected values that JSON has: numbers, texts, lists") from error
    return values


def _import_path(path: str) -> str:
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", path):
        raise UserError("expected MODULE:FUNCTION, for instance my_paper.awr:parts")
    return path


def _rising(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise UserError("expected two numbers, the smaller one first")
    return values


Place = Annotated[str, AfterValidator(_place)]
Pixels = Annotated[float, Field(ge=-1e6, le=1e6)]
Scale = Annotated[float, Field(ge=0.01, le=100)]
Side = Annotated[int, Field(ge=1, le=8192)]


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """The network; the defaults are the paper's."""

    backbone: Literal["resnet18", "resnet34", "resnet50"] = "resnet50"
    """The trunk."""
    width: int = Field(default=64, ge=1, le=1024)
    """Channels of the trunk's first stage."""
    stem_channels: Literal[1, 3] = 3
    """Input channels of the first kernel: 3 as ImageNet's, or 1, their sum."""
    head_features: int = Field(default=256, ge=1, le=4096)
    """Hidden channels of A2J's heads, or of the deconvolutions of heat maps."""
    head_depth: int = Field(default=4, ge=0, le=64)
    """Hidden convolutions of each of A2J's heads."""
    proposals: bool = True
    """False (Table 7): no proposal branch, all anchors have the same weight."""
    one_branch: bool = False
    """True (Table 7): offset and depth from one branch."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the computation; weights stay float32."""
    remat: bool = False
    """Recompute residual blocks in the backward pass: less memory, more work."""
    batch_norm: Literal["global", "local", "ghost"] = "global"
    """Rows of a batch that are normalized together in training: all, those of each device, or ghost_size. Evaluation is
    by running statistics, averages over these groups."""
    ghost_size: int = Field(default=32, ge=1, le=LARGEST_BATCH)
    """With batch_norm=ghost: rows normalized together; divides those that a device has of a batch or of its parts."""
    init_from: Place | None = None
    """Weights to start from: official A2J or ImageNet weights (.pth, .safetensors, .npz), the folder of a run or
    converted checkpoint, or weights of a2j export (a .npz, or the name of those that ship); none: random."""


@dataclass(frozen=True, config=_STRICT)
class DataConfig:
    """Which examples, and where they lie."""

    dir: Place = "data"
    """TFDS data directory."""
    crop_size: int | None = Field(default=None, ge=16, le=2048)
    """Side of the network's input, px, a multiple of 16; none: the track's."""
    train_split: str = "train"
    """Split to learn from."""
    eval_split: str = "test"
    """Split that is scored while training."""
    eval_frames: int | None = Field(default=None, ge=1, le=LARGEST_COUNT)
    """Score only the first frames, this many, rounded up to whole batches; none: all."""
    normalization: Literal["published", "computed"] = "published"
    """Mean and std of the crops: the track's published ones, or those of the data set."""
    mean: float | None = Field(default=None, ge=-1e6, le=1e6)
    """Mean of the crops, in image units; none: see normalization."""
    std: float | None = Field(default=None, ge=1e-9, le=1e6)
    """Their standard deviation; none: see normalization."""
    camera: tuple[Pixels, Pixels, Pixels, Pixels] | None = None
    """fx, fy, u0, v0 of the frames, px; filled in where an embedded data set was rendered for another camera than the
    track's."""
    frame_size: tuple[Side, Side] | None = None
    """Their width and height, px; filled in likewise."""
    train_frames: int = Field(default=20_000, ge=0, le=MOST_RENDERED)
    """Frames to render, where an embedded data set is not built yet."""
    validation_frames: int = Field(default=1_000, ge=0, le=MOST_RENDERED)
    """The same, of the validation split."""
    test_frames: int = Field(default=2_000, ge=0, le=MOST_RENDERED)
    """The same, of the test split."""
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)
    """Seed of the rendered scenes."""
    scenes: Scenes = "plain"
    """Kind of scenes to render, of synthetic_hand (docs/datasets/rendered.md). Give each kind its own data.dir."""
    on_bad_example: Literal["fail", "skip"] = "fail"
    """What to do about an example on disk that cannot be read."""
    workers: int | None = Field(default=None, ge=0, le=256)
    """Number of processes that read training examples; with 0 a thread does; none: 0 on a CPU, else one less than there
    are cores, at most 8. Each training process has its own. The batches are the same."""


@dataclass(frozen=True, config=_STRICT)
class AugmentConfig:
    """Training augmentation; None takes the track's official value."""

    enabled: bool = True
    """Augment at all."""
    max_rotation_deg: float | None = Field(default=None, ge=0, le=360)
    """In-plane rotation is uniform in plus or minus this, degrees; none: the track's."""
    scale_range: Annotated[tuple[Scale, Scale], AfterValidator(_rising)] | None = None
    """Uniform range of the in-plane scale, the smaller one first; none: the track's."""
    box_jitter_px: int | None = Field(default=None, ge=0, le=1000)
    """Each edge of the crop moves by up to this many frame px; none: the track's."""
    noise_probability: float | None = Field(default=None, ge=0, le=1)
    """Chance that a rectangle of the crop gets Gaussian noise; none: the track's."""
    noise_sigma: float | None = Field(default=None, ge=0, le=1000)
    """Standard deviation of that noise, in normalized units; none: the track's."""
    center_shift_mm: float | None = Field(default=None, ge=0, le=100)
    """Standard deviation on each axis, mm, of a 3D shift of the crop's center, doubled in 15 % of the examples; for
    tracks that crop by a center; none: the track's, 0."""
    border: Literal["canvas", "crop"] = "canvas"
    """What moves into the crop: the stored surroundings, or background as in the official code."""


@dataclass(frozen=True, config=_STRICT)
class LossConfig:
    """Eqs. (4)-(7)."""

    preset: Literal["official", "paper"] = "official"
    """Alpha, and the depth term: plain L1 (official) or smooth L1 (paper)."""
    regression_weight: float | None = Field(default=None, ge=0, le=1e6)
    """Lambda of Eq. (7); none: the track's."""
    alpha: float | None = Field(default=None, ge=0, le=1e6)
    """Weight of the in-plane term, Eq. (4); none: the preset's for the track."""
    surrounding: bool = True
    """False (Table 7): without the surrounding loss, Eq. (6)."""


@dataclass(frozen=True, config=_STRICT)
class OptimConfig:
    """The optimizer and its schedule; None takes the preset's value for the track (`tracks.py`)."""

    preset: Literal["official", "paper"] = "official"
    """Epochs, decay_every_epochs and decay_factor: of the authors' program, or of the paper."""
    batch_size: int = Field(default=64, ge=1, le=LARGEST_BATCH)
    """Images per step, of all devices together."""
    accumulate: int = Field(default=1, ge=1, le=LARGEST_BATCH)
    """A batch goes through the network in this many parts, to save memory."""
    epochs: float | None = Field(default=None, ge=0, le=10**6)
    """Length of the run; none: the preset's."""
    steps: int | None = Field(default=None, ge=1, le=LARGEST_COUNT)
    """Length of the run in steps, instead of epochs."""
    optimizer: Literal["adam", "lamb"] = "adam"
    """Adam with coupled L2, or LAMB, for large batches (docs/scaling.md)."""
    learning_rate: float = Field(default=3.5e-4, ge=0, le=10)
    """Learning rate after the warm-up."""
    base_batch_size: int | None = Field(default=None, ge=1, le=LARGEST_BATCH)
    """Batch size that learning_rate is for: it is multiplied by batch_size / base_batch_size; none: as given."""
    weight_decay: float = Field(default=1e-4, ge=0, le=10)
    """Weight of the L2 term in the gradient (LAMB: of the weights in the update)."""
    schedule: Literal["constant", "step", "cosine"] = "step"
    """How the learning rate falls: not at all, by a factor every few epochs, or to zero."""
    decay_every_epochs: int | None = Field(default=None, ge=1, le=10**6)
    """With schedule=step: epochs between two falls; none: the preset's."""
    decay_factor: float | None = Field(default=None, ge=0, le=1)
    """With schedule=step: factor of each fall; none: the preset's."""
    warmup_steps: int = Field(default=0, ge=0, le=LARGEST_COUNT)
    """Steps in which the learning rate rises from zero."""
    warmup_epochs: float | None = Field(default=None, ge=0, le=10**6)
    """The same in epochs, instead."""
    freeze: tuple[str, ...] = ()
    """Prefixes of parameters that are not trained, e.g. trunk/layer1,trunk/layer2."""
    ema_decay: float | None = Field(default=None, ge=0, le=1)
    """Decay per step of a moving average of the weights, scored beside them; none: no average."""
    skip_nonfinite_updates: int = Field(default=0, ge=0, le=10**6)
    """Updates in a row that may be skipped because they are not finite, before the run stops."""


@dataclass(frozen=True, config=_STRICT)
class RunConfig:
    """Bookkeeping of a run."""

    seed: int = Field(default=12345, ge=0, le=LARGEST_SEED)
    """Seed of the weights, the order of the examples and the augmentation."""
    log_every: int = Field(default=20, ge=1, le=LARGEST_COUNT)
    """Steps between two lines of the log."""
    eval_every: int | None = Field(default=None, ge=1, le=LARGEST_COUNT)
    """Steps between two evaluations, each with a checkpoint; none: once an epoch."""
    eval_epochs: float | None = Field(default=None, ge=1e-6, le=LARGEST_COUNT)
    """The same in epochs, instead."""
    save_every: int | None = Field(default=None, ge=1, le=LARGEST_COUNT)
    """Steps between two checkpoints without an evaluation; none: no such checkpoints."""
    save_minutes: float | None = Field(default=None, ge=1e-3, le=1e5)
    """The same in minutes, as measured while it trains; all processes save the same steps."""
    stall_seconds: float = Field(default=3600, ge=1, le=1e7)
    """A run without progress for so long (no step, batch of an evaluation, or save) ends, and shows where it hangs."""
    grace_seconds: float = Field(default=30, ge=1, le=1e6)
    """The same after SIGTERM, or three times the longest step so far. Choose less than the scheduler waits."""
    keep_best: int = Field(default=1, ge=1, le=10_000)
    """Checkpoints to keep, beside the latest."""
    wandb: str | None = None
    """Project to log to with Weights & Biases, offline unless WANDB_MODE says otherwise; none: not used."""


@dataclass(frozen=True, config=_STRICT)
class Config:
    """One experiment."""

    name: Annotated[str, AfterValidator(_folder_name)]
    """Name of the experiment, and of its folder below runs/."""
    track: str
    """Data set and protocol: a track, or a folder with track.json."""
    parallel: Literal["auto", "jit", "pmap", "mesh", "shard_map"] = "auto"
    """How devices share a step (docs/scaling.md); auto: jit on one device, mesh on several."""
    parts: Annotated[str, AfterValidator(_import_path)] | None = None
    """What replaces parts of A2J: MODULE:FUNCTION of a function (config, track) -> Parts (docs/extending.md). Table 8's
    baselines are a2j_jax.baselines:global_regression and a2j_jax.baselines:heat_maps; none: A2J."""
    options: Annotated[dict[str, Any], AfterValidator(_as_json)] = dataclasses.field(
        default_factory=dict, hash=False
    )
    """Values for these parts: --config.options.NAME=VALUE."""
    model: ModelConfig = Field(default_factory=ModelConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    augment: AugmentConfig = Field(default_factory=AugmentConfig)
    loss: LossConfig = Field(default_factory=LossConfig)
    optim: OptimConfig = Field(default_factory=OptimConfig)
    run: RunConfig = Field(default_factory=RunConfig)


class Key(NamedTuple):
    """One key of a config."""

    name: str  # dotted
    meaning: str
    hint: Any  # its type
    bounds: tuple[float, float] | None  # smallest and largest number; None: it is no single number
    default: Any  # None for `name` and `track`, too, which have none

    @property
    def kind(self) -> str:
        """The type in words: "int", "float or none", "jit, mesh or pmap"."""
        return _in_words(self.hint)


def keys(group: Any = Config, prefix: str = "") -> Iterator[Key]:
    """All keys, group by group."""
    for name, info in group.__pydantic_fields__.items():
        if dataclasses.is_dataclass(info.annotation):
            yield from keys(info.annotation, f"{prefix}{name}.")
            continue
        low = [one.ge for one in info.metadata if hasattr(one, "ge")]
        high = [one.le for one in info.metadata if hasattr(one, "le")]
        bounds = (low[0], high[0]) if low else None
        default = None if info.is_required() else info.get_default(call_default_factory=True)
        meaning = " ".join(info.description.split())
        yield Key(prefix + name, meaning, info.annotation, bounds, default)


def _in_words(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _in_words(arguments[0])
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_in_words, arguments))
    if origin is dict:
        return "values by name"
    if origin is tuple:
        return ",".join("..." if a is ... else _in_words(a) for a in arguments)
    return "none" if hint is type(None) else str(hint.__name__)


def variant(base: Config, name: str, **values: Any) -> Config:
    """Another experiment, "<base>-<name>"; of a group only the values that differ: `model={"proposals": False}`."""
    changed: dict[str, Any] = {}
    for key, value in values.items():
        group: Any = getattr(base, key)
        is_group = dataclasses.is_dataclass(group)
        changed[key] = dataclasses.replace(group, **value) if is_group else value
    return dataclasses.replace(base, name=f"{base.name}-{name}", **changed)


# The networks of Table 8, with their parts. They were values of a key, before parts could be replaced: configs of
# earlier runs have it.
_PARADIGM = "model.paradigm"
PARADIGMS: dict[str, str | None] = {
    "a2j": None,
    "regression": "a2j_jax.baselines:global_regression",
    "heat_maps": "a2j_jax.baselines:heat_maps",
}


def override(config: Config, dotted: str, text: str) -> Config:
    """Set one value by its dotted name, e.g. `override(config, "optim.learning_rate", "1e-4")`.

    The text is a Python literal, the value itself (a folder may be called 2017), or its parts between commas.

    Raises:
      UserError: an unknown name (naming the nearest valid one), or a value of the wrong type or size.
    """
    if dotted == _PARADIGM and text in PARADIGMS:
        dotted, text = "parts", str(PARADIGMS[text])
    literal = _literal(text)
    group, _, name = dotted.rpartition(".")
    if group == "options":
        try:
            return dataclasses.replace(config, options={**config.options, name: literal})
        except ValidationError as error:
            raise UserError(faults_of(error)) from error
    hint = {key.name: key.hint for key in keys()}.get(dotted)
    if hint is None:
        raise _unknown_key(dotted)
    if isinstance(literal, bool) and hint is not bool:
        literal = text  # Python takes True for 1
    candidates: list[Any] = [literal, text, tuple(text.split(","))]
    faults = []
    for value in candidates:
        try:
            if not group:
                return dataclasses.replace(config, **{name: value})
            changed: Any = dataclasses.replace(getattr(config, group), **{name: value})
            return dataclasses.replace(config, **{group: changed})
        except ValidationError as error:
            faults.append(error)
    raise UserError(faults_of(faults[0]))


def _literal(text: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about text that looks like Python: "1or"
            value = ast.literal_eval(text)
            return tuple(value) if isinstance(value, list) else value
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # as it documents
        return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def to_json(config: Config) -> str:
    """The config as JSON, as run directories hold it."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_json(text: str) -> Config:
    """The inverse of `to_json`; raises as `from_dict` does."""
    return from_dict(parse_json(text, "the config"))


def from_dict(values: Any) -> Config:
    """A config of nested dicts, as JSON has them.

    Raises:
      UserError: keys or values that this version does not know, or no `name` or `track`.
    """
    try:
        # As JSON, which has lists for tuples.
        return TypeAdapter(Config).validate_json(json.dumps(_without_paradigm(values)))
    except ValidationError as error:
        raise UserError(f"not a config of this version of a2j_jax: {faults_of(error)}") from error


def _without_paradigm(values: Any) -> Any:
    """The values of a config with `model.paradigm`, as earlier versions wrote it, with `parts` in its place."""
    group = values.get("model") if isinstance(values, dict) else None
    paradigm = group.get("paradigm") if isinstance(group, dict) else None
    if not isinstance(group, dict) or not isinstance(paradigm, str) or paradigm not in PARADIGMS:
        return values
    rest = {name: value for name, value in group.items() if name != "paradigm"}
    return {**values, "model": rest, "parts": values.get("parts") or PARADIGMS[paradigm]}


_FAULTS_TOLD = 20  # of a file that is no config at all there may be thousands


def faults_of(error: ValidationError) -> str:
    """The faults of a config or of one of its groups in one line: key, what was found, what was expected."""
    group = error.title.removesuffix("Config").lower()  # OptimConfig: "optim"
    # One per key: a tuple has one per number.
    faults: dict[str, Any] = {}
    for one in error.errors(include_url=False):
        dotted = ".".join(name for name in (group, *one["loc"]) if isinstance(name, str) and name)
        faults.setdefault(dotted, one)
    told = [_fault(dotted, one) for dotted, one in list(faults.items())[:_FAULTS_TOLD]]
    more = len(faults) - len(told)
    return "; ".join(told + ([f"and {more:,} more"] if more else []))


def _fault(dotted: str, fault: Any) -> str:
    found = fault["input"]
    where = f"config key {printable(repr(dotted), 80)}" if dotted else "the config"
    if fault["type"] == "unexpected_keyword_argument":
        return f"{where} is unknown{_nearest_key(dotted)}"
    if fault["type"] == "missing":
        return f"{where} is missing"
    message = str(fault.get("ctx", {}).get("error", fault["msg"]))
    # For a misspelled word the nearest valid one: `bf16`, bfloat16.
    words = re.findall("'(.*?)'", message) if fault["type"] == "literal_error" else []
    near = did_you_mean(found, words, cutoff=0.45) if isinstance(found, str) else ""
    return f"{where}: {printable(repr(found), 80)}: {message.removeprefix('Input ')}{near}"


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


def listed(names: Iterable[str]) -> str:
    """Names in order, as a message lists them."""
    return ", ".join(sorted(names))
