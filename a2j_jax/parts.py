"""The parts of an experiment that can be replaced from outside, by a function `(config, track) -> Parts`.

`Config(parts="my_paper.awr:parts", options={"reach": 40})` names it. The package's own baselines are parts, too
(`a2j_jax.baselines`). docs/extending.md has recipes.
"""

import ast
import contextlib
import dataclasses
import hashlib
import importlib
import importlib.metadata
import inspect
import json
import os
import pkgutil
import shlex
import subprocess
import sys
import tokenize
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib.machinery import PathFinder
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from a2j_jax.config import Config, listed
from a2j_jax.data.crops import Batch
from a2j_jax.errors import UserError, did_you_mean, in_one_line, printable
from a2j_jax.losses import Objective
from a2j_jax.models.a2j import PoseNetwork
from a2j_jax.models.anchors import Estimate, Heads
from a2j_jax.tracks import TrackSpec

if TYPE_CHECKING:  # inference does without it
    import optax

#: (batch, (B,) keys) -> images (B, S, S, 1) and targets, see `data.targets.prepare`
Prepare = Callable[[Batch, jax.Array], tuple[Any, Any]]


@dataclass(frozen=True)
class Parts:
    """What an experiment is made of; None is the package's own.

    Attributes:
      network: for the joints of the track; with its own `decode`.
      objective: (outputs, targets, *, count, step) -> `Losses`, see `losses.Objective`.
      prepare: (batch, keys) -> (images, targets), on the device; the package's is `data.targets.prepare`.
      optimizer: learning-rate schedule -> gradient transformation, e.g. `optax.adamw`; the package's is Adam with
        coupled L2.
      schedule: (steps of the run, steps of an epoch) -> learning rate by step.
      make_step: makes the training step itself, with the arguments of `training.step.make_train_step`.
    """

    network: PoseNetwork | None = None
    objective: Objective | None = None
    prepare: Prepare | None = None
    optimizer: "Callable[[optax.Schedule], optax.GradientTransformation] | None" = None
    schedule: "Callable[[int, int], optax.Schedule] | None" = None
    make_step: Callable[..., Any] | None = None


def built(config: Config, track: TrackSpec) -> Parts:
    """The parts that a config names; none of its own where it names none.

    The function is called with the config, its presets filled in, and the track as the network sees it. Options go to
    the keyword arguments of that name where it has some; `config.options` has them in any case.

    Raises:
      UserError: a path that cannot be imported, names no such function, or one that fails or returns something else;
        options that it does not know; a network of other joints than the track's.
    """
    path = config.parts
    if path is None:
        if config.options:
            raise UserError(
                f"config key 'options': {listed(config.options)}: options are of a config with parts of its own; set "
                "--config.parts=MODULE:FUNCTION"
            )
        return Parts()
    function = _function(path)
    with explained(path):
        names = _option_names(function)
        if names is None:
            asked, told = _Options(config.options), dataclasses.replace(config)
            object.__setattr__(told, "options", asked)
            parts = function(told, track)
            unknown, names = sorted(set(config.options) - asked.read), sorted(asked.read)
        else:
            unknown = sorted(set(config.options) - set(names))
            options = _checked_options(function, config.options)
            parts = None if unknown else function(config, track, **options)
    if unknown:
        meant = did_you_mean(unknown[0], names)
        there = f"it has {listed(names)}" if names else "it has none"
        raise UserError(
            f"config key 'options.{printable(unknown[0], 80)}': no option of {path}{meant}; {there}"
        )
    if not isinstance(parts, Parts):
        raise UserError(f"{path}: expected a2j_jax.Parts, but it returned {type(parts).__name__}")
    _check(path, parts, track)
    return parts


class _Options(dict[str, Any]):
    """The options of a config, which remember the names that were asked for."""

    def __init__(self, values: dict[str, Any]):
        super().__init__(values)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self.read.add(str(name))
        return super().__contains__(name)

    def __iter__(self) -> Iterator[str]:
        self.read.update(super().__iter__())
        return super().__iter__()

    def keys(self) -> Any:
        """All names, as asked for; `**options` reads them by it."""
        self.read.update(super().__iter__())
        return super().keys()

    def items(self) -> Any:
        """All names and values, as asked for."""
        self.read.update(super().__iter__())
        return super().items()


def _option_names(function: Callable[..., Any]) -> list[str] | None:
    """Names of the keyword arguments after config and track; None: it has none, and reads `config.options`."""
    parameters = list(inspect.signature(function).parameters.values())[2:]
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
        return None
    return [one.name for one in parameters] or None


def _checked_options(function: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    """Options as the function's annotations say, if these can be checked: a `bool` of "false" is False."""
    checked = dict(options)
    try:
        hints = inspect.get_annotations(function, eval_str=True)
    except Exception:  # names that only a type checker knows
        return checked
    for name in hints.keys() & options.keys():
        try:
            checked[name] = TypeAdapter(hints[name]).validate_python(options[name])
        except ValidationError as error:
            fault = error.errors()[0]["msg"]
            raise UserError(
                f"config key 'options.{name}': {printable(repr(options[name]), 80)}: {fault[:1].lower()}{fault[1:]}"
            ) from error
        except PydanticSchemaGenerationError:
            continue
    return checked


def _function(path: str) -> Callable[..., Any]:
    """The function of "module:function"; a `UserError` where there is no such module or function."""
    module_name, _, name = path.partition(":")
    with explained(path, importing=True):
        module = importlib.import_module(module_name)
    function: Any = vars(module).get(name)
    if _is_of_parts(function):
        return function  # type: ignore[no-any-return]
    if isinstance(function, FunctionType):
        raise UserError(
            f"config key 'parts': {path}: neither {function.__module__} nor a module that it imports has a2j_jax: "
            "expected a function (config, track) -> a2j_jax.Parts; add `from a2j_jax import Parts` to its module"
        )
    there = [n for n, value in vars(module).items() if _is_of_parts(value) and n != name]
    raise UserError(
        f"config key 'parts': {path}: module {module_name} has no function {name!r}"
        f"{did_you_mean(name, there)}; expected a plain function (config, track) -> a2j_jax.Parts"
    )


def _is_of_parts(function: Any) -> bool:
    """Whether it is a Python function whose module, or one that this module names, knows this package.

    A recorded config names a function: this keeps it from calling just any function of any installed module.
    """
    if not isinstance(function, FunctionType):
        return False
    around = function.__globals__
    named: list[dict[str, Any]] = [
        vars(value) if isinstance(value, ModuleType) else value.__globals__
        for value in around.values()
        if isinstance(value, ModuleType | FunctionType)
    ]
    return any(
        value is Parts
        or (isinstance(value, ModuleType) and value.__name__.partition(".")[0] == "a2j_jax")
        for names in (around, *named)
        for value in tuple(names.values())
    )


class NotImportableError(UserError):
    """A module of parts that is not there."""


@contextlib.contextmanager
def explained(path: str, importing: bool = False) -> Iterator[None]:
    """What the user's code raises, `sys.exit()` included, in one line: it is theirs to fix."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except UserError as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise UserError(f"{path}: {error}") from error
    except BaseException as error:
        name = path.partition(":")[0]
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if importing and missing and f"{name}.".startswith(f"{missing}."):
            raise NotImportableError(
                f"config key 'parts': {path}: there is no module {missing!r}{_near(missing)}; install its package, or "
                "put its folder into PYTHONPATH"
            ) from error
        frames = traceback.extract_tb(error.__traceback__)
        file = getattr(sys.modules.get(name), "__file__", None)
        frame = next((one for one in reversed(frames) if one.filename == file), frames[-1])
        what = "cannot be imported" if importing else "failed"
        raise UserError(
            f"config key 'parts': {path} {what}: {in_one_line(error)} ({frame.filename}, line {frame.lineno})"
        ) from error


def _near(missing: str) -> str:
    """The hint at the nearest module of the package, where that is there."""
    package, _, _ = missing.rpartition(".")
    paths = getattr(sys.modules.get(package), "__path__", [])
    return did_you_mean(missing, [f"{package}.{one.name}" for one in pkgutil.iter_modules(paths)])


# How the parts that are functions are called: what by place, what by name.
_CALLED = {
    "objective": (("outputs", "targets"), ("count", "step")),
    "prepare": (("batch", "keys"), ()),
    "optimizer": (("schedule",), ()),
    "schedule": (("steps", "steps_per_epoch"), ()),
}


def _check_called(path: str, name: str, function: Any) -> None:
    """Refuse a part that is no function, or takes other arguments than it is called with."""
    if not callable(function):
        raise UserError(f"{path}: {name}: expected a function, found {type(function).__name__}")
    by_place, by_name = _CALLED.get(name, ((), ()))
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a builtin
        return
    try:
        if by_place:
            signature.bind(*by_place, **dict.fromkeys(by_name))
    except TypeError as error:
        expected = ", ".join([*by_place, *(["*", *by_name] if by_name else [])])
        raise UserError(
            f"{path}: {name}: expected a function of ({expected}), found {signature}: {error}"
        ) from error


def _check(path: str, parts: Parts, track: TrackSpec) -> None:
    """Refuse parts of other types than declared, and a network that answers with other joints than the track's."""
    for name, value in vars(parts).items():
        if name != "network" and value is not None:
            _check_called(path, name, value)
    network = parts.network
    if network is None:
        return
    if not isinstance(network, PoseNetwork):
        raise UserError(
            f"{path}: network: expected an a2j_jax.PoseNetwork, found {type(network).__name__}"
        )
    with explained(path):
        answer = partial(_answer, network, crop_size=track.crop_size)
        outputs, found = jax.eval_shape(answer, jax.random.key(0))
    if parts.objective is None and not isinstance(outputs, Heads):
        raise UserError(
            f"{path}: {type(network).__name__} answers with {type(outputs).__name__}, and A2J's losses are of Heads: "
            "expected an objective beside the network"
        )
    expected = (
        (_CROPS, track.num_joints, track.joint_dims),
        (_CROPS, track.num_joints),
    )
    shapes = tuple(x.shape for x in found) if isinstance(found, Estimate) else None
    if shapes != expected or not all(jnp.issubdtype(x.dtype, jnp.floating) for x in found):
        raise UserError(
            f"{path}: {type(network).__name__}.decode: expected an Estimate of joints {expected[0]} and confidence "
            f"{expected[1]} of {_CROPS} crops as floats for track {track.name!r}, found {kind_of(found)}"
        )
    has = (network.num_joints, network.joint_dims)
    if has != (track.num_joints, track.joint_dims):
        raise UserError(
            f"{path}: {type(network).__name__} has num_joints {has[0]} and joint_dims {has[1]}: expected "
            f"{track.num_joints} and {track.joint_dims} for track {track.name!r}"
        )


def kind_of(value: Any) -> str:
    """What a value is, in words, for a message."""
    if isinstance(value, jax.Array | jax.ShapeDtypeStruct):
        return f"an array {value.shape} of {value.dtype}"
    inside = f" of {', '.join(map(kind_of, value))}" if isinstance(value, tuple) else ""
    return f"{type(value).__name__}{inside}"


_CROPS = 2  # that a network is traced with: with one, what does not follow the batch would pass


def _answer(network: PoseNetwork, key: jax.Array, crop_size: int) -> tuple[Any, Estimate]:
    """Outputs and joints of empty crops; to be traced alone."""
    images = jnp.zeros((_CROPS, crop_size, crop_size, 1))
    variables = network.init(key, images, train=False)
    unknown = sorted(set(variables) - {"params", "batch_stats"})
    if unknown or "params" not in variables:
        raise UserError(
            f"its variables are {listed(variables) or 'none'}: expected params, batch_stats beside them or not, and "
            "no others"
        )
    outputs = network.apply(variables, images, train=False)
    return outputs, network.decode(outputs, crop_size)


# --- Where parts come from


class Source(NamedTuple):
    """The code of the parts of a run, as it was: a record, which is never imported.

    Attributes:
      record: "parts", their import path; "package" and "version", the distribution that they were installed from, or
        None; "digests", the SHA-256 of every file; "packages", distributions that they import -> their versions.
      files: names of files -> their text: of the imported modules of its package, and of what these import that was
        not installed by pip, wherever it is.
    """

    record: dict[str, Any]
    files: dict[str, str]

    def changed_since(self, record: Any) -> list[str]:
        """Names of the files that differ from those of an earlier `record`.

        Which modules of a package are imported depends on the program; files that only one of the two has do not count.
        """
        before = record.get("digests") if isinstance(record, dict) else None
        now = self.record["digests"]
        return [n for n in now if isinstance(before, dict) and before.get(n, now[n]) != now[n]]


def own_module(path: str | None) -> str | None:
    """The module of parts; None where they are the package's."""
    name = "a2j_jax" if path is None else path.partition(":")[0]
    return None if name.partition(".")[0] == "a2j_jax" else name


def source_of(path: str | None) -> Source | None:
    """The source of parts; None where they are the package's own, or were not imported."""
    name = own_module(path)
    if name is None or name not in sys.modules:
        return None
    top = name.partition(".")[0]
    distributions = _distributions()
    files: dict[str, str] = {}
    packages: dict[str, str] = {}
    seen, todo = set[str](), [n for n in sys.modules if n == name or n.startswith(f"{top}.")]
    while todo:
        module = todo.pop()
        if module in seen or module not in sys.modules:
            continue
        seen.add(module)
        there, its_top = _file_of(sys.modules[module]), module.partition(".")[0]
        installed = next(iter(distributions.get(its_top, [])), None)
        if installed and its_top != top:
            packages[installed] = importlib.metadata.version(installed)
        # An editable installation is a distribution, too, whose files are somebody's to edit.
        by_pip = there is not None and {"site-packages", "dist-packages"} & set(there.parts)
        of_python = its_top in sys.stdlib_module_names or its_top in ("a2j_jax", "tfds_builders")
        if there is None or of_python or (by_pip and its_top != top):
            continue
        with contextlib.suppress(OSError, ValueError, SyntaxError, RecursionError):
            with tokenize.open(there) as file:  # in the encoding that its first lines name
                text = file.read()
            files[_name_of(module, there)] = text
            todo += _imports(text, module, is_package=there.name == "__init__.py")
    package = next(iter(distributions.get(top, [])), None)
    record = {
        "parts": path,
        "package": package,
        "version": importlib.metadata.version(package) if package else None,
        "digests": {n: hashlib.sha256(files[n].encode()).hexdigest() for n in sorted(files)},
        "packages": dict(sorted(packages.items())),
    }
    return Source(record, dict(sorted(files.items())))


def _name_of(module: str, file: Path) -> str:
    """The name of a module's file from the folder that it is imported from: "my_paper/awr.py"."""
    return "/".join(
        [*module.split(".")[:-1], *file.parts[-2 if file.name == "__init__.py" else -1 :]]
    )


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Top-level names -> the distributions that hold them; reads the file lists of all that are installed."""
    return importlib.metadata.packages_distributions()


def _imports(text: str, module: str, is_package: bool) -> list[str]:
    """Names that a module's text imports, anywhere in it, and the packages around them; not all of them are modules."""
    package = module if is_package else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            around = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(around if node.level else []), *filter(None, [node.module])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return sorted({".".join(n.split(".")[:i]) for n in found for i in range(1, n.count(".") + 2)})


def _file_of(module: ModuleType) -> Path | None:
    # What the module itself makes up does not count.
    file = getattr(module, "__dict__", {}).get("__file__")
    if not isinstance(file, str | Path) or Path(file).suffix != ".py":
        return None
    return Path(file).absolute()


@contextlib.contextmanager
def only_installed(path: str | None) -> Iterator[None]:
    """A context in which parts come only from what this Python was set up with: packages and PYTHONPATH.

    A checkpoint names its parts. Python would look for that name in the current folder, too, where the checkpoint may
    have come with a file of that name; so while a recorded config is resolved, `sys.path` is what Python starts with
    under `-P`. A module that the program has imported itself is taken as it is.
    """
    name = own_module(path)
    if name is None or name in sys.modules:
        yield
        return
    before = sys.path[:]
    sys.path[:] = _installed_path()
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before


def needed_path(path: str | None) -> str:
    """What a command line that reads a run needs before it, "PYTHONPATH=FOLDER " or nothing.

    A config file may have imported its parts from its own folder, where no later command looks.
    """
    name = own_module(path)
    file = _file_of(sys.modules[name]) if name in sys.modules else None
    if name is None or file is None:
        return ""
    if PathFinder.find_spec(name.partition(".")[0], _installed_path()) is not None:
        return ""
    folder = file.parents[name.count(".") + (file.name == "__init__.py")]
    return f"PYTHONPATH={shlex.quote(str(folder))} "


def _installed_path() -> list[str]:
    listed_folders = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, listed_folders))}
    command = [sys.executable, "-P", "-c", "import json, sys; print(json.dumps(sys.path))"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout)
    return found
