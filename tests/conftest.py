"""Fixtures shared by all tests: where the reference data is, and what happens without it."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def _reference_dir() -> Path:
    named = os.environ.get("A2J_REFERENCE")
    return Path(named) if named else REPOSITORY.parent / "shared" / "reference"


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of reference data; skips where it is absent, except where CI says it must be there."""
    folder = _reference_dir()
    if not folder.is_dir():
        message = f"reference data not found at {folder}; set A2J_REFERENCE to its folder"
        if os.environ.get("A2J_REQUIRE_REFERENCE"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def parity(reference: Path) -> Path:
    """Outputs of the official PyTorch program on recipe weights and inputs."""
    return reference / "parity"


@pytest.fixture(scope="session")
def official(reference: Path) -> Path:
    """The authors' published labels, centres, boxes and predictions."""
    return reference / "official"
