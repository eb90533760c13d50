"""A tiny run: three checkpoints of a small network, a probe file and a run card."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

import analyze
from analyze.checkpoints.finding import watch
from analyze.cli import main
from analyze.gradients.engine import Engine
from analyze.gradients.established import ESTABLISHED
from analyze.gradients.step import failures
from analyze.models.building import build_model
from analyze.probes import write_probes
from analyze.runs.stages import WRITING
from analyze.specs.model import ModelSpec
from tests.browser import Reader, chromium

torch.set_num_threads(1)  # the workers of pytest-xdist share the cores

SPEC = "builtin:small_mlp?in_features=12&width=5&num_classes=3"
NAMES = ["step_9.pt", "step_10.pt", "step_100.pt"]
SUBSETS = ["clean", "corrupted", "held_out"]
COUNT = 40  # examples of ``data``
DEVICE = os.environ.get("ANALYZE_TEST_DEVICE", "cpu")  # of the tests of exactness
if DEVICE.startswith("pretend"):
    import tests.pretend_device.device  # noqa: F401  # before the first backward pass


def pytest_collection_finish() -> None:
    """What has been imported stays: nobody looks through it again for garbage."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """With ANALYZE_TEST_ALL=1 everything is installed: a test skipped for a library fails."""
    report = yield
    if os.environ.get("ANALYZE_TEST_ALL") == "1" and report.skipped:
        reason = str(report.longrepr)
        if "could not import" in reason or "is not installed" in reason:
            report.outcome, report.longrepr = "failed", reason
    return report


@pytest.fixture(autouse=True)
def errors_in_rules_are_raised(request: pytest.FixtureRequest) -> Iterator[None]:
    """A programming error in a rule fails the test; where one is made on purpose, it gives way."""
    before = failures.PROPAGATE
    failures.PROPAGATE = "rules_may_fail" not in request.fixturenames
    yield
    failures.PROPAGATE = before


@pytest.fixture(autouse=True)
def nothing_is_known_of_models() -> None:
    """No test measures by a plan that another one made."""
    ESTABLISHED.forget()


@pytest.fixture
def rules_may_fail() -> None:
    """For tests that break a rule: what it raises leads to the next method, as for users."""


def small_probes(count: int = 24, **options) -> analyze.ProbeSet:
    """Examples for ``SPEC``, a third of them in each subset."""
    draw = np.random.default_rng(0)
    inputs = draw.standard_normal((count, 12)).astype(np.float32)
    subset = [SUBSETS[k % 3] for k in range(count)]
    return analyze.ProbeSet(inputs, draw.integers(0, 3, count), subset, **options)


def small_weights(seed: int, spec: str = SPEC) -> dict[str, torch.Tensor]:
    """Weights of the model, other ones for every seed."""
    model = build_model(ModelSpec.parse(spec))
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3, generator=generator)
    return model.state_dict()


@dataclass(frozen=True)
class TinyRun:
    """Where it is, and how to call the program on it."""

    path: Path
    probes: Path

    @property
    def output(self) -> Path:
        return self.path.parent / "out.h5"

    @property
    def units(self) -> list[Path]:
        """The files of the checkpoints that were measured."""
        return sorted(Path(f"{self.output}.units").glob("*.unit"))

    def card(self, text: str) -> None:
        """Replace the run card."""
        (self.path / "run.toml").write_text(text, encoding="utf-8")

    def run(self, *options: str) -> Result:
        """``analyze run`` on the CPU with two folds, into ``output``."""
        output = () if "--output" in options else ("--output", str(self.output))
        device = () if "--device" in options else ("--device", "cpu")
        return call("run", str(self.path), "--folds", "2", *device, *output, *options)


def call(*arguments: str) -> Result:
    """The program, in this process."""
    return CliRunner().invoke(main, list(arguments))


def make_run(folder: Path) -> TinyRun:
    """Write the tiny run below a folder."""
    run = TinyRun(folder / "run", folder / "probes.safetensors")
    run.path.mkdir()
    for seed, name in enumerate(NAMES):
        torch.save(small_weights(seed), run.path / name)
    write_probes(run.probes, small_probes())
    run.card(f'[run]\nname = "tiny"\nmodel = "{SPEC}"\nprobes = "../probes.safetensors"\n')
    return run


@pytest.fixture(autouse=True)
def one_thread_again() -> Iterator[None]:
    """One thread after each test, whatever it set: a fork of a process that had two may hang."""
    yield
    torch.set_num_threads(1)


def saved(tiny: TinyRun, seed: int, name: str) -> Callable[[], None]:
    return lambda: torch.save(small_weights(seed), tiny.path / name)


@pytest.fixture
def tiny(tmp_path: Path) -> TinyRun:
    """A run of one's own."""
    return make_run(tmp_path)


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """A run that was measured, with one checkpoint that was skipped; not to be changed."""
    run = make_run(tmp_path_factory.mktemp("measured"))
    (run.path / "step_10.pt").write_bytes(b"")
    assert run.run().exit_code == 4
    return run


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Examples of four classes, some of whose labels were redrawn over all of them."""
    draw = np.random.default_rng(seed)
    true = np.arange(COUNT) % 4
    selected = draw.random(COUNT) < 0.6
    given = np.where(selected, draw.integers(0, 4, COUNT), true)
    x = draw.standard_normal((COUNT, 3)).astype(np.float32)
    return {"inputs": x, "targets": given, "true": true, "mask": selected}


@pytest.fixture
def data(tmp_path, monkeypatch) -> dict[str, np.ndarray]:
    """``data.npz`` with inputs and given labels, and the directory to work in."""
    monkeypatch.chdir(tmp_path)
    found = arrays()
    np.savez("data.npz", inputs=found["inputs"], targets=found["targets"])
    return found


@pytest.fixture
def no_network(monkeypatch):
    """Whoever looks up a name or connects fails the test, even where the error is swallowed."""
    used = []

    def refuse(*arguments, **_):
        used.append(arguments)
        raise AssertionError(f"the network was used: {arguments}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    yield used
    assert used == []


def assert_input_error(result: Result, *facts: str) -> None:
    """Exit code 3, a message with its three facts in order, and no traceback."""
    assert result.exit_code == 3, (result.exit_code, result.exception, result.stderr)
    assert result.stdout == ""
    assert_three_facts(result.stderr)
    assert "Traceback" not in result.stderr
    for fact in facts:
        assert fact in result.stderr


BESIDE = ("Preparing", "Reading the numbers", WRITING)  # beginnings of lines that say what it is at


def without_preparation(stderr: str) -> str:
    """What a program says besides what it is at before and after it measures."""
    lines = stderr.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(BESIDE))


def assert_three_facts(message: str) -> None:
    """``found``, ``expected`` and ``to fix``, in this order, each with something after it."""
    places = [message.index(f"\n  {label}") for label in ("found:    ", "expected: ", "to fix:   ")]
    assert places == sorted(places)
    ends = [*places[1:], len(message)]
    assert all(end - start > 16 for start, end in zip(places, ends, strict=True))


@pytest.fixture
def training(monkeypatch) -> Callable[..., None]:
    """Lets a training do one thing in each pause of the watch; then comes Ctrl-C."""

    def script(*steps: Callable[[], None]) -> None:
        left = list(steps)

        def pause(seconds: float) -> None:
            if not left:
                raise KeyboardInterrupt
            left.pop(0)()

        monkeypatch.setattr(watch, "sleep", pause)

    return script


@pytest.fixture
def measurements(monkeypatch) -> list[None]:
    """Grows by one whenever a checkpoint is measured."""
    calls: list[None] = []
    measure = Engine.measure

    def counted(self, *arguments):
        calls.append(None)
        return measure(self, *arguments)

    monkeypatch.setattr(Engine, "measure", counted)
    return calls


@pytest.fixture(scope="module")
def pages_only() -> Iterator[None]:
    """Figures are drawn for pages, and not again for print, where none looks at those files."""
    from analyze.pages import writing  # and with it matplotlib, which few tests need

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "rendered", partial(writing.rendered, kinds=("svg",)))
        yield


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture
def reader(browser):
    """Whoever opens a page finds no error in the console and no request at the end."""
    reader = Reader(browser)
    yield reader
    reader.close()
    assert reader.faults == []
