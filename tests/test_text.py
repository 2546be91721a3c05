"""Names are text: whatever a frame, joint or method is called, outputs show it literally and stay well-formed."""

import dataclasses
import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import get_data_path
from matplotlib.font_manager import fontManager
from matplotlib.text import Text
from rich.console import Console

from a2j_jax import log, pictures
from a2j_jax.errors import UnreadableFrame, UserError, in_words, printable
from a2j_jax.evaluation import plots, report, tables
from tests.evaluation import made_up

# Name -> what is shown of it.
NAMES = {
    "[red]x[/red]": "[red]x[/red]",
    "[/]": "[/]",
    ":warning:": ":warning:",
    "$a_b$": "$a_b$",
    r"$\frac$": r"$\frac$",
    "_hidden": "_hidden",
    "\x1b[31mx": r"\x1b[31mx",
    "a\nb": r"a\nb",
    "\x00\x08": r"\x00\x08",
    '<b>&"--': '<b>&"--',
    "\udcff": r"\udcff",
    "\u202egnp": r"\u202egnp",
    "\ufffe": r"\ufffe",
    "手": "手",
    "index_tip": "index_tip",
    "Zeigefinger-Spitze äöü": "Zeigefinger-Spitze äöü",
    "a\tb\r": r"a\tb\r",
    b"caf\xe9".decode("utf-8", "surrogateescape"): r"caf\udce9",
    "a\u2028b\u200b": r"a\u2028b\u200b",
    "": "",
}


def test_bad_input_is_a_value_error() -> None:
    assert issubclass(UserError, ValueError)
    assert issubclass(UnreadableFrame, UserError)


@pytest.mark.parametrize(("name", "shown"), NAMES.items())
def test_printable(name: str, shown: str) -> None:
    assert printable(name) == shown
    assert printable(shown) == shown


def test_long_names_are_cut() -> None:
    assert printable("x" * 10, 4) == "xxx…"
    assert printable("x" * 4, 4) == "xxxx"


@pytest.mark.parametrize("terminal", [False, True])
def test_a_terminal_shows_names_literally(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # refuses surrogates
    console = Console(file=out, force_terminal=terminal, width=200, color_system=None)
    monkeypatch.setattr(log, "console", console)
    for name in NAMES:
        log.logger.info(f"say {name}" if "\n" not in name else name.replace("\n", " "))
        table = log.PlainTable(name)
        table.add_column(name)
        table.add_row(name)
        log.print_table(table)
        with log.progress(name, 2, "frames") as advance:
            advance(1, note=name)
            advance(1)
    out.flush()
    text = out.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert all(text.count(shown) >= 4 for shown in NAMES.values() if shown), text
    assert "\x1b[31m" not in text
    assert not {"\x00", "\x08", "\u202e"} & set(text)


def named_comparison():  # type: ignore[no-untyped-def]
    """A made-up comparison, its methods and joints called as above."""
    found = made_up.comparison()
    (one, *_) = found.scores.values()
    joints = (list(NAMES) * 3)[: len(one.joint_names)]
    return found, {
        name: dataclasses.replace(one, joint_names=tuple(joints)) for name in NAMES if name
    }


@pytest.mark.slow
def test_pictures_hold_names_literally(tmp_path: Path) -> None:
    """In the legend, on the axes and in the title; no formula is read, and SVG stays well-formed."""
    _, scores = named_comparison()
    joints = next(iter(scores.values())).joint_names
    bars = {name: (*one.per_joint, one.mean_error) for name, one in scores.items()}
    x = np.ones_like(next(iter(scores.values())).errors)
    for figure in (
        plots.success_curve(scores),
        plots.joint_bars(bars, joints, "mm"),
        plots.error_against(x + np.arange(x.shape[1]), "mm", scores),
    ):
        (axes,) = figure.axes
        entries = [text.get_text() for text in axes.get_legend().get_texts()]
        assert len(entries) == len(scores)
        assert all(
            entry.startswith(NAMES[name]) for entry, name in zip(entries, scores, strict=True)
        )
        ElementTree.fromstring(pictures.figure_svg(figure, "salt"))
        assert not any(text.get_parse_math() for text in figure.findobj(Text))
        pictures.figure_png(figure)
    tiles = [pictures.Tile(np.ones((8, 8)), title=name) for name in NAMES]
    skeleton = made_up.comparison().track.skeleton
    for suffix in (".svg", ".png"):
        path = pictures.contact_sheet(tiles, skeleton, tmp_path / f"a{suffix}", title="$x$ \x1b")
        assert path.stat().st_size > 1000
    ElementTree.parse(tmp_path / "a.svg")
    assert pictures.save_figure(figure, tmp_path / "caf\udce9.svg").stat().st_size > 1000


def make_font(path: Path, characters: str) -> None:
    """A font of squares."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 900), (900, 900), (900, 0)):
        pen.lineTo(point)
    pen.closePath()
    names = [".notdef", *(f"u{ord(c):04X}" for c in characters)]
    builder = FontBuilder(1000)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): f"u{ord(c):04X}" for c in characters})
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


def test_characters_that_the_font_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings of missing glyphs are errors here."""
    matplotlibs = [e for e in fontManager.ttflist if e.fname.startswith(get_data_path())]
    monkeypatch.setattr(fontManager, "ttflist", matplotlibs)
    name = "左手 x_b"  # the left hand

    def legend_of(figure: Any) -> Text:
        (entry,) = figure.axes[0].get_legend().get_texts()
        return entry

    def drawn() -> tuple[Any, bytes]:
        scores = {name: next(iter(made_up.comparison().scores.values()))}
        figure = plots.success_curve(scores)
        return figure, pictures.figure_png(figure)

    assert pictures.drawable(name) == r"\u5de6\u624b x_b"
    assert pictures.drawable("左手左手", 9) == r"\u5de6\u…"
    assert pictures.drawable("Zeigefinger äöü αβ") == "Zeigefinger äöü αβ"
    figure, escaped = drawn()
    assert legend_of(figure).get_text().startswith(r"\u5de6\u624b x_b, AUC")
    pictures.figure_png(plots.joint_bars({"A": (1.0, 2.0, 1.5)}, ("左", "右"), "mm"))

    make_font(tmp_path / "Left.ttf", "左")
    fontManager.addfont(tmp_path / "Left.ttf")
    assert pictures.drawable(name) == r"左\u624b x_b"
    make_font(tmp_path / "Hand.ttf", "手")
    fontManager.addfont(tmp_path / "Hand.ttf")
    assert pictures.drawable(name) == name
    figure, shown = drawn()
    assert legend_of(figure).get_text().startswith(name)
    assert {"Left", "Hand"} <= set(legend_of(figure).get_fontfamily())
    assert pictures.figure_png(figure) == shown != escaped
    bars = plots.joint_bars({name: (1.0, 2.0, 1.5)}, ("左", "手"), "mm")
    assert [text.get_text() for text in bars.axes[0].get_yticklabels()] == ["左", "手", "mean"]
    pictures.figure_svg(bars, "salt")


@pytest.mark.slow
def test_tables_and_pages_hold_names_literally(tmp_path: Path) -> None:
    found, scores = named_comparison()
    names = tuple(NAMES)
    made = tables.Table("$t|$\x1b", names, (names, names), notes=names)
    markdown = tables.markdown(made)
    assert "\x1b" not in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert len(rows) == 4
    facts = list(zip(names, names, strict=True))
    page = report.render_page("<t>\x1b", subtitle=names[0], tables=[made], facts=facts)
    body = page[page.index("<body>") : page.index("</html>")]
    text = "".join(ElementTree.fromstring(body).itertext())
    assert all(shown in text for shown in NAMES.values())
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    report.print_scores(scores, Console(file=out, width=2000))
    written = report.write_report(
        dataclasses.replace(found, scores=scores, joints_uvd={}), tmp_path
    )
    assert written[0].read_text().count("\x1b") == 0


def test_a_joint_in_words_keeps_what_its_name_begins_with() -> None:
    names = {"index_tip": "index tip", "_x": "_x", "x_": "x_", "__": "__", "a_b_c": "a b c"}
    assert {name: in_words(name) for name in names} == names
