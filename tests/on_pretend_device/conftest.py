"""These tests need the pretend device: ``tests/test_on_pretend_device.py`` runs them with it."""

from tests.conftest import DEVICE

collect_ignore_glob = [] if DEVICE.startswith("pretend") else ["test_*.py"]
