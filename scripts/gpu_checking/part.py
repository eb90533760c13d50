"""One part in a process of its own, whose findings are lines of JSON: ``NAME DEVICE SECONDS``."""

from __future__ import annotations

import json
import os
import sys
import time

from analyze.gradients.device.devices import resolve_device
from scripts.gpu_checking.check import Check
from scripts.gpu_checking.table import PARTS


def main(name: str, device: str, seconds: str, *quick: str) -> None:
    """Print each finding as soon as it is there, with nothing else in its line."""
    import torch

    findings = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what models print is no finding
    end = time.monotonic() + float(seconds)
    check = Check(resolve_device(device, torch.float32), bool(quick), end)
    for finding in PARTS[name].findings(check):
        print(json.dumps(finding), file=findings, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
