"""Train an experiment from its config; run it again to continue where it stopped."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from a2j_jax.config import Config

EXAMPLES = """\
examples:
  a2j train --config quickstart
  a2j train --config quickstart --workdir runs/faster --config.optim.learning_rate=2e-3
  a2j train --config my/experiment.py --config.data.dir=/datasets/tfds

A run continues by itself from the latest checkpoint of its --workdir, with the values it was started with;
it may be made longer (--config.optim.epochs). `--config.KEY=VALUE` sets any value of the config.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `a2j train` takes."""
    parser.add_argument("--config", required=True, help="a name in configs/, or a .py file")
    parser.add_argument("--workdir", help="run directory (default: runs/<name of the config>)")
    parser.add_argument(
        "--resume", action="store_true", help="fail if there is no run to continue (optional)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Train."""
    from pathlib import Path

    from a2j_jax.cli.arguments import config_with_overrides
    from a2j_jax.errors import UserError
    from a2j_jax.training.checkpoints import CONFIG_FILE
    from a2j_jax.training.continuing import check_run_directory
    from a2j_jax.training.experiment import run_experiment

    config = config_with_overrides(arguments.config, arguments.overrides)
    workdir = Path(arguments.workdir or f"runs/{config.name}")
    if arguments.resume and not (workdir / CONFIG_FILE).exists():
        raise UserError(f"--resume: there is no run in {workdir}")
    check_run_directory(workdir, config)
    _build_if_embedded(config)
    run_experiment(config, workdir)
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
