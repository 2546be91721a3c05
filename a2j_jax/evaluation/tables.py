"""The tables of an evaluation, as text: the terminal and the HTML report show the same ones."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console

from a2j_jax import log
from a2j_jax.errors import in_words, printable
from a2j_jax.evaluation.published import TABLES, Column, PublishedRow, published_table
from a2j_jax.evaluation.scores import CURVE_LIMIT, Scores

ABSENT = "–"  # a number that is unknown
# Published methods are listed in rows where a table has no more columns than this.
_SIDE_BY_SIDE = 6


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Attributes:
        title: what the table is.
        columns: heads; the first, of the row labels, is often empty.
        rows: a label, then one text per column.
        strong: numbers of the rows to be set off.
        notes: sentences below.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


def markdown(table: Table) -> str:
    """A table as Markdown, its title above and its notes below."""
    lines = [table.columns, ("---",) * len(table.columns), *table.rows]
    rows = "\n".join("| " + " | ".join(map(_literal, cells)) + " |" for cells in lines)
    notes = "".join(f"\n{printable(note)}\n" for note in table.notes)
    return f"**{_literal(table.title)}**\n\n{rows}\n{notes}"


def print_table(
    table: Table, console: Console | None = None, head_width: int | None = None, **style: Any
) -> None:
    """Prints a table, every row on one line, and its notes.

    Args:
        table: what to print.
        console: where to; stderr by default.
        head_width: of all columns but the first; longer heads wrap.
        style: of `rich.table.Table`.
    """
    printed = log.PlainTable(table.title, **style)
    for place, column in enumerate(table.columns):
        if place:
            printed.add_column(
                column, justify="right", min_width=head_width, max_width=head_width, overflow="fold"
            )
        else:
            printed.add_column(column, no_wrap=True)
    for place, row in enumerate(table.rows):
        printed.add_row(*row, style="bold" if place in table.strong else None)
    log.print_table(printed, console)
    for note in table.notes:
        (console or log.console).print(log.plain(note))


def _literal(text: str) -> str:
    """Text that Markdown leaves alone: no end of a cell, HTML, formula or code in it."""
    return re.sub(r"[|$`\\]|<(?=[A-Za-z/!])", r"\\\g<0>", printable(text))


def number(value: float) -> str:
    """Two decimals, or a dash for an unknown number."""
    return f"{value:.2f}" if np.isfinite(value) else ABSENT


def percent(fraction: float | None, decimals: int = 1) -> str:
    """A fraction as a percentage, or a dash for an unknown one."""
    known = fraction is not None and np.isfinite(fraction)
    return f"{fraction:.{decimals}%}" if known else ABSENT


def score_tables(scores: Mapping[str, Scores]) -> tuple[list[Table], list[Table]]:
    """Every table of a comparison: (of all joints together, joint by joint), the track's protocol last."""
    first, *_ = every = list(scores.values())
    unit, columns = first.unit, ("", *scores)
    rows = [(f"mean error ({unit})", *(number(s.mean_error) for s in every))]
    for name, some in first.subsets.items():
        label = f"mean error, {name} ({some.frames:,} frames)"
        rows.append((label, *(number(s.subsets[name].mean_error) for s in every)))
    for limit in first.success_rate:
        label = f"frames with worst joint < {limit:g} {unit}"
        rows.append((label, *(percent(s.success_rate[limit]) for s in every)))
    auc = f"AUC 0–{CURVE_LIMIT:g} {unit} by"
    rows.append((f"{auc} worst joint", *(percent(s.success_auc) for s in every)))
    rows.append((f"{auc} mean joint", *(percent(s.success_auc_mean_joint) for s in every)))
    title = f"{first.track} · {first.frames_told}"
    together = [Table(title, columns, tuple(rows), frozenset({0}))]

    joints = [in_words(joint) for joint in first.joint_names]
    rows = [(name, *(number(s.per_joint[k]) for s in every)) for k, name in enumerate(joints)]
    by_joint = [Table(f"Mean error of each joint ({unit})", columns, tuple(rows))]

    if first.protocol is not None:
        title, found = first.protocol.title, [s.protocol for s in every]
        rows = [("all joints", *(percent(p.mean if p else None, 2) for p in found))]
        for part in first.protocol.parts:
            rows.append((part, *(percent(p.parts[part] if p else None, 2) for p in found)))
        together.append(Table(title, columns, tuple(rows), frozenset({0})))
        rows = [
            (name, *(percent(p.per_joint[k] if p else None, 2) for p in found))
            for k, name in enumerate(joints)
        ]
        by_joint.append(Table(f"{title} of each joint", columns, tuple(rows)))
    return together, by_joint


def paper_table(track: str, scores: Mapping[str, Scores]) -> Table | None:
    """The paper's table of a track with ours below it; None where the paper has none.

    Methods are the rows or, where more is measured than fits side by side, the columns.
    """
    table = published_table(track)
    if table is None:
        return None
    rows = [_published_cells(row, table.columns) for row in table.rows]
    theirs = {row.method for row in table.rows}
    for name, one in scores.items():
        # The paper's table has an A2J, too.
        ours = table.ours(f"{name} (here)" if name in theirs else name, one.to_json())
        cells = (_cell(ours.values.get(column.key), ".2f") for column in table.columns)
        rows.append((ours.method, *cells))
    title = f"Table {table.paper_table} of the paper: {table.title}"
    notes = (f"{table.source}.", *table.notes)
    columns = ("", *(column.label for column in table.columns))
    if len(columns) <= _SIDE_BY_SIDE:
        strong = frozenset(range(len(table.rows), len(rows)))
        return Table(title, columns, tuple(rows), strong, notes)
    heads, *turned = zip(columns, *rows, strict=True)
    return Table(title, heads, tuple(turned), notes=notes)


def later_table(track: str) -> Table | None:
    """Results that others published or computed later; None where there are none."""
    table = published_table(track)
    if table is None or not table.later:
        return None
    columns = [c for c in table.columns if any(c.key in row.values for row in table.later)]
    rows = tuple(_published_cells(row, columns) for row in table.later)
    sources = tuple(dict.fromkeys(f"{row.source}." for row in table.later))
    heads = ("", *(column.label for column in columns))
    return Table(f"Not in the paper: {table.title}", heads, rows, notes=sources)


def rows_table(track: str, own: Mapping[str, str], name: str, scores: Scores) -> Table | None:
    """The paper's Tables 7 to 10 on a track, ours beside the rows that a network is; None where the paper has none.

    Args:
        track: its name.
        own: table → name of the row that the network is (`published.rows_of`).
        name: of the network.
        scores: of the network.
    """
    of_track = published_table(track)
    tables = [table for table in TABLES.values() if table.has_rows_on(track)]
    rows = [row for table in tables for row in table.rows if track in row.values]
    if of_track is None or not rows:
        return None
    values = [row.published(track) for row in rows]
    # One number measures all rows of a track.
    column = next(c for c in of_track.columns if all(c.key in some for some in values))
    columns = {
        "": [f"Table {row.table.removeprefix('table')}: {row.label}" for row in rows],
        f"paper: {column.label}": as_printed([some[column.key] for some in values]),
        "paper: frames/s": as_printed([some.get("fps") for some in values]),
    }
    strong = frozenset(i for i, row in enumerate(rows) if own.get(row.table) == row.name)
    if strong:
        ours = _cell(column.measured(scores.to_json()), ".2f")
        columns[f"{name}: {column.label}"] = [
            ours if i in strong else ABSENT for i in range(len(rows))
        ]
    notes = dict.fromkeys(table.notes[track] for table in tables if track in table.notes)
    cells = tuple(zip(*columns.values(), strict=True))
    return Table("Rows of the paper's Tables 7 to 10", tuple(columns), cells, strong, tuple(notes))


def as_printed(values: Sequence[float | None]) -> list[str]:
    """A column of published numbers with as many decimals as the paper prints; dashes where it has none."""
    known = [f"{value:g}".partition(".")[2] for value in values if value is not None]
    decimals = max(map(len, known), default=0)
    return [_cell(value, f".{decimals}f") for value in values]


def _published_cells(row: PublishedRow, columns: Sequence[Column]) -> tuple[str, ...]:
    """Values as they are printed: 88.0, and 48 frames/s."""
    cells = (_cell(row.values.get(c.key), "g" if c.key == "fps" else "") for c in columns)
    return (row.method, *cells)


def _cell(value: float | None, digits: str) -> str:
    return ABSENT if value is None else format(value, digits)
