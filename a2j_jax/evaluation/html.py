"""One self-contained HTML page: the template of the report, and nothing that knows what a joint is.

No script, no external file: pictures are inside. Light or dark as the reader's system is, legible on
a phone, printable. Everything that is not markup of this module is escaped.
"""

import base64
from collections.abc import Iterable, Sequence
from html import escape as escape_markup

from a2j_jax.errors import printable
from a2j_jax.evaluation.plots import GRID, INK
from a2j_jax.evaluation.tables import Table
from a2j_jax.files import MARK

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --quiet: #5a636e; --line: #d8dce1;
  --card: #f6f7f9; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --ink: #e6e9ed; --quiet: #9aa4b0;
  --line: #333a42; --card: #1c2127; --accent: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem clamp(1rem, 4vw, 2.5rem) 4rem; max-width: 70rem;
  background: var(--paper); color: var(--ink); overflow-wrap: anywhere;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .75rem; padding-top: .9rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.25rem 0 .5rem; }
.grid h3, h2 + h3 { margin-top: .25rem; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
.quiet, figcaption, caption { color: var(--quiet); font-size: .875rem; }
.cards { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0 0; padding: 0; list-style: none; }
.cards li { flex: 1 1 9rem; background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .7rem .9rem; }
.cards strong { display: block; font-size: 1.6rem; line-height: 1.2; font-weight: 650; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.cards li:first-child strong { color: var(--accent); }
.cards small { font-size: 1rem; font-weight: 400; }
.cards span { display: block; font-size: .8125rem; color: var(--quiet); line-height: 1.35; }
.grid { display: grid; gap: 1.5rem 2rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; min-width: 0; }
figure > svg { display: block; width: 100%; height: auto; max-width: 34rem; color: var(--ink); }
figcaption { margin-top: .35rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .4rem; }
th, td { padding: .28rem .6rem; text-align: right; vertical-align: baseline; overflow-wrap: normal;
  border-bottom: 1px solid var(--line); }
th:first-child { text-align: left; padding-left: 0; }
th { font-weight: 400; }
thead th { font-weight: 600; vertical-align: bottom; }
td:last-child, th:last-child { padding-right: .1rem; }
td { white-space: nowrap; }
td.text { white-space: normal; text-align: left; }
tr.strong > * { font-weight: 650; }
.tiles { display: grid; gap: .75rem 1.25rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, calc(var(--side) * 9rem)), 1fr)); }
.tiles[style$=": 1"] { column-gap: .75rem; }
.group p { grid-column: 1 / -1; margin: 0; font-size: .8125rem; color: var(--quiet); }
.group { display: grid; gap: .5rem; grid-template-columns: repeat(var(--side), minmax(0, 1fr)); }
.tiles img { display: block; width: 100%; height: auto; background: #fff; border-radius: .3rem; }
.tiles figcaption { font-size: .8125rem; line-height: 1.3; }
.tiles b { color: var(--ink); font-weight: 600; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .3rem 1.25rem; margin: 0;
  font-size: .9rem; }
dt { color: var(--quiet); }
dd { margin: 0; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; margin: .5rem 0 1rem;
  padding: .7rem .9rem; white-space: pre-wrap; font-size: .85rem; }
@media (min-width: 34rem) { tbody th { white-space: nowrap; } }
@media (max-width: 34rem) { body { padding-top: 1.25rem; } h1 { font-size: 1.4rem; }
  table { font-size: .8125rem; } th, td { padding: .25rem .35rem; }
  .tiles { grid-template-columns:
    repeat(auto-fill, minmax(min(100%, calc(var(--side) * 6.5rem)), 1fr)); }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; } }
@media print { :root { color-scheme: light; --paper: #fff; --ink: #000; --quiet: #444; --line: #bbb;
  --card: #fff; --accent: #0072b2; }
  body { padding: 0; max-width: none; font-size: 10pt; } .table { overflow: visible; }
  .grid { grid-template-columns: 1fr 1fr; }
  figure, tr, .cards li, pre { break-inside: avoid; } h2, h3, caption { break-after: avoid; } }
"""


def escape(text: str) -> str:
    """Text as HTML and XML may hold it: no markup, no control characters."""
    return escape_markup(printable(text))


def page(title: str, subtitle: str, parts: Iterable[str]) -> str:
    """A whole page.

    Args:
        title: heading and title of the window.
        subtitle: a quiet line below it.
        parts: markup, made by the other functions of this module.
    """
    body = _lines(parts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="{MARK}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{paragraph(subtitle)}
</header>
<main>
{body}
</main>
</body>
</html>
"""


def cards(values: Iterable[tuple[str, str, str]]) -> str:
    """The numbers to see first: (value, unit, what it is) each."""
    items = "\n".join(
        f"<li><strong>{escape(value)} <small>{escape(unit)}</small></strong>"
        f"<span>{escape(label)}</span></li>"
        for value, unit, label in values
    )
    return f'<ul class="cards">\n{items}\n</ul>'


def section(title: str, *parts: str) -> str:
    """A heading and what belongs to it; nothing at all if there is nothing."""
    body = _lines(parts)
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>" if body else ""


def subsection(title: str, *parts: str) -> str:
    """The same, one level down."""
    body = _lines(parts)
    return f"<h3>{escape(title)}</h3>\n{body}" if body else ""


def side_by_side(*parts: str) -> str:
    """Two to a row where the window is wide enough."""
    return f'<div class="grid">\n{_lines(parts)}\n</div>'


def paragraph(text: str) -> str:
    """A quiet paragraph."""
    return f'<p class="quiet">{escape(text)}</p>' if text else ""


def code(text: str) -> str:
    """A command, to be copied."""
    return f"<pre><code>{_lines(map(escape, text.splitlines()))}</code></pre>"


def table(contents: Table) -> str:
    """A table with its title as caption; columns of texts are left-aligned, of numbers right-aligned."""
    heads = "".join(_head(column) for column in contents.columns)
    rows = []
    for place, (label, *cells) in enumerate(contents.rows):
        strong = ' class="strong"' if place in contents.strong else ""
        values = "".join(_cell(cell) for cell in cells)
        rows.append(f'<tr{strong}><th scope="row">{escape(label)}</th>{values}</tr>')
    caption = f"<caption>{escape(contents.title)}</caption>" if contents.title else ""
    body = "\n".join(rows)
    markup = (
        f"<table>\n{caption}\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
    )
    return f'<div class="table">{markup}</div>{_lines(paragraph(note) for note in contents.notes)}'


def plot(svg: str, label: str, caption: str = "") -> str:
    """An inline `<svg>` of `pictures.figure_svg`, in the page's own ink.

    Args:
        svg: the element.
        label: what it shows, for those who cannot see it.
        caption: below it.
    """
    svg = svg.replace(INK, "currentColor").replace(GRID, "var(--line)")
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)
    shown = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>\n{svg}\n{shown}\n</figure>"


def tiles(groups: Sequence[tuple[str, Sequence[tuple[bytes, str, str]]]]) -> str:
    """Small pictures, several to a row; those of a group stay side by side.

    Args:
        groups: what each is, and its pictures, equally many: (PNG, heading, caption).
    """
    side = max((len(pictures) for _, pictures in groups), default=1)
    markup = []
    for title, pictures in groups:
        figures = _lines(_tile_of_number(*picture) for picture in pictures)
        head = f"<p>{escape(title)}</p>" if title else ""
        markup.append(f'<div class="group">\n{head}\n{figures}\n</div>')
    return f'<div class="tiles" style="--side: {side}">\n{_lines(markup)}\n</div>'


def _tile_of_number(png: bytes, heading: str, caption: str) -> str:
    source = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    described = escape(f"{heading}, {caption}")
    text = f"<b>{escape(heading)}</b><br>{escape(caption)}"
    return f'<figure><img src="{source}" alt="{described}"><figcaption>{text}</figcaption></figure>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and what they are, one line each."""
    items = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in pairs)
    return f"<dl>\n{items}\n</dl>" if items else ""


def _head(text: str) -> str:
    return f'<th scope="col">{escape(text)}</th>' if text else "<td></td>"


def _cell(text: str) -> str:
    numeric = text in ("", "–") or any(character.isdigit() for character in text[:2])
    return f"<td>{escape(text)}</td>" if numeric else f'<td class="text">{escape(text)}</td>'


def _lines(parts: Iterable[str]) -> str:
    return "\n".join(part for part in parts if part)
