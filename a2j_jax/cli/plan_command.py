"""Compile a config's training step for chips that are not here: memory, work, and a bound on its time."""

import argparse
import contextlib
from typing import TYPE_CHECKING

from a2j_jax.cli.arguments import add_config_arguments, whole
from a2j_jax.errors import printable

if TYPE_CHECKING:
    from a2j_jax.config import Config
    from a2j_jax.tools.planning import Plan, Schedule
    from a2j_jax.tools.tpu import Target

_NO_LIMIT = 2**20  # of a batch, where no number of frames is one

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
    """Declare what `a2j plan` takes."""
    add_config_arguments(parser)
    parser.add_argument(
        "--topology",
        required=True,
        help="chips to plan for: v5e:4x4, v5p:2x2x4, v6e:2x2, cpu, gpu, ...",
    )
    parser.add_argument(
        "--batch", type=whole(1, _NO_LIMIT), help="of all chips together (default: the config's)"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="of the computation (default: the config's)",
    )
    parser.add_argument(
        "--sweep",
        type=sweep,
        metavar="batch[=B,B,...]",
        help="plan several batches, or find the largest",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def sweep(text: str) -> tuple[int, ...]:
    """An argparse type: "batch=64,128" -> those sizes; "batch" and "batch=max" -> none, find the largest."""
    name, _, sizes = text.partition("=")
    found = () if sizes in ("", "max") else tuple(sizes.split(","))
    with contextlib.suppress(argparse.ArgumentTypeError):
        if name == "batch":
            return tuple(map(whole(1, _NO_LIMIT), found))
    raise argparse.ArgumentTypeError(
        f"{printable(repr(text), 80)}: expected batch=64,128,... or batch, sizes up to {_NO_LIMIT}"
    )


def run(arguments: argparse.Namespace) -> int:
    """Plan."""
    import json

    import jax
    from rich.console import Console

    from a2j_jax.tools.tpu import find_target

    config = _config(arguments)
    if not arguments.topology.startswith("gpu"):
        jax.config.update("jax_platforms", "cpu")  # before JAX looks around for what is here
    target = find_target(arguments.topology)
    if target.platform == "tpu":
        # Programs for devices that are not here cannot be read back, and one of them fills 200 MB.
        jax.config.update("jax_enable_compilation_cache", False)
    schedule = _schedule(config)
    plans = _plans(config, target, schedule, arguments.sweep)
    if arguments.json:
        found = {
            "config": config.name,
            "topology": target.name,
            "dtype": config.model.dtype,
            "remat": config.model.remat,
            "plans": [plan.to_json() for plan in plans],
            "largest_batch": max((plan.batch_size for plan in plans if plan.fits), default=None),
        }
        print(json.dumps(found, indent=2, allow_nan=False))
    else:
        _print(Console(), _title(config, target), plans)
    return 0


def _config(arguments: argparse.Namespace) -> "Config":
    from a2j_jax.cli.arguments import config_with_overrides
    from a2j_jax.training.assembly import with_preset

    overrides = list(arguments.overrides)
    if arguments.batch is not None:
        overrides.append(("optim.batch_size", str(arguments.batch)))
    if arguments.dtype is not None:
        overrides.append(("model.dtype", arguments.dtype))
    return with_preset(config_with_overrides(arguments.config, overrides, arguments.base))


def _schedule(config: "Config") -> "Schedule | None":
    """Length of the run; None: epochs of a data set of the user's own, and nobody knows its frames."""
    from a2j_jax.tools.planning import Schedule
    from tfds_builders.datasets import DATASETS
    from tfds_builders.rendered import EMBEDDED

    frames = 0
    if config.track in EMBEDDED:
        frames = config.data.train_frames
    elif config.track in DATASETS:
        frames = DATASETS[config.track].published_frames["train"]
    elif config.optim.steps is None:
        return None
    assert config.optim.epochs is not None  # the preset's, where the config names none
    return Schedule(frames, config.optim.epochs, config.optim.steps)


def _plans(
    config: "Config", target: "Target", schedule: "Schedule | None", sizes: tuple[int, ...] | None
) -> "list[Plan]":
    import time

    from a2j_jax.log import clock, logger
    from a2j_jax.tools.planning import make_plan, plan_largest, verdict, with_batch

    chips = f"{len(target.devices)} x {target.devices[0].device_kind}"

    def make(size: int) -> "Plan":
        logger.info(
            f"compiling {config.name} for {target.name} ({chips}), batch {size:,}; large networks take minutes"
        )
        started = time.monotonic()
        plan = make_plan(with_batch(config, size), target, schedule)
        logger.info(f"batch {size:,}: {verdict(plan)}; {clock(time.monotonic() - started)}")
        return plan

    if sizes == ():
        unit = len(target.devices) * config.optim.accumulate
        most = (schedule.frames if schedule else 0) or _NO_LIMIT
        return plan_largest(make, config.optim.batch_size, unit, most)
    return [make(size) for size in sizes or (config.optim.batch_size,)]


def _title(config: "Config", target: "Target") -> str:
    remat = ["remat"] if config.model.remat else []
    return " · ".join([config.name, target.name, config.model.dtype, *remat])


def _print(console, title: str, plans: "list[Plan]") -> None:  # type: ignore[no-untyped-def]
    """A table on stdout, and what must be said about it."""
    from a2j_jax.log import PlainTable, plain, print_table
    from a2j_jax.tools.planning import plan_table

    contents = plan_table(title, plans)
    printed = PlainTable(contents.title)
    for place, column in enumerate(contents.columns):
        printed.add_column(column, justify="right" if place else "left")
    for place, row in enumerate(contents.rows):
        printed.add_row(*row, style="bold" if place in contents.strong else None)
    print_table(printed, console)
    for note in contents.notes:
        console.print(plain(note))
