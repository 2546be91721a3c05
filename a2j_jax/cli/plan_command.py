"""Compile a config's training step for chips that are not here: memory, work, and a bound on its time."""

import argparse
import dataclasses
import json

from a2j_jax.cli.arguments import add_config_arguments, checked, config_with_overrides, whole

_LARGEST = 2**20  # batch

EXAMPLES = """\
examples:
  a2j plan --config nyu --topology v5e:4x4 --batch 1024
  a2j plan --config nyu --topology v5e:4x4 --batch 1024 --dtype bfloat16 --config.model.remat=true
  a2j plan --config nyu --topology v6e:2x2 --sweep batch=256,512,1024
  a2j plan --config nyu --topology v6e:2x2 --sweep batch
  a2j plan --config quickstart --topology cpu --json

TPUs are planned for without one (pip install 'a2j-jax[tpu]'), and no data set is needed. A plan of the paper's
network takes 5 to 25 minutes of one core. `--sweep batch` finds the largest batch that fits.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `a2j plan`."""
    add_config_arguments(parser)
    add = parser.add_argument
    chips = "chips to plan for: v5e:4x4, v5p:2x2x4, v6e:2x2, cpu, gpu"
    add("--topology", required=True, help=chips)
    add("--batch", type=whole(1, _LARGEST), help="of all chips together (default: the config's)")
    dtypes = ("float32", "bfloat16")
    add("--dtype", choices=dtypes, help="of the computation (default: the config's)")
    add(
        "--sweep",
        type=checked(_sweep, f"batch=64,128,... or batch, sizes up to {_LARGEST}"),
        metavar="batch[=B,B,...]",
        help="plan several batches, or find the largest",
    )
    add("--preset_flags", action="store_true", help="plan for a2j train --preset_flags")
    add("--json", action="store_true", help="print JSON instead of a table")


def _sweep(text: str) -> tuple[int, ...]:
    """The sizes of "batch=64,128"; none of "batch" and "batch=max": find the largest."""
    name, _, sizes = text.partition("=")
    if name != "batch":
        raise ValueError
    return tuple(map(whole(1, _LARGEST), () if sizes in ("", "max") else sizes.split(",")))


def run(arguments: argparse.Namespace) -> None:
    """Plan."""
    import jax
    from rich.console import Console

    from a2j_jax.evaluation.tables import print_table
    from a2j_jax.log import logger
    from a2j_jax.runs.experiment import resolve
    from a2j_jax.tools.planning import find_target, plan_batches, plan_table

    given = {"optim.batch_size": arguments.batch, "model.dtype": arguments.dtype}
    overrides = [(key, str(value)) for key, value in given.items() if value is not None]
    config = config_with_overrides(
        arguments.config, [*arguments.overrides, *overrides], arguments.base
    )
    # Before JAX looks for devices, as a config's own parts may make it do when they are imported.
    if not arguments.topology.startswith("gpu"):
        jax.config.update("jax_platforms", "cpu")
    target = find_target(arguments.topology)
    config = resolve(config).config
    # Programs for devices that are not here cannot be read back, and one of them takes 200 MB; the names of a step's
    # parts, by which traffic is divided, are not in the cache's key.
    jax.config.update("jax_enable_compilation_cache", False)
    sizes = (config.optim.batch_size,) if arguments.sweep is None else arguments.sweep
    plans = plan_batches(config, target, sizes, arguments.preset_flags)
    about = {"config": config.name, "topology": target.name, "dtype": config.model.dtype}
    if arguments.json:
        found = {
            **about,
            "remat": config.model.remat,
            "plans": [dataclasses.asdict(plan) for plan in plans],
            "largest_batch": max((plan.batch_size for plan in plans if plan.fits), default=None),
        }
        print(json.dumps(found, indent=2, allow_nan=False))
    else:
        title = " · ".join([*about.values(), *(["remat"] if config.model.remat else [])])
        print_table(plan_table(title, plans), Console())
        if target.platform != "cpu" and config.model.dtype == "float32":
            logger.info(
                "bfloat16 needs less than half of this traffic and memory for activations: --dtype bfloat16, and "
                "--config.model.dtype=bfloat16 in training (docs/scaling.md)"
            )
