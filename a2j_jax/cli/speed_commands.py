"""`a2j bench` and `a2j plan`: time as measured here, and as compiled for chips that are not here."""

import argparse
import dataclasses
import itertools
import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from a2j_jax.cli.arguments import (
    Command,
    add_checkpoints,
    add_config_arguments,
    add_crop_size,
    add_out,
    checked,
    config_with_overrides,
    named_files,
    path_name,
    place_name,
    whole,
)
from a2j_jax.config import LARGEST_BATCH, PARADIGMS
from a2j_jax.errors import UserError, did_you_mean
from a2j_jax.files import check_output
from a2j_jax.log import logger, plain

if TYPE_CHECKING:
    from a2j_jax.evaluation.tables import Table
    from a2j_jax.tools.speed import Network, OfficialOf
    from a2j_jax.tracks import TrackSpec


# --- a2j bench

_BENCH_EXAMPLES = """\
examples:
  a2j bench
  a2j bench --backbone resnet50 --paradigm a2j --batch 1,8,64 --out speed.md
  a2j bench --checkpoint runs/quickstart --json > speed.json
  a2j bench --checkpoint mine=runs/a full=runs/b
  a2j bench --backbone resnet50 --paradigm a2j --runtime jax,onnxruntime,openvino
  a2j bench --input data --track nyu --batch 256              # how fast examples are read

By default it times A2J with three backbones (Table 10) and, on the largest, the paradigms that the paper compares
(Table 8): one to three minutes on two cores. With --backbone or --paradigm, every named pair is timed. Weights are
random without --checkpoint. With PyTorch (pip install 'a2j-jax[torch]') the official network is timed too.
"""
RUNTIMES = ("jax", "onnxruntime", "openvino")
BACKBONES = ("resnet18", "resnet34", "resnet50")
# Tables 8 and 10, each network once.
_PAPERS = [("a2j", one) for one in BACKBONES] + [(one, "resnet50") for one in [*PARADIGMS][1:]]
_DEFAULT_TRACK = "nyu"
_LARGEST_TIMED_BATCH = 4096


def _add_bench_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `a2j bench`."""
    add = parser.add_argument
    add("--track", type=path_name, help=f"of the frames and crops (default: {_DEFAULT_TRACK})")
    add("--backbone", type=some_of(BACKBONES), help=",".join(BACKBONES))
    add("--paradigm", type=some_of(PARADIGMS), help=",".join(PARADIGMS))
    dtypes = ("float32", "bfloat16")
    add("--dtype", choices=dtypes, help="of the network's computation (default: float32)")
    runtimes = "jax, and on a processor onnxruntime, openvino (default: jax)"
    add("--runtime", type=some_of(RUNTIMES), default=("jax",), help=runtimes)
    add_crop_size(parser)
    add_checkpoints(
        parser,
        "time these runs' networks instead, with their weights, each with a name for the table (default: the "
        "folder's); all of one track and crop size",
    )
    reading = (
        "time reading the training batches of a built data set instead, of the largest --batch"
    )
    add("--input", type=place_name, metavar="DATA_DIR", help=reading)
    workers = "worker processes that read, with --input (default: 0, half of the cores, all)"
    add("--workers", type=whole_numbers_from(0), help=workers)
    at_once = "frames that go through the network at once (default: 1,8)"
    add("--batch", type=whole_numbers_from(1), default=(1, 8), help=at_once)
    add("--rounds", type=whole(1, 100_000), default=10, help="of all calls (default: 10)")
    add("--no_torch", action="store_true", help="leave out the official network in PyTorch")
    add("--json", action="store_true", help="print JSON instead of tables")
    add_out(parser, "write the tables there too", metavar="REPORT.md")


def some_of(names: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    """An argparse type: some of these names, "a,b", each once."""

    def parse(text: str) -> tuple[str, ...]:
        found = tuple(text.split(","))
        if not set(found) <= set(names) or len(set(found)) < len(found):
            near = "".join(did_you_mean(name, names) for name in found if name not in names)
            raise argparse.ArgumentTypeError(f"{text!r}: expected some of {','.join(names)}{near}")
        return found

    return parse


def whole_numbers_from(least: int) -> Callable[[str], tuple[int, ...]]:
    """An argparse type: whole numbers of at least some, "1,8,64", each once."""

    def parse(text: str) -> tuple[int, ...]:
        found = tuple(whole(least, _LARGEST_TIMED_BATCH)(part) for part in text.split(","))
        if len(set(found)) < len(found):
            raise argparse.ArgumentTypeError(f"{text!r}: expected different numbers")
        return found

    return parse


def _run_bench(arguments: argparse.Namespace) -> None:
    """Measure, and print the times."""
    from a2j_jax.inference.exported import check_runtime
    from a2j_jax.tools import speed

    if arguments.out is not None:
        if Path(arguments.out).suffix != ".md":
            raise UserError(f"--out {arguments.out}: expected a Markdown file, e.g. speed.md")
        check_output(arguments.out, arguments.overwrite)
    if arguments.workers and not arguments.input:
        raise UserError("--workers goes with --input")
    if arguments.input:
        facts, found, tables = _input(arguments)
        _show(arguments, facts, found, tables)
        return
    track, named = _from_checkpoints(arguments) if arguments.checkpoint else _named(arguments)
    networks = [
        dataclasses.replace(one, name=_with_runtime(one.name, each), runtime=check_runtime(each))
        for one in named
        for each in arguments.runtime
    ]
    official_of, torch = _official(arguments, networks)
    facts = {
        "command": arguments.command_line,
        **speed.machine(),
        "PyTorch": torch,
        "computes in": _dtypes(networks),
        "weights": ", ".join(arguments.checkpoint) or "random",
        "rounds": str(arguments.rounds),
    }
    with TemporaryDirectory() as folder:
        logger.info(f"rendering {speed.FRAMES_ON_DISK} frames of {track.name}")
        files = speed.write_frames(Path(folder), track, speed.FRAMES_ON_DISK)
        batches = arguments.batch, arguments.rounds
        found = speed.measure(networks, track, *batches, files, official_of)
    title = f"Speed, {track.name}, crops of {track.crop_size} px"
    tables = [speed.speed_table(found, title, track)]
    if official_of is not None:
        tables.append(speed.comparison_table(found))
    about = {"track": track.name, "crop_size": track.crop_size}
    _show(arguments, facts, {**about, **found, "published": speed.paper_speed(track)}, tables)


def _input(arguments: argparse.Namespace) -> "tuple[dict[str, str], dict[str, Any], list[Table]]":
    """How fast examples are read."""
    from a2j_jax.tools import speed
    from a2j_jax.track_files import find_track
    from a2j_jax.tracks import with_crop_size

    for name in ("backbone", "paradigm", "dtype", "runtime", "checkpoint", "rounds"):
        if name in arguments.given:
            raise UserError(f"--{name} goes without --input, which runs no network")
    track = find_track(arguments.track or _DEFAULT_TRACK)
    if arguments.crop_size:
        track = with_crop_size(track, arguments.crop_size)
    cores, batch = os.cpu_count() or 1, max(arguments.batch)
    workers = arguments.workers or tuple(sorted({0, -(-cores // 2), cores}))
    rows = speed.input_speed(arguments.input, track, batch, workers)
    facts = {"command": arguments.command_line, **speed.machine()}
    title = f"Reading batches of {batch}, {track.name}, crops of {track.crop_size} px"
    found = {"track": track.name, "crop_size": track.crop_size, "batch_size": batch, "input": rows}
    return facts, found, [speed.input_table(rows, title)]


def _show(
    arguments: argparse.Namespace,
    facts: "Mapping[str, str]",
    found: "Mapping[str, Any]",
    tables: "Sequence[Table]",
) -> None:
    """Print what was measured, and write it."""
    from rich.console import Console

    from a2j_jax.evaluation.tables import markdown, print_table
    from a2j_jax.files import write_markdown

    header = [f"{name}: {value}" for name, value in facts.items()]
    if arguments.out:
        facts_as_list = "".join(f"- {line}\n" for line in header)
        text = "\n".join([facts_as_list, *map(markdown, tables)])
        logger.info(f"wrote {write_markdown(arguments.out, text)}")
    if arguments.json:
        print(json.dumps({**facts, **found}, indent=2, allow_nan=False))
    else:
        console = Console()
        for line in header:
            console.print(plain(line))
        for table in tables:
            print_table(table, console, show_edge=False)


def _with_runtime(name: str, runtime: str) -> str:
    return name if runtime == "jax" else f"{name}, {runtime}"


def _dtypes(networks: "Sequence[Network]") -> str:
    """What they compute in; of different networks, each beside its name."""
    kinds = {
        one.name: "float32" if one.model.dtype is None else str(one.model.dtype) for one in networks
    }
    if len(set(kinds.values())) == 1:
        return next(iter(kinds.values()))
    return "; ".join(f"{name}: {kind}" for name, kind in kinds.items())


def _from_checkpoints(arguments: argparse.Namespace) -> "tuple[TrackSpec, list[Network]]":
    from a2j_jax.runs.load import restore
    from a2j_jax.tools.speed import Network

    for name in ("track", "backbone", "paradigm", "dtype", "crop_size"):
        if name in arguments.given:
            raise UserError(f"--{name} goes without --checkpoint, which knows its own")
    folders = named_files(arguments.checkpoint, "--checkpoint")
    found = {name: restore(folder) for name, folder in folders.items()}
    networks, crops = [], set()
    for name, one in found.items():
        networks.append(Network(f"{name}, {one.model.label}", one.model, one.variables))
        crops.add((one.track.name, one.track.crop_size))
    if len(crops) > 1:
        listed = ", ".join(
            f"{folders[name]} is of track {one.track.name!r} at {one.track.crop_size} px"
            for name, one in found.items()
        )
        raise UserError(
            f"--checkpoint: {listed}: expected networks for the same crops; time them apart"
        )
    return next(iter(found.values())).track, networks


def _named(arguments: argparse.Namespace) -> "tuple[TrackSpec, list[Network]]":
    from a2j_jax.config import Config, DataConfig, ModelConfig
    from a2j_jax.runs.experiment import resolve
    from a2j_jax.tools.speed import Network, random_variables

    track = arguments.track or _DEFAULT_TRACK
    data = DataConfig(crop_size=arguments.crop_size)
    chosen: Iterable[tuple[Any, Any]] = _PAPERS
    if arguments.paradigm or arguments.backbone:
        chosen = itertools.product(arguments.paradigm or PARADIGMS, arguments.backbone or BACKBONES)
    networks = []
    for paradigm, backbone in chosen:
        model = ModelConfig(backbone=backbone, dtype=arguments.dtype or "float32")
        config = Config("bench", track, parts=PARADIGMS[paradigm], model=model, data=data)
        made = resolve(config)
        variables = random_variables(made.model, made.track)
        networks.append(Network(made.model.label, made.model, variables))
    return made.track, networks


def _official(
    arguments: argparse.Namespace, networks: "Sequence[Network]"
) -> "tuple[OfficialOf | None, str]":
    """The maker of the official network, and what it runs on; or None, and why it is not timed."""
    if arguments.no_torch or not any(network.is_official for network in networks):
        return None, "not used"
    # PyTorch's idle threads would otherwise spin on the cores that the others need: on a busy machine that makes
    # it ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from a2j_jax.tools.torch_reference import described, device_beside_jax, official_forward_of
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return None, "not installed (pip install 'a2j-jax[torch]'): no official network beside ours"
    device = device_beside_jax()
    if device is None:
        return None, "cannot use this device: no official network beside ours"
    return partial(official_forward_of, device=device), described(device)


BENCH = Command(
    "Time reading and warping a frame, and the network with its post-processing, as the paper does (Sec. 4.4).",
    _BENCH_EXAMPLES,
    _add_bench_arguments,
    _run_bench,
)


# --- a2j plan


_PLAN_EXAMPLES = """\
examples:
  a2j plan --config nyu --topology v5e:4x4 --batch 1024
  a2j plan --config nyu --topology v5e:4x4 --batch 1024 --dtype bfloat16 --config.model.remat=true
  a2j plan --config nyu --topology v6e:2x2 --sweep batch=256,512,1024
  a2j plan --config nyu --topology v6e:2x2 --sweep batch
  a2j plan --config quickstart --topology cpu --json

TPUs are planned for without one (pip install 'a2j-jax[tpu]'), and no data set is needed. A plan of the paper's
network takes 5 to 25 minutes of one core. `--sweep batch` finds the largest batch that fits.
"""


def _add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `a2j plan`."""
    add_config_arguments(parser)
    add = parser.add_argument
    chips = "chips to plan for: v5e:4x4, v5p:2x2x4, v6e:2x2, cpu, gpu"
    add("--topology", required=True, help=chips)
    add(
        "--batch",
        type=whole(1, LARGEST_BATCH),
        help="of all chips together (default: the config's)",
    )
    dtypes = ("float32", "bfloat16")
    add("--dtype", choices=dtypes, help="of the computation (default: the config's)")
    add(
        "--sweep",
        type=checked(_sweep, f"batch=64,128,... or batch, sizes up to {LARGEST_BATCH}"),
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
    return tuple(map(whole(1, LARGEST_BATCH), () if sizes in ("", "max") else sizes.split(",")))


def _run_plan(arguments: argparse.Namespace) -> None:
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


PLAN = Command(
    "Compile a config's training step for chips that are not here: memory, work, and a bound on its time.",
    _PLAN_EXAMPLES,
    _add_plan_arguments,
    _run_plan,
)
