"""How a build says things: counts with their nouns, and what is a warning and what only a note."""

# A note that begins so wants the user's attention; any other is information.
WARNING = "warning: "


def counted(count: int, noun: str) -> str:
    """A number with its noun: "1 frame", "2,000 frames"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def marked(note: str) -> str:
    """A note as it is printed: it says of itself whether it is a warning."""
    return note if note.startswith(WARNING) else f"note: {note}"
