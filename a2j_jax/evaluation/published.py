"""Published numbers to put ours beside: the paper's Tables 2–6, as far as they have a source.

They live in `published.json` next to this module: per track the table's columns and rows, every
number with its source, and what could not be sourced. A number without a source is absent, never
guessed. Values are as printed: millimetres, percent, frames per second.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Column:
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


@dataclass(frozen=True)
class PublishedRow:
    """One method's numbers.

    Attributes:
        method: its name.
        values: column key → number, in the table's unit; a key that is missing has no source.
        sources: column key → where that number is from.
    """

    method: str
    values: Mapping[str, float]
    sources: Mapping[str, str]

    @property
    def source(self) -> str:
        """All sources of the row, each once."""
        return "; ".join(dict.fromkeys(self.sources.values()))


@dataclass(frozen=True)
class PublishedTable:
    """A track's published numbers.

    Attributes:
        track: name of the track.
        paper_table: number of the table in the A2J paper.
        title: what is measured.
        columns: in the paper's order.
        rows: the weakest method first, A2J last.
        absent: one sentence on what of the paper's table could not be sourced.
    """

    track: str
    paper_table: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[PublishedRow, ...]
    absent: str

    def ours(self, method: str, scores: Mapping[str, Any]) -> PublishedRow:
        """Our row of this table, from `Scores.to_json()`; columns we do not measure are missing."""
        found = {column: _lookup(scores, column.ours) for column in self.columns if column.ours}
        values = {
            column.key: value * column.scale for column, value in found.items() if value is not None
        }
        return PublishedRow(method, values, dict.fromkeys(values, "this evaluation"))


def published_rows(track: str) -> list[PublishedRow]:
    """Rows of the published table of a track, A2J last; empty where there is none."""
    table = published_table(track)
    return [] if table is None else list(table.rows)


def published_table(track: str) -> PublishedTable | None:
    """The published table of a track, or None (of the synthetic tracks, of the user's own data)."""
    contents = _read()
    table = contents["tables"].get(track)
    if table is None:
        return None
    return PublishedTable(
        track=track,
        paper_table=table["paper_table"],
        title=table["title"],
        columns=tuple(Column(**column) for column in table["columns"]),
        rows=tuple(_row(row, contents["sources"]) for row in table["rows"]),
        absent=table["absent"],
    )


@functools.cache
def _read() -> dict[str, Any]:
    text = resources.files("a2j_jax.evaluation").joinpath("published.json").read_text("utf-8")
    contents: dict[str, Any] = json.loads(text)
    return contents


def _row(row: Mapping[str, Any], sources: Mapping[str, str]) -> PublishedRow:
    """A row's source is one name for all its values, or one name per column."""
    named = row["source"]
    names = dict.fromkeys(row["values"], named) if isinstance(named, str) else named
    return PublishedRow(
        row["method"], row["values"], {key: sources[names[key]] for key in row["values"]}
    )


def _lookup(scores: Mapping[str, Any], path: str) -> float | None:
    """A number of nested dicts; the last key may itself hold a dot ("pdj.0.05")."""
    if path in scores:
        return float(scores[path])
    first, _, rest = path.partition(".")
    inner = scores.get(first)
    return _lookup(inner, rest) if rest and isinstance(inner, Mapping) else None
