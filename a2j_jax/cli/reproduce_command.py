"""Run one of the paper's tables: train its rows, score them, and write the table with the paper's numbers."""

import argparse
from collections.abc import Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from a2j_jax.cli.arguments import add_out, build_if_embedded, path_name, whole
from a2j_jax.config import Config, override
from a2j_jax.errors import UserError
from a2j_jax.files import check_output

if TYPE_CHECKING:
    from a2j_jax.tools.reproduce import Job

EXAMPLES = """\
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
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


def run(arguments: argparse.Namespace) -> None:
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
