"""Train an experiment from its config; run it again to continue where it stopped."""

import argparse
from typing import TYPE_CHECKING

from a2j_jax.cli.distributed import add_process_arguments, join_processes

if TYPE_CHECKING:
    from pathlib import Path

    from a2j_jax.config import Config

EXAMPLES = """\
examples:
  a2j train --config quickstart
  a2j train --config quickstart --workdir runs/faster --config.optim.learning_rate=2e-3
  a2j train --config my/experiment.py --config.data.dir=/datasets/tfds
  a2j train --config runs/quickstart/config.json --workdir runs/again
  a2j train --config quickstart --profile_steps 100:110
  srun a2j train --config nyu --distributed

A run continues by itself from the latest checkpoint of its --workdir, with the values it was started with;
it may be made longer (--config.optim.epochs). `--config.KEY=VALUE` sets any value of the config. The run
directory keeps what it takes to repeat the run: config.json, and in starts.jsonl every command, its versions
and its source. Compiled programs are kept in ~/.cache/a2j_jax (JAX_COMPILATION_CACHE_DIR names another folder,
JAX_ENABLE_COMPILATION_CACHE=false turns that off).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `a2j train` takes."""
    parser.add_argument(
        "--config", required=True, help="a name in configs/, a .py file, or a run's config.json"
    )
    parser.add_argument("--workdir", help="run directory (default: runs/<name of the config>)")
    parser.add_argument(
        "--resume", action="store_true", help="fail if there is no run to continue (optional)"
    )
    parser.add_argument(
        "--profile_steps",
        metavar="FIRST:END",
        help="trace these steps (the first of a run is 1, END is left out) for TensorBoard and Perfetto",
    )
    parser.add_argument(
        "--on_bad_example",
        choices=["fail", "skip"],
        help="what to do about an example that cannot be read (= --config.data.on_bad_example)",
    )
    add_process_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train."""
    from pathlib import Path

    from a2j_jax import processes
    from a2j_jax.cli.arguments import config_with_overrides
    from a2j_jax.errors import UserError
    from a2j_jax.training.continuing import check_run_directory
    from a2j_jax.training.experiment import run_experiment
    from a2j_jax.training.profiling import ProfileWindow
    from a2j_jax.training.run_directory import CONFIG_FILE

    overrides = list(arguments.overrides)
    if arguments.on_bad_example is not None:
        overrides.append(("data.on_bad_example", arguments.on_bad_example))
    config = config_with_overrides(arguments.config, overrides)
    profiled = ProfileWindow.parse(arguments.profile_steps) if arguments.profile_steps else range(0)
    join_processes(arguments)
    workdir = Path(arguments.workdir or f"runs/{config.name}")
    if arguments.resume and not (workdir / CONFIG_FILE).exists():
        raise UserError(f"--resume: there is no run in {workdir}")
    check_run_directory(workdir, config)
    if processes.is_first():
        _build_if_embedded(config)
    processes.wait_for_all("the data set is there")
    run_experiment(config, workdir, command=arguments.command_line, profile_steps=profiled)
    return 0


def _build_if_embedded(config: "Config") -> None:
    """Render an embedded data set that is not there yet; all others are the user's to bring."""
    from a2j_jax.progress import say
    from tfds_builders.build import EMBEDDED, build, read_spec

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
        said = ", ".join(f"{frames[name]:,} {name} (not {wanted[name]:,})" for name in wanted)
        say(
            f"its numbers of frames are not those of the config, and it is used all the same: {said}"
        )


def _built(config: "Config") -> "Path | None":
    """Where the examples of an embedded data set are, if it was built already."""
    from pathlib import Path

    from a2j_jax import input_pipeline
    from a2j_jax.errors import UserError
    from a2j_jax.training.assembly import track_of

    try:
        return Path(input_pipeline.find_dataset(config.data.dir, track_of(config)).data_path)
    except UserError:
        return None
