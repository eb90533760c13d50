"""Checks and times this machine's accelerator, and writes one JSON file to be sent back.

Numbers against plain autograd on the CPU, the same bits twice, time against plain steps and other
tools, memory against the estimate, launches and waits of a batch, a second device if there is one.
Ten minutes at most, without a network. What fails is in the file, and the rest goes on. The file
has names of devices and versions, and nothing of yours.
"""

from __future__ import annotations

import argparse
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scripts.gpu_checking.running import run_part
from scripts.gpu_checking.table import PARTS

QUICK = 300.0  # seconds of a part, far beyond what it needs


def main() -> int:
    """Run all parts; 1 if one of them is not done."""
    parser = argparse.ArgumentParser(prog="scripts/gpu_check", description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, xpu, mps, cpu ...")
    parser.add_argument("--output", type=Path, default=Path("gpu_check.json"), metavar="FILE")
    parser.add_argument("--quick", action="store_true", help="tiny models: whether the check works")
    parser.add_argument("--parts", metavar="NAME,...", help=f"of {', '.join(PARTS)}")
    arguments = parser.parse_args()
    names = list(PARTS) if arguments.parts is None else arguments.parts.split(",")
    report: dict[str, Any] = {"schema": 1, "quick": arguments.quick, "device": arguments.device,
                              "begun": datetime.now(UTC).isoformat(), "parts": {}}  # fmt: skip
    for name in names:
        seconds = QUICK if arguments.quick else PARTS[name].seconds
        print(f"{name}, {seconds:.0f} s at most", flush=True)
        report["parts"][name] = run_part(name, arguments.device, seconds, arguments.quick)
        arguments.output.write_text(json.dumps(_plain(report), indent=1) + "\n", encoding="utf-8")
        print(f"  {report['parts'][name]['status']}", flush=True)
    failed = [name for name, part in report["parts"].items() if part["status"] != "done"]
    print(f"{arguments.output} is what to send back; {_told(failed)}")
    return 1 if failed else 0


def _told(failed: list[str]) -> str:
    return f"not done: {', '.join(failed)}" if failed else "all parts are done"


def _plain(value: Any) -> Any:
    """The value with null for what is no number, which JSON has no word for."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    raise SystemExit(main())
