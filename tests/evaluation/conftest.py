"""Reports without pictures, which are most of their time."""

import sys

import pytest


@pytest.fixture
def no_matplotlib(monkeypatch):
    """As where matplotlib is not installed."""
    for module in ("matplotlib", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, module, None)
