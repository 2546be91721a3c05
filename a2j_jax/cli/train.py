"""Train an experiment from its config; run it again to continue where it stopped."""

import argparse

EXAMPLES = """\
examples:
  a2j train --config quickstart
  a2j train --config quickstart --workdir runs/faster --config.optim.learning_rate=2e-3
  a2j train --config my/experiment.py --config.data.dir=/datasets/tfds

A run continues by itself from the latest checkpoint of its --workdir. `--config.KEY=VALUE` sets any value
of the config.
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
    from a2j_jax.training.experiment import check_run_directory, run_experiment

    config = config_with_overrides(arguments.config, arguments.overrides)
    workdir = Path(arguments.workdir or f"runs/{config.name}")
    if arguments.resume and not (workdir / CONFIG_FILE).exists():
        raise UserError(f"--resume: there is no run in {workdir}")
    check_run_directory(workdir, config)
    _build_if_embedded(config)
    run_experiment(config, workdir)
    return 0


def _build_if_embedded(config) -> None:  # type: ignore[no-untyped-def]
    """Render an embedded data set that is not there yet; all others are the user's to bring."""
    from tfds_builders.build import EMBEDDED, build

    if config.track in EMBEDDED:
        build(
            config.track,
            config.data.dir,
            train=config.data.train_frames,
            validation=config.data.validation_frames,
            test=config.data.test_frames,
            crop_size=config.data.crop_size,
            seed=config.data.seed,
        )
