"""`a2j train` and `a2j config`: an experiment, and what its config means."""

import argparse
import contextlib
import json
import operator
import os
from typing import TYPE_CHECKING, Any

from a2j_jax import distributed
from a2j_jax.cli.arguments import (
    Command,
    add_config_arguments,
    add_data_cache,
    add_on_bad_example,
    add_process_arguments,
    build_if_embedded,
    config_with_overrides,
    join_processes,
    path_name,
    place_name,
)
from a2j_jax.errors import UserError, printable

if TYPE_CHECKING:
    from a2j_jax.config import Config, Key


# --- a2j train

_TRAIN_EXAMPLES = """\
examples:
  a2j train --config quickstart
  a2j train --config quickstart --workdir runs/faster --config.optim.learning_rate=2e-3
  a2j train --config my/experiment.py --config.data.dir=/datasets/tfds
  a2j train --config runs/quickstart/config.json --workdir runs/again
  a2j train --config quickstart --profile_steps 100:110
  a2j train --config quickstart --debug nans
  a2j train --config table7/no_proposals --base itop_front
  srun a2j train --config nyu --distributed
  a2j train --config nyu --workdir gs://bucket/runs/nyu --config.data.dir=gs://bucket/data

A run resumes by itself from the latest checkpoint of its --workdir: give the same command, or
--config WORKDIR/config.json. Other values are refused, but it may be made longer (--config.optim.epochs).
`--config.KEY=VALUE` sets any value of the config. The run directory keeps everything needed to repeat the run:
config.json, and in starts.jsonl every command, its versions and its source. Compiled programs are kept in
~/.cache/a2j_jax (JAX_COMPILATION_CACHE_DIR names another folder, JAX_ENABLE_COMPILATION_CACHE=false turns that off).
"""


def _add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `a2j train`."""
    add_config_arguments(parser)
    add = parser.add_argument
    folder = (
        "run directory (default: runs/<name of the config>; of a run's own config.json: that run's)"
    )
    add("--workdir", type=place_name, help=folder)
    add_data_cache(parser)
    add("--resume", action="store_true", help="fail if there is no run to resume (optional)")
    add(
        "--profile_steps",
        metavar="FIRST:END",
        help="trace these steps (the first of a run is 1, END is left out) for TensorBoard and Perfetto",
    )
    looks = (
        "nans: say what is not finite first in a broken step (slower); transfers: a step that moves data between "
        "host and devices by itself ends; deterministic: on a GPU, the same bits in every run (slower)"
    )
    add("--debug", choices=("nans", "transfers", "deterministic"), action="append", help=looks)
    flags = "compile the step with the flags of XLA that docs/scaling.md lists for a GPU or TPU"
    add("--preset_flags", action="store_true", help=flags)
    add_on_bad_example(parser, None)
    add_process_arguments(parser)


def _run_train(arguments: argparse.Namespace) -> None:
    """Train."""
    from a2j_jax.cli.main import ends_within
    from a2j_jax.runs.experiment import resolve
    from a2j_jax.runs.run_dir import kept_checkpoints, run_of
    from a2j_jax.stores import in_step
    from a2j_jax.training.loop import SOMETHING_TO_SAVE, ProfileWindow
    from a2j_jax.training.run import check_run_directory, run_experiment
    from a2j_jax.training.step import check_parts

    debug = arguments.debug or []
    if "deterministic" in debug:  # read when JAX first looks for devices
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()
    overrides = list(arguments.overrides)
    if arguments.on_bad_example is not None:
        overrides.append(("data.on_bad_example", arguments.on_bad_example))
    config = config_with_overrides(arguments.config, overrides, arguments.base)
    profiled = ProfileWindow.parse(arguments.profile_steps) if arguments.profile_steps else range(0)
    join_processes(arguments)
    named = arguments.workdir or run_of(arguments.config) or f"runs/{config.name}"
    with contextlib.ExitStack() as stack:
        workdir = stack.enter_context(in_step(named, "--workdir"))
        if arguments.resume and not kept_checkpoints(workdir):
            raise UserError(f"--resume: there is no run with a checkpoint in {named}")
        experiment = resolve(config)
        check_run_directory(workdir, experiment)
        check_parts(experiment)
        if distributed.is_primary():
            build_if_embedded(config)
        distributed.wait_for_all("the data set is there")
        if not distributed.is_multiprocess():  # several stop after the same step, none alone
            stack.enter_context(ends_within(unless=SOMETHING_TO_SAVE.is_set))
        run_experiment(
            config,
            workdir,
            command=arguments.command_line,
            profile_steps=profiled,
            debug=debug,
            preset_flags=arguments.preset_flags,
        )


TRAIN = Command(
    "Train an experiment from its config; run it again to continue where it stopped.",
    _TRAIN_EXAMPLES,
    _add_train_arguments,
    _run_train,
)


# --- a2j config

_CONFIG_EXAMPLES = """\
examples:
  a2j config nyu
  a2j config runs/quickstart/config.json --json
  a2j config table7/no_proposals --base itop_front --config.optim.preset=paper
"""


def _add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `a2j config`."""
    config = "a name in configs/, a .py file, or a run's config.json"
    parser.add_argument("config", type=path_name, help=config)
    parser.add_argument("--base", type=path_name, metavar="CONFIG", help="as in a2j train")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def _run_config(arguments: argparse.Namespace) -> None:
    """Print."""
    config = config_with_overrides(arguments.config, arguments.overrides, arguments.base)
    values = _values(config, {key for key, _ in arguments.overrides})
    if arguments.json:
        print(json.dumps({"config": config.name, "values": values}, indent=2, allow_nan=False))
        return
    for name, found in values.items():
        print(f"{name} = {_text(found['value'])}  ({found['source']})\n    {found['meaning']}")


def print_keys() -> None:
    """All keys with their defaults and meanings: `a2j train --config.help`."""
    from a2j_jax.config import keys

    for key in keys():
        print(f"--config.{key.name}={_text(key.default)}\n    {_meaning(key)}")


def _values(config: "Config", overridden: set[str]) -> dict[str, Any]:
    """Every key: its value (of a preset or the track where the config leaves it open), its source, its meaning."""
    from a2j_jax.config import keys
    from a2j_jax.runs.experiment import resolve

    experiment = resolve(config)
    preset, track = experiment.config, experiment.track
    of_track = {
        "data.crop_size": track.crop_size,
        "loss.regression_weight": track.loss_lambda,
        **{f"augment.{name}": value for name, value in vars(track.augmentation).items()},
    }
    if config.data.normalization == "published":
        of_track |= {"data.mean": track.mean, "data.std": track.std}
    found = {}
    for key in keys():
        get = operator.attrgetter(key.name)
        value = get(config)
        source = "default" if value == key.default else f"config {config.name}"
        if key.name in overridden:
            source = "command line"
        elif value is None and get(preset) is not None:
            group = key.name.partition(".")[0]
            value, source = get(preset), f"preset {getattr(config, group).preset}, {track.name}"
        elif value is None and key.name in of_track:
            value, source = of_track[key.name], f"track {track.name}"
        found[key.name] = {"value": value, "source": source, "meaning": _meaning(key)}
    return found


def _meaning(key: "Key") -> str:
    bounds = "" if key.bounds is None else ", from {:.10g} to {:.10g}".format(*key.bounds)
    return f"{key.meaning} [{key.kind}{bounds}]"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return printable(",".join(map(str, value)) if isinstance(value, tuple) else str(value))


CONFIG = Command(
    "Print every value of a config with its meaning and where it comes from.",
    _CONFIG_EXAMPLES,
    _add_config_arguments,
    _run_config,
)
