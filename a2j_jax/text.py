"""Names are text: frame, joint, track and method names and paths, made safe to show.

Names come from files and command lines and may hold anything a byte string can: terminal escapes, line breaks,
undecodable bytes. Whatever shows one (terminal, log, picture, SVG, HTML) passes it through `printable` first.
"""

import re
import unicodedata

# Control characters, lone surrogates (undecodable bytes of a path), private use and unassigned, line and
# paragraph separators, and format characters: direction overrides and zero-width characters are among those.
_UNSEEN = ("Cc", "Cs", "Cn", "Co", "Zl", "Zp", "Cf")


def printable(text: str, longest: int | None = None) -> str:
    r"""Text with everything that has no shape of its own written as an escape: `\x1b`, `\n`, `\udcff`.

    Args:
      text: a name or a path, of any characters.
      longest: cut longer text there, and end it with an ellipsis.
    """
    if longest is not None and len(text) > longest:
        text = text[: longest - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(c) if unicodedata.category(c) in _UNSEEN else c for c in text)


def as_utf8(name: str) -> str:
    r"""A frame's name as files hold it: undecodable bytes of a path, which no UTF-8 file can hold, as `\udcff`."""
    return name.encode(errors="backslashreplace").decode()


def in_words(joint: str) -> str:
    """A joint's name as words: `index_tip` as "index tip"; an underscore at the beginning or end stays."""
    return re.sub(r"(?<=\w)_(?=\w)", " ", joint)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
