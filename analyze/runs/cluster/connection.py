"""The connection to a Ray: one of the run's own on this machine, or that of a cluster."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from types import ModuleType
from typing import Any

from analyze.errors import InputError, described
from analyze.runs.cluster.address import AUTO, FORMS, LOCAL, LOOPBACK, parts
from analyze.runs.cluster.keeper import ENVIRONMENT

PATIENCE = 60  # seconds until a process that was asked to end has ended
ANSWER = 10.0  # seconds within which a head takes a connection, or is not there


def check_reachable(where: str) -> None:
    """Connect to the cluster at ``where``, and leave it again; ``local`` is only looked for.

    Raises:
        InputError: as ``connected``.
    """
    if where == LOCAL:
        _imported()
        return
    with connected(where):
        pass


@contextmanager
def connected(where: str, cpus: int | None = None) -> Iterator[ModuleType]:
    """Ray, connected within the block to the cluster at ``where``.

    ``local`` starts a Ray of the run's own with ``cpus`` processors, all of them by default, which
    only this machine can reach, and ends it with the block.

    Raises:
        InputError: Ray is not installed or already in use, or the cluster cannot be reached.
    """
    ray = _imported()
    if ray.is_initialized():
        raise InputError(
            "Ray is already connected in this process",
            found="ray.is_initialized() is true",
            expected="a process of the run's own: it connects, and disconnects at its end",
            fix="ray.shutdown() before analyze.run(...)",
        )
    with ExitStack() as stack:
        address = where
        if where == LOCAL:
            address = stack.enter_context(own(cpus or os.cpu_count() or 1))
            stack.enter_context(loopback())
        stack.callback(ray.shutdown)
        with _handlers_kept():
            _connect(ray, address, where)
        yield ray


def _imported() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # the run tells them in its words
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "Ray is not installed",
            found="--cluster without the package ray",
            expected="the extra [cluster] of this program",
            fix="pip install 'gradient-coherence[cluster]'",
        ) from error
    return ray


def _connect(ray: ModuleType, address: str, where: str) -> None:
    try:
        _knock(ray, address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise InputError(
            "the cluster cannot be reached",
            found=f"--cluster {where}: {described(error)}",
            expected=f"{FORMS}, with the versions of Python and Ray that are here",
            fix="--cluster local, or ray status on this machine to see what runs here",
        ) from error


def _knock(ray: ModuleType, address: str) -> None:
    """See whether anything listens at an address: Ray looks for minutes, and writes a log of it.

    Raises:
        OSError: nothing does.
    """
    if address == AUTO:
        address = os.environ.get("RAY_ADDRESS") or AUTO  # Ray looks there first
    if address in (AUTO, LOCAL) or address.startswith("ray://"):
        return
    host, port = parts(address)
    try:
        socket.create_connection((host, port), ANSWER).close()
    except ConnectionRefusedError:
        if host not in LOOPBACK:
            raise
        # Ray takes this machine's own address for the loopback's, and may listen there only.
        socket.create_connection((ray.util.get_node_ip_address(), port), ANSWER).close()


@contextmanager
def own(cpus: int) -> Iterator[str]:
    """The address of a Ray of the run's own, which ends with the block or this process."""
    token = {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with _environment(ENVIRONMENT | token):
        command = [sys.executable, "-m", "analyze.runs.cluster.keeper", str(cpus)]
        keeper = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        with keeper.stdin, keeper.stdout:
            try:
                address = keeper.stdout.readline().decode().strip()
                if not address:
                    raise InputError(
                        "Ray did not start on this machine",
                        found=f"its keeper ended with {keeper.wait()}; see above",
                        expected="room for its processes in memory and in the temporary directory",
                        fix="leave --cluster out",
                    )
                yield address
            finally:
                keeper.stdin.close()
                try:
                    keeper.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    keeper.kill()
                    keeper.wait()


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables within a block, which Ray reads again."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    _read_again()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _read_again()


@contextmanager
def loopback() -> Iterator[None]:
    """Have Ray take the loopback address for this machine's, within a block.

    The keeper's Ray does so by an environment variable, which is read when Ray is imported.
    """
    constants: Any = import_module("ray._private.ray_constants")
    before = constants.ENABLE_RAY_CLUSTER
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def _read_again() -> None:
    """Have Ray read its token again, which it remembers from an earlier connection."""
    with suppress(ImportError, AttributeError):  # other versions do not remember it
        ray: Any = import_module("ray._raylet")
        ray.Config.initialize("")
        ray.AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Keep the handlers of signals, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
