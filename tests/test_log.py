"""Progress with and without a terminal: nothing that matters is lost or squeezed out."""

import io
import subprocess
import sys
import time

import pytest
from rich.console import Console
from rich.table import Table

from a2j_jax import log as module
from a2j_jax.log import be_quiet, logger, print_table, progress


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Console:
    """A terminal of 80 columns."""
    console = Console(file=io.StringIO(), force_terminal=True, width=80, legacy_windows=False)
    monkeypatch.setattr(module, "console", console)
    return console


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Console:
    """No terminal; a line for every advance."""
    console = Console(file=io.StringIO(), width=80)
    monkeypatch.setattr(module, "console", console)
    monkeypatch.setattr(module, "_LINE_EVERY_SECONDS", 0.0)
    return console


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_latest_note_is_in_every_line_of_a_log(log: Console) -> None:
    with progress("training", 100, "images") as advance:
        advance(10)
        advance(0, note="loss 9.00")
        advance(10)
        logger.info("step 2: error 5.00")
        advance(10, note="loss 8.00")
    lines = text(log).splitlines()
    assert lines[0] == "training: 10/100 images"
    assert lines[2].startswith("training: 20/100 images")
    assert lines[2].endswith("  loss 9.00")
    assert lines[3] == "step 2: error 5.00"
    assert lines[4].endswith("  loss 8.00")
    assert not any("\x1b" in line for line in lines)


def test_the_rate_is_that_of_the_steps_after_the_first(log: Console) -> None:
    """The first one compiles."""
    with progress("training", 1010, "images", done=10) as advance:
        advance(0, note="loss 9.00")
        time.sleep(0.5)
        advance(500)
        time.sleep(0.01)
        advance(499)
    before, first, second = text(log).splitlines()
    assert "ETA" not in before + first
    assert second.startswith("training: 1009/1010 images, ")
    assert float(second.split()[3].removesuffix("/s,")) > 1000
    assert "ETA 0:00" in second


def test_lines_of_a_log_come_now_and_then(log: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LINE_EVERY_SECONDS", 3600.0)
    with progress("training", 100, "images") as advance:
        for _ in range(10):
            advance(10, note="loss 9.00")
    (line,) = text(log).splitlines()  # the last
    assert "100/100 images" in line


def test_80_columns_hold_the_count_the_time_and_the_loss(screen: Console) -> None:
    with progress("training", 120_000, "images") as advance:
        advance(119_904, note="loss 1234.56  lr 1.5e-03")
        logger.info("step 940: error 29.10 on 512 frames")
    shown = text(screen)
    assert "119904/120000" in shown
    assert "ETA" in shown
    assert "loss 1234.56  lr 1.5e-03" in shown
    assert "\u2026" not in shown
    assert "step 940: error 29.10 on 512 frames\n" in shown


@pytest.mark.parametrize("where", ["screen", "log"])
def test_quiet(where: str, request: pytest.FixtureRequest) -> None:
    console = request.getfixturevalue(where)
    be_quiet()
    with progress("training", 100, "images") as advance:
        advance(100, note="loss 9.00")
        logger.info("step 2: error 5.00")
    assert text(console) == ""


TALKS_ON = """
import sys
from a2j_jax.log import log_to_terminal, logger
log_to_terminal()
for number in range(100):
    logger.info(f"line {number}")
    sys.stderr.flush()
print("done")
"""


def test_nobody_has_to_read_it() -> None:
    """`2>&1 | head -1`, or a `tee` that Ctrl-C ended: what is told is lost, what is done is not."""
    talking = subprocess.Popen(
        [sys.executable, "-c", f"input()\n{TALKS_ON}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert talking.stderr is not None
    talking.stderr.close()
    talking.stderr = None
    out, _ = talking.communicate("go on\n")
    assert (talking.returncode, out) == (0, "done\n")


def test_rows_of_a_table_do_not_wrap(log: Console, screen: Console) -> None:
    table = Table("a joint with a long name", *(f"column {i}" for i in range(12)))
    row = [f"cell {i} of the row" for i in range(13)]
    table.add_row(*row)
    for console in (log, screen):
        print_table(table, console)
        (line,) = [line for line in text(console).splitlines() if "cell 0" in line]
        assert all(cell in line for cell in row)
