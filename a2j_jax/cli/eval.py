"""Score a checkpoint on a data set, or a file of predictions against a file of labels."""

import argparse
import json

from a2j_jax.cli.arguments import step, whole
from a2j_jax.errors import UserError

EXAMPLES = """\
examples:
  a2j eval --workdir runs/quickstart
  a2j eval --workdir runs/quickstart --step latest --out report --json > scores.json
  a2j eval --predictions nyu_861_epoch32_UVD.txt --track nyu --labels nyu_keypointsUVD_test.mat --json

A table goes to stderr, the JSON object of --json to stdout, pictures and scores.json to --out.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `a2j eval` takes."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--workdir", "--checkpoint", help="a run directory, or what `a2j convert` made"
    )
    source.add_argument("--predictions", help="a file of joints: .txt, .mat, .npz, .json, .jsonl")
    parser.add_argument("--track", help="of the predictions; of a checkpoint it is known")
    parser.add_argument("--labels", help="ground truth for --predictions, same formats")
    parser.add_argument(
        "--step", type=step, help="best, latest or a number (default: best, and latest beside it)"
    )
    parser.add_argument("--data_dir", help="TFDS data directory (default: the one trained on)")
    parser.add_argument("--split", default="test", help="default: test")
    parser.add_argument("--batch_size", type=whole(1), default=64, help="default: 64")
    parser.add_argument("--out", help="folder for the report (default: <workdir>/eval)")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate."""
    contents = _predictions(arguments) if arguments.predictions else _checkpoint(arguments)
    if arguments.json:
        print(json.dumps(contents))
    return 0


def _predictions(arguments: argparse.Namespace) -> dict:
    from a2j_jax.evaluation.predictions import read_joints
    from a2j_jax.evaluation.report import print_scores
    from a2j_jax.evaluation.score import score_joint_sets
    from a2j_jax.tracks import get_track

    if not arguments.track or not arguments.labels:
        raise UserError("--predictions needs --track and --labels")
    track = get_track(arguments.track)
    predicted = read_joints(arguments.predictions, track)
    scores = score_joint_sets(predicted, read_joints(arguments.labels, track), track)
    print_scores({"predictions": scores})
    return scores.to_json()


def _checkpoint(arguments: argparse.Namespace) -> dict:
    from a2j_jax.evaluation.checkpoint import evaluate_checkpoint

    if arguments.labels:
        raise UserError("--labels goes with --predictions; a data set has its own labels")
    return evaluate_checkpoint(
        arguments.workdir,
        step=arguments.step,
        track_name=arguments.track,
        data_dir=arguments.data_dir,
        split=arguments.split,
        batch_size=arguments.batch_size,
        out=arguments.out,
    )
