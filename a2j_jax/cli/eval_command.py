"""Score a checkpoint on a data set, or files of predictions against labels."""

import argparse
import json
from functools import partial
from typing import Any

from a2j_jax import distributed
from a2j_jax.cli.arguments import (
    Command,
    add_crop_size,
    add_data_arguments,
    add_list,
    add_on_bad_example,
    add_out,
    add_process_arguments,
    join_processes,
    named_files,
    path_name,
    place_name,
    step_name,
    whole,
)
from a2j_jax.errors import UserError

EXAMPLES = """\
examples:
  a2j eval --workdir runs/quickstart
  a2j eval --workdir runs/quickstart --step latest --out report --json > scores.json
  a2j eval --model hand-small --data_dir data/shifted --out report
  a2j eval --predictions nyu_861_epoch32_UVD.txt --track nyu --labels nyu_keypointsUVD_test.mat --json
  a2j eval --predictions A2J=a2j.txt ours=run/eval/predictions.npz --track nyu --data_dir data --out report

A table goes to stderr, the JSON object of --json to stdout. The report is --out's report.html: one file
that opens anywhere, with its plots beside it as PNG and SVG.
"""
# Option -> the source that it goes with, and why.
_GO_WITH = {
    "step": ("workdir", "a file of predictions has no steps"),
    "write": ("workdir", "joints of a file are written already"),
    "on_bad_example": ("workdir", "it is about the frames of a data set"),
    "unclipped_boxes": ("workdir", "predictions in files are in the frame"),
    "labels": ("predictions", "a data set has its own labels"),
    "crop_size": ("predictions", "a checkpoint has its own"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `a2j eval`."""
    source = parser.add_mutually_exclusive_group(required=True)
    run = (
        "a run directory, or what `a2j convert` made; or weights: hand-small, or a file of "
        "`a2j export RUN weights.npz`, with --out"
    )
    source.add_argument("--workdir", "--checkpoint", "--model", type=place_name, help=run)
    source.add_argument(
        "--predictions",
        nargs="+",
        action="extend",
        metavar="[NAME=]FILE",
        help="files of joints (.txt, .mat, .npz, .json, .jsonl), each with a name for the tables "
        "(default: the file's); several are compared",
    )
    add = parser.add_argument
    path = partial(add, type=path_name)
    path("--track", help="of the predictions; a checkpoint has its own")
    path("--labels", help="ground truth for --predictions, same formats (default: the data set's)")
    add(
        "--step",
        type=step_name,
        help="best, latest or a number (default: best, and latest beside it)",
    )
    add_data_arguments(parser, "the one trained on; for --predictions: none")
    add_crop_size(parser, "px, of the data set of --predictions (default: that of the one there)")
    add("--batch_size", type=whole(1, 16_384), default=64, help="default: 64")
    add_out(
        parser,
        "folder for the report (default: <workdir>/eval, or eval-SPLIT and the like; of weights in a "
        "file: none, name one; for --predictions: no report)",
        type=place_name,
    )
    add_list(
        parser,
        "--write",
        type=path_name,
        metavar="FILE",
        help="write a checkpoint's joints there too: .npz, .jsonl, .mat or .txt (u v d per joint)",
    )
    add_list(
        parser,
        "--subset",
        metavar="NAME=FILE",
        help="lists of frames, a name or number per line, to score apart too, e.g. the seen and unseen "
        "subjects of HANDS 2017",
    )
    add(
        "--unclipped_boxes",
        action="store_true",
        help="ITOP, K2HPD: map joints back by the box before clipping, as the official program does",
    )
    add_on_bad_example(parser, "fail")
    add("--json", action="store_true", help="print one JSON object on stdout")
    add_process_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Evaluate."""
    from a2j_jax.cli.main import ends_within

    join_processes(arguments)
    for name, (kind, why) in _GO_WITH.items():
        if getattr(arguments, kind) is None and name in arguments.given:
            raise UserError(f"--{name} goes with --{kind}: {why}")
    with ends_within():
        contents = _predictions(arguments) if arguments.predictions else _checkpoint(arguments)
        if arguments.json and distributed.is_primary():
            print(json.dumps(contents))


def _common(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "data_dir": arguments.data_dir,
        "split": arguments.split,
        "out": arguments.out,
        "overwrite": arguments.overwrite,
        "subset_files": named_files(arguments.subset, "--subset"),
        "command": arguments.command_line,
    }


def _predictions(arguments: argparse.Namespace) -> dict:
    from a2j_jax.evaluation.compare import compare_predictions, fitting_track
    from tfds_builders.build import sized_track

    if not arguments.track or not (arguments.labels or arguments.data_dir):
        raise UserError("--predictions needs --track and --labels, or --track and --data_dir")
    track = sized_track(arguments.track, arguments.crop_size)
    files = named_files(arguments.predictions)
    if arguments.data_dir is not None and arguments.crop_size is None:
        track = fitting_track(track, files, arguments.data_dir)
    return compare_predictions(files, track, labels=arguments.labels, **_common(arguments))


def _checkpoint(arguments: argparse.Namespace) -> dict:
    from a2j_jax.evaluation.evaluate_run import evaluate_checkpoint

    return evaluate_checkpoint(
        arguments.workdir,
        step=arguments.step,
        track_name=arguments.track,
        batch_size=arguments.batch_size,
        unclipped_boxes=arguments.unclipped_boxes,
        on_bad_example=arguments.on_bad_example,
        write=arguments.write,
        **_common(arguments),
    )


EVAL = Command(__doc__, EXAMPLES, add_arguments, run)
