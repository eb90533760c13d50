"""The device itself: what a GPU refuses it refuses, and what goes wrong on one goes wrong here."""

from __future__ import annotations

import gc

import pytest
import torch

from tests.pretend_device import device

DEVICE = torch.device("pretend")
MIB = 1 << 20


@pytest.fixture(autouse=True)
def _room():
    yield
    device.limit(None)
    device.fail_at(0)


def filled(values: int) -> torch.Tensor:
    """A tensor of the device with so many float32 values."""
    return torch.ones(values, device=DEVICE)


def test_torch_takes_it_for_its_accelerator():
    assert torch.accelerator.current_accelerator() == DEVICE
    assert torch.accelerator.device_count() == 2
    free, total = torch.accelerator.get_memory_info(1)
    assert 0 < free <= total


@pytest.mark.parametrize("elsewhere", ["cpu", "pretend:1"])
@pytest.mark.parametrize(
    "operation",
    [torch.add, torch.matmul, lambda a, b: torch.cat([a, b]), torch.nn.functional.linear,
     lambda a, b: a.index_add_(0, torch.tensor([0, 1]).to(DEVICE), b)],
    ids=["add", "matmul", "cat", "linear", "index_add"],
)  # fmt: skip
def test_tensors_of_two_devices_do_not_meet(operation, elsewhere):
    here, there = torch.ones(2, 2, device=DEVICE), torch.ones(2, 2, device=elsewhere)
    with pytest.raises(RuntimeError, match="the same device"):
        operation(here, there)


def test_numbers_meet_tensors_and_indices_may_be_elsewhere():
    rows = torch.arange(6.0, device=DEVICE).reshape(3, 2)
    assert (rows * torch.tensor(2.0))[torch.tensor([2, 0])].tolist() == [[8, 10], [0, 2]]


def test_memory_ends_and_comes_back():
    before = device.held()
    device.limit(before + MIB)
    kept = filled(MIB // 8)
    with pytest.raises(torch.OutOfMemoryError, match="pretend: out of memory"):
        filled(MIB // 4)
    assert torch.accelerator.get_memory_info()[0] == MIB // 2
    assert device.held() == before + MIB // 2
    del kept
    gc.collect()
    assert filled(MIB // 4).device.type == "pretend"


def test_one_allocation_fails_that_was_asked_to():
    device.fail_at(2)
    filled(1)
    with pytest.raises(torch.OutOfMemoryError):
        filled(1)
    filled(1)


def test_new_memory_is_not_a_number():
    assert torch.empty(3, device=DEVICE).isnan().all()


def test_what_is_used_before_it_arrives_is_not_a_number():
    source = torch.ones(3).pin_memory()
    stream = torch.Stream(DEVICE)
    with stream:
        moved = source.to(DEVICE, non_blocking=True)
    assert moved.isnan().all()
    stream.synchronize()
    assert moved.tolist() == [1, 1, 1]


def test_a_block_freed_under_another_stream_is_counted():
    def freed(record: bool) -> int:
        before, stream = device.unrecorded(), torch.Stream(DEVICE)
        with stream:
            block = filled(4)
        used = block + 1  # on the stream of here
        if record:
            block.record_stream(torch.accelerator.current_stream(DEVICE))
        del block
        assert used.sum() == 8
        return device.unrecorded() - before

    assert freed(record=True) == 0
    assert freed(record=False) == 1


def test_what_the_host_waits_for_is_counted():
    rows = filled(3)
    before = device.waits.total()
    rows = rows * 2
    assert device.waits.total() == before
    rows[0].item()
    rows.nonzero()
    rows.cpu()
    assert device.waits.total() == before + 3
    assert all("test_device.py" in place for place in list(device.waits)[-3:])


def test_a_lazy_conjugate_is_copied_as_what_it_is():
    turned = torch.tensor([1 + 2j, 3 - 1j], device=DEVICE).conj()
    assert turned.resolve_conj().cpu().tolist() == [1 - 2j, 3 + 1j]
    assert turned.imag.cpu().tolist() == [-2, 1]
