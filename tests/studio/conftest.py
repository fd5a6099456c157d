"""Tests that start servers: see tests/support/development_server.py for the one that they share."""

import os
from pathlib import Path

import pytest

from tests.support.development_server import OUTSIDE


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items):
    """What runs the embedded model stays with the others that do."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("local_model"):
            item.add_marker(pytest.mark.xdist_group("local_model"))


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    """The tests mean the same on every machine."""
    for name in [name for name in os.environ if name.startswith(OUTSIDE)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
