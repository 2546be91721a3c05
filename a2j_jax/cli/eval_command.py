"""Score a checkpoint on a data set, or files of predictions against labels."""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from a2j_jax import distributed
from a2j_jax.cli.arguments import (
    add_overwrite,
    add_process_arguments,
    join_processes,
    path_name,
    step,
    whole,
)
from a2j_jax.errors import UserError
from a2j_jax.files import local_path
from a2j_jax.tracks import LARGEST_CROP

EXAMPLES = """\
examples:
  a2j eval --workdir runs/quickstart
  a2j eval --workdir runs/quickstart --step latest --out report --json > scores.json
  a2j eval --predictions nyu_861_epoch32_UVD.txt --track nyu --labels nyu_keypointsUVD_test.mat --json
  a2j eval --predictions A2J=a2j.txt ours=run/eval/predictions.npz --track nyu --data_dir data --out report

A table goes to stderr, the JSON object of --json to stdout. The report is --out's report.html: one file
that opens anywhere, with its plots beside it as PNG and SVG.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `a2j eval` takes."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--workdir",
        "--checkpoint",
        type=path_name,
        help="a run directory, or what `a2j convert` made",
    )
    source.add_argument(
        "--predictions",
        nargs="+",
        metavar="[NAME=]FILE",
        help="files of joints (.txt, .mat, .npz, .json, .jsonl), each with a name to be shown under "
        "(default: the file's); several are compared",
    )
    parser.add_argument(
        "--track", type=path_name, help="of the predictions; of a checkpoint it is known"
    )
    parser.add_argument(
        "--labels",
        type=path_name,
        help="ground truth for --predictions, same formats (default: the data set's)",
    )
    parser.add_argument(
        "--step", type=step, help="best, latest or a number (default: best, and latest beside it)"
    )
    parser.add_argument(
        "--data_dir",
        type=path_name,
        help="TFDS data directory (default: the one trained on; for --predictions: none)",
    )
    parser.add_argument("--split", default="test", help="of the data set (default: test)")
    parser.add_argument(
        "--crop_size",
        type=whole(16, LARGEST_CROP),
        help="px, of the data set of --predictions (the track's)",
    )
    parser.add_argument("--batch_size", type=whole(1, 16_384), default=64, help="default: 64")
    parser.add_argument(
        "--out",
        type=path_name,
        help="folder for the report (default: <workdir>/eval, or eval-SPLIT and the like; for "
        "--predictions: no report)",
    )
    parser.add_argument(
        "--write",
        type=path_name,
        nargs="+",
        default=[],
        metavar="FILE",
        help="write a checkpoint's joints there too: .npz, .jsonl, .mat or .txt (u v d per joint)",
    )
    parser.add_argument(
        "--subset",
        nargs="+",
        default=[],
        metavar="NAME=FILE",
        help="lists of frames, a name or number per line, to be scored apart too, e.g. the seen and unseen "
        "subjects of HANDS 2017",
    )
    parser.add_argument(
        "--unclipped_boxes",
        action="store_true",
        help="ITOP, K2HPD: map joints back by the box before clipping, as the official program does",
    )
    parser.add_argument(
        "--on_bad_example",
        choices=["fail", "skip"],
        default="fail",
        help="what to do about a frame on disk that cannot be read (default: fail)",
    )
    add_overwrite(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    add_process_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate."""
    from a2j_jax.cli.main import ends_within

    join_processes(arguments)
    with ends_within():
        contents = _predictions(arguments) if arguments.predictions else _checkpoint(arguments)
        if arguments.json and distributed.is_primary():
            print(json.dumps(contents))
    return 0


def named_files(texts: Sequence[str], option: str = "--predictions") -> dict[str, Path]:
    """`["A=a.txt", "b.npz"]` → {"A": a.txt, "b": b.npz}.

    Raises:
      UserError: an empty name or file, or two of one name.
    """
    files: dict[str, Path] = {}
    for text in texts:
        name, equals, named = text.partition("=")
        # A file may have "=" in its own name, and so may an address.
        unnamed = not equals or "://" in name or os.path.exists(os.path.expanduser(text))
        file = local_path((text if unnamed else named) or ".", option)
        if unnamed:
            name = file.name if file.is_dir() else file.stem
        name = name.strip()
        if not name or not (unnamed or named):
            raise UserError(f"{option} {text}: expected FILE or NAME=FILE")
        if name in files:
            raise UserError(
                f"{option} names {name!r} twice ({files[name]} and {file}): call one of them "
                "something else, NAME=FILE"
            )
        files[name] = file
    return files


def _predictions(arguments: argparse.Namespace) -> dict:
    from a2j_jax.evaluation.compare import compare_predictions
    from a2j_jax.track_files import find_track
    from a2j_jax.tracks import with_crop_size

    if not arguments.track or not (arguments.labels or arguments.data_dir):
        raise UserError("--predictions needs --track and --labels, or --track and --data_dir")
    if arguments.step is not None:
        raise UserError("--step goes with --workdir: a file of predictions has no steps")
    if arguments.write:
        raise UserError("--write goes with --workdir: joints of a file are written already")
    if arguments.on_bad_example != "fail":
        raise UserError(
            "--on_bad_example goes with --workdir, which reads the frames of a data set"
        )
    if arguments.unclipped_boxes:
        raise UserError(
            "--unclipped_boxes goes with --workdir: predictions in files are in the frame"
        )
    track = find_track(arguments.track)
    if arguments.crop_size is not None:
        track = with_crop_size(track, arguments.crop_size)
    return compare_predictions(
        named_files(arguments.predictions),
        track,
        labels=arguments.labels,
        data_dir=arguments.data_dir,
        split=arguments.split,
        out=arguments.out,
        overwrite=arguments.overwrite,
        subset_files=named_files(arguments.subset, "--subset"),
        command=arguments.command_line,
    )


def _checkpoint(arguments: argparse.Namespace) -> dict:
    from a2j_jax.evaluation.evaluate_run import evaluate_checkpoint

    if arguments.labels:
        raise UserError("--labels goes with --predictions; a data set has its own labels")
    if arguments.crop_size:
        raise UserError("--crop_size goes with --predictions; of a checkpoint it is known")
    return evaluate_checkpoint(
        arguments.workdir,
        step=arguments.step,
        track_name=arguments.track,
        data_dir=arguments.data_dir,
        split=arguments.split,
        batch_size=arguments.batch_size,
        out=arguments.out,
        overwrite=arguments.overwrite,
        subset_files=named_files(arguments.subset, "--subset"),
        unclipped_boxes=arguments.unclipped_boxes,
        on_bad_example=arguments.on_bad_example,
        write=arguments.write,
        command=arguments.command_line,
    )
