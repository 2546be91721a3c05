"""What ends a command early: mistakes a user can mend, and being told to stop."""

import difflib
from collections.abc import Iterable

from a2j_jax.text import printable


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
