"""Find the joints in depth frames, with a checkpoint trained here or converted."""

import argparse
import contextlib
import json
import re
from pathlib import Path

from a2j_jax.cli.arguments import (
    DEPTH_UNITS_MM,
    LARGEST_PX,
    add_overwrite,
    check_picture,
    number,
    numbers,
    path_name,
)
from a2j_jax.cli.arguments import step as step_type
from a2j_jax.errors import UserError, printable
from a2j_jax.log import PlainTable, logger, print_table, progress

EXAMPLES = """\
examples:
  a2j predict runs/quickstart frame.png --center 320,240,700 --out overlay.png
  a2j predict runs/mine my_frames/ --json > joints.json       # every frame in a folder
  a2j predict nyu_a2j depth_1_*.png --track nyu --center 217.1,249.9,762 --json
  a2j predict itop_a2j frame.npy --track itop_front --box 96,53,217,240

Frames are 16-bit PNG, TIFF or PGM (mm), NYU's packed RGB PNG with --track nyu, or .npy (mm). One --center or --box
serves all frames; repeat it to give one per frame. Without either, the nearest hand or the person in view is looked
for.
"""
INTERMIXED = True  # options may stand between the run and its frames
# Frames that are reported one by one; of more, progress is shown.
_FEW = 20
# Messages name the arguments of Python; on a command line these are meant.
_OPTIONS = {
    r"\bcenters?_uvd\b": "--center",
    r"\bbox(es)?_px\b": "--box",
    r"(?<!-)\bdepth_unit_mm\b": "--depth_unit_mm",
    r"need track 'nyu'": "need --track nyu",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `a2j predict` takes."""
    parser.add_argument(
        "inputs",
        type=path_name,
        nargs="*",
        metavar="RUN FRAME",
        help="a run directory or what `a2j convert` made, then depth frames or folders of them",
    )
    parser.add_argument("--checkpoint", type=path_name, metavar="RUN", help="the same as RUN")
    parser.add_argument(
        "--depth", type=path_name, nargs="+", default=[], metavar="FRAME", help="more frames"
    )
    parser.add_argument(
        "--step", type=step_type, default="best", help="best, latest or a step number (best)"
    )
    parser.add_argument(
        "--track",
        type=path_name,
        help="whose frames these are: file format and camera (the checkpoint's)",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--center",
        type=numbers(3, "U,V,D"),
        action="append",
        help="a point on the hand: column px, row px, depth mm",
    )
    where.add_argument(
        "--box", type=numbers(4, "X0,Y0,X1,Y1"), action="append", help="box around it, px"
    )
    for name in ("fx", "fy", "cx", "cy"):
        parser.add_argument(
            f"--{name}",
            type=number(-LARGEST_PX, LARGEST_PX),
            help="intrinsics in px, all four (the track's)",
        )
    parser.add_argument(
        "--depth_unit_mm",
        type=number(*DEPTH_UNITS_MM),
        help="mm per count of a 16-bit image or an integer .npy (the track's)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument(
        "--out", type=path_name, help="PNG or SVG with the joints drawn over the frames"
    )
    add_overwrite(parser)


def run(arguments: argparse.Namespace) -> int:
    """Predict."""
    try:
        return _predict(arguments)
    except UserError as error:
        raise UserError(_as_options(str(error)), error.instructions) from error


def _as_options(message: str) -> str:
    """A message of the Python API in terms of the command line."""
    for argument, option in _OPTIONS.items():
        message = re.sub(argument, option, message)
    return message


def _inputs(arguments: argparse.Namespace) -> tuple[str, list[Path]]:
    """Checkpoint and frames, from the positional arguments and the options.

    Raises:
      UserError: either is missing, or frames that are not there.
    """
    from a2j_jax.inference.frame_files import frame_files

    rest = list(arguments.inputs)
    checkpoint = arguments.checkpoint or (rest.pop(0) if rest else None)
    if checkpoint is None or not (rest or arguments.depth):
        missing = "checkpoint" if checkpoint is None else "frames"
        raise UserError(f"no {missing}; expected a2j predict RUN FRAME… (a2j predict --help)")
    return checkpoint, frame_files([*rest, *arguments.depth])


def _predict(arguments: argparse.Namespace) -> int:
    from a2j_jax.inference.frame_files import camera_from, predict_files, to_json, write_overlay
    from a2j_jax.inference.predictor import Predictor, frames_of
    from a2j_jax.track_files import find_track

    # A mistyped name shows before the network is loaded and compiled, not after.
    checkpoint, paths = _inputs(arguments)
    check_picture(arguments.out, [str(path) for path in paths], overwrite=arguments.overwrite)
    given = camera_from(arguments.fx, arguments.fy, arguments.cx, arguments.cy)
    predictor = Predictor.from_checkpoint(checkpoint, step=arguments.step)
    spec = predictor.spec
    source = frames_of(find_track(arguments.track), spec) if arguments.track else spec
    camera = source.camera
    logger.info(f"{spec.name} network compiled in {predictor.compile_seconds:.1f} s")
    if given is None and camera is not None:
        logger.info(
            f"camera of track {source.name}: fx {camera.fx:g}, fy {camera.fy:g}, cx {camera.u0:g}, cy {camera.v0:g}, "
            f"{source.frame_size[0]}x{source.frame_size[1]} px (of another camera: --fx --fy --cx --cy)"
        )
    unit, recorded = arguments.depth_unit_mm, source.depth_unit_mm
    if unit not in (None, recorded):
        logger.info(
            f"depth unit: {unit:g} mm per count as given; track {source.name} has {recorded:g} mm per count"
        )
    predictions = []
    few = len(paths) <= _FEW
    with (
        contextlib.nullcontext() if few else progress("predicting", len(paths), "frames") as advance
    ):
        where = arguments.center, arguments.box
        for prediction in predict_files(predictor, paths, *where, given, source, unit):
            predictions.append(prediction)
            if few:
                _report(prediction)
            if not arguments.json:
                _print_joints(prediction, spec.skeleton.joints)
            if advance is not None:
                advance(1)
    if arguments.out:
        logger.info(f"overlay: {write_overlay(predictions, spec, arguments.out)}")
    if arguments.json:
        print(json.dumps(to_json(predictions, spec, source, given), allow_nan=False))
    return 0


def _report(prediction) -> None:  # type: ignore[no-untyped-def]
    """Log how one frame went."""
    found, name = prediction.located, printable(prediction.path)
    if found is not None:
        option, values = ("--box", found.box_px)
        if found.center_uvd is not None:
            option, values = ("--center", found.center_uvd)
        px = ",".join(f"{value:.0f}" for value in values)
        logger.info(f"{name}: no --center or --box; found in the depth: {option} {px}")
    logger.info(f"{name}: {prediction.estimate.milliseconds:.1f} ms")


def _print_joints(prediction, names) -> None:  # type: ignore[no-untyped-def]
    """A table of one frame's joints on stdout."""
    from rich.console import Console

    estimate = prediction.estimate
    three = estimate.joints_xyz_mm is not None
    table = PlainTable(prediction.path)
    for column in ("joint", "u px", "v px", *(("x mm", "y mm", "z mm") if three else ())):
        table.add_column(column, justify="left" if column == "joint" else "right")
    table.add_column("confidence", justify="right")
    for k, name in enumerate(names):
        values = [*estimate.joints_uvd[k, :2]]
        if estimate.joints_xyz_mm is not None:
            values += [*estimate.joints_xyz_mm[k]]
        table.add_row(name, *(f"{v:.1f}" for v in values), f"{estimate.confidence[k]:.2f}")
    print_table(table, Console())
