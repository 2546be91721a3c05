import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def importable(monkeypatch):
    """Lets this process and those it starts import `numbered_frames`."""
    monkeypatch.syspath_prepend(str(HERE))
    path = [str(HERE), str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
