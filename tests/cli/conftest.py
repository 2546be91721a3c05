"""Running commands in this process: `a2j(...)` for what works, `refused(...)` and `mistake(...)` for what does not."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from a2j_jax.cli.main import main
from a2j_jax.models.a2j import PoseNetwork
from a2j_jax.runs.checkpoints import save_variables
from a2j_jax.weights.convert import official_from_variables
from tests import tiny


class Outcome(NamedTuple):
    """How a command ended and what it printed."""

    status: int
    out: str
    err: str


Command = Callable[..., Outcome]
Refused = Callable[..., str]
Mistake = Callable[..., str]


@pytest.fixture
def ended(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command, however it ends."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as end:  # --help
            status = int(end.code or 0)
        return Outcome(status, *capsys.readouterr())

    return run


@pytest.fixture
def a2j(ended: Command) -> Command:
    """Runs a command that must succeed."""

    def run(*arguments: object) -> Outcome:
        outcome = ended(*arguments)
        assert outcome.status == 0, outcome
        return outcome

    return run


@pytest.fixture
def refused(ended: Command) -> Refused:
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
def mistake(
    refused: Refused,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Mistake:
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


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of made-up tiny networks, one folder per track."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for track in ("nyu", "itop_front", "k2hpd", "synthetic_hand"):
        save_variables(folder / track, tiny.variables(track), tiny.config(track=track))
    return folder


def torchvision_trunk(model: PoseNetwork) -> dict[str, np.ndarray]:
    """Made-up weights of a network's trunk, in torchvision's naming."""
    prefix = "Backbone.model."
    theirs = official_from_variables(tiny.made_up(tiny.shapes(model)))
    return {k.removeprefix(prefix): v for k, v in theirs.items() if k.startswith(prefix)}
