"""The log of the library, and progress bars.

`logger` is Python's logger "a2j_jax": silence, redirect or format it as any other. `log_to_terminal` prints it on
stderr, beside the bars of `progress`; stdout is for results.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from a2j_jax.errors import printable


class _Stderr:
    """The current standard error. Once nobody reads it (a closed terminal, `| head`), it becomes the null device."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)

    def write(self, text: str) -> int:
        try:
            return sys.stderr.write(text)
        except OSError:
            self._discard()
            return len(text)

    def flush(self) -> None:
        try:
            sys.stderr.flush()
        except OSError:
            self._discard()

    def _discard(self) -> None:
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stderr.fileno())
            os.close(nowhere)


logger = logging.getLogger("a2j_jax")
console = Console(file=_Stderr())  # type: ignore[arg-type]
Advance = Callable[..., None]  # advance(count, note="")
_LINE_EVERY_SECONDS = 15.0
_WIDEST_TABLE = 2000  # columns
_WIDE = 110  # columns for a bar with all fields and a note
_RATE_OVER_SECONDS = 3600.0  # a step may take minutes


@contextmanager
def progress(title: str, total: int, unit: str, done: int = 0) -> Iterator[Advance]:
    """Shows the progress, rate and remaining time of a piece of work.

    The `unit` is a plural ("frames"); units that were `done` earlier (by a resumed run) do not count toward the rate.

    Yields:
      `advance(count, note="")`, to be called as units finish. A note (the latest loss, say) stays until the next one;
      log what must be kept: on a terminal it scrolls by above the bar.
    """
    title, live = printable(title), console.is_terminal
    bar = _bar(unit) if live else Progress(disable=True, speed_estimate_period=_RATE_OVER_SECONDS)
    last_line = time.monotonic()
    with bar if live else nullcontext():
        bar.add_task(title, total=total, completed=done, rate="", note="")
        (task,) = bar.tasks

        def advance(count: int, note: str = "") -> None:
            nonlocal last_line
            bar.update(task.id, advance=count)
            # Of what came after the first units, whose time may be that of compiling a program.
            rate = f"{task.speed:.1f}/s" if task.speed else ""
            bar.update(task.id, rate=rate, note=printable(note) or task.fields["note"])
            now = time.monotonic()
            if live or (now - last_line < _LINE_EVERY_SECONDS and not task.finished):
                return
            last_line = now
            text = f"{title}: {task.completed:.0f}/{total} {unit}"
            if task.speed:
                text += f", {rate}, ETA {clock(max(task.remaining or 0, 0) / task.speed)}"
            note = task.fields["note"]
            logger.info(f"{text}  {note}" if note else text)

        yield advance


def _bar(unit: str) -> Progress:
    """A bar on the terminal; on a narrow one without the least important fields, and only the note is cut."""
    wide = console.width >= _WIDE
    note = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    return Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(bar_width=24 if wide else 8),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        *([TextColumn(unit), TextColumn("{task.fields[rate]}")] if wide else []),
        TextColumn("ETA"),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[note]}", markup=False, table_column=note),
        console=console,
        expand=True,
        speed_estimate_period=_RATE_OVER_SECONDS,
    )


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def _as_text(record: logging.LogRecord) -> bool:
    """Escapes names and paths in a message, for every handler."""
    record.msg, record.args = printable(record.getMessage()), None
    return True


logger.addFilter(_as_text)


class _TerminalHandler(logging.Handler):
    """Prints records on `console`, one line each, as plain text; warnings are marked as such."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.WARNING and "warning: " not in text:
            text = f"warning: {text}"
        # Of several processes one prints, except what concerns another one alone.
        own = console.quiet and getattr(record, "everywhere", False)
        to = Console(file=_Stderr()) if own else console  # type: ignore[arg-type]
        to.print(Text(text), soft_wrap=True)


def log_to_terminal() -> None:
    """Prints the log on stderr, as the command line does; idempotent.

    Without it, a program that uses the library sees only warnings, as Python prints them.
    """
    if not any(isinstance(handler, _TerminalHandler) for handler in logger.handlers):
        logger.addHandler(_TerminalHandler())
        logger.setLevel(logging.INFO)
        logger.propagate = False


def plain(text: str | Text) -> Text:
    """A string for rich to print literally: no markup, emoji codes or control characters."""
    return Text(printable(text)) if isinstance(text, str) else text


class PlainTable(Table):
    """A rich table that prints its strings (title, heads and cells) literally, as `plain` does."""

    def __init__(self, title: str = "", **style: Any) -> None:
        super().__init__(title=plain(title) if title else None, **style)

    def add_column(self, header: Any = "", *args: Any, **style: Any) -> None:
        """As rich's."""
        super().add_column(plain(header), *args, **style)

    def add_row(self, *cells: Any, **style: Any) -> None:
        """As rich's."""
        super().add_row(*map(plain, cells), **style)


def print_table(table: Table, to: Console | None = None) -> None:
    """Prints a table with every row on one line, however narrow the terminal or pipe; on stderr by default."""
    to = to or console
    natural = Measurement.get(to, to.options.update(max_width=_WIDEST_TABLE), table).maximum
    if natural > to.width:
        to = Console(file=to.file, width=natural, quiet=to.quiet)
    to.print(table)


def be_quiet() -> None:
    """Stops printing: of several processes, one is enough."""
    console.quiet = True
