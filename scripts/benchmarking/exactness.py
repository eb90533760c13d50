"""The tests of the numbers, on the device that is timed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

TESTS = ("tests/test_engine.py", "tests/test_architectures.py")


def exactness(device: str) -> dict[str, int]:
    """How many tests there are, and how many of them fail: all that is timed rests on them."""
    with TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-m", "", f"--junit-xml={report}", *TESTS]
        subprocess.run(command, check=False, env=os.environ | {"ANALYZE_TEST_DEVICE": device})
        suites = ElementTree.parse(report).getroot().iter("testsuite")
        counts = [suite.attrib for suite in suites]
    return {
        "tests": sum(int(c["tests"]) for c in counts),
        "failed": sum(int(c["failures"]) + int(c["errors"]) for c in counts),
        "skipped": sum(int(c["skipped"]) for c in counts),
    }
