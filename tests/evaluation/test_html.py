"""The page's building blocks: everything is escaped, nothing is fetched."""

from html.parser import HTMLParser

import pytest

from a2j_jax import pictures
from a2j_jax.evaluation import html, plots
from a2j_jax.evaluation.tables import Table

EVIL = "<script>alert('1')</script> & \"more\""
VOID = {"meta", "img", "br"}


class Balanced(HTMLParser):
    """Complains about an element that is closed in the wrong place or never."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


def parsed(markup: str) -> Balanced:
    parser = Balanced()
    parser.feed(markup)
    assert not parser.open
    return parser


def whole_page() -> str:
    table = Table(EVIL, ("", EVIL), ((EVIL, "1.0"), (EVIL, EVIL)), frozenset({0}), (EVIL,))
    return html.page(
        EVIL,
        EVIL,
        [
            html.cards([(EVIL, EVIL, EVIL)]),
            html.section(EVIL, html.table(table), html.subsection(EVIL, html.paragraph(EVIL))),
            html.side_by_side(html.code(EVIL), html.facts([(EVIL, EVIL)])),
            html.tiles([(EVIL, [(b"png", EVIL, EVIL)])]),
            html.plot("<svg viewBox='0 0 1 1'></svg>", EVIL, EVIL),
        ],
    )


def test_a_page_is_well_formed_and_nothing_escapes() -> None:
    text = whole_page()
    assert text.startswith("<!DOCTYPE html>")
    assert "script" not in parsed(text).seen
    assert "<script" not in text
    assert "charset" in text
    assert "viewport" in text


def test_empty_parts_leave_nothing() -> None:
    assert html.section("title", "", "") == ""
    assert html.subsection("title", "") == ""
    assert html.paragraph("") == ""
    assert html.facts([]) == ""


def test_a_table_has_heads_and_marks_the_strong_row() -> None:
    table = Table("t", ("", "A", "B"), (("x", "1.0", "–"), ("y", "2.0", "words")), frozenset({1}))
    markup = html.table(table)
    assert '<th scope="col">A</th>' in markup
    assert '<tr><th scope="row">x</th><td>1.0</td><td>–</td></tr>' in markup
    assert '<tr class="strong"><th scope="row">y</th>' in markup
    assert '<td class="text">words</td>' in markup


def test_a_plot_takes_the_pages_colours() -> None:
    figure = plots.joint_bars({"A": [1.0, 2.0, 3.0]}, ("one", "two"), "mm")
    svg = pictures.figure_svg(figure, "salt")
    assert plots.INK in svg
    markup = html.plot(svg, "Bars", "of joints")
    assert plots.INK not in markup
    assert plots.GRID not in markup
    assert "currentColor" in markup
    assert 'role="img" aria-label="Bars"' in markup
    parsed(markup)


@pytest.mark.parametrize("side", [1, 3])
def test_tiles_of_a_group_stay_together(side: int) -> None:
    picture = (b"\x89PNG", "7.3 mm", "A2J")
    markup = html.tiles([("frame 1", [picture] * side), ("frame 2", [picture] * side)])
    assert markup.count('class="group"') == 2
    assert f"--side: {side}" in markup
    assert markup.count("data:image/png;base64,iVBORw==") == 2 * side
    assert markup.count('alt="7.3 mm, A2J"') == 2 * side
