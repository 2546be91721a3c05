"""Argument types shared by commands, and `--config.key=value` overrides.

Options of commands that many processes run together: who they are, from flags, environment or cluster.

Embedded data sets are rendered where a command finds them missing; all others are the user's to bring.
"""

import argparse
import contextlib
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from a2j_jax import distributed, log
from a2j_jax.config import LARGEST_COUNT, Config, override
from a2j_jax.config_files import load_config
from a2j_jax.errors import UserError, printable
from a2j_jax.files import check_output, local_path
from a2j_jax.pictures import have_matplotlib

_PREFIX = "--config."
PICTURES = (".png", ".svg")


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are `UserError`s: one line, like all others."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse when a command line makes no sense."""
        raise UserError(f"{message}; see {self.prog} --help")

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """As argparse has it, which takes `--seed=--` for an empty list of seeds, whatever the type."""
        for word in args or ():
            if re.fullmatch("--[^=]*=--", word):
                self.error(f"{word}: expected a value")
        return super().parse_known_args(args, namespace)

    def _print_message(self, message: str, file: Any = None) -> None:
        """As argparse has it, but a stdout that cannot be written is no success."""
        print(message, end="", file=file or sys.stderr)


def join_negative_numbers(arguments: Sequence[str]) -> list[str]:
    """Write `--box -5,0,90,80` as `--box=-5,0,90,80`: argparse would take the numbers for an option."""
    joined: list[str] = []
    for argument in arguments:
        if re.match(r"-[\d.]", argument) and joined and re.fullmatch(r"--\w+", joined[-1]):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


LARGEST_PX = 1e6  # of a coordinate, in px or mm
DEPTH_UNITS_MM = (1e-3, 1e3)  # mm per count


def numbers(count: int, names: str) -> Callable[[str], tuple[float, ...]]:
    """An argparse type: `count` comma-separated numbers of px or mm, e.g. "320,240,700"."""

    def parse(text: str) -> tuple[float, ...]:
        try:
            values = tuple(float(part) for part in text.split(","))
        except ValueError:
            values = ()
        if len(values) != count:
            raise argparse.ArgumentTypeError(
                f"{printable(repr(text), 40)} is not {names}: expected {count} comma-separated numbers"
            )
        if not all(abs(value) <= LARGEST_PX for value in values):  # NaN among them
            raise argparse.ArgumentTypeError(
                f"{printable(repr(text), 40)} is not {names}: expected numbers from -{LARGEST_PX:g} to {LARGEST_PX:g}"
            )
        return values

    return parse


def number(least: float, most: float) -> Callable[[str], float]:
    """An argparse type: a number from `least` to `most`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f"{printable(repr(text), 40)}: expected a number from {least:g} to {most:g}"
            )
        return value

    return parse


def path_name(text: str) -> str:
    """An argparse type: a path of this machine, `~` expanded and otherwise as typed; of an address, a complaint."""
    try:
        expanded = local_path(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return str(expanded) if text.startswith("~") else text


def whole(minimum: int, maximum: int = LARGEST_COUNT) -> Callable[[str], int]:
    """An argparse type: a whole number from `minimum` to `maximum`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(
                f"{printable(repr(text), 40)}: expected a whole number of at least {minimum} and at most {maximum}"
            )
        return value

    return parse


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Declare `--overwrite`."""
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace output files that exist, even if a2j_jax has not written them",
    )


def check_picture(out: str | None, inputs: Sequence[str] = (), *, overwrite: bool = False) -> None:
    """Refuse to draw into what is not a picture's file, before anything is computed for it.

    Args:
      out: what `--out` names; None: no picture is wanted.
      inputs, overwrite: as in `files.check_output`.

    Raises:
      UserError: a suffix that is none of a picture, a file that `files.check_output` refuses, or no matplotlib.
    """
    if out is None:
        return
    path = local_path(out, "--out")
    if path.suffix.lower() not in PICTURES:
        raise UserError(f"--out {out}: expected a picture's name, {' or '.join(PICTURES)}")
    check_output(path, overwrite, inputs=inputs)
    if not have_matplotlib():
        raise UserError("--out: pictures need matplotlib: pip install 'a2j-jax[viz]'")


def step(text: str) -> int | str:
    """An argparse type: "best", "latest" or a step number."""
    if text in ("best", "latest"):
        return text
    with contextlib.suppress(argparse.ArgumentTypeError):
        return whole(0)(text)
    raise argparse.ArgumentTypeError(
        f"{printable(repr(text), 40)}: expected best, latest or a step number"
    )


def command_line(arguments: Sequence[str]) -> str:
    """What was typed, quoted for a shell: `a2j` and its arguments, or `python eval.py` and the like."""
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


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--config` and `--base`."""
    parser.add_argument(
        "--config",
        type=path_name,
        required=True,
        help="a name in configs/, a .py file, or a run's config.json",
    )
    parser.add_argument(
        "--base",
        type=path_name,
        metavar="CONFIG",
        help="what a row of one of the paper's tables (table7/no_proposals, say) differs from (default: nyu)",
    )


def config_with_overrides(
    name: str, overrides: Sequence[tuple[str, str]], base: str | None = None
) -> Config:
    """Load a config by name or path, over another one if told to, and apply `(dotted key, text)` pairs in order."""
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
    group.add_argument(
        "--distributed",
        action="store_true",
        help="find the others by what Slurm, Open MPI, a TPU slice or Kubernetes says of this job",
    )
    group.add_argument("--coordinator_address", metavar="HOST:PORT", help="where process 0 listens")
    group.add_argument(
        "--num_processes", type=whole(1, 100_000), metavar="N", help="how many there are"
    )
    group.add_argument("--process_id", type=whole(0), metavar="I", help="which one this is, from 0")


def join_processes(arguments: argparse.Namespace) -> None:
    """Join the other processes, if there are any; from then on only the first one tells how it goes.

    Raises:
      UserError: options or variables that are missing, contradict each other or lead nowhere.
    """
    given = [getattr(arguments, name) for name in _VARIABLES]
    address, count, index = (
        _or_variable(value, variable)
        for value, variable in zip(given, _VARIABLES.values(), strict=True)
    )
    asked_for = arguments.distributed or any(value is not None for value in given)
    if not asked_for and None in (address, count, index):
        found = (address, count, index)
        absent = [v for v, x in zip(_VARIABLES.values(), found, strict=True) if x is None]
        # The address alone is JAX's own, for a cluster.
        if (count, index) != (None, None):
            raise UserError(
                f"{' and '.join(absent)} not set, where the other JAX_* variables of several processes are: set all "
                "three of them, or none, or give --distributed where the cluster says the rest"
            )
        return
    distributed.initialize(
        address, _whole(count, "num_processes"), _whole(index, "process_id"), arguments.distributed
    )
    if distributed.is_multiprocess():
        _keep_stdout_for_results()
    if not distributed.is_primary():
        log.be_quiet()


def _keep_stdout_for_results() -> None:
    """From here on, what a C++ library prints goes to stderr: gloo greets every other process on stdout."""
    sys.stdout.flush()
    results = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)
    os.dup2(2, 1)
    sys.stdout = results


def _or_variable(value: Any, variable: str) -> Any:
    """An option, or the text of the environment variable that stands in for it; None: neither."""
    return value if value is not None else os.environ.get(variable) or None


def _whole(value: int | str | None, name: str) -> int | None:
    if not isinstance(value, str):
        return value
    try:
        return whole(0)(value)
    except argparse.ArgumentTypeError as error:
        shown = printable(value, 40)
        raise UserError(f"{_VARIABLES[name]}={shown}: expected a whole number") from error


def build_if_embedded(config: Config) -> None:
    """Render the data set of a config that is not there yet."""
    from a2j_jax.log import logger
    from tfds_builders.build import build, read_spec
    from tfds_builders.rendered import EMBEDDED

    if config.track not in EMBEDDED:
        return
    data = config.data
    wanted = {
        "train": data.train_frames,
        "validation": data.validation_frames,
        "test": data.test_frames,
    }
    folder = _built(config)
    # The numbers of frames are for a data set that is yet to be rendered. One that is there is used
    # as it is; `build` sees to it that everything else about it is what the config asks for.
    frames = ((read_spec(folder) if folder else None) or {}).get("frames", wanted)
    build(config.track, data.dir, **frames, crop_size=data.crop_size, seed=data.seed)
    if frames != wanted:
        said = ", ".join(
            f"{frames[name]:,} {name} (not {wanted[name]:,})"
            for name in wanted
            if frames[name] != wanted[name]
        )
        logger.info(f"split sizes differ from the config; using the existing data set: {said}")


def _built(config: Config) -> Path | None:
    """Where the examples of an embedded data set are, if it was built already."""
    from a2j_jax.data import pipeline
    from a2j_jax.errors import UserError
    from a2j_jax.runs.experiment import resolve

    try:
        return Path(pipeline.find_dataset(config.data.dir, resolve(config).track).data_path)
    except UserError:
        return None
