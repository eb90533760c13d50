"""Runs measured by Ray: bits, faults, refusals, and nothing left. All of it on the loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import analyze
from analyze.errors import InputError
from analyze.probes import write_probes
from analyze.runs import commission
from analyze.runs.cluster import connection
from analyze.runs.cluster.pool import Cluster, Needs
from analyze.runs.progress import Progress
from analyze.runs.units.activity import Place
from analyze.specs.model import ModelSpec
from tests.added_machine import added_machine
from tests.conftest import TinyRun, small_weights
from tests.crash import assert_same_arrays
from tests.ranks import free_port

pytest.importorskip("ray")
CHECKPOINTS = 5
PATIENCE = 120  # seconds until something that must happen has happened
TRANSFORMER = """
import os
import signal
import torch
from pathlib import Path
from torch import nn

class Tied(nn.Module):
    def __init__(self, words=11, width=8):
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.block = nn.TransformerEncoderLayer(width, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, words, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(self.block(self.embed(x)))


class Deadly(nn.Module):
    # Kills the process that measures the checkpoint whose bias begins with 7, so many times.
    def __init__(self):
        super().__init__()
        self.hidden, self.fc = nn.Linear(12, 5), nn.Linear(5, 3)

    def forward(self, x):
        place = Path(__file__).parent
        if os.getpid() != int((place / "here").read_text()) and self.fc.bias[0] == 7:
            left = int((place / "times").read_text())
            if left:
                (place / "times").write_text(str(left - 1))
                os.kill(os.getpid(), signal.SIGKILL)
        return self.fc(self.hidden(x).relu())
"""


class Told(Progress):
    """Remembers where checkpoints were begun, and what was noted."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.processes: set[int] = set()
        self.notes: list[str] = []

    def checkpoint(self, name: str, place: Place) -> None:
        self.begun.append(name)
        self.processes.add(place.process)

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass(frozen=True)
class Series:
    """Checkpoints with probes and a model of the user's."""

    path: Path
    model: str
    probes: Path

    def run(self, name: str, **options) -> xr.DataTree:
        return analyze.run(
            self.path, output=self.path.parent / f"{name}.h5", model=self.model,
            probes=self.probes, device="cpu", folds=2, **options,
        )  # fmt: skip


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory for temporary files, whose name is short enough for the sockets in it."""
    with tempfile.TemporaryDirectory(prefix="t") as folder:
        yield Path(folder)


def left_of(place: Path) -> list[str]:
    """Temporary files in a directory, and processes that use it, by their environment."""
    mark, found = f"TMPDIR={place}".encode(), [str(path) for path in place.iterdir()]
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


def gone(place: Path) -> list[str]:
    """What is left there after a while."""
    until = time.monotonic() + PATIENCE
    while (left := left_of(place)) and time.monotonic() < until:
        time.sleep(0.2)
    return left


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A Ray of four processors that all tests here share."""
    with connection.own(4) as found, connection.loopback():
        yield found


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "networks.py"
    path.write_text(TRANSFORMER)
    return path


@pytest.fixture
def tied(tmp_path, file) -> Series:
    """A small transformer whose embedding is its head."""
    draw = np.random.default_rng(0)
    words = draw.integers(0, 11, (16, 6))
    subset = ["clean" if k % 2 else "corrupted" for k in range(16)]
    probes = tmp_path / "words.safetensors"
    write_probes(probes, analyze.ProbeSet(words, np.roll(words, -1, 1), subset))
    series = Series(tmp_path / "tied", f"{file}:Tied", probes)
    series.path.mkdir()
    scope: dict[str, object] = {}
    exec(compile(TRANSFORMER, str(file), "exec"), scope)
    for seed in range(CHECKPOINTS):
        torch.manual_seed(seed)
        torch.save(scope["Tied"]().state_dict(), series.path / f"step_{seed}.pt")
    return series


@pytest.fixture
def deadly(tiny: TinyRun, file) -> Series:
    """The tiny run with a model that kills its process at one checkpoint."""
    weights = small_weights(5)
    weights["fc.bias"][0] = 7
    torch.save(weights, tiny.path / "step_101.pt")
    (file.parent / "here").write_text(str(os.getpid()))
    (file.parent / "times").write_text("0")
    return Series(tiny.path, f"{file}:Deadly", tiny.probes)


# --- numbers


@pytest.mark.parametrize(
    "workers",
    [pytest.param(1, marks=pytest.mark.nightly), 2, pytest.param(4, marks=pytest.mark.nightly)],
)
def test_tied_weights_have_the_bits_of_one_process(tied, address, monkeypatch, workers):
    monkeypatch.setattr(Cluster, "_most", lambda self: workers)
    alone, told = tied.run("alone"), Told()
    assert_same_arrays(alone, tied.run("ray", cluster=address, progress=told))
    assert sorted(told.begun) == [f"step_{k}.pt" for k in range(CHECKPOINTS)]
    assert os.getpid() not in told.processes
    found = analyze.status(tied.path.parent / "ray.h5")
    assert (found.state, found.done, found.left) == ("complete", CHECKPOINTS, 0)
    # What was measured is kept, and only what is missing is measured again.
    units = sorted((tied.path.parent / "ray.h5.units").glob("*.unit"))
    before = {unit: unit.read_bytes() for unit in units[1:]}
    units[0].unlink()
    assert_same_arrays(alone, tied.run("ray", cluster=address))
    assert {unit: unit.read_bytes() for unit in units[1:]} == before


@pytest.mark.nightly
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_sample_has_the_bits_of_one_process(tmp_path, address, monkeypatch, workers):
    monkeypatch.setattr(Cluster, "_most", lambda self: workers)
    run = Path(__file__).parents[1] / "sample_checkpoints" / "half_noise"
    options = {"device": "cpu", "folds": 2, "max_probes": 48}
    alone = analyze.run(run, output=tmp_path / "alone.h5", **options)
    ray = analyze.run(run, output=tmp_path / "ray.h5", cluster=address, **options)
    assert_same_arrays(alone, ray)


# --- faults


@pytest.fixture
def two_workers(monkeypatch) -> None:
    """At most two of the cluster's four: each has torch to import."""
    monkeypatch.setattr(Cluster, "_most", lambda self: 2)


@pytest.mark.usefixtures("two_workers")
def test_a_worker_that_is_killed_costs_its_checkpoint_only(deadly, address):
    alone = deadly.run("alone")
    (deadly.path.parent / "times").write_text("1")
    told = Told()
    assert_same_arrays(alone, deadly.run("ray", cluster=address, progress=told))
    assert sorted(told.begun) == ["step_10.pt", "step_100.pt", *["step_101.pt"] * 2, "step_9.pt"]
    (note,) = [note for note in told.notes if "measured again" in note]
    assert "step_101.pt is measured again: its worker ended early" in note


@pytest.mark.nightly
def test_a_checkpoint_that_kills_its_worker_twice_is_skipped(deadly, address):
    (deadly.path.parent / "times").write_text("9")
    told = Told()
    tree = deadly.run("ray", cluster=address, progress=told)
    assert told.begun.count("step_101.pt") == 2
    assert (deadly.path.parent / "times").read_text() == "7"
    (status,) = [s for s in tree["status"].values.tolist() if s != "ok"]
    assert "step_101.pt, 2 times: its worker ended early" in status
    assert analyze.status(deadly.path.parent / "ray.h5").failed == {"step_101.pt": status}
    (deadly.path.parent / "times").write_text("0")  # the same again, where it is no longer deadly
    assert_same_arrays(deadly.run("alone"), deadly.run("ray", cluster=address))


@pytest.mark.nightly
def test_a_machine_that_is_added_takes_checkpoints_and_may_leave(tied):
    """A Ray of one processor has one task at a time, until another machine comes."""
    slow = tied.path.parent / "slow.py"
    pause = f"time.sleep(0.3 * (os.getpid() != {os.getpid()})); return self.head("
    code = TRANSFORMER.replace("return self.head(", pause)
    slow.write_text(code.replace("import torch\n", "import time, torch\n"))
    tied = replace(tied, model=f"{slow}:Tied")
    for k in range(CHECKPOINTS, 12):
        shutil.copy(tied.path / "step_0.pt", tied.path / f"step_{k}.pt")
    alone, output = tied.run("alone"), tied.path.parent / "ray.h5"

    class Growing(Told):
        """Adds a machine at the first checkpoint, and takes it away once it has had one."""

        def checkpoint(self, name: str, place: Place) -> None:
            super().checkpoint(name, place)
            if len(self.begun) == 1:
                machines.enter_context(added_machine(address, 1))
            if len(self.processes) == 2:
                machines.close()

    with connection.own(1) as address, connection.loopback(), ExitStack() as machines:
        told = Growing()
        assert_same_arrays(alone, tied.run("ray", cluster=address, progress=told))
    assert len(told.processes) >= 2
    assert set(told.begun) == {f"step_{k}.pt" for k in range(12)}
    assert analyze.status(output).state == "complete"


@pytest.mark.usefixtures("two_workers")
def test_ctrl_c_cancels_what_waits_and_keeps_what_is_done(tied, address):
    class Stopping(Told):
        def ended(self, name: str, problem: str = "", is_new: bool = True) -> None:
            raise KeyboardInterrupt

    from analyze.runs.units.interruption import Interrupted

    with pytest.raises(Interrupted):
        tied.run("ray", cluster=address, progress=Stopping())
    assert_same_arrays(tied.run("alone"), tied.run("ray", cluster=address))


# --- refusals


def test_other_versions_are_refused_with_both_numbers():
    with pytest.raises(InputError) as refused:
        commission.check_same_versions(
            {"torch": "2.14.1", "python": "3.11.2"},
            {"torch": "2.13.0", "python": "3.11.2"},
            "node7",
        )
    assert refused.value.found == "torch 2.13.0 on node7; the run has torch 2.14.1"
    assert refused.value.fix == "pip install torch==2.14.1"


def test_other_versions_in_a_cluster_are_refused_at_the_start(tied, address, monkeypatch):
    ours = commission.deciding_versions()
    monkeypatch.setattr(commission, "deciding_versions", lambda: ours | {"torch": "1.0"})
    told = Told()
    with pytest.raises(InputError, match="other versions") as refused:
        tied.run("ray", cluster=address, progress=told)
    assert "the run has torch 1.0" in refused.value.found
    assert ours["torch"] in refused.value.found
    assert told.begun == []


def test_other_code_is_refused(tmp_path):
    path = tmp_path / "networks.py"
    path.write_text("a = 1")
    with pytest.raises(InputError, match="other code") as refused:
        commission.check_same_code(path, "0" * 64)
    assert str(path) in refused.value.found
    with pytest.raises(InputError, match="other code"):
        commission.check_same_code(tmp_path / "missing.py", "0" * 64)


def test_a_commission_is_plain_data(tied):
    """No code travels: a worker builds model and loss from their specs."""
    import pickletools

    from analyze.runs.job import resolve
    from analyze.runs.options import RunOptions
    from analyze.runs.preparation import prepare

    options = RunOptions(model=tied.model, probes=tied.probes)
    options = replace(options, settings=replace(options.settings, device="cpu", folds=2))
    import pickle

    prepared = prepare(resolve(tied.path, options))
    content = pickle.dumps(commission.Commission.of(prepared, "cpu", 1))
    texts = [a for _, a, _ in pickletools.genops(content) if isinstance(a, str)]
    assert not any("networks" in text and not text.endswith((".py", "Tied")) for text in texts)
    there = pickle.loads(content).taken_up()
    assert there.engine.state() == prepared.engine.state()
    assert there.job.model.source == ModelSpec.parse(tied.model).source


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        (["--gpus-per-task", "1.5", "--cluster", "local"], "gpus_per_task"),
        (["--gpus-per-task", "nan", "--cluster", "local"], "gpus_per_task"),
        (["--gpus-per-task", "inf", "--cluster", "local"], "gpus_per_task"),
        (["--gpus-per-task", "1"], "with --cluster"),
        (["--cpus-per-task", "2"], "with --cluster"),
        (["--follow", "--cluster", "local"], "one at a time"),
        (["--cluster", "ray://host:10001"], "Ray's client"),
        (["--cluster", ""], "no address"),
        (["--cluster", "host"], "no address"),
        (["--cluster", "host:"], "no address"),
        (["--cluster", "host:70000"], "no address"),
        (["--cluster", "http://host:1"], "no address"),
    ],
)
def test_options_that_do_not_fit(tiny, options, fact):
    assert_input_error_of_run(tiny.run(*options), fact)


@pytest.mark.nightly  # each starts a Ray of its own
@pytest.mark.parametrize(
    "needs", [["--gpus-per-task", "99"], ["--cpus-per-task", str(1 + (os.cpu_count() or 1))]]
)
def test_a_task_for_which_this_machine_is_too_small_is_refused(tiny, needs):
    result = tiny.run("--cluster", "local", "--device", "cpu", *needs)
    assert_input_error_of_run(result, "no task fits on this machine")


@pytest.mark.parametrize("where", ["127.0.0.1:PORT", "localhost:PORT", "nowhere.invalid:PORT"])
@pytest.mark.parametrize("by", ["option", "environment"])
def test_a_cluster_that_is_not_there_is_missed_before_the_work(tiny, monkeypatch, where, by):
    where = where.replace("PORT", str(free_port()))
    if by == "environment":
        monkeypatch.setenv("RAY_ADDRESS", where)
    result = tiny.run("--cluster", where if by == "option" else "auto")
    assert_input_error_of_run(result, "the cluster cannot be reached")
    assert "proof" not in result.stderr
    assert not tiny.output.exists()


def assert_input_error_of_run(result, fact: str) -> None:
    lines = [line for line in result.stderr.splitlines() if not line.startswith("Preparing")]
    assert result.exit_code == 3
    assert fact in "\n".join(lines)


def test_without_the_extra_it_says_what_to_install(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = tiny.run("--cluster", "local")
    assert result.exit_code == 3
    assert "pip install 'gradient-coherence[cluster]'" in result.stderr


@pytest.mark.parametrize(
    ("needs", "resources", "slots"),
    [
        (Needs(1, 0), {"CPU": 4.0}, 4),
        (Needs(3, 0), {"CPU": 4.0}, 1),
        (Needs(1, 1), {"CPU": 4.0, "GPU": 2.0}, 2),
        (Needs(1, 0.25), {"CPU": 16.0, "GPU": 2.0}, 8),
        (Needs(1, 0.1), {"CPU": 16.0, "GPU": 1.0}, 10),
        (Needs(1, 1), {"CPU": 4.0}, 0),
        (Needs(1, 1), {}, 0),
    ],
)
def test_how_many_tasks_fit(needs, resources, slots):
    assert needs.slots(resources) == slots


# --- a Ray of the run's own


def own_run(tied: Series, place: Path, *further: str) -> subprocess.CompletedProcess[str]:
    """Measures the series by a Ray of its own, in a process that does more at each checkpoint."""
    code = "\n".join([
        "import os, signal, subprocess, torch, analyze",
        "torch.set_num_threads(1)",
        "from tests.test_cluster import Told",
        "class Watched(Told):",
        "    def checkpoint(self, name, place):",
        "        super().checkpoint(name, place)",
        *(f"        {line}" for line in further),
        f"analyze.run({str(tied.path)!r}, output={str(tied.path.parent / 'own.h5')!r}, folds=2,"
        f" model={tied.model!r}, probes={str(tied.probes)!r}, device='cpu', cluster='local',"
        " progress=Watched())",
    ])  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(place)}, check=False,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.nightly
def test_a_ray_of_its_own_leaves_nothing_where_the_run_is_killed(tied, place):
    """And the same command goes on from there."""
    killed = own_run(tied, place, "if len(self.begun) == 3: os.kill(os.getpid(), signal.SIGKILL)")
    assert killed.returncode == -signal.SIGKILL
    assert gone(place) == []
    done = own_run(tied, place, "print(subprocess.getoutput('ss -Hltnp') if name else '')")
    assert done.returncode == 0
    assert gone(place) == []
    listening = {line for line in done.stdout.splitlines() if "ray" in line or "gcs" in line}
    assert len(listening) > 2
    assert [line for line in listening if "127.0.0.1" not in line.split()[3]] == []
    tree = analyze.open_results(tied.path.parent / "own.h5")
    tied.run("alone")
    assert_same_arrays(analyze.open_results(tied.path.parent / "alone.h5"), tree)
    records = json.loads(tree.attrs["provenance"])["checkpoints"]
    assert all(record["device"] for record in records)
