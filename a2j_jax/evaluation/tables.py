"""Tables as text (the terminal, Markdown and the HTML report show the same ones), and the paper's numbers for them.

The numbers of Tables 2 to 10 and Sec. 4.4, and apart from them what others computed later, are in `published.json`
beside this module, as printed: millimeters, percent, frames per second. Where the paper contradicts itself or the
authors' files, the table has both numbers and a note.
"""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.text import Text

from a2j_jax import log
from a2j_jax.config import Config
from a2j_jax.config_files import load_config
from a2j_jax.errors import UserError, did_you_mean, in_words, printable
from a2j_jax.evaluation.scores import CURVE_LIMIT, FRAME_ERRORS, Scores
from a2j_jax.files import parse_json

ABSENT = "–"  # a number that is unknown
# Published methods are listed in rows where a table has no more columns than this.
_SIDE_BY_SIDE = 6


@dataclass(frozen=True)
class Table:
    """Rows of text."""

    title: str
    columns: tuple[str, ...]  # heads; the first, of the row labels, is often empty
    rows: tuple[tuple[str, ...], ...]  # a label, then one text per column
    strong: frozenset[int] = frozenset()  # numbers of the rows to be set off
    notes: tuple[str, ...] = ()  # sentences below

    def columns_at(self, first: int, end: int) -> "Table":
        """The row labels and some of the other columns."""
        rows = tuple((row[0], *row[first:end]) for row in self.rows)
        return replace(self, columns=(self.columns[0], *self.columns[first:end]), rows=rows)

    def turned(self) -> "Table":
        """The same with its rows as columns; none is set off."""
        heads, *rows = zip(self.columns, *self.rows, strict=True)
        return Table(self.title, heads, tuple(rows), notes=self.notes)


def markdown(table: Table) -> str:
    """A table as Markdown, its title above and its notes below."""
    lines = [table.columns, ("---",) * len(table.columns), *table.rows]
    rows = "\n".join("| " + " | ".join(map(_literal, cells)) + " |" for cells in lines)
    notes = "".join(f"\n{printable(note)}\n" for note in table.notes)
    return f"**{_literal(table.title)}**\n\n{rows}\n{notes}"


def _literal(text: str) -> str:
    """Text that Markdown leaves alone: no end of a cell, HTML, formula or code in it."""
    return re.sub(r"[|$`\\]|<(?=[A-Za-z/!])", r"\\\g<0>", printable(text))


def print_table(
    table: Table,
    console: Console | None = None,
    head_width: int | None = None,
    below: Sequence[Table] = (),
    **style: Any,
) -> None:
    """Print a table, every row on one line, and its notes.

    Args:
      table: what to print.
      console: where to; stderr by default.
      head_width: of all columns but the first; longer heads wrap.
      below: tables of the same columns, printed as further sections.
      style: of `rich.table.Table`.
    """
    console = console or log.console
    printed = log.PlainTable(table.title, **style)
    label, *heads = table.columns
    printed.add_column(label, no_wrap=True)
    for head in heads:
        printed.add_column(head, justify="right", max_width=head_width, overflow="fold")
    for part in (table, *below):
        if part is not table:
            printed.add_row(Text(part.title, style="italic"))
        for place, row in enumerate(part.rows):
            printed.add_row(*row, style="bold" if place in part.strong else None)
        printed.add_section()
    log.print_table(printed, console)
    for note in table.notes:
        console.print(log.plain(note))


def cell(value: float | None, digits: str = ".2f") -> str:
    """A number as text, or a dash where it is unknown."""
    return ABSENT if value is None or not np.isfinite(value) else format(value, digits)


def score_tables(scores: Mapping[str, Scores]) -> tuple[list[Table], list[Table]]:
    """Every table of a comparison: (of all joints together, joint by joint), the track's protocol last."""
    first, *_ = every = list(scores.values())
    unit, columns = first.unit, ("", *scores)
    joints = [in_words(joint) for joint in first.joint_names]

    def row(label: str, values: Iterable[float | None], digits: str = ".1%") -> tuple[str, ...]:
        return (label, *(cell(value, digits) for value in values))

    rows = [row(f"mean error ({unit})", (s.mean_error for s in every), ".2f")]
    for name, some in first.subsets.items():
        errors = [s.subsets[name].mean_error for s in every]
        rows.append(row(f"mean error, {name} ({some.frames:,} frames)", errors, ".2f"))
    for limit in first.success_rate["worst"]:
        rates = [s.success_rate["worst"][limit] for s in every]
        rows.append(row(f"frames with worst joint < {limit:g} {unit}", rates))
    for by in FRAME_ERRORS:
        areas = [s.success_auc[by] for s in every]
        rows.append(row(f"AUC 0–{CURVE_LIMIT:g} {unit} by {by} joint", areas))
    title = f"{first.track} · {first.frames_text}"
    together = [Table(title, columns, tuple(rows), frozenset({0}))]

    numbers = zip(*(s.per_joint for s in every), strict=True)
    rows = [row(name, values, ".2f") for name, values in zip(joints, numbers, strict=True)]
    by_joint = [Table(f"Mean error of each joint ({unit})", columns, tuple(rows))]

    if first.protocol is not None:
        title, found = first.protocol.title, [s.protocol for s in every]
        rows = [row("all joints", (p.mean if p else None for p in found), ".2%")]
        for part in first.protocol.parts:
            rows.append(row(part, (p.parts[part] if p else None for p in found), ".2%"))
        together.append(Table(title, columns, tuple(rows), frozenset({0})))
        rows = [
            row(name, (p.per_joint[k] if p else None for p in found), ".2%")
            for k, name in enumerate(joints)
        ]
        by_joint.append(Table(f"{title} of each joint", columns, tuple(rows)))
    return together, by_joint


# --- Tables 2 to 6 of the paper: methods on one track


class Column(NamedTuple):
    """One column of a published table."""

    key: str  # its name in `PublishedRow.values`
    label: str  # to print, with the unit
    ours: Sequence[str] = ()  # keys that lead to the same number in `Scores.to_json`
    scale: float = 1.0  # from ours to the table's unit (100: fractions to percent)

    def measured(self, scores: Mapping[str, Any]) -> float | None:
        """The number in `Scores.to_json()`, in the table's unit; None where it was not measured."""
        found: Any = scores if self.ours else None
        for key in self.ours:
            found = found.get(key) if isinstance(found, Mapping) else None
        return None if found is None else found * self.scale


class PublishedRow(NamedTuple):
    """One method: column key -> number, in the table's unit; a key is missing where the table has a dash."""

    method: str
    values: Mapping[str, float]
    source: str


class PublishedSpeed(NamedTuple):
    """A2J's speed on hands or bodies (Sec. 4.4), its two parts in ms, and the device."""

    fps: float
    read_and_warp_ms: float
    forward_and_post_ms: float
    device: str


@dataclass(frozen=True)
class PublishedTable:
    """The paper's table of a track."""

    paper_table: str  # its number
    title: str  # what is measured
    columns: tuple[Column, ...]  # in the paper's order
    rows: tuple[PublishedRow, ...]  # all of the paper's, in its order: A2J last
    later: tuple[PublishedRow, ...]  # results of others since then; the weakest method first
    notes: tuple[str, ...]  # where the table contradicts itself or other files, a sentence each
    speed: PublishedSpeed  # of A2J on the track's subject

    @property
    def headline(self) -> tuple[Column, float]:
        """A2J's number by the protocol of the track."""
        keys = ("mean_error_mm", "map_10cm", "pdj_mean")
        column = next(column for column in self.columns if column.key in keys)
        return column, self.rows[-1].values[column.key]

    @property
    def headline_text(self) -> str:
        """The headline in words."""
        column, value = self.headline
        return f"A2J in the paper: {column.label} {value} (Table {self.paper_table})"


def published_table(track: str) -> PublishedTable | None:
    """The paper's table (2 to 6) of a track; None for rendered tracks and the user's own data."""
    tables, sources, speed = (_contents()[name] for name in ("tables", "sources", "speed"))
    if track not in tables:
        return None
    table = tables[track]
    paper = f"Table {table['paper_table']} of the paper ({sources['paper']})"

    def rows(name: str) -> tuple[PublishedRow, ...]:
        return tuple(
            PublishedRow(row["method"], row["values"], sources.get(row.get("source"), paper))
            for row in table[name]
        )

    return PublishedTable(
        paper_table=table["paper_table"],
        title=table["title"],
        columns=tuple(Column(**column) for column in table["columns"]),
        rows=rows("rows"),
        later=rows("later"),
        notes=tuple(table["notes"]),
        speed=PublishedSpeed(**speed[table["subject"]], device=speed["device"]),
    )


@functools.cache
def _contents() -> dict[str, Any]:
    text = resources.files("a2j_jax.evaluation").joinpath("published.json").read_bytes()
    contents: dict[str, Any] = parse_json(text, "published.json")
    return contents


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
        measured = one.to_json()
        # The paper's table has an A2J, too.
        label = f"{name} (here)" if name in theirs else name
        rows.append((label, *(cell(column.measured(measured)) for column in table.columns)))
    title = f"Table {table.paper_table} of the paper: {table.title}"
    notes = (f"{table.rows[0].source}.", *table.notes)
    columns = ("", *(column.label for column in table.columns))
    strong = frozenset(range(len(table.rows), len(rows)))
    found = Table(title, columns, tuple(rows), strong, notes)
    return found if len(columns) <= _SIDE_BY_SIDE else found.turned()


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


def _published_cells(row: PublishedRow, columns: Sequence[Column]) -> tuple[str, ...]:
    """Values as they are printed: 88.0, and 48 frames/s."""
    cells = (cell(row.values.get(c.key), "g" if c.key == "fps" else "") for c in columns)
    return (row.method, *cells)


# --- Tables 2 to 10 as `a2j reproduce` runs them: networks on several tracks


@dataclass(frozen=True)
class Row:
    """One row of a table that `a2j reproduce` runs."""

    table: str  # its name, "table7"
    name: str  # of the row's folder, and of its config below the table's; "a2j" for the base itself
    label: str  # the paper's name for it
    # The key of a config, and its value, that make it this row and not A2J; None: it is A2J.
    differs: tuple[str, Any] | None = None
    # Track -> column key -> the paper's number of this row.
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict, hash=False)

    @property
    def config(self) -> str | None:
        """Name of the config file that makes it of a base; None: the base itself."""
        return None if self.name == "a2j" else f"{self.table}/{self.name}"

    def config_on(self, base: Config) -> Config:
        """The config of a run of this row, made from a base."""
        return base if self.config is None else load_config(self.config, base)

    def published(self, track: str) -> dict[str, float]:
        """The paper's numbers of this row on a track, column key -> number: for A2J, those of its other tables too."""
        values, of_track = self.values.get(track, {}), published_table(track)
        if self.differs is None and of_track is not None:
            return {"fps": of_track.speed.fps, **of_track.rows[-1].values, **values}
        return dict(values)


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper that `a2j reproduce` runs."""

    name: str  # "table7"
    title: str  # what it shows
    rows: tuple[Row, ...]  # in the paper's order
    data: tuple[str, ...]  # tracks it can be run on, the paper's first
    pdj: bool = False  # whether PDJ is measured whatever the track's protocol, where the skeleton has a torso
    notes: Mapping[str, str] = field(
        default_factory=dict
    )  # track -> what must be known about the paper's numbers


def _paper_table(name: str, contents: dict[str, Any]) -> PaperTable:
    rows = tuple(
        Row(name, **{**row, "differs": tuple(row.get("differs", ())) or None})
        for row in contents["rows"]
    )
    return PaperTable(name, **{**contents, "rows": rows, "data": tuple(contents["data"])})


TABLES = {name: _paper_table(name, one) for name, one in _contents()["paper_tables"].items()}


def get_table(name: str, data: str | None) -> tuple[PaperTable, str]:
    """A table by name ("table7" or "7"), and the track to run it on: the paper's, unless given.

    Raises:
      UserError: there is no such table, or it cannot be run on that track.
    """
    full = name if name.startswith("table") else f"table{name}"
    if full not in TABLES:
        meant = did_you_mean(full, TABLES)
        raise UserError(f"no table {name!r}{meant} (there are: {', '.join(TABLES)})")
    table = TABLES[full]
    data = data or table.data[0]
    if data not in table.data:
        meant = did_you_mean(data, table.data)
        raise UserError(f"{full} is run on one of {', '.join(table.data)}, not on {data!r}{meant}")
    return table, data


def row_values(table: str, row: str, track: str) -> dict[str, float]:
    """`Row.published` by name; empty where there is no such row."""
    return next((one.published(track) for one in TABLES[table].rows if one.name == row), {})


def rows_of(config: Config, *, trained_here: bool) -> dict[str, str]:
    """Find the rows of Tables 7 to 10 that a network is, table -> row: A2J is one of each, another network one at most.

    Without `trained_here`, weights have an unknown start and are no row of Table 9.
    """
    rows = [row for table in TABLES.values() if len(table.rows) > 1 for row in table.rows]
    if config.parts not in (None, *(row.differs[1] for row in rows if row.differs)):
        return {}  # somebody's own network is none of the paper's
    base, others = {}, {}
    for row in rows:
        if row.differs is None:
            base[row.table] = row.name
        elif attrgetter(row.differs[0])(config) == row.differs[1]:
            others[row.table] = row.name
    if not trained_here:
        others.pop("table9", None)
    return base if not others else others if len(others) == 1 else {}


def rows_table(track: str, own: Mapping[str, str], name: str, scores: Scores) -> Table | None:
    """The paper's Tables 7 to 10 on a track, ours beside the rows that a network is; None where the paper has none.

    `own`, of `rows_of`, are the rows; `name` and `scores` are the network's.
    """
    of_track = published_table(track)
    rows = [row for table in TABLES.values() for row in table.rows if track in row.values]
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
        ours = cell(column.measured(scores.to_json()))
        of_ours = [ours if i in strong else ABSENT for i in range(len(rows))]
        columns[f"{name}: {column.label}"] = of_ours
    all_notes = [TABLES[row.table].notes for row in rows]
    notes = dict.fromkeys(some[track] for some in all_notes if track in some)
    cells = tuple(zip(*columns.values(), strict=True))
    return Table("Rows of the paper's Tables 7 to 10", tuple(columns), cells, strong, tuple(notes))


def as_printed(values: Sequence[float | None]) -> list[str]:
    """A column of published numbers with as many decimals as the paper prints; dashes where it has none."""
    known = [f"{value:g}".partition(".")[2] for value in values if value is not None]
    decimals = max(map(len, known), default=0)
    return [cell(value, f".{decimals}f") for value in values]
