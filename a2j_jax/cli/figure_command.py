"""Draw a figure of the paper from trained checkpoints, and write down the numbers in it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from a2j_jax.cli.arguments import add_overwrite, check_picture, path_name, whole
from a2j_jax.cli.eval_command import named_files
from a2j_jax.errors import UserError
from a2j_jax.files import check_output, regular_file

if TYPE_CHECKING:
    from a2j_jax.figures.page import Figure

EXAMPLES = """\
examples:
  a2j figure 1 --checkpoint runs/quickstart
  a2j figure 1 --checkpoint runs/quickstart --joints wrist index_tip --frames 5 --out figures
  a2j figure 3 --checkpoint runs/quickstart
  a2j figure 6 --checkpoint runs/full --without runs/no_surrounding_loss
  a2j figure 6 --checkpoint runs/table7-synthetic_hand-hour/a2j/seed_12345
  a2j figure 7 --checkpoint full=runs/full regression=runs/global_regression
  a2j figure 7 --checkpoint ours=runs/nyu --predictions official=nyu_861_epoch32_UVD.txt

Each writes figure_N.png, .svg, .json and .csv: the picture, and all that is drawn in it. `a2j figure N --help`
says more of the options of each.
"""
_SAYS = {
    1: "the main idea: a joint's informative anchors, and their offsets",
    3: "the anchor grid on a crop",
    6: "informative anchors without and with the surrounding loss",
    7: "success curves and errors per joint, several methods side by side",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `a2j figure` takes."""
    figures = parser.add_subparsers(dest="number", metavar="{1,3,6,7}", required=True)
    usages = []
    for number, text in _SAYS.items():
        one = figures.add_parser(str(number), help=text, description=text, allow_abbrev=False)
        _add_options(one, number)
        usages.append(one.format_usage().replace("usage: ", " " * len("usage: ")))
    # Each figure has options of its own: say all of them at once.
    parser.usage = "".join(usages).strip().replace("%", "%%")


def _add_options(parser: argparse.ArgumentParser, number: int) -> None:
    if number == 7:
        _add_methods(parser)
    else:
        parser.add_argument(
            "--checkpoint",
            type=path_name,
            required=True,
            help="a run directory, or what `a2j convert` made",
        )
    if number == 6:
        parser.add_argument(
            "--without",
            type=path_name,
            help="a run directory, trained without the surrounding loss (default: that row of the table that "
            "--checkpoint is a row of)",
        )
    if number in (1, 6):
        _add_votes(parser)
    parser.add_argument("--split", default="test", help="of the data set (default: test)")
    parser.add_argument(
        "--data_dir", type=path_name, help="TFDS data directory (default: the one trained on)"
    )
    beside = (
        "in the first checkpoint's folder, or in this one" if number == 7 else "in the checkpoint's"
    )
    add_overwrite(parser)
    parser.add_argument(
        "--out", type=path_name, help=f"folder for the files (default: figures, {beside})"
    )


def _add_votes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--joints", nargs="+", metavar="JOINT", help="names of joints (default: three of them)"
    )
    parser.add_argument(
        "--frames", type=whole(1, 100), default=3, help="how many, evenly spaced (default: 3)"
    )
    parser.add_argument(
        "--min_weight",
        type=_fraction,
        default=0.02,
        help="an anchor with a larger weight is informative (default: 0.02)",
    )


def _add_methods(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        nargs="+",
        default=[],
        metavar="[NAME=]FOLDER",
        help="run directories or converted checkpoints, each with a name to be shown under (default: the "
        "folder's)",
    )
    parser.add_argument(
        "--predictions",
        nargs="+",
        default=[],
        metavar="[NAME=]FILE",
        help="files of joints (.txt, .mat, .npz, .json, .jsonl), of the same frames",
    )
    parser.add_argument(
        "--track", type=path_name, help="of --predictions alone; of a checkpoint it is known"
    )
    parser.add_argument(
        "--labels",
        type=path_name,
        help="ground truth for --predictions alone (default: the data set's)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Draw one figure and say where it lies."""
    from a2j_jax.evaluation.report import say_written
    from a2j_jax.figures.page import write_figure

    number = int(arguments.number)
    folder = _folder(arguments)
    name = f"figure_{number}"
    read = getattr(arguments, "predictions", [])
    inputs = [*map(str, named_files(read).values()), getattr(arguments, "labels", None) or ""]
    check_picture(str(folder / f"{name}.png"), inputs, overwrite=arguments.overwrite)
    for suffix in (".svg", ".json", ".csv"):
        # A CSV has no room for a mark.
        beside = folder / f"{name}.json" if suffix == ".csv" else None
        check_output(folder / (name + suffix), arguments.overwrite, inputs=inputs, beside=beside)
    say_written(write_figure(_DRAW[number](arguments), folder, name))
    return 0


def _figure_1(arguments: argparse.Namespace) -> "Figure":
    from a2j_jax.figures.anchor_figures import figure_1

    return figure_1(arguments.checkpoint, **_votes(arguments))


def _figure_3(arguments: argparse.Namespace) -> "Figure":
    from a2j_jax.figures.anchor_figures import figure_3

    return figure_3(
        arguments.checkpoint,
        split=arguments.split,
        data_dir=arguments.data_dir,
        command=arguments.command_line,
    )


def _figure_6(arguments: argparse.Namespace) -> "Figure":
    from a2j_jax.figures.anchor_figures import figure_6

    return figure_6(arguments.checkpoint, arguments.without, **_votes(arguments))


def _figure_7(arguments: argparse.Namespace) -> "Figure":
    from a2j_jax.figures.curves import figure_7, score_checkpoints, score_predictions
    from a2j_jax.track_files import find_track

    checkpoints = named_files(arguments.checkpoint, "--checkpoint")
    predictions = named_files(arguments.predictions)
    for name in checkpoints.keys() & predictions.keys():
        raise UserError(
            f"{name!r} names a checkpoint and a file of predictions: call one of them something else, NAME=FILE"
        )
    for path in predictions.values():  # before checkpoints are evaluated
        regular_file(path, "a file of joints")
    data = {"data_dir": arguments.data_dir, "split": arguments.split}
    if checkpoints:
        if arguments.labels or arguments.track:
            raise UserError(
                "--labels and --track go with --predictions alone, without --checkpoint"
            )
        scores = score_checkpoints(checkpoints, predictions, **data)
    elif predictions and arguments.track:
        track = find_track(arguments.track)
        scores = score_predictions(predictions, track, labels=arguments.labels, **data)
    else:
        raise UserError("figure 7 needs --checkpoint, or --predictions and --track")
    track_name = next(iter(scores.values())).track
    told = f"track {track_name}" + ("" if arguments.labels else f", split {arguments.split}")
    return figure_7(scores, told=told, command=arguments.command_line)


_DRAW = {1: _figure_1, 3: _figure_3, 6: _figure_6, 7: _figure_7}


def _votes(arguments: argparse.Namespace) -> dict:
    return {
        "joints": arguments.joints,
        "frames": arguments.frames,
        "split": arguments.split,
        "data_dir": arguments.data_dir,
        "min_weight": arguments.min_weight,
        "command": arguments.command_line,
    }


def _folder(arguments: argparse.Namespace) -> Path:
    if arguments.out is not None:
        return Path(arguments.out)
    given = arguments.checkpoint
    if isinstance(given, list):  # of figure 7
        given = next(iter(named_files(given, "--checkpoint").values()), ".")
    return Path(given) / "figures"


def _fraction(text: str) -> float:
    """An argparse type: a number from 0 up to, but not, 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to below 1")
    return value
