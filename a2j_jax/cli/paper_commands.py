"""`a2j reproduce` and `a2j figure`: the paper's tables and figures."""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from a2j_jax.cli.arguments import (
    Command,
    add_checkpoints,
    add_data_arguments,
    add_list,
    add_out,
    bounded,
    build_if_embedded,
    check_picture,
    named_files,
    path_name,
    whole,
)
from a2j_jax.config import Config, override
from a2j_jax.errors import UserError
from a2j_jax.files import check_output, regular_file

if TYPE_CHECKING:
    from a2j_jax.evaluation.scores import Scores
    from a2j_jax.pictures import Figure
    from a2j_jax.tools.reproduce import Job


# --- a2j reproduce

_REPRODUCE_EXAMPLES = """\
examples:
  a2j reproduce table7 --data nyu                                    # the paper's network and schedule
  a2j reproduce table7 --data synthetic_hand --budget hour           # on a laptop, without a download
  a2j reproduce table10 --data synthetic_body --budget hour --seeds 3
  a2j reproduce table8 --data synthetic_hand --budget smoke          # does everything run?
  a2j reproduce table9 --data itop_front --config.optim.batch_size=64

Tables 2 to 6 are A2J on one data set each; 7: what its parts are worth; 8: paradigms; 9: pre-training; 10: backbones.
Rows are configs (configs/table7/ and so on) that differ from the data set's by one thing. The same command resumes a
row that was interrupted and skips one that is done. The table goes to stderr and, as Markdown, HTML and
JSON, to --out. `--config.KEY=VALUE` sets a value for all rows; keys that define a row cannot be overridden.
"""
# What makes A2J another method: a row with one of them is none of the table's.
_OF_THE_ROWS = (
    "parts",
    "model.paradigm",
    "model.proposals",
    "model.one_branch",
    "loss.surrounding",
)


def _add_reproduce_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `a2j reproduce`."""
    add = parser.add_argument
    add("table", help="table2 to table10, or just the number")
    add(
        "--data",
        type=path_name,
        help="track to run it on: nyu, itop_front, k2hpd (table8), synthetic_hand or synthetic_body; tables 2 to 6 "
        "have their own (default: the paper's)",
    )
    add(
        "--budget",
        default="full",
        help="full: the paper's network and schedule (default); hour: a small network, about an hour of two CPU "
        "cores for a table; smoke: a few steps",
    )
    add("--seeds", type=whole(1, 1000), default=1, help="runs of every row (default: 1)")
    add_out(parser, "folder of the runs and the table (default: runs/TABLE-DATA-BUDGET)")
    add(
        "--split",
        help="to score in the end (default: test; where that has no labels, the one that ranks checkpoints)",
    )
    parser.set_defaults(config=None)  # takes --config.KEY=VALUE


def _run_reproduce(arguments: argparse.Namespace) -> None:
    """Reproduce a table."""
    from a2j_jax.cli.main import ends_within
    from a2j_jax.evaluation.report import log_written
    from a2j_jax.evaluation.tables import get_table
    from a2j_jax.runs.experiment import resolve
    from a2j_jax.tools import reproduce
    from a2j_jax.training.loop import SOMETHING_TO_SAVE

    table, data = get_table(arguments.table, arguments.data)
    base = reproduce.base_config(data, arguments.budget)
    for key, text in arguments.overrides:
        if key == "track":
            raise UserError(f"--config.track={text}: --data names the track of a table")
        if key in _OF_THE_ROWS:
            raise UserError(
                f"--config.{key}={text}: the rows of Tables 7 and 8 set this key, and A2J is the same in all; "
                f"a2j train --config {data} trains any other network"
            )
        base = override(base, key, text)
    out = Path(arguments.out or f"runs/{table.name}-{data}-{arguments.budget}")
    for suffix in (".md", ".html", ".json"):
        check_output(out / f"{table.name}{suffix}", arguments.overwrite)
    todo = list(reproduce.jobs(table, base, arguments.seeds, out))
    _check_taken(arguments.overrides, base, todo)
    with ends_within(unless=SOMETHING_TO_SAVE.is_set):
        how = {"pdj": table.pdj, "split": arguments.split, "command": arguments.command_line}
        run_one = partial(reproduce.run, **how)
        results, skipped = reproduce.run_all(todo, run_one, build_if_embedded)
    contents = reproduce.result_table(table, resolve(base).track, results, skipped)
    reproduce.print_results(contents)
    log_written(reproduce.write_table(contents, results, out, table.name, arguments.command_line))


def _check_taken(overrides: Sequence[tuple[str, str]], base: Config, todo: "Sequence[Job]") -> None:
    """No value is asked for that every row replaces by its own."""
    for key, text in overrides:
        value = attrgetter(key)
        # Seeds count up from the base's.
        if all(value(job.config) != value(base) for job in todo):
            found = ", ".join(str(x) for x in dict.fromkeys(value(job.config) for job in todo))
            raise UserError(
                f"--config.{key}={text}: every row replaces this value; theirs: {found}"
            )


REPRODUCE = Command(
    "Run one of the paper's tables: train its rows, score them, and write the table with the paper's numbers.",
    _REPRODUCE_EXAMPLES,
    _add_reproduce_arguments,
    _run_reproduce,
)


# --- a2j figure

_FIGURE_EXAMPLES = """\
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


def _add_figure_arguments(parser: argparse.ArgumentParser) -> None:
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


def _run_figure(arguments: argparse.Namespace) -> None:
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


FIGURE = Command(
    "Draw a figure of the paper from trained checkpoints, and write down the numbers in it.",
    _FIGURE_EXAMPLES,
    _add_figure_arguments,
    _run_figure,
)
