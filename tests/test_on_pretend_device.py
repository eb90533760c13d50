"""What runs on a GPU, on a device that is not there; see ``tests/pretend_device``.

Torch has the device for as long as a process lives, and autograd threads for it: the tests run in
processes of their own, a few at a time. By hand, with any test file that heeds the device:
``ANALYZE_TEST_DEVICE=pretend python -m pytest tests/on_pretend_device``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pretend_device import building

PROJECT = Path(__file__).resolve().parents[1]
FOR_THE_NIGHT = {
    "device": ["pretend", "tests/on_pretend_device", "-m", "nightly"],
    "cases": ["pretend", "tests/test_engine.py", "tests/test_regrouping.py", "-m", ""],
    "architectures": ["pretend", "tests/test_architectures.py", "-m", ""],
    "second device": ["pretend:1", "tests/test_engine.py"],
}


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    if absent := building.missing():
        pytest.skip(absent)


def test_tests_pass_on_it():
    assert_pass("pretend", "tests/on_pretend_device")


@pytest.mark.nightly
@pytest.mark.parametrize("part", FOR_THE_NIGHT)
def test_all_of_them_pass_on_it(part):
    assert_pass(*FOR_THE_NIGHT[part])


def assert_pass(device: str, *arguments: str) -> None:
    """The tests pass in a process that has the device; what it says is shown where they do not."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(
        command, env={**os.environ, "ANALYZE_TEST_DEVICE": device}, cwd=PROJECT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
