"""JSON Lines that outlive a kill: one object a line, appended, and read past a line that was cut."""

import json
import os
from pathlib import Path
from typing import Any

from a2j_jax.errors import UserError
from a2j_jax.files import parse_json


def append(path: str | Path, record: dict[str, Any]) -> None:
    """Append one object; on a line of its own, even where the last line was cut by a kill or a full disk.

    Raises:
      UserError: the file cannot be written, naming it and the reason (no space left, say).
    """
    try:
        with Path(path).open("a+b") as file:
            file.write(_end_of_line(file) + json.dumps(record).encode() + b"\n")
    except OSError as error:  # of an open file: it would not name it
        raise cannot_write(path, error) from error


def _end_of_line(file: Any) -> bytes:
    if file.seek(0, os.SEEK_END) == 0:
        return b""
    file.seek(-1, os.SEEK_END)
    return b"" if file.read(1) == b"\n" else b"\n"


def cannot_write(path: str | Path, error: OSError) -> UserError:
    """What to tell of a file that could not be written."""
    return UserError(
        f"{path}: cannot be written ({error.strerror or error}); what was saved before is kept: make room, "
        "and run the same command again to continue"
    )


def read(path: str | Path) -> list[dict[str, Any]]:
    """All whole objects of a file, in order; none where there is no file. A line that was cut is left out."""
    path = Path(path)
    if not path.is_file():
        return []
    objects = map(_parsed, path.read_text(encoding="utf-8", errors="replace").splitlines())
    return [one for one in objects if isinstance(one, dict)]


def _parsed(line: str) -> Any:
    try:
        # A loss that is not finite is logged as such.
        return parse_json(line, "", nonfinite=True)
    except UserError:
        return None
