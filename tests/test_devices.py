"""Devices by name, and what fits on them, on machines that have others than this one."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import pytest
import torch

from analyze.errors import InputError
from analyze.gradients.device import devices
from analyze.gradients.device.devices import (
    GPU,
    KINDS,
    chunk_bytes,
    current,
    device_with_float64,
    has_float64,
    kind_of,
    kinds_of_autocast,
    largest_batch_bytes,
    largest_batch_size,
    most_segments,
    moving_stream,
    pinned,
    resolve_device,
    synchronize,
)

FLOAT32, FLOAT64 = torch.float32, torch.float64
GIB = 1 << 30


@pytest.fixture
def has(monkeypatch):
    """Let the machine have an accelerator besides its CPU, so many of it."""
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: None)

    def having(name: str, count: int = 1, current: int = 0) -> None:
        found = torch.device(name)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: found)
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)
        monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: current)

    return having


@pytest.fixture
def has_free(monkeypatch):
    """Let an accelerator have so many bytes free, of which torch holds some in its cache."""

    def having(free: int | None, cached: int = 0) -> None:
        devices._share.cache_clear()
        held = {"memory_reserved": 3 * GIB + cached, "memory_allocated": 3 * GIB}

        def info(device: torch.device) -> tuple[int, int]:
            if free is None:
                raise RuntimeError("this backend does not tell")
            return free - cached, 2 * free

        monkeypatch.setattr(torch.accelerator, "get_memory_info", info)
        for name, count in held.items():
            monkeypatch.setattr(torch.accelerator, name, lambda device, count=count: count)

    yield having
    devices._share.cache_clear()


@pytest.mark.parametrize(
    ("name", "dtype", "expected"),
    [(None, FLOAT32, "cpu"), ("cuda", FLOAT32, "cuda:0"), ("cuda", FLOAT64, "cuda:0"),
     ("xpu", FLOAT32, "xpu:0"), ("mps", FLOAT32, "mps:0"), ("mps", FLOAT64, "cpu")],
    ids=str,
)  # fmt: skip
def test_auto_is_the_accelerator_if_it_has_the_numbers(has, name, dtype, expected):
    if name is not None:
        has(name)
    assert resolve_device("auto", dtype) == torch.device(expected)


@pytest.mark.parametrize("name", ["cuda", "xpu", "hpu"])
def test_accelerators_are_numbered(has, name):
    has(name, count=2)
    assert resolve_device(f"{name}:1", FLOAT32) == torch.device(name, 1)
    with pytest.raises(InputError, match=f"one of cpu, {name}, {name}:0, {name}:1 on"):
        resolve_device(f"{name}:2", FLOAT32)


@pytest.mark.parametrize("name", ["cuda:0", "mps", "gpu", "", "cpu:0", "meta", "pretend"])
def test_what_this_machine_has_not_is_refused_with_what_it_has(has, name):
    with pytest.raises(InputError, match=r"auto, or one of cpu on this machine") as refused:
        resolve_device(name, FLOAT32)
    assert f"device {name!r}" in str(refused.value)


def test_a_name_without_a_number_is_the_device_that_is_current_now(has):
    """And not the one of the thread that asks later."""
    has("cuda", count=2, current=1)
    assert resolve_device("cuda", FLOAT32) == torch.device("cuda:1")
    assert resolve_device("auto", FLOAT32) == torch.device("cuda:1")


def test_a_device_without_float64_is_refused_for_it(has):
    has("mps")
    assert resolve_device("mps", FLOAT32).type == "mps"
    with pytest.raises(InputError, match="'mps' with precision 'float64'"):
        resolve_device("mps", FLOAT64)


def test_where_float64_is_not_known_it_is_tried(monkeypatch):
    def lacking(*shape, **options):
        raise RuntimeError("Required aspect fp64 is not supported on the device")

    has_float64.cache_clear()
    assert has_float64(torch.device("meta"))
    monkeypatch.setattr(torch, "ones", lacking)
    assert not has_float64(torch.device("xpu:0"))
    assert device_with_float64(torch.device("xpu:0")) == torch.device("cpu")
    assert device_with_float64(torch.device("mps:0")) == torch.device("cpu")
    assert has_float64(torch.device("cuda:0"))
    has_float64.cache_clear()


@pytest.mark.parametrize("name", ["cuda:1", "xpu", "hpu:3", "privateuseone:1", "meta"])
def test_what_is_no_cpu_and_no_mps_has_the_numbers_of_a_gpu(name):
    assert kind_of(torch.device(name)) is GPU


@pytest.mark.parametrize(
    ("free", "size"),  # GiB; an example keeps 64 MiB
    [(8, 32), (7.9, 16), (24, 64), (79, 256), (141, 512), (1000, 1024)],
)
def test_a_batch_takes_a_share_of_what_is_free_as_a_power_of_two(has_free, free, size):
    has_free(int(free * GIB))
    for device in (torch.device("cuda:0"), torch.device("xpu:1")):
        assert largest_batch_size(device, 64 << 20) == size


def test_memory_in_the_cache_of_torch_is_free(has_free):
    device, sizes = torch.device("cuda"), []
    for cached in (0, 15 * GIB):
        has_free(16 * GIB, cached)
        sizes.append(largest_batch_size(device, 64 << 20))
    assert sizes == [64, 64]


def test_what_is_free_is_asked_once_so_that_all_checkpoints_have_one_size(has_free, monkeypatch):
    device = torch.device("cuda")
    has_free(16 * GIB)
    before = largest_batch_size(device, 64 << 20)
    monkeypatch.setattr(devices, "free_memory", lambda device: pytest.fail("asked again"))
    assert largest_batch_size(device, 64 << 20) == before


def test_where_no_memory_is_told_limits_are_those_of_the_kind(has_free):
    has_free(None)
    device = torch.device("cuda")
    assert largest_batch_bytes(device) == 2 * GPU.activations + GPU.sums
    assert chunk_bytes(device) == GPU.chunk


def test_a_small_card_has_small_parts_of_everything(has_free):
    has_free(2 * GIB)
    device = torch.device("cuda")
    assert largest_batch_bytes(device) <= GIB + GIB // 8
    assert chunk_bytes(device) == 32 << 20
    assert most_segments(device, 1 << 20) == 32


def test_the_cpu_has_its_own_numbers_whatever_is_free(has_free):
    has_free(1 << 20)
    cpu = torch.device("cpu")
    assert largest_batch_bytes(cpu) == 2 * KINDS["cpu"].activations + KINDS["cpu"].sums


def test_a_cpu_is_not_waited_for_and_moves_nothing_by_itself(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device: pytest.fail("waited"))
    synchronize(torch.device("cpu"))
    assert moving_stream(torch.device("cpu")) is None


def test_the_device_that_is_waited_for_is_named(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    synchronize(torch.device("cuda:1"))
    assert waited == [torch.device("cuda:1")]


@pytest.mark.parametrize("why", [RuntimeError, NotImplementedError])
def test_a_device_without_streams_or_pinned_memory_is_given_things_as_it_can(monkeypatch, why):
    def fails(*_):
        raise why("this backend has none")

    for known in (moving_stream, devices._pins_memory):
        known.cache_clear()
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda device: None)
    monkeypatch.setattr(torch, "Stream", fails)
    monkeypatch.setattr(torch.Tensor, "pin_memory", fails)
    assert moving_stream(torch.device("xpu:0")) is None
    assert moving_stream(torch.device("mps:0")) is None
    assert pinned(torch.ones(2)).tolist() == [1, 1]
    for known in (moving_stream, devices._pins_memory):
        known.cache_clear()


def test_a_backend_that_waits_by_its_own_function_alone_is_waited_for(monkeypatch):
    def lacking(device):
        raise RuntimeError("Backend doesn't support synchronizing all streams on device.")

    waited = []
    monkeypatch.setattr(torch.accelerator, "synchronize", lacking)
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))
    synchronize(torch.device("mps:0"))
    assert waited == ["mps"]


@pytest.mark.parametrize("count", [1, 2])
def test_the_current_device_is_set_where_there_are_several(has, monkeypatch, count):
    asked = []
    has("cuda", count)

    def device_index(index: int) -> AbstractContextManager[None]:
        asked.append(index)
        return nullcontext()

    monkeypatch.setattr(torch.accelerator, "device_index", device_index)
    for name in ("cpu", "cuda:0"):
        with current(torch.device(name)):
            pass
    assert asked == [0] * (count - 1)


def test_autocast_is_looked_for_on_the_accelerator_of_this_torch(has):
    assert kinds_of_autocast() == ("cpu", "cuda", "mps", "xpu")
    has("hpu")
    assert kinds_of_autocast() == ("cpu", "cuda", "mps", "xpu", "hpu")
