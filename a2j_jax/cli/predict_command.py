"""Find the joints in depth frames, with the weights that ship, or a checkpoint trained here or converted."""

import argparse
import contextlib
import csv
import gc
import json
import logging
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from a2j_jax.cli.arguments import (
    DEPTH_UNITS_MM,
    VIDEO,
    Command,
    add_camera,
    add_list,
    add_out,
    bounded,
    camera_of,
    check_picture,
    numbers,
    path_name,
    place_name,
    step_name,
    whole,
)
from a2j_jax.errors import UserError, printable
from a2j_jax.log import logger, progress

if TYPE_CHECKING:
    from a2j_jax.inference.frame_predictor import FramePredictor
    from a2j_jax.inference.frames import FilePrediction
    from a2j_jax.inference.hands import HandModel

EXAMPLES = """\
examples:
  a2j predict --model hand-small --example --out overlay.png  # a rendered frame that ships
  a2j predict --model hand-small frame.png --camera 475,475,316,245 --out overlay.png
  a2j predict --model hand-small recording/ --camera 475,475,316,245 --json > joints.json
  a2j predict --model hand-small recording/ --camera 475,475,316,245 --csv > joints.csv
  a2j predict --model hand-small clip.mkv --camera 475,475,316,245 --csv > joints.csv
  a2j predict --model hand-small frame.png --camera 475,475,316,245 --hands 2
  a2j predict --model hand-small clip.mkv --camera 475,475,316,245 --out overlay.mp4
  a2j predict runs/quickstart frame.png --center 320,240,700 --out overlay.png
  a2j predict runs/mine my_frames/ --json > joints.json       # every frame in a folder
  a2j predict nyu_a2j depth_1_*.png --track nyu --center 217.1,249.9,762 --json
  a2j predict itop_a2j frame.npy --track itop_front --box 96,53,217,240
  a2j predict runs/mine my_frames/ --runtime openvino --json > joints.json
  a2j predict hand.onnx frame.png                             # a file of `a2j export`

Frames are 16-bit PNG, TIFF or PGM (mm), NYU's packed RGB PNG with --track nyu, or .npy (mm); recordings of many are
.npy (frames, height, width), TIFF, or lossless 16-bit gray video. One --center or --box serves all frames; repeat it to
give one per frame. Without either, the nearest hand or the person in view is looked for. --model looks several times,
scores what it finds, tells right hands from left ones, and follows a hand through a recording: docs/own_frames.md.
"""
_FPS = 30.0
_NOTHING = np.empty((0, 0), np.float32)
_FEW = 20  # frames are reported one by one; above that, progress is shown
# Messages of the library name its arguments; these are the options of the command line.
_OPTIONS = {
    r"\bcenters?_uvd\b": "--center",
    r"\bbox(es)?_px\b": "--box",
    r"(?<!-)\bdepth_unit_mm\b": "--depth_unit_mm",
    r"need track 'nyu'": "need --track nyu",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `a2j predict`."""
    add = parser.add_argument
    add(
        "inputs",
        type=place_name,
        nargs="*",
        metavar="RUN FRAME",
        help="a run directory, or what `a2j convert` or `a2j export` made (not with --model); then depth frames, "
        "recordings of many, or folders of frames",
    )
    text = "find hands with these weights: hand-small, a file of `a2j export RUN weights.npz`, or a run"
    add("--model", type=place_name, metavar="NAME", help=text)
    add("--hand", choices=("right", "left"), help="with --model: which one it is (decided)")
    text = "with --model: the most hands in a frame, each with a number (1)"
    add("--hands", type=whole(1, 10), default=1, metavar="N", help=text)
    text = "with --model: where fingers end, at the center of the last ball or on the skin (center)"
    add("--tips", choices=("center", "skin"), help=text)
    text = "with --model: a rendered frame that ships, and its camera, in place of frames of yours"
    add("--example", action="store_true", help=text)
    add("--checkpoint", type=place_name, metavar="RUN", help="the same as RUN")
    add_list(parser, "--depth", type=path_name, metavar="FRAME", help="more frames")
    add("--step", type=step_name, help="best, latest or a step number (best)")
    add("--runtime", help="jax, onnxruntime or openvino (jax; of an ONNX file onnxruntime)")
    add("--track", type=path_name, help="file format and camera of the frames (the checkpoint's)")
    where = parser.add_mutually_exclusive_group()
    place = partial(where.add_argument, action="append")
    center = "a point on the hand: column px, row px, depth mm"
    place("--center", type=numbers(3, "U,V,D"), help=center)
    place("--box", type=numbers(4, "X0,Y0,X1,Y1"), help="box around it, px")
    add_camera(parser)
    unit = "mm per count of a 16-bit image or an integer .npy (the track's)"
    add("--depth_unit_mm", type=bounded(float, *DEPTH_UNITS_MM), help=unit)
    text = "a frame that cannot be read or used: fail, or leave it out and go on (fail)"
    add("--on_bad_frame", choices=("fail", "skip"), default="fail", help=text)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    text = "print a table on stdout, one row per frame and joint"
    form.add_argument("--csv", action="store_true", help=text)
    add_out(
        parser, "PNG or SVG with the joints drawn over the crops, or an MP4 video, over the frames"
    )
    text = "frames a second of the MP4 video (those of the recording, or 30)"
    add("--fps", type=bounded(float, 0.1, 1000.0), help=text)


def run(arguments: argparse.Namespace) -> None:
    """Predict."""
    # Next to nothing of what is imported and traced is garbage; looking for some takes a tenth of the start.
    gc.disable()
    try:
        _predict(arguments)
    except UserError as error:
        message = str(error)
        for argument, option in _OPTIONS.items():
            message = re.sub(argument, option, message)
        raise UserError(message, error.instructions) from error
    finally:
        gc.enable()


def _inputs(arguments: argparse.Namespace) -> tuple[str, list[Path]]:
    """Checkpoint or weights, and frames, from the positional arguments and the options."""
    from a2j_jax.inference.frames import EXAMPLE_FRAME, frame_files

    rest = list(arguments.inputs)
    if arguments.model:
        alien = [name for name in ("checkpoint", "step", "runtime") if getattr(arguments, name)]
        if alien:
            raise UserError(f"--{alien[0]} goes with a RUN, not with --model; leave one out")
        checkpoint = arguments.model
        if arguments.example:
            return checkpoint, [_checked_example(arguments, EXAMPLE_FRAME)]
    elif arguments.hand or arguments.tips or arguments.hands > 1 or arguments.example:
        raise UserError("--hand, --hands, --tips and --example go with --model NAME")
    else:
        checkpoint = arguments.checkpoint or (rest.pop(0) if rest else None)
    if checkpoint is None or not (rest or arguments.depth):
        missing = "checkpoint" if checkpoint is None else "frames"
        raise UserError(
            f"no {missing}; expected a2j predict RUN FRAME… or a2j predict --model hand-small FRAME… "
            "(a2j predict --help)"
        )
    return checkpoint, frame_files([*rest, *arguments.depth])


def _checked_example(arguments: argparse.Namespace, path: Path) -> Path:
    """The frame that ships, if nothing else is asked for that belongs to another."""
    of_others = "inputs", "depth", "track", "camera", "fx", "fy", "cx", "cy", "depth_unit_mm"
    for name in of_others:
        if getattr(arguments, name) not in (None, []):
            named = "frames" if name in ("inputs", "depth") else f"--{name}"
            raise UserError(
                f"{named} with --example, which has a frame and its camera; leave one out"
            )
    return path


def _predictor(arguments: argparse.Namespace, checkpoint: str) -> "FramePredictor | HandModel":
    """What predicts, compiled or loaded."""
    if arguments.model:
        from a2j_jax.inference.hands import load

        return load(checkpoint, handedness=arguments.hand, tips=arguments.tips or "center")
    from a2j_jax.inference.exported import SUFFIXES, ExportedPredictor, check_runtime
    from a2j_jax.inference.predictor import Predictor

    if Path(checkpoint).suffix in SUFFIXES:
        if arguments.step is not None:
            raise UserError(
                f"--step: {checkpoint} holds one network; expected a run, or a2j export --step"
            )
        exported = ExportedPredictor.from_file(checkpoint, arguments.runtime)
        logger.info(f"{checkpoint}: {exported.track.name} network, run by {exported.runtime}")
        return exported
    runtime = check_runtime(arguments.runtime or "jax")
    predictor = Predictor.from_checkpoint(
        checkpoint, step=arguments.step or "best", runtime=runtime
    )
    seconds = predictor.compile_seconds
    logger.info(f"{predictor.track.name} network compiled in {seconds:.1f} s")
    return predictor


def _predict(arguments: argparse.Namespace) -> None:
    from a2j_jax.data.recordings import count_frames, open_recordings
    from a2j_jax.inference.frame_predictor import frames_of
    from a2j_jax.inference.frames import predict_files, to_json, write_overlay
    from a2j_jax.track_files import find_track

    # A mistyped name shows before the network is loaded and compiled, not after.
    checkpoint, paths = _inputs(arguments)
    named = [str(path) for path in paths]
    check_picture(arguments.out, named, overwrite=arguments.overwrite, or_video=True)
    is_video = arguments.out is not None and Path(arguments.out).suffix.lower() == VIDEO
    if arguments.fps and not is_video:
        raise UserError("--fps goes with --out overlay.mp4")
    if arguments.hands > 1 and (arguments.center or arguments.box):
        raise UserError("--hands with --center or --box, which is the place of one; leave one out")
    given, skips = camera_of(arguments), arguments.on_bad_frame == "skip"
    sources = open_recordings(paths, keep_damaged=skips)
    predictor = _predictor(arguments, checkpoint)
    gc.enable()
    track = predictor.spec
    source = frames_of(find_track(arguments.track), track) if arguments.track else track
    camera = source.camera
    if given is None and camera is not None:
        # Frames of a data set are of its camera; a user's own rarely are.
        is_guess = arguments.model and not (arguments.track or arguments.example)
        what = "no --camera, taken for that" if is_guess else "camera"
        logger.log(
            logging.WARNING if is_guess else logging.INFO,
            f"{what} of track {source.name}: fx {camera.fx:g}, fy {camera.fy:g}, cx {camera.u0:g}, cy {camera.v0:g}, "
            f"{source.frame_size[0]}x{source.frame_size[1]} px (of another camera: --camera)",
        )
    unit, recorded = arguments.depth_unit_mm, source.depth_unit_mm
    if unit not in (None, recorded):
        logger.info(
            f"depth unit: {unit:g} mm per count as given; track {source.name} has {recorded:g} mm per count"
        )
    predictions: list[FilePrediction] = []
    done = 0
    skipped: list[tuple[str, str]] | None = [] if skips else None
    count = count_frames(sources)
    few = count <= _FEW
    where = arguments.center, arguments.box
    with contextlib.ExitStack() as stack:
        advance = None if few else stack.enter_context(progress("predicting", count, "frames"))
        draw = None
        if is_video:
            from a2j_jax.inference.frames import video_file

            rate_hz = arguments.fps or getattr(sources[0], "rate_hz", None) or _FPS
            draw = stack.enter_context(video_file(arguments.out, track.skeleton, rate_hz))
        for prediction in predict_files(
            predictor, sources, *where, given, source, unit, skipped, draw, arguments.hands
        ):
            if not arguments.out or is_video:  # of a long recording, regions would fill the memory
                prediction = replace(prediction, region=_NOTHING)
            predictions.append(prediction)
            if few:
                _report(prediction)
            if arguments.csv:
                _print_rows(prediction, track.skeleton.joints, with_heads=len(predictions) == 1)
            elif not arguments.json:
                _print_joints(prediction, track.skeleton.joints)
            if advance is not None:
                advance(prediction.number + 1 - done)  # left-out frames count, several hands do not
            done = prediction.number + 1
        if not predictions:
            if arguments.hands > 1:
                raise UserError(f"no hand in any of {count} frames")
            raise UserError(f"none of {count} frames can be used")
    if arguments.out:
        if not is_video:
            write_overlay(predictions, track, arguments.out)
        logger.info(f"overlay: {arguments.out}")
    if arguments.json:
        print(json.dumps(to_json(predictions, track, source, given, skipped), allow_nan=False))


def _report(prediction: "FilePrediction") -> None:
    """Log where a frame's subject was found, which hand it is, and its time."""
    from a2j_jax.inference.hands import HandPose

    found, name = prediction.located, printable(prediction.path)
    if found is not None:
        option, values = "--center", found.center_uvd
        if values is None:
            option, values = "--box", found.box_px
        px = ",".join(f"{value:.0f}" for value in np.asarray(values))
        logger.info(f"{name}: no --center or --box; found in the depth: {option} {px}")
    pose, hand = prediction.estimate, ""
    if isinstance(pose, HandPose):
        certain = f" ({pose.handedness_probability:.0%})" if pose.handedness_probability < 1 else ""
        hand = f"{pose.handedness} hand{certain}, score {pose.score:.2f}, "
    logger.info(f"{name}: {hand}{pose.milliseconds:.1f} ms")


def _print_rows(prediction: "FilePrediction", names: Sequence[str], with_heads: bool) -> None:
    """One frame's rows of the CSV, kept whatever happens to the next one."""
    from a2j_jax.inference.frames import CSV_COLUMNS, CSV_HAND_COLUMNS

    rows = prediction.csv_rows(names)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if with_heads:
        writer.writerow((*CSV_COLUMNS, *CSV_HAND_COLUMNS)[: len(rows[0])])
    writer.writerows(rows)
    sys.stdout.flush()


def _print_joints(prediction: "FilePrediction", names: Sequence[str]) -> None:
    """A table of one frame's joints on stdout."""
    from rich.console import Console

    from a2j_jax.evaluation.tables import Table, print_table

    found = prediction.estimate
    assert found.confidence is not None
    columns = ["joint", "u px", "v px"]
    values = found.joints_uvd[:, :2]
    if found.joints_xyz_mm is not None:
        columns += ["x mm", "y mm", "z mm"]
        values = np.concatenate([values, found.joints_xyz_mm], axis=1)
    joints = zip(names, values, found.confidence, strict=True)
    rows = tuple((name, *(f"{x:.1f}" for x in row), f"{sure:.2f}") for name, row, sure in joints)
    print_table(Table(prediction.path, (*columns, "confidence"), rows), Console())


PREDICT = Command(__doc__, EXAMPLES, add_arguments, run, intermixed=True)
