"""Find the joints in depth frames, with a checkpoint trained here or converted."""

import argparse
import json

from a2j_jax.cli.arguments import check_picture, numbers, path_name
from a2j_jax.progress import say

EXAMPLES = """\
examples:
  a2j predict --checkpoint runs/quickstart --depth frame.png --center 320,240,700 --out overlay.png
  a2j predict --checkpoint nyu_a2j --track nyu --depth depth_1_*.png --center 217.1,249.9,762 --json
  a2j predict --checkpoint itop_a2j --track itop_front --depth frame.npy --box 96,53,217,240

Frames are 16-bit PNG (mm), NYU's packed RGB PNG with --track nyu, or .npy (mm). One --center or --box serves
all frames; repeat it to give one per frame. Without either, the nearest hand or the person in view is looked for.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `a2j predict` takes."""
    parser.add_argument(
        "--checkpoint",
        type=path_name,
        required=True,
        help="a run directory, or what `a2j convert` made",
    )
    parser.add_argument(
        "--depth", type=path_name, nargs="+", required=True, metavar="FRAME", help="depth frames"
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
        parser.add_argument(f"--{name}", type=float, help="intrinsics in px (the track's)")
    parser.add_argument(
        "--depth_unit_mm",
        type=float,
        default=1.0,
        help="mm per count of a 16-bit PNG or an integer .npy (1)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument(
        "--out", type=path_name, help="PNG or SVG with the joints drawn over the frames"
    )


def run(arguments: argparse.Namespace) -> int:
    """Predict."""
    from a2j_jax.inference.files import predict_files, to_json, with_intrinsics, write_overlay
    from a2j_jax.inference.frames import check_file
    from a2j_jax.inference.predictor import Predictor, frames_of
    from a2j_jax.track_files import find_track

    # A mistyped name shows before the network is loaded and compiled, not after.
    for path in arguments.depth:
        check_file(path)
    check_picture(arguments.out, arguments.depth)
    predictor = Predictor.from_checkpoint(arguments.checkpoint)
    spec = predictor.spec
    source = frames_of(find_track(arguments.track), spec) if arguments.track else spec
    camera = with_intrinsics(source.camera, arguments.fx, arguments.fy, arguments.cx, arguments.cy)
    say(f"{spec.name} network compiled in {predictor.compile_seconds:.1f} s")
    given = any(getattr(arguments, name) is not None for name in ("fx", "fy", "cx", "cy"))
    predictions = []
    for prediction in predict_files(
        predictor,
        arguments.depth,
        arguments.center,
        arguments.box,
        camera,
        source.frame_format,
        arguments.depth_unit_mm,
        # Intrinsics are of a frame size; pixels of a 2D track are what they are.
        None if given or camera is None else source.frame_size,
    ):
        predictions.append(prediction)
        if prediction.located is not None:
            numbers_px = ",".join(f"{value:.0f}" for value in prediction.located)
            option = "--center" if len(prediction.located) == 3 else "--box"
            say(
                f"{prediction.path}: no --center or --box; found in the depth: {option} {numbers_px}"
            )
        say(f"{prediction.path}: {prediction.estimate.milliseconds:.1f} ms")
        if not arguments.json:
            _print_joints(prediction, spec.skeleton.joints)
    if arguments.out:
        say(f"overlay: {write_overlay(predictions, spec, arguments.out)}")
    if arguments.json:
        print(json.dumps(to_json(predictions, spec), allow_nan=False))
    return 0


def _print_joints(prediction, names) -> None:  # type: ignore[no-untyped-def]
    """A table of one frame's joints on stdout."""
    from rich.console import Console
    from rich.table import Table

    estimate = prediction.estimate
    three = estimate.joints_xyz_mm is not None
    table = Table(title=prediction.path)
    for column in ("joint", "u px", "v px", *(("x mm", "y mm", "z mm") if three else ())):
        table.add_column(column, justify="left" if column == "joint" else "right")
    table.add_column("confidence", justify="right")
    for k, name in enumerate(names):
        values = [*estimate.joints_uvd[k, :2]]
        if estimate.joints_xyz_mm is not None:
            values += [*estimate.joints_xyz_mm[k]]
        table.add_row(name, *(f"{v:.1f}" for v in values), f"{estimate.confidence[k]:.2f}")
    Console().print(table)
