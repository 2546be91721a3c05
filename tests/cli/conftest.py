"""Running commands in this process: `a2j(...)` for what works, `refused(...)` and `mistake(...)` for what does not."""

import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

from a2j_jax.cli.main import main
from a2j_jax.inference.hands import HandModel
from a2j_jax.runs.checkpoints import save_variables
from tests import tiny
from tests.inference.test_hands import TRACK, Disks


class Outcome(NamedTuple):
    """How a command ended and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def ended(capsys):
    """Runs a command, however it ends: its words, or one line of them."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        words = shlex.split(str(arguments[0])) if len(arguments) == 1 else map(str, arguments)
        try:
            status = main(list(words))
        except SystemExit as end:  # --help
            status = int(end.code or 0)
        return Outcome(status, *capsys.readouterr())

    return run


@pytest.fixture
def a2j(ended):
    """Runs a command that must succeed."""

    def run(*arguments: object) -> Outcome:
        outcome = ended(*arguments)
        assert outcome.status == 0, outcome
        return outcome

    return run


@pytest.fixture
def refused(ended):
    """Runs a command that must end with one line on stderr, status 2 and nothing on stdout; returns the line."""

    def run(*arguments: object) -> str:
        outcome = ended(*arguments)
        assert outcome.status == 2, outcome
        assert outcome.out == ""
        assert "Traceback" not in outcome.err
        *before, last = outcome.err.splitlines()
        assert last.startswith("a2j: error: ")
        assert not any("error" in line for line in before)
        return last.removeprefix("a2j: error: ")

    return run


@pytest.fixture
def mistake(refused, request, tmp_path, monkeypatch):
    """Runs a line that is refused with one of some words and changes no file of this empty working directory.

    `CHECKPOINTS` in it stands for the folder of the fixture. Returns the message.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)

    def files() -> dict[Path, object]:
        found = [(path, path.lstat().st_mtime_ns) for path in tmp_path.rglob("*")]
        return {path: (time, path.is_file() and path.read_bytes()) for path, time in found}

    def run(line: str, *said: str) -> str:
        if "CHECKPOINTS" in line:
            line = line.replace("CHECKPOINTS", str(request.getfixturevalue("checkpoints")))
        before = files()
        told = refused(*(word for word in line.split(" ") if line.strip()))
        assert any(words in told for words in said), told
        assert files() == before
        return told

    return run


@pytest.fixture
def disks(monkeypatch):
    """The weights of every `--model` are the made-up network of the tests of hands."""
    hand = HandModel(Disks(21), {"params": {}}, TRACK)
    monkeypatch.setattr("a2j_jax.inference.hands.load", lambda name, **options: hand)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Checkpoints of made-up tiny networks, one folder per track."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for track in ("nyu", "itop_front", "k2hpd", "synthetic_hand"):
        save_variables(folder / track, tiny.variables(track), tiny.config(track=track))
    return folder


def write_config_file(path: Path, call: str, maker: str = "config") -> Path:
    """Writes a config file of what `tests.tiny.config`, or another function there, makes of these arguments."""
    path.write_text(
        f"from tests import tiny\n\ndef get_config():\n    return tiny.{maker}({call})\n"
    )
    return path
