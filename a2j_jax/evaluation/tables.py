"""The tables of an evaluation, as text: the terminal and the HTML report show the same ones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from a2j_jax.evaluation import published
from a2j_jax.evaluation.score import CURVE_LIMIT, Scores

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
    lines = [table.columns, tuple("---" for _ in table.columns), *table.rows]
    rows = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    notes = "".join(f"\n{note}\n" for note in table.notes)
    return f"**{table.title}**\n\n{rows}\n{notes}"


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
            (_joint(joint), *(percent(numbers[k], 2) for numbers in values.values()))
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
        label = f"success AUC by {kind} joint, 0–{CURVE_LIMIT:g} {first.unit}"
        rows.append(_row(label, scores, lambda s, area=area: percent(area(s))))
    title = f"{first.track} · {frames_told(first)}"
    return Table(title, ("", *scores), tuple(rows), frozenset({0}))


def joints_table(scores: Mapping[str, Scores]) -> Table:
    """Mean error of every joint, a column per method."""
    first = next(iter(scores.values()))
    rows = [
        _row(_joint(joint), scores, lambda s, k=k: number(s.per_joint[k]))
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
    """The published table of a track with ours below it; None where the paper has none.

    Methods are the rows or, where more is measured than fits side by side, the columns.
    """
    table = published.published_table(track)
    if table is None:
        return None
    ours = [table.ours(name, one.to_json()) for name, one in scores.items()]
    sources = list(dict.fromkeys(text for row in table.rows for text in row.sources.values()))
    rows = []
    for row in (*table.rows, *ours):
        digits = ".2f" if row in ours else "g"
        marks = [f"[{i}]" for i, text in enumerate(sources, 1) if text in row.sources.values()]
        values = (row.values.get(column.key) for column in table.columns)
        cells = ("–" if value is None else format(value, digits) for value in values)
        rows.append((" ".join([row.method, *marks]), *cells))
    title = f"Table {table.paper_table} of the paper: {table.title}"
    notes = [table.absent, *(f"[{i}] {text}." for i, text in enumerate(sources, 1))]
    columns = ("", *(column.label for column in table.columns))
    if len(columns) <= _SIDE_BY_SIDE:
        strong = frozenset(range(len(table.rows), len(rows)))
        return Table(title, columns, tuple(rows), strong, tuple(notes))
    heads, *turned = zip(columns, *rows, strict=True)
    return Table(title, heads, tuple(turned), notes=tuple(notes))


def frames_told(scores: Scores) -> str:
    """How many frames were scored, and of how many if not all: `3 of 8,252 frames`."""
    total = scores.frames_of
    of = f" of {total:,}" if total is not None and total > scores.frames else ""
    return f"{scores.frames:,}{of} frames"


def number(value: float) -> str:
    """Two decimals, or a dash for what is not known."""
    return f"{value:.2f}" if np.isfinite(value) else "–"


def percent(fraction: float | None, decimals: int = 1) -> str:
    """A fraction as a percentage, or a dash for what is not known."""
    known = fraction is not None and np.isfinite(fraction)
    return f"{fraction:.{decimals}%}" if known else "–"


def _joint(name: str) -> str:
    return name.replace("_", " ")


def _row(label: str, scores: Mapping[str, Scores], value: Callable[..., Any]) -> tuple[str, ...]:
    return (label, *(value(one) for one in scores.values()))
