"""Draw a figure of the paper from trained checkpoints, and write down the numbers in it."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from a2j_jax.cli.arguments import (
    add_checkpoints,
    add_data_arguments,
    add_list,
    add_out,
    bounded,
    check_picture,
    named_files,
    path_name,
    whole,
)
from a2j_jax.errors import UserError
from a2j_jax.files import check_output, regular_file

if TYPE_CHECKING:
    from a2j_jax.evaluation.scores import Scores
    from a2j_jax.pictures import Figure

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
lists the options of each.
"""
_SHOWS = {
    1: "the main idea: a joint's informative anchors, and their offsets",
    3: "the anchor grid on a crop",
    6: "informative anchors without and with the surrounding loss",
    7: "success curves and errors per joint, several methods side by side",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `a2j figure`."""
    figures = parser.add_subparsers(dest="number", metavar="{1,3,6,7}", required=True)
    usages = []
    for number, text in _SHOWS.items():
        one = figures.add_parser(str(number), help=text, description=text, allow_abbrev=False)
        _add_options(one, number)
        usages.append(one.format_usage().replace("usage: ", " " * len("usage: ")))
    # Options differ between figures: list all of them at once.
    parser.usage = "".join(usages).strip().replace("%", "%%")


def _add_options(parser: argparse.ArgumentParser, number: int) -> None:
    add = parser.add_argument
    if number == 7:
        runs = "run directories or converted checkpoints, each with a name for the legend (default: the folder's)"
        add_checkpoints(parser, runs)
        files = "files of joints (.txt, .mat, .npz, .json, .jsonl), of the same frames"
        add_list(parser, "--predictions", metavar="[NAME=]FILE", help=files)
        add("--track", type=path_name, help="of --predictions alone; a checkpoint has its own")
        truth = "ground truth for --predictions alone (default: the data set's)"
        add("--labels", type=path_name, help=truth)
    else:
        run = "a run directory, or what `a2j convert` made"
        add("--checkpoint", type=path_name, required=True, help=run)
    if number == 6:
        without = (
            "a run directory, trained without the surrounding loss (default: that row of the table that "
            "--checkpoint is a row of)"
        )
        add("--without", type=path_name, help=without)
    if number in (1, 6):
        joints = "names of joints (default: three of them)"
        add("--joints", nargs="+", action="extend", metavar="JOINT", help=joints)
        add("--frames", type=whole(1, 100), default=3, help="how many, evenly spaced (default: 3)")
        weights = bounded(float, 0.0, 0.999999)
        informative = "an anchor with a larger weight is informative (default: 0.02)"
        add("--min_weight", type=weights, default=0.02, help=informative)
    add_data_arguments(parser, "the one trained on")
    beside = "first checkpoint's folder, or in this one" if number == 7 else "checkpoint's"
    add_out(parser, f"folder for the files (default: figures, in the {beside})")


def run(arguments: argparse.Namespace) -> None:
    """Draw one figure and log where its files are."""
    from a2j_jax.evaluation.report import log_written
    from a2j_jax.pictures import write_figure

    folder, name = _folder(arguments), f"figure_{arguments.number}"
    read = named_files(getattr(arguments, "predictions", []))
    inputs = [*map(str, read.values()), getattr(arguments, "labels", None) or ""]
    check_picture(str(folder / f"{name}.png"), inputs, overwrite=arguments.overwrite)
    for suffix in (".svg", ".json", ".csv"):
        # A CSV has no room for a mark.
        beside = folder / f"{name}.json" if suffix == ".csv" else None
        check_output(folder / (name + suffix), arguments.overwrite, inputs=inputs, beside=beside)
    log_written(write_figure(_drawn(arguments), folder, name))


def _drawn(arguments: argparse.Namespace) -> "Figure":
    from a2j_jax.figures import anchor_figures
    from a2j_jax.figures.anchor_figures import Choice

    number, command = int(arguments.number), arguments.command_line
    if number == 7:
        return _figure_7(arguments)
    checkpoint, data = arguments.checkpoint, (arguments.split, arguments.data_dir)
    if number == 3:
        return anchor_figures.figure_3(checkpoint, *data, command)
    choice = Choice(arguments.joints, arguments.frames, *data, arguments.min_weight)
    if number == 1:
        return anchor_figures.figure_1(checkpoint, choice, command)
    return anchor_figures.figure_6(checkpoint, arguments.without, choice, command)


def _figure_7(arguments: argparse.Namespace) -> "Figure":
    from a2j_jax.evaluation.compare import compared_files, fitting_track
    from a2j_jax.figures.curves import figure_7, score_checkpoints
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
            raise UserError("--labels and --track go with --predictions, without --checkpoint")
        scores: Mapping[str, Scores] = score_checkpoints(checkpoints, predictions, **data)
    elif predictions and arguments.track:
        track, labels = find_track(arguments.track), arguments.labels
        if labels:
            data["data_dir"] = None
        elif not arguments.data_dir:
            raise UserError("--predictions need --labels, --data_dir or --checkpoint to score by")
        else:
            track = fitting_track(track, predictions, arguments.data_dir)
        scores = compared_files(predictions, track, labels=labels, **data).scores
    else:
        raise UserError("figure 7 needs --checkpoint, or --predictions and --track")
    source = f"track {next(iter(scores.values())).track}" + (
        "" if arguments.labels else f", split {arguments.split}"
    )
    return figure_7(scores, source=source, command=arguments.command_line)


def _folder(arguments: argparse.Namespace) -> Path:
    if arguments.out is not None:
        return Path(arguments.out)
    given = arguments.checkpoint
    if isinstance(given, list):  # of figure 7
        given = next(iter(named_files(given, "--checkpoint").values()), ".")
    return Path(given) / "figures"
