"""The ranks of a launch come together: a process group, and a line from each to the leading one."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from typing import TypeVar

import torch
import torch.distributed as dist

from analyze.errors import InputError, counted, described
from analyze.gradients.device.devices import CPU, accelerator, check_device, names
from analyze.runs.options import Options
from analyze.runs.provenance import versions
from analyze.runs.ranks.launch import TIME_LIMIT, Launch
from analyze.runs.ranks.line import Line

RESTARTS = "TORCHELASTIC_RESTART_COUNT"
LOOPBACK = "lo"  # the network interface of Linux that leads nowhere else
ADDRESS = "analyze/address"  # in the store of the launch, where the others find it
Given = TypeVar("Given", bound=Options)


@dataclass(frozen=True)
class Introduction:
    """What a rank says of itself when it has joined."""

    rank: int
    host: str
    versions: dict[str, str]


def device_of(launch: Launch, name: str) -> str:
    """The device of a rank, where the user chose the one of this name for all of them.

    Each rank of a machine has an accelerator of its own; on a CPU they share it.

    Raises:
        InputError: the machine has no such device, fewer accelerators than ranks, or one of them
            was chosen for several ranks.
    """
    check_device(name)
    kind, _, number = name.partition(":")
    if number and launch.local_ranks > 1:
        raise InputError(
            "several ranks cannot measure on one GPU",
            found=f"device {name!r} for {launch.local_ranks} ranks of this machine",
            expected="a GPU for each rank, as NCCL needs it",
            fix=f"--device {kind}, which gives each its own, or --nproc-per-node 1 of torchrun",
        )
    count = len([known for known in names() if ":" in known])
    if number or kind == CPU.name or not count or kind not in ("auto", accelerator()):
        return name
    if launch.local_ranks > count:
        raise InputError(
            "there are fewer GPUs than ranks",
            found=f"{launch.local_ranks} ranks and {counted(count, 'GPU')} on "
            f"{socket.gethostname()}",
            expected="a GPU for each rank, as NCCL needs it",
            fix=f"--nproc-per-node {count} of torchrun, or --device cpu",
        )
    return f"{accelerator()}:{launch.local_rank}"


def on_its_device(launch: Launch, options: Given) -> Given:
    """What a user chose, with the device of this rank.

    Raises:
        InputError: as ``device_of``.
    """
    device = device_of(launch, options.settings.device)
    return replace(options, settings=replace(options.settings, device=device))


@contextmanager
def process_group(launch: Launch, device: str) -> Iterator[dist.Store]:
    """In the block this rank is in the process group of all ranks; its store is given.

    Raises:
        InputError: not all ranks came within the time limit.
    """
    limit = timedelta(seconds=launch.time_limit)
    kind, _, number = device.partition(":")
    if number:
        torch.accelerator.set_device_index(int(number))
    if launch.on_one_machine and sys.platform == "linux":  # then nothing need listen elsewhere
        for library in ("GLOO", "NCCL"):
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", LOOPBACK)
    try:
        # NCCL for CUDA; Gloo for devices that have none of their own, whose tensors go by the CPU.
        store, rank, ranks = next(iter(dist.rendezvous("env://", timeout=limit)))
        if launch.on_one_machine:  # where torchrun may start ranks again by the store they had
            start = os.environ.get(RESTARTS, "0")
            store = dist.PrefixStore(f"start {start}", store)
        store.set_timeout(limit)
        backend = dist.Backend.default_device_backend_map.get(kind, dist.Backend.GLOO)
        dist.init_process_group(backend, timeout=limit, world_size=ranks, rank=rank, store=store)
    except (RuntimeError, OSError) as error:  # torch.distributed raises both
        raise _not_together(launch, error) from error
    try:
        yield store
    finally:
        dist.destroy_process_group()


def lines_to_all(launch: Launch, store: dist.Store) -> dict[int, tuple[Line, Introduction]]:
    """The lines of the leading rank to the others, with what each says of itself.

    Raises:
        InputError: a rank did not come within the time limit.
    """
    key = secrets.token_bytes(32)  # or any program could answer in a rank's place
    host = "127.0.0.1" if launch.on_one_machine else os.environ["MASTER_ADDR"]
    lines: dict[int, tuple[Line, Introduction]] = {}
    try:
        with Listener((host, 0), backlog=launch.ranks, authkey=key) as waiting:
            store.set(ADDRESS, json.dumps([*waiting.address, key.hex()]))
            store.wait([_here(rank) for rank in range(1, launch.ranks)])
            while len(lines) < launch.ranks - 1:
                try:
                    line = Line(waiting.accept(), launch.time_limit)
                except AuthenticationError:  # a stranger at the port
                    continue
                _, introduction = line.receive(launch.time_limit)
                lines[introduction.rank] = line, introduction
    except (RuntimeError, OSError) as error:
        raise _not_together(launch, error) from error
    return dict(sorted(lines.items()))


def line_to_leader(launch: Launch, store: dist.Store) -> Line:
    """The line of another rank to the leading one.

    Raises:
        InputError: the leading rank did not come within the time limit.
    """
    try:
        host, port, key = json.loads(store.get(ADDRESS))
        store.set(_here(launch.rank), "")
        connection = Client((host, port), authkey=bytes.fromhex(key))
    except (RuntimeError, OSError, AuthenticationError) as error:
        raise _not_together(launch, error) from error
    assert isinstance(connection, Connection)
    line = Line(connection, launch.time_limit)
    line.send("", Introduction(launch.rank, socket.gethostname(), versions()))
    return line


def _here(rank: int) -> str:
    return f"analyze/here/{rank}"


def check_versions(other: Introduction) -> None:
    """Refuse a rank that may compute otherwise.

    Raises:
        InputError: it has another version of the program, or of what numbers depend on.
    """
    own = versions()
    if apart := [name for name in own if other.versions.get(name) != own[name]]:
        found = ", ".join(f"{n} {own[n]} here and {other.versions.get(n)}" for n in apart)
        raise InputError(
            "the ranks of the launch have other versions",
            found=f"{found} on {other.host} (rank {other.rank})",
            expected="the same version on all ranks, as numbers depend on it",
            fix="install the same versions on all machines",
        )


def _not_together(launch: Launch, error: Exception) -> InputError:
    return InputError(
        "the ranks of the launch did not come together",
        found=f"rank {launch.rank} of {launch.ranks} on {socket.gethostname()}: {described(error)}",
        expected=f"all ranks within {launch.time_limit:.0f} s, in a network in which each reaches "
        "the others",
        fix=f"the same command with more time, {TIME_LIMIT}={2 * launch.time_limit:.0f}, or with "
        "another --master-port or --rdzv-endpoint of torchrun",
    )
