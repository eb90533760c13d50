"""Runs one part of the check in a process of its own: whatever happens there, the others go on."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

GRACE = 10.0  # seconds beyond a part's own, for imports and for the work that it is in
LAST = 4000  # characters that are kept of what a part that failed has said


def run_part(name: str, device: str, seconds: float, quick: bool) -> dict[str, Any]:
    """What became of it: ``status`` (done, failed, out of time), ``findings``, and ``said``."""
    command = [sys.executable, "-m", "scripts.gpu_checking.part", name, device, str(seconds)]
    command += ["quick"] * quick
    start = time.monotonic()
    findings: dict[str, Any] = {}
    late = threading.Event()
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True) as process,
    ):
        timer = threading.Timer(seconds + GRACE, _ended, (process, late))
        timer.start()
        try:
            for line in process.stdout or ():
                key, value = json.loads(line)
                findings[key] = value
                print(f"  {key}: {shown(value)}", flush=True)
            failed = process.wait() != 0
        finally:
            timer.cancel()
            process.kill()
        said.seek(0)
        words = said.read()
    status = "out of time" if late.is_set() else "failed" if failed else "done"
    result = {"status": status, "seconds": time.monotonic() - start, "findings": findings}
    return result if status == "done" else result | {"said": _anonymous(words)[-LAST:]}


def _ended(process: subprocess.Popen[str], late: threading.Event) -> None:
    late.set()
    process.kill()


def shown(value: Any, most: int = 160) -> str:
    """A finding in a line of the terminal."""
    text = json.dumps(value)
    return text if len(text) <= most else text[: most - 3] + "..."


def _anonymous(text: str) -> str:
    """Without the name of whoever runs it, which folders have."""
    return text.replace(str(Path.cwd()), ".").replace(str(Path.home()), "~")
