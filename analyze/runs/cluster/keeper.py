"""The process that keeps a Ray of one run on one machine, and leaves nothing of it.

``python -m analyze.runs.cluster.keeper CPUS`` starts a Ray that only this machine can reach, prints
its address, and ends it when its standard input ends: with the run, however that ends. Ray's own
processes may outlive a run that is killed, and its directory always does; here they are children,
also those whose parents are dead, and the directory is removed.
"""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

LOOPBACK = "127.0.0.1"
ADOPT_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER of Linux
PATIENCE = 20  # seconds until what was killed has ended
# Set before Ray is imported. The second makes it take the loopback address for this machine's; by
# the last it starts no processes before any are asked for.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_prestart_worker_first_driver": "0",
}


def main() -> None:
    """Keep a Ray with so many processors until the standard input ends."""
    with suppress(OSError, AttributeError):  # not Linux: those that Ray knows of end with it
        ctypes.CDLL(None).prctl(ADOPT_ORPHANS, 1, 0, 0, 0)
    folder = tempfile.mkdtemp(prefix="analyze-ray-")
    try:
        import ray

        ray.init(
            address="local",
            num_cpus=int(sys.argv[1]),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address=LOOPBACK,
            _temp_dir=folder,
        )
        print(ray.get_runtime_context().gcs_address, flush=True)
        while os.read(0, 1):
            pass
        ray.shutdown()
    finally:
        _end_children()
        shutil.rmtree(folder, ignore_errors=True)


def _end_children() -> None:
    """End all processes that this one has started or adopted."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        for child in _children():
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not ended:
            time.sleep(0.05)


def _children() -> list[int]:
    """The processes whose parent this one is; none where the system does not list them."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(stat.parent.name))
    return found


if __name__ == "__main__":
    main()
