"""Names made safe to show."""

import pytest

from a2j_jax.text import printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("index_tip", "index_tip"),
        ("Zeigefinger-Spitze äöü 手 👋", "Zeigefinger-Spitze äöü 手 👋"),
        ("a\tb\nc\r", r"a\tb\nc\r"),
        ("\x1b[31mred\x9b0m", r"\x1b[31mred\x9b0m"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), r"caf\udce9"),
        ("\u202egnp.exe\u200b", r"\u202egnp.exe\u200b"),
        ("a\u2028b\0", r"a\u2028b\x00"),
        ("", ""),
    ],
)
def test_whatever_has_no_shape_is_escaped(name: str, shown: str) -> None:
    assert printable(name) == shown
    assert printable(printable(name)) == shown
    printable(name).encode("utf-8")


def test_long_names_are_cut() -> None:
    assert printable("x" * 10, 4) == "xxx…"
    assert printable("x" * 4, 4) == "xxxx"
