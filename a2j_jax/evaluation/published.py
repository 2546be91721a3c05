"""Numbers to put ours beside: Tables 2 to 10 and Sec. 4.4 of the paper, and apart from them what others computed later.

They live in `published.json` next to this module, as printed: millimeters, percent, frames per second. Where the
paper contradicts itself or the authors' files, both numbers are there and a note says so.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

from a2j_jax.files import parse_json


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
        track: name of the track.
        paper_table: number of the table in the A2J paper.
        title: what is measured.
        columns: in the paper's order.
        rows: all of the paper's, in its order: A2J last.
        later: rows that are not the paper's, each with its source; the weakest method first.
        notes: where the table contradicts itself or other files, a sentence each.
        source: of the paper's rows.
    """

    track: str
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
        found = {column: lookup(scores, column.ours) for column in self.columns if column.ours}
        values = {
            column.key: value * column.scale for column, value in found.items() if value is not None
        }
        return PublishedRow(method, values, "this evaluation")


class PublishedSpeed(NamedTuple):
    """Sec. 4.4: A2J's speed, its two parts in ms, and the device."""

    fps: float
    read_and_warp_ms: float
    forward_and_post_ms: float
    device: str


def published_table(track: str) -> PublishedTable | None:
    """The paper's table (2 to 6) of a track, or None (of rendered tracks, of the user's own data)."""
    contents = _read()
    table = contents["tables"].get(track)
    if table is None:
        return None
    sources = contents["sources"]
    paper = f"Table {table['paper_table']} of the paper ({sources['paper']})"
    return PublishedTable(
        track=track,
        paper_table=table["paper_table"],
        title=table["title"],
        columns=tuple(Column(**column) for column in table["columns"]),
        rows=tuple(PublishedRow(row["method"], row["values"], paper) for row in table["rows"]),
        source=paper,
        later=tuple(
            PublishedRow(row["method"], row["values"], sources[row["source"]])
            for row in table["later"]
        ),
        notes=tuple(table["notes"]),
    )


def published_speed(track: str) -> PublishedSpeed | None:
    """A2J's speed on hands or bodies (Sec. 4.4); None where the paper has no table of the track."""
    table, speed = _read()["tables"].get(track), _read()["speed"]
    return table and PublishedSpeed(**speed[table["subject"]], device=speed["device"])


def published_rows(table: str, track: str) -> Mapping[str, Mapping[str, float]]:
    """Rows of Tables 7 to 10 on a track: row ("no_proposals") → column key → number; empty where there are none."""
    found: Mapping[str, Mapping[str, float]] = _read()["rows"].get(table, {}).get(track, {})
    return found


def row_values(table: str, row: str, track: str, *, is_a2j: bool) -> dict[str, float]:
    """What the paper has of a row of one of its tables on a track: column key → number.

    Args:
        table: "table2" to "table10".
        row: of Tables 7 to 10, as `published_rows` names it.
        track: any; of a track that the paper does not have there is nothing.
        is_a2j: the row is A2J itself, of which the track's own table and Sec. 4.4 have more numbers.
    """
    values = dict(published_rows(table, track).get(row, {}))
    of_track, speed = published_table(track), published_speed(track)
    if is_a2j and of_track is not None and speed is not None:
        values = {"fps": speed.fps, **of_track.rows[-1].values, **values}
    return values


def row_note(table: str, track: str) -> str:
    """What must be known of a table of 7 to 10 on a track; empty: nothing."""
    return str(_read()["row_notes"].get(table, {}).get(track, ""))


def lookup(scores: Mapping[str, Any], path: str) -> float | None:
    """A number of `Scores.to_json`, of any depth; the last key may hold a dot itself ("pdj.0.05").

    None where it was not measured: no torso in any frame, say.
    """
    if path in scores:
        return None if scores[path] is None else float(scores[path])
    first, _, rest = path.partition(".")
    inner = scores.get(first)
    return lookup(inner, rest) if rest and isinstance(inner, Mapping) else None


@functools.cache
def _read() -> dict[str, Any]:
    text = resources.files("a2j_jax.evaluation").joinpath("published.json").read_bytes()
    contents: dict[str, Any] = parse_json(text, "published.json")
    return contents
