"""Names are text: frame, joint, track and method names and paths, made safe to show.

Names come from files and command lines and may hold anything a byte string can: terminal escapes, line breaks,
undecodable bytes. Whatever shows one (terminal, log, picture, SVG, HTML) passes it through `printable` first.

What ends a command early: mistakes a user can mend, and being told to stop.
"""

import difflib
import re
import unicodedata
from collections.abc import Iterable

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
    return "".join(escaped(c) if unicodedata.category(c) in _UNSEEN else c for c in text)


def as_utf8(name: str) -> str:
    r"""A frame's name as files hold it: undecodable bytes of a path, which no UTF-8 file can hold, as `\udcff`."""
    return name.encode(errors="backslashreplace").decode()


def in_words(joint: str) -> str:
    """A joint's name as words: `index_tip` as "index tip"; an underscore at the beginning or end stays."""
    return re.sub(r"(?<=\w)_(?=\w)", " ", joint)


def escaped(character: str) -> str:
    r"""A character as its escape: `\x1b`, `\u624b`; one of ASCII that has a shape stays."""
    return character.encode("unicode_escape").decode("ascii")


class UserError(Exception):
    """Bad input: the message says what, where, what was expected and how to mend it.

    The command line prints the message alone and exits with status 2; library callers catch it like
    any exception. Anything else that escapes is a bug of ours and keeps its traceback.

    Attributes:
      instructions: what to do, where that takes more than the one line (a download, say); printed
        below it, as it stands.
    """

    def __init__(self, message: str, instructions: str = "") -> None:
        """Says `message`; `instructions` are printed below it."""
        self.instructions = instructions
        super().__init__(message)


class UnreadableFrame(UserError):
    """A depth frame that cannot be used: a build counts and skips it (or, strict, stops), `a2j predict` stops.

    Attributes:
      reason: the fault without names or numbers of this frame; frames with equal reasons are counted together.
    """

    def __init__(self, reason: str, where: object = None, detail: str = "") -> None:
        """Shows `where: reason (detail)`, as far as given."""
        self.reason, self.detail = reason, detail
        message = f"{reason} ({detail})" if detail else reason
        super().__init__(message if where is None else f"{printable(str(where))}: {message}")


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The end of a message about an unknown word: "; did you mean 'x'?", or nothing.

    Args:
      word: that is not known.
      known: words that are.
      cutoff: how alike they must be, as `difflib.get_close_matches`.
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""


class Stopped(Exception):
    """Told to stop, and did so with nothing lost: the message says how to go on.

    Attributes:
      status: of the process, as a shell reports the signal that stopped it (130, 143).
    """

    def __init__(self, message: str, status: int) -> None:
        """Says `message`; the command line prints it and ends with `status`."""
        self.status = status
        super().__init__(message)
