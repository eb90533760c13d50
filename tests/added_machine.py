"""A machine that joins a Ray on this one: a second set of Ray's processes, on the loopback.

``python -m tests.added_machine ADDRESS CPUS`` joins, says so, and leaves when its input ends.
``ray start`` does not: it takes another address than the loopback's for this machine's.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def added_machine(address: str, cpus: int) -> Iterator[None]:
    """A machine with so many processors is part of the Ray at ``address`` within the block."""
    command = [sys.executable, "-m", "tests.added_machine", address, str(cpus)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        said = process.stdout.readline()
        try:
            if said != "joined\n":
                raise RuntimeError(f"no machine could be added: {said}{process.stdout.read()}")
            yield
        finally:
            process.stdin.close()
            process.wait()


def main() -> None:
    """Join, and stay until the standard input ends."""
    from ray._private import node, parameter

    address, cpus = sys.argv[1:]
    here = parameter.RayParams(
        gcs_address=address, node_ip_address="127.0.0.1", num_cpus=int(cpus), node_manager_port=0,
        include_log_monitor=False,  # type: ignore[arg-type]  # Ray's own tests write so
        dashboard_agent_listen_port=None,
    )  # fmt: skip
    joined = node.Node(here, head=False, shutdown_at_exit=False, spawn_reaper=False)
    print("joined", flush=True)
    sys.stdin.read()
    joined.kill_all_processes(check_alive=False, allow_graceful=True, wait=True)


if __name__ == "__main__":
    main()
