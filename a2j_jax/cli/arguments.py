"""Arguments shared by commands: types, options, `--config.key=value` overrides, processes, embedded data sets."""

import argparse
import contextlib
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

import a2j_jax
from a2j_jax import distributed, log
from a2j_jax.config import LARGEST_COUNT, Config, override
from a2j_jax.config_files import load_config
from a2j_jax.errors import UserError, printable
from a2j_jax.files import check_output, is_address, local_path
from a2j_jax.geometry import Camera
from a2j_jax.pictures import have_matplotlib
from a2j_jax.stores import CACHE
from a2j_jax.track_files import LARGEST_FRAME
from a2j_jax.tracks import LARGEST_CROP

Value = TypeVar("Value")
Number = TypeVar("Number", int, float)
PICTURES = (".png", ".svg")
VIDEO = ".mp4"
LARGEST_PX = 1e6  # of a coordinate, in px or mm
DEPTH_UNITS_MM = (1e-3, 1e3)  # mm per count
_PREFIX = "--config."


class Command(NamedTuple):
    """A command of `a2j`: what its help says, the arguments that it declares, and what it does with them.

    Attributes:
      description: one sentence.
      examples: lines below the options.
      add_arguments: declares its arguments.
      run: carries it out.
      intermixed: whether options may stand between positional arguments.
    """

    description: str | None
    examples: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]
    intermixed: bool = False


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `UserError`s: one line."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse when a command line makes no sense."""
        raise UserError(f"{message}; see {self.prog} --help")

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """As argparse, which takes `--seed=--` for an empty list of seeds, whatever the type."""
        for word in args or ():
            if re.fullmatch("--[^=]*=--", word):
                self.error(f"{word}: expected a value")
        return super().parse_known_args(args, namespace)

    def format_help(self) -> str:
        """As argparse, with the places of pages of the documentation."""
        return with_pages(super().format_help())

    def _print_message(self, message: str, file: Any = None) -> None:
        """As argparse, but a stdout that cannot be written is an error."""
        print(message, end="", file=file or sys.stderr)


def with_pages(text: str) -> str:
    """A message or help text that names pages, `docs/weights.md`, with the folder where an installed package has them.

    In a checkout the names are paths already.
    """
    pages = Path(a2j_jax.__file__).parent / "docs"
    if not pages.is_dir():
        return text
    return re.sub(r"(?<![\w/])docs/(?=[\w/]+\.md\b)", lambda _: f"{pages}/", text)


def checked(parse: Callable[[str], Value], expected: str) -> Callable[[str], Value]:
    """An argparse type: what `parse` returns for a text; its ValueError becomes "TEXT: expected EXPECTED"."""

    def parsed(text: str) -> Value:
        with contextlib.suppress(ValueError, argparse.ArgumentTypeError):
            return parse(text)
        raise argparse.ArgumentTypeError(f"{printable(repr(text), 40)}: expected {expected}")

    return parsed


def bounded(kind: type[Number], least: Number, most: Number) -> Callable[[str], Number]:
    """An argparse type: an int or a float from `least` to `most`."""

    def parse(text: str) -> Number:
        value = kind(text)
        if not least <= value <= most:  # NaN among them
            raise ValueError
        return value

    name = "whole number" if kind is int else "number"
    return checked(parse, f"a {name} from {least:.10g} to {most:.10g}")


def whole(least: int, most: int = LARGEST_COUNT) -> Callable[[str], int]:
    """An argparse type: a whole number from `least` to `most`."""
    return bounded(int, least, most)


def _frame_size(text: str) -> tuple[int, int]:
    width, height = map(whole(1, LARGEST_FRAME), text.split(","))
    return width, height


#: An argparse type: width and height of a frame, "640,480".
frame_size = checked(_frame_size, f"WIDTH,HEIGHT in px, up to {LARGEST_FRAME}")


def numbers(count: int, names: str) -> Callable[[str], tuple[float, ...]]:
    """An argparse type: `count` comma-separated numbers of px or mm, e.g. "320,240,700"."""
    coordinate = bounded(float, -LARGEST_PX, LARGEST_PX)

    def parse(text: str) -> tuple[float, ...]:
        found = tuple(map(coordinate, text.split(",")))
        if len(found) != count:
            raise ValueError
        return found

    limits = f"from {-LARGEST_PX:g} to {LARGEST_PX:g}"
    return checked(parse, f"{names}: {count} comma-separated numbers {limits}")


def _step(text: str) -> int | str:
    return text if text in ("best", "latest") else whole(0)(text)


#: An argparse type: "best", "latest" or a step number.
step_name = checked(_step, "best, latest or a step number")


def path_name(text: str) -> str:
    """An argparse type: a local path, `~` expanded and otherwise as typed; addresses are refused."""
    try:
        expanded = local_path(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return str(expanded) if text.startswith("~") else text


def place_name(text: str) -> str:
    """An argparse type: a path as of `path_name`, or the address of a folder in an object store."""
    return text if is_address(text) else path_name(text)


def join_negative_numbers(arguments: Sequence[str]) -> list[str]:
    """Write `--box -5,0,90,80` as `--box=-5,0,90,80`: argparse would take the numbers for an option."""
    joined: list[str] = []
    for argument in arguments:
        if re.match(r"-[\d.]", argument) and joined and re.fullmatch(r"--\w+", joined[-1]):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def add_out(parser: argparse.ArgumentParser, text: str, **options: Any) -> None:
    """Declare `--out`, with this help, and `--overwrite`."""
    parser.add_argument("--out", **{"type": path_name, "help": text, **options})
    add_overwrite(parser)


def add_list(parser: argparse.ArgumentParser, name: str, **options: Any) -> None:
    """Declare an option of one or more values; repeated, it adds to them."""
    parser.add_argument(name, nargs="+", action="extend", default=[], **options)


def add_camera(parser: argparse.ArgumentParser) -> None:
    """Declare `--camera`, and `--fx`, `--fy`, `--cx` and `--cy` in its place."""
    pixels = bounded(float, -LARGEST_PX, LARGEST_PX)
    text = "its intrinsics in px (the track's)"
    parser.add_argument("--camera", type=numbers(4, "FX,FY,CX,CY"), help=text)
    for name in ("fx", "fy", "cx", "cy"):
        parser.add_argument(
            f"--{name}", type=pixels, help="the same, one by one: all four, or --camera"
        )


def camera_of(arguments: argparse.Namespace) -> Camera | None:
    """The camera of `add_camera`'s options; None where none is given."""
    from a2j_jax.inference.frames import camera_from

    single = [getattr(arguments, name) for name in ("fx", "fy", "cx", "cy")]
    if arguments.camera is None:
        return camera_from(*single)
    if single != [None] * 4:
        raise UserError("--camera and --fx, --fy, --cx or --cy: give one of the two")
    return camera_from(*arguments.camera)


def add_checkpoints(parser: argparse.ArgumentParser, text: str) -> None:
    """Declare `--checkpoint`, of one or more runs, each with a name or not."""
    add_list(parser, "--checkpoint", metavar="[NAME=]FOLDER", help=text)


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Declare `--overwrite`."""
    text = "replace output files that exist, even if a2j_jax has not written them"
    parser.add_argument("--overwrite", action="store_true", help=text)


def add_data_arguments(
    parser: argparse.ArgumentParser, directory: str = "data", split: str = "test"
) -> None:
    """Declare `--data_dir` and `--split`; `directory` is the help on the former's default."""
    parser.add_argument(
        "--data_dir", type=place_name, help=f"TFDS data directory (default: {directory})"
    )
    add_data_cache(parser)
    parser.add_argument("--split", default=split, help="of the data set (default: %(default)s)")


class _DataCache(argparse.Action):
    """Sets the folder of `stores` for this process and those that it starts."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        os.environ[CACHE] = os.path.abspath(values)


def add_data_cache(parser: argparse.ArgumentParser) -> None:
    """Declare `--data_cache`."""
    text = (
        f"folder for local copies of what is at gs:// and s3:// addresses (default: ${CACHE}, or "
        "~/.cache/a2j_jax/stores)"
    )
    parser.add_argument("--data_cache", type=path_name, action=_DataCache, help=text)


def add_crop_size(
    parser: argparse.ArgumentParser, text: str = "px, divisible by 16 (default: the track's)"
) -> None:
    """Declare `--crop_size`."""
    parser.add_argument("--crop_size", type=whole(16, LARGEST_CROP), help=text)


def check_picture(
    out: str | None, inputs: Sequence[str] = (), *, overwrite: bool = False, or_video: bool = False
) -> None:
    """Refuse to draw into `--out` (None: no picture is wanted) before anything is computed for it.

    Raises:
      UserError: a suffix that is none of a picture, nor, if allowed, of a video; a file that `files.check_output`
        refuses; or no library to draw with.
    """
    if out is None:
        return
    path = local_path(out, "--out")
    is_video = or_video and path.suffix.lower() == VIDEO
    if path.suffix.lower() not in PICTURES and not is_video:
        or_a_video = f", or a video's, {VIDEO}" if or_video else ""
        raise UserError(
            f"--out {out}: expected a picture's name, {' or '.join(PICTURES)}{or_a_video}"
        )
    check_output(path, overwrite, inputs=inputs)
    if is_video:
        from a2j_jax.data.recordings import video_library

        video_library()
    elif not have_matplotlib():
        raise UserError("--out: pictures need matplotlib: pip install 'a2j-jax[viz]'")


def named_files(texts: Sequence[str], option: str = "--predictions") -> dict[str, Path]:
    """`["A=a.txt", "b.npz"]` -> {"A": a.txt, "b": b.npz}.

    Raises:
      UserError: an empty name or file, or two of one name.
    """
    files: dict[str, Path] = {}
    for text in texts:
        name, equals, named = text.partition("=")
        # A file may have "=" in its own name, and so may an address.
        unnamed = not equals or "://" in name or os.path.exists(os.path.expanduser(text))
        file = local_path((text if unnamed else named) or ".", option)
        if unnamed:
            name = file.name if file.is_dir() else file.stem
        name = name.strip()
        if not name or not (unnamed or named):
            raise UserError(f"{option} {text}: expected FILE or NAME=FILE")
        if name in files:
            raise UserError(
                f"{option} names {name!r} twice ({files[name]} and {file}): call one of them "
                "something else, NAME=FILE"
            )
        files[name] = file
    return files


def command_line(arguments: Sequence[str]) -> str:
    """The command as typed, quoted for a shell: `a2j` and its arguments, or `python eval.py` and the like."""
    program, *typed = sys.argv
    if program.endswith(".py") and typed == list(arguments[1:]):
        return shlex.join(["python", program, *typed])
    return shlex.join(["a2j", *arguments])


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Take `--config.key=value` and `--config.key value` out of a command line.

    Raises:
      UserError: a key without a value.
    """
    rest, overrides = [], []
    remaining = iter(arguments)
    for argument in remaining:
        if not argument.startswith(_PREFIX):
            rest.append(argument)
            continue
        key, equals, value = argument.removeprefix(_PREFIX).partition("=")
        if not equals:
            following = next(remaining, None)
            if following is None or following.startswith("--"):
                raise UserError(f"{argument} needs a value: {argument}=VALUE")
            value = following
        overrides.append((key, value))
    return rest, overrides


def add_on_bad_example(parser: argparse.ArgumentParser, default: str | None) -> None:
    """Declare `--on_bad_example`."""
    text = "what to do about an example that cannot be read (default: fail)"
    parser.add_argument("--on_bad_example", choices=["fail", "skip"], default=default, help=text)


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--config` and `--base`."""
    text = "a name in configs/, a .py file, or a run's config.json"
    parser.add_argument("--config", type=path_name, required=True, help=text)
    text = "what a row of one of the paper's tables (table7/no_proposals, say) differs from (default: nyu)"
    parser.add_argument("--base", type=path_name, metavar="CONFIG", help=text)


def config_with_overrides(
    name: str, overrides: Sequence[tuple[str, str]], base: str | None = None
) -> Config:
    """Load a config by name or path, over `base` if there is one, and apply `(dotted key, text)` pairs in order."""
    config = load_config(name, load_config(base) if base else None)
    for key, text in overrides:
        config = override(config, key, text)
    return config


# Option -> the environment variable that stands in for it.
_VARIABLES = {
    "coordinator_address": "JAX_COORDINATOR_ADDRESS",
    "num_processes": "JAX_NUM_PROCESSES",
    "process_id": "JAX_PROCESS_ID",
}


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how processes find each other."""
    group = parser.add_argument_group(
        "several processes",
        "The same command is run on every host, or once per GPU. The last three are also read from "
        "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, if all of them are set.",
    )
    add, count = group.add_argument, whole(1, 100_000)
    cluster = "find the others through Slurm, Open MPI, a TPU slice or Kubernetes"
    add("--distributed", action="store_true", help=cluster)
    add("--coordinator_address", metavar="HOST:PORT", help="where process 0 listens")
    add("--num_processes", type=count, metavar="N", help="how many there are")
    add("--process_id", type=whole(0), metavar="I", help="which one this is, from 0")


def join_processes(arguments: argparse.Namespace) -> None:
    """Join the other processes, if there are any; from then on only the first one logs.

    Raises:
      UserError: options or variables that are missing, contradict each other or lead nowhere.
    """
    given = [getattr(arguments, name) for name in _VARIABLES]
    pairs = zip(_VARIABLES, given, strict=True)
    found = [_from_environment(name) if value is None else value for name, value in pairs]
    address, count, index = found
    if not arguments.distributed and set(given) == {None} and None in found:
        # The address alone is JAX's own, for a cluster.
        if (count, index) != (None, None):
            variables = zip(_VARIABLES.values(), found, strict=True)
            absent = [variable for variable, value in variables if value is None]
            raise UserError(
                f"{' and '.join(absent)} not set, where the other JAX_* variables of several processes are: set all "
                "three of them, or none, or give --distributed where the cluster knows the rest"
            )
        return
    distributed.initialize(address, count, index, arguments.distributed)
    if distributed.is_multiprocess():
        keep_stdout_for_results()
    if not distributed.is_primary():
        log.be_quiet()


def keep_stdout_for_results() -> None:
    """From here on, what a C++ library (gloo, a camera's) prints on stdout goes to stderr."""
    sys.stdout.flush()
    results = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)
    os.dup2(2, 1)
    sys.stdout = results


def _from_environment(name: str) -> Any:
    """The value of the environment variable that stands in for an option; None: it is not set."""
    variable = _VARIABLES[name]
    text = os.environ.get(variable)
    if not text or name == "coordinator_address":
        return text or None
    try:
        return whole(0)(text)
    except argparse.ArgumentTypeError as error:
        raise UserError(f"{variable}: {error}") from error


def build_if_embedded(config: Config) -> None:
    """Render the embedded data set of a config where it is missing.

    An existing data set may have other numbers of frames; `build` checks that everything else is as in the config.
    """
    from a2j_jax.data import pipeline
    from a2j_jax.runs.experiment import resolve
    from tfds_builders.build import build, read_spec
    from tfds_builders.rendered import EMBEDDED

    if config.track not in EMBEDDED:
        return
    data = config.data
    wanted = {name: getattr(data, f"{name}_frames") for name in ("train", "validation", "test")}
    frames = wanted
    with contextlib.suppress(UserError):  # not built yet
        spec = read_spec(Path(pipeline.find_dataset(data.dir, resolve(config).track).data_path))
        frames = (spec or {}).get("frames", wanted)
    build(
        config.track,
        data.dir,
        **frames,
        crop_size=data.crop_size,
        seed=data.seed,
        scenes=data.scenes,
    )
    differing = [
        f"{frames[name]:,} {name} (not {count:,})"
        for name, count in wanted.items()
        if frames[name] != count
    ]
    if differing:
        sizes = ", ".join(differing)
        log.logger.info(f"split sizes differ from the config; using the existing data set: {sizes}")
