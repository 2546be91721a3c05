"""Exceptions that end a command (user errors and stop requests), and names made safe to print.

Names of frames, joints, tracks and methods, and paths, come from files and command lines and may hold terminal escapes,
line breaks or undecodable bytes. Every output (terminal, log, picture, SVG, HTML) passes them through `printable`.
"""

import difflib
import re
import unicodedata
from collections.abc import Iterable

# Control characters, lone surrogates (undecodable bytes of a path), private use and unassigned, line and
# paragraph separators, and format characters: direction overrides and zero-width characters are among those.
_UNSEEN = ("Cc", "Cs", "Cn", "Co", "Zl", "Zp", "Cf")


def printable(text: str, longest: int | None = None) -> str:
    r"""Escapes all invisible characters: `\x1b`, `\n`, `\udcff`; cuts longer text to `longest`, with an ellipsis."""
    if longest is not None and len(text) > longest:
        text = text[: longest - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    return "".join(escaped(c) if unicodedata.category(c) in _UNSEEN else c for c in text)


def as_utf8(name: str) -> str:
    r"""A frame's name as written to UTF-8 files: undecodable bytes of a path become `\udcff`."""
    return name if name.isascii() else name.encode(errors="backslashreplace").decode()


def in_words(joint: str) -> str:
    """A joint's name as words: `index_tip` as "index tip"; an underscore at the beginning or end stays."""
    return re.sub(r"(?<=\w)_(?=\w)", " ", joint)


def escaped(character: str) -> str:
    r"""A character as its escape: `\x1b`, `\u624b`; printable ASCII is unchanged."""
    return character.encode("unicode_escape").decode("ascii")


class UserError(ValueError):
    """Bad input: the message names the fault, its place, what was expected and how to fix it.

    The command line prints the message alone and exits with status 2. Any other exception that escapes is a bug of ours
    and keeps its traceback.

    `instructions` (of a download, say) are printed verbatim below the message.
    """

    def __init__(self, message: str, instructions: str = "") -> None:
        self.instructions = instructions
        super().__init__(message)


class UnreadableFrame(UserError):
    """A depth frame that cannot be used: a build counts and skips it (or, if strict, stops), `a2j predict` stops.

    The message is `where: reason (detail)`, as far as given. The reason has no names or numbers of this frame: frames
    with equal reasons are counted together.
    """

    def __init__(self, reason: str, where: object = None, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        message = f"{reason} ({detail})" if detail else reason
        super().__init__(message if where is None else f"{printable(str(where))}: {message}")


def in_one_line(error: BaseException) -> str:
    """An exception of somebody else's code in one printable line: "TypeError: expected str"."""
    try:
        text = str(error)
    except Exception:  # theirs, too
        text = "an exception that cannot be printed"
    return printable(" ".join(f"{type(error).__name__}: {text}".split()), 500)


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The end of a message about an unknown word: "; did you mean 'x'?", or nothing where no word is that similar."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""


class Stopped(Exception):
    """A stop request was obeyed and nothing was lost: the message, which is printed, says how to resume.

    `status` is the exit status, as a shell reports the signal that stopped it (129, 130, 143).
    """

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)
