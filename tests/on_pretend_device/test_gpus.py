"""All GPUs of a machine: a process each, and what happens when one of them fails."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
import torch
import xarray as xr

import analyze
from analyze.runs.progress import Progress
from analyze.runs.units.activity import Place
from tests.conftest import TinyRun, small_weights
from tests.crash import assert_same_arrays

CHECKPOINTS = 6
PATIENCE = 120  # seconds until something that must happen has happened
MODEL = """
import os
import torch
from torch import nn

HERE = {here}

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.fc = nn.Linear(12, 5), nn.Linear(5, 3)

    def forward(self, x):
        if os.getpid() != HERE and x.device.index in {failing}:
            {failure}
        return self.fc(self.hidden(x).relu())
"""


class Places(Progress):
    """Remembers where checkpoints were begun, and what was noted."""

    def __init__(self) -> None:
        self.devices: dict[str, set[str]] = defaultdict(set)
        self.processes: set[int] = set()
        self.notes: list[str] = []

    def checkpoint(self, name: str, place: Place) -> None:
        self.devices[place.device].add(name)
        self.processes.add(place.process)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def series(tiny) -> TinyRun:
    """The tiny run with more checkpoints."""
    for seed in range(3, CHECKPOINTS):
        torch.save(small_weights(seed), tiny.path / f"step_{1000 + seed}.pt")
    return tiny


def measured(series: TinyRun, device: str, **options) -> tuple[Places, xr.DataTree]:
    places, output = Places(), series.path.parent / f"{device.replace(':', '_')}.h5"
    tree = analyze.run(
        series.path, output=output, device=device, folds=2, progress=places, **options
    )
    return places, tree


def failing(series: TinyRun, failure: str, devices: tuple[int, ...]) -> str:
    """A model that fails on some devices in other processes than this one."""
    file = series.path.parent / "network.py"
    file.write_text(MODEL.format(here=os.getpid(), failing=devices, failure=failure))
    weights = small_weights(0)
    names = {name: name for name in weights}
    assert sorted(names) == ["fc.bias", "fc.weight", "hidden.bias", "hidden.weight"]
    return f"{file}:Network"


def test_both_measure_and_give_the_bits_of_one(series):
    places, both = measured(series, "pretend")
    assert not any("failed" in note for note in places.notes)
    assert set(places.devices) == {"pretend:0", "pretend:1"}
    assert len(set().union(*places.devices.values())) == CHECKPOINTS
    assert len(places.processes) == 2
    assert os.getpid() not in places.processes
    alone, one = measured(series, "pretend:1")
    assert set(alone.devices) == {"pretend:1"}
    assert alone.processes == {os.getpid()}
    assert_same_arrays(both, one)


@pytest.mark.nightly  # tests.test_workers keeps what processes without a device have measured
def test_what_both_have_measured_is_kept(series):
    _, first = measured(series, "pretend")
    again, kept = measured(series, "pretend")
    assert_same_arrays(first, kept)
    assert sum(map(len, again.devices.values())) == CHECKPOINTS


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        pytest.param(
            "raise RuntimeError('an error of the driver')", "an error of the driver",
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            "raise torch.OutOfMemoryError('out of memory')", "does not fit into memory",
            marks=pytest.mark.nightly,
        ),
        ("os.kill(os.getpid(), 9)", "its process ended early"),
    ],
)  # fmt: skip
def test_one_that_fails_gives_its_checkpoint_back(series, failure, said):
    model = failing(series, failure, (1,))
    places, tree = measured(series, "pretend", model=model)
    (note,) = [note for note in places.notes if "failed" in note]
    assert said in note
    assert note.startswith("Warning: pretend:1 failed: ")
    assert note.endswith("; the run goes on with pretend:0")
    assert len(places.devices["pretend:0"]) == CHECKPOINTS
    _, one = measured(series, "pretend:0", model=model)
    assert_same_arrays(tree, one)


@pytest.mark.nightly
def test_where_all_fail_the_run_goes_on_as_on_one_device(series):
    model = failing(series, "os.kill(os.getpid(), 9)", (0, 1))
    places, tree = measured(series, "pretend", model=model)
    assert sum("failed" in note for note in places.notes) == 2
    assert any(note.endswith("in this process, on one device") for note in places.notes)
    assert os.getpid() in places.processes
    assert tree["status"].values.tolist() == ["ok"] * CHECKPOINTS


@pytest.mark.nightly  # scripts.crash_test kills such a run on a processor
def test_their_processes_end_with_a_run_that_is_killed(series):
    code = (
        "import analyze, os, sys\n"
        "from tests.on_pretend_device.test_gpus import Places\n"
        "class Told(Places):\n"
        "    def checkpoint(self, name, place):\n"
        "        super().checkpoint(name, place)\n"
        "        if len(self.processes) == 2:\n"
        "            print(*self.processes, flush=True)\n"
        "            os.kill(os.getpid(), 9)\n"
        f"analyze.run({str(series.path)!r}, output={str(series.output)!r}, folds=2,"
        " progress=Told())\n"
    )
    environment = os.environ | {"ANALYZE_TEST_DEVICE": "pretend"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, check=False
    )
    assert run.returncode == -9
    processes = list(map(int, run.stdout.split()))
    assert len(processes) == 2
    until = time.monotonic() + PATIENCE
    while (left := [p for p in processes if _alive(p)]) and time.monotonic() < until:
        time.sleep(0.05)
    assert left == []


def _alive(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
