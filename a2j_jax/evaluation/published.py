"""The paper's numbers: Tables 2 to 10 and Sec. 4.4; and apart from them, what others computed later.

They are in `published.json` beside this module, as printed: millimeters, percent, frames per second. Where the
paper contradicts itself or the authors' files, both numbers are there and a note says so.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from operator import attrgetter
from typing import Any, NamedTuple

from a2j_jax.config import Config
from a2j_jax.config_files import load_config
from a2j_jax.errors import UserError, did_you_mean
from a2j_jax.files import parse_json


class Column(NamedTuple):
    """One column of a published table.

    Attributes:
        key: its name in `PublishedRow.values`.
        label: to print, with the unit.
        ours: where `Scores.to_json` has the same number, a dot between nested keys; "" if nowhere.
        scale: from ours to the table's unit (100: fractions to percent).
    """

    key: str
    label: str
    ours: str = ""
    scale: float = 1.0

    def measured(self, scores: Mapping[str, Any]) -> float | None:
        """The number in `Scores.to_json()`, in the table's unit; None where it was not measured."""
        found = lookup(scores, self.ours) if self.ours else None
        return None if found is None else found * self.scale


class PublishedRow(NamedTuple):
    """One method's numbers.

    Attributes:
        method: its name.
        values: column key → number, in the table's unit; a key is missing where the table has a dash.
        source: of all of them.
    """

    method: str
    values: Mapping[str, float]
    source: str


@dataclass(frozen=True)
class PublishedTable:
    """The paper's table of a track.

    Attributes:
        paper_table: number of the table in the A2J paper.
        title: what is measured.
        columns: in the paper's order.
        rows: all of the paper's, in its order: A2J last.
        later: rows that are not the paper's, each with its source; the weakest method first.
        notes: where the table contradicts itself or other files, a sentence each.
        source: of the paper's rows.
    """

    paper_table: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[PublishedRow, ...]
    later: tuple[PublishedRow, ...]
    notes: tuple[str, ...]
    source: str

    @property
    def headline(self) -> tuple[Column, float]:
        """A2J's number by the protocol of the track."""
        keys = ("mean_error_mm", "map_10cm", "pdj_mean")
        column = next(column for column in self.columns if column.key in keys)
        return column, self.rows[-1].values[column.key]

    @property
    def told(self) -> str:
        """The headline in words."""
        column, value = self.headline
        return f"A2J in the paper: {column.label} {value} (Table {self.paper_table})"

    def ours(self, method: str, scores: Mapping[str, Any]) -> PublishedRow:
        """Our row of this table, from `Scores.to_json()`; columns we do not measure are missing."""
        found = {column.key: column.measured(scores) for column in self.columns}
        values = {key: value for key, value in found.items() if value is not None}
        return PublishedRow(method, values, "this evaluation")


class PublishedSpeed(NamedTuple):
    """A2J's speed (Sec. 4.4), its two parts in ms, and the device."""

    fps: float
    read_and_warp_ms: float
    forward_and_post_ms: float
    device: str


def published_table(track: str) -> PublishedTable | None:
    """The paper's table (2 to 6) of a track; None for rendered tracks and the user's own data."""
    table, sources = _contents()["tables"].get(track), _contents()["sources"]
    if table is None:
        return None
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
        source=paper,
    )


def published_speed(track: str) -> PublishedSpeed | None:
    """A2J's speed on hands or bodies (Sec. 4.4); None where the paper has no table of the track."""
    table, speed = _contents()["tables"].get(track), _contents()["speed"]
    return table and PublishedSpeed(**speed[table["subject"]], device=speed["device"])


def lookup(scores: Mapping[str, Any], path: str) -> float | None:
    """A number in `Scores.to_json()`, at any depth; the last key may hold a dot itself ("pdj.0.05").

    None where it was not measured: no torso in any frame, say.
    """
    if path in scores:
        return None if scores[path] is None else float(scores[path])
    first, _, rest = path.partition(".")
    inner = scores.get(first)
    return lookup(inner, rest) if rest and isinstance(inner, Mapping) else None


@functools.cache
def _contents() -> dict[str, Any]:
    text = resources.files("a2j_jax.evaluation").joinpath("published.json").read_bytes()
    contents: dict[str, Any] = parse_json(text, "published.json")
    return contents


@dataclass(frozen=True)
class Row:
    """One row of a table that `a2j reproduce` runs.

    Attributes:
        table: its name, "table7".
        name: of the row's folder, and of its config below the table's; "a2j" for the base itself.
        label: the paper's name for it.
        differs: the key of a config, and its value, that make it this row and not A2J; None: it is A2J.
        values: track → column key → the paper's number of this row.
    """

    table: str
    name: str
    label: str
    differs: tuple[str, Any] | None = None
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict, hash=False)

    @property
    def config(self) -> str | None:
        """Name of the config file that makes it of a base; None: the base itself."""
        return None if self.name == "a2j" else f"{self.table}/{self.name}"

    def config_on(self, base: Config) -> Config:
        """The config of a run of this row, made from a base."""
        return base if self.config is None else load_config(self.config, base)

    def published(self, track: str) -> dict[str, float]:
        """The paper's numbers of this row on a track, column key → number: for A2J, those of its other tables too."""
        values = dict(self.values.get(track, {}))
        of_track, speed = published_table(track), published_speed(track)
        if self.differs is None and of_track is not None and speed is not None:
            return {"fps": speed.fps, **of_track.rows[-1].values, **values}
        return values


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper that `a2j reproduce` runs.

    Attributes:
        name: "table7".
        title: what it shows.
        rows: in the paper's order.
        data: tracks it can be run on, the paper's first.
        pdj: whether PDJ is measured whatever the track's own protocol is, where the skeleton has a torso.
        notes: track → what must be known about the paper's numbers.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    data: tuple[str, ...]
    pdj: bool = False
    notes: Mapping[str, str] = field(default_factory=dict)

    def has_rows_on(self, track: str) -> bool:
        """Whether the paper has numbers of single rows (Tables 7 to 10) on a track."""
        return any(track in row.values for row in self.rows)


def _paper_table(name: str, contents: dict[str, Any]) -> PaperTable:
    rows = []
    for row in contents.pop("rows"):
        differs = tuple(row.pop("differs", ())) or None
        rows.append(Row(name, differs=differs, **row))
    return PaperTable(name, rows=tuple(rows), **{**contents, "data": tuple(contents["data"])})


TABLES = {name: _paper_table(name, dict(one)) for name, one in _contents()["paper_tables"].items()}


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
    """Find the rows of Tables 7 to 10 that a network is, table → row: A2J is one of each, another network one at most.

    Args:
        config: of the network.
        trained_here: False: weights of an unknown start, which are no row of Table 9.
    """
    rows = [row for table in TABLES.values() if len(table.rows) > 1 for row in table.rows]
    others = {
        row.table: row.name
        for row in rows
        if row.differs is not None
        and attrgetter(row.differs[0])(config) == row.differs[1]
        and (trained_here or row.table != "table9")
    }
    if others:
        return others if len(others) == 1 else {}
    return {row.table: row.name for row in rows if row.differs is None}
