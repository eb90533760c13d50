"""These tests need the pretend device: ``tests/test_on_pretend_device.py`` runs them with it."""

import pytest

from tests.conftest import DEVICE
from tests.pretend_device.environment import environment

collect_ignore_glob = [] if DEVICE.startswith("pretend") else ["test_*.py"]


@pytest.fixture(autouse=True)
def processes_have_it_too(monkeypatch):
    """Those that a run starts, one for each of two devices."""
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
