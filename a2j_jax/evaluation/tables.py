"""The tables of an evaluation, as text: the terminal and the HTML report show the same ones."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console

from a2j_jax import log
from a2j_jax.errors import in_words, printable
from a2j_jax.evaluation import published
from a2j_jax.evaluation.paper_tables import TABLES
from a2j_jax.evaluation.scores import CURVE_LIMIT, Scores

ABSENT = "–"  # a number that is not known
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
    lines = [
        tuple(map(_literal, table.columns)),
        tuple("---" for _ in table.columns),
        *(tuple(map(_literal, row)) for row in table.rows),
    ]
    rows = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
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


def score_tables(scores: Mapping[str, Scores]) -> tuple[list[Table], list[Table]]:
    """Every table of a comparison: (of all joints together, joint by joint), the track's protocol last."""
    first = next(iter(scores.values()))
    together, by_joint = [main_table(scores)], [joints_table(scores)]
    if first.map_10cm is not None:
        together.append(map_table(scores))
    if first.pdj is not None:
        together.append(pdj_table(scores))
    protocol = protocol_by_joint(scores)
    if protocol is not None:
        title, values = protocol
        rows = [
            (in_words(joint), *(percent(numbers[k], 2) for numbers in values.values()))
            for k, joint in enumerate(first.joint_names)
        ]
        by_joint.append(Table(f"{title} of each joint", ("", *values), tuple(rows)))
    return together, by_joint


def protocol_by_joint(
    scores: Mapping[str, Scores],
) -> tuple[str, dict[str, tuple[float, ...]]] | None:
    """The number of the track's own protocol: its name, and method → its K joints, then all together.

    Fractions; None on a track whose protocol is the mean error.
    """
    found: dict[str, tuple[float, ...]] = {}
    title = ""
    for name, one in scores.items():
        if one.map_10cm is not None:
            title, found[name] = "mAP@10 cm", (*one.map_10cm.per_joint, one.map_10cm.mean)
        elif one.pdj is not None:
            title, found[name] = "mean PDJ", (*one.pdj.mean_per_joint, one.pdj.mean)
    return (title, found) if found else None


def main_table(scores: Mapping[str, Scores]) -> Table:
    """Mean error, success rates and areas under the success curves, a column per method."""
    first = next(iter(scores.values()))
    rows = [_row(f"mean error ({first.unit})", scores, lambda s: number(s.mean_error))]
    for name, some in first.subsets.items():
        label = f"mean error, {name} ({some.frames:,} frames)"
        rows.append(_row(label, scores, lambda s, n=name: number(s.subsets[n].mean_error)))
    for threshold in first.success_rate:
        label = f"frames with worst joint < {threshold:g} {first.unit}"
        rows.append(_row(label, scores, lambda s, t=threshold: percent(s.success_rate[t])))
    for kind, area in (
        ("worst", lambda s: s.success_auc),
        ("mean", lambda s: s.success_auc_mean_joint),
    ):
        label = f"AUC 0–{CURVE_LIMIT:g} {first.unit} by {kind} joint"
        rows.append(_row(label, scores, lambda s, area=area: percent(area(s))))
    title = f"{first.track} · {frames_told(first)}"
    return Table(title, ("", *scores), tuple(rows), frozenset({0}))


def joints_table(scores: Mapping[str, Scores]) -> Table:
    """Mean error of every joint, a column per method."""
    first = next(iter(scores.values()))
    rows = [
        _row(in_words(joint), scores, lambda s, k=k: number(s.per_joint[k]))
        for k, joint in enumerate(first.joint_names)
    ]
    return Table(f"Mean error of each joint ({first.unit})", ("", *scores), tuple(rows))


def map_table(scores: Mapping[str, Scores]) -> Table:
    """ITOP's protocol: mAP@10 cm over all joints, and of Table 5's groups (left and right pooled)."""
    first = next(iter(scores.values())).map_10cm
    assert first is not None
    rows = [_row("all joints", scores, lambda s: percent(s.map_10cm.mean, 2))]
    for group in first.groups:
        label = group.replace("_", " ")
        rows.append(_row(label, scores, lambda s, g=group: percent(s.map_10cm.groups[g], 2)))
    return Table("mAP@10 cm", ("", *scores), tuple(rows), frozenset({0}))


def pdj_table(scores: Mapping[str, Scores]) -> Table:
    """K2HPD's protocol: PDJ at its ratios of the torso diameter, and their mean."""
    first = next(iter(scores.values())).pdj
    assert first is not None
    rows = [_row("mean", scores, lambda s: percent(s.pdj and s.pdj.mean, 2))]
    for ratio in first.at:
        label = f"at {ratio:.2f} of the torso"
        rows.append(_row(label, scores, lambda s, r=ratio: percent(s.pdj and s.pdj.at[r], 2)))
    title = "PDJ: joints nearer than a ratio of the torso diameter"
    return Table(title, ("", *scores), tuple(rows), frozenset({0}))


def paper_table(track: str, scores: Mapping[str, Scores]) -> Table | None:
    """The paper's table of a track with ours below it; None where the paper has none.

    Methods are the rows or, where more is measured than fits side by side, the columns.
    """
    table = published.published_table(track)
    if table is None:
        return None
    theirs = {row.method for row in table.rows}
    # The paper's table has an A2J, too.
    names = {name: f"{name} (here)" if name in theirs else name for name in scores}
    ours = [table.ours(names[name], one.to_json()) for name, one in scores.items()]
    rows = [_published_row(row, table.columns) for row in table.rows]
    rows += [
        (row.method, *(_cell(row.values.get(c.key), ".2f") for c in table.columns)) for row in ours
    ]
    title = f"Table {table.paper_table} of the paper: {table.title}"
    notes = (f"{table.source}.", *table.notes)
    columns = ("", *(column.label for column in table.columns))
    if len(columns) <= _SIDE_BY_SIDE:
        strong = frozenset(range(len(table.rows), len(rows)))
        return Table(title, columns, tuple(rows), strong, notes)
    heads, *turned = zip(columns, *rows, strict=True)
    return Table(title, heads, tuple(turned), notes=notes)


def later_table(track: str) -> Table | None:
    """What others published or computed later of the same methods and of newer ones; None where that is nothing."""
    table = published.published_table(track)
    if table is None or not table.later:
        return None
    columns = [c for c in table.columns if any(c.key in row.values for row in table.later)]
    rows = tuple(_published_row(row, columns) for row in table.later)
    sources = tuple(dict.fromkeys(f"{row.source}." for row in table.later))
    heads = ("", *(column.label for column in columns))
    return Table(f"Not in the paper: {table.title}", heads, rows, notes=sources)


def rows_table(track: str, own: Mapping[str, str], name: str, scores: Scores) -> Table | None:
    """The paper's Tables 7 to 10 on a track, ours beside the rows that a network is; None where the paper has none.

    Args:
        track: its name.
        own: table → name of the row that the network is (`paper_tables.rows_of`).
        name: of the network.
        scores: of the network.
    """
    of_track = published.published_table(track)
    there = [
        (table.name, row)
        for table in TABLES.values()
        for row in table.rows
        if row.name in published.published_rows(table.name, track)
    ]
    if of_track is None or not there:
        return None
    values = [
        published.row_values(table, row.name, track, is_a2j=row.is_a2j) for table, row in there
    ]
    # One number measures all rows of a track.
    column = next(c for c in of_track.columns if all(c.key in some for some in values))
    found = published.lookup(scores.to_json(), column.ours)
    ours = _cell(None if found is None else found * column.scale, ".2f")
    strong = frozenset(i for i, (table, row) in enumerate(there) if own.get(table) == row.name)
    columns = {
        "": [f"Table {table.removeprefix('table')}: {row.label}" for table, row in there],
        f"paper: {column.label}": as_printed([some[column.key] for some in values]),
        "paper: frames/s": as_printed([some.get("fps") for some in values]),
    }
    if strong:
        columns[f"{name}: {column.label}"] = [
            ours if i in strong else ABSENT for i in range(len(there))
        ]
    notes = dict.fromkeys(filter(None, (published.row_note(table, track) for table, _ in there)))
    rows = tuple(zip(*columns.values(), strict=True))
    return Table("Rows of the paper's Tables 7 to 10", tuple(columns), rows, strong, tuple(notes))


def as_printed(values: Sequence[float | None]) -> list[str]:
    """A column of published numbers with as many decimals as the paper prints; dashes for what it does not have."""
    known = [f"{value:g}".partition(".")[2] for value in values if value is not None]
    decimals = max(map(len, known), default=0)
    return [_cell(value, f".{decimals}f") for value in values]


def _published_row(
    row: published.PublishedRow, columns: Sequence[published.Column]
) -> tuple[str, ...]:
    """Values as they are printed: 88.0, and 48 frames/s."""
    cells = (_cell(row.values.get(c.key), "g" if c.key == "fps" else "") for c in columns)
    return (row.method, *cells)


def _cell(value: float | None, digits: str) -> str:
    return ABSENT if value is None else format(value, digits)


def frames_told(scores: Scores) -> str:
    """How many frames were scored, and of how many if not all: `3 of 8,252 frames`."""
    total = scores.frames_of
    of = f" of {total:,}" if total is not None and total > scores.frames else ""
    return f"{scores.frames:,}{of} frames"


def number(value: float) -> str:
    """Two decimals, or a dash for what is not known."""
    return f"{value:.2f}" if np.isfinite(value) else ABSENT


def percent(fraction: float | None, decimals: int = 1) -> str:
    """A fraction as a percentage, or a dash for what is not known."""
    known = fraction is not None and np.isfinite(fraction)
    return f"{fraction:.{decimals}%}" if known else ABSENT


def _row(label: str, scores: Mapping[str, Scores], value: Callable[..., Any]) -> tuple[str, ...]:
    return (label, *(value(one) for one in scores.values()))
