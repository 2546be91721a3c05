"""Train an experiment from its config; run it again to continue where it stopped."""

import argparse
import contextlib
import os

from a2j_jax import distributed
from a2j_jax.cli.arguments import (
    add_config_arguments,
    add_data_cache,
    add_on_bad_example,
    add_process_arguments,
    build_if_embedded,
    config_with_overrides,
    join_processes,
    place_name,
)
from a2j_jax.errors import UserError

EXAMPLES = """\
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
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


def run(arguments: argparse.Namespace) -> None:
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
