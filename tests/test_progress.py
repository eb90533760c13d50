"""What is shown while a run is prepared, from the first second, and that nobody else sees it."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

import analyze
from analyze.errors import InputError
from analyze.gradients.stages import (
    CALIBRATION,
    CHOICES,
    FIT,
    PROOF,
    STATISTICS,
    Stage,
)
from analyze.models import building
from analyze.models.building import build_model
from analyze.runs import loading, preparation
from analyze.runs.check import PILOTED, TIMED
from analyze.runs.progress import Bar, Lines, Progress
from analyze.runs.stages import CHECKPOINTS, LOADING, READING, Stages
from analyze.runs.units.activity import Place
from analyze.specs.model import ModelSpec
from tests.conftest import NAMES, SPEC, call, make_run, small_probes, small_weights

PLANNING = [FIT, CALIBRATION, CHOICES, PROOF]
WITH_BATCH_NORM = "builtin:small_resnet?width=2&num_classes=3"


class Recorder(Progress):
    """Remembers all that it is to show."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.places: list[str] = []
        self.shares: list[float] = []
        self.examples = 0

    def stage(self, name: str, place: str = "", share: float = 0.0) -> None:
        self.stages.append(name)
        self.places.append(place)
        self.shares.append(share)

    def advance(self, examples: int, checkpoint: str = "") -> None:
        self.examples += examples


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def run(tiny, recorder: Recorder, **options) -> None:
    analyze.run(tiny.path, output=tiny.output, device="cpu", folds=1, progress=recorder, **options)


def test_a_run_tells_its_stages_in_order(tiny, recorder):
    run(tiny, recorder)
    others = [LOADING, PROOF] * 2
    assert recorder.stages == [READING, LOADING, *PLANNING, *others]
    assert recorder.places[:2] == ["", "step_9.pt"]
    proofs = [p for s, p in zip(recorder.stages, recorder.places, strict=True) if s == PROOF]
    assert proofs == [f"{name}, {k} of 3" for k, name in enumerate(NAMES, 1)]
    assert recorder.shares == sorted(recorder.shares)
    assert recorder.shares[2] == 0 < recorder.shares[3]
    assert 0.5 < recorder.shares[-1] < 1


def test_batch_norm_statistics_are_a_stage_where_a_model_has_them(tmp_path, recorder):
    model = build_model(ModelSpec.parse(WITH_BATCH_NORM))
    draw = small_probes().targets
    images = analyze.ProbeSet(
        small_weights(0)["hidden.weight"].new_ones(len(draw), 1, 28, 28).numpy()
        * draw.reshape(-1, 1, 1, 1),
        draw,
    )
    analyze.measure(model, images, device="cpu", folds=1, progress=recorder)
    assert recorder.stages == [STATISTICS, *PLANNING]
    recomputed = recorder.shares[1]
    recorder.stages.clear()
    analyze.measure(model, images, device="cpu", folds=1, batch_norm="saved", progress=recorder)
    assert recorder.stages == PLANNING
    assert recomputed > 0


def test_the_first_line_is_there_before_a_model_is_built(tiny, capsys, monkeypatch):
    seen = []

    def build(spec):
        seen.append(capsys.readouterr().err)
        return build_model(spec)

    for module in (building, loading, preparation):
        monkeypatch.setattr(module, "build_model", build)
    run(tiny, Lines())
    assert seen[0].splitlines()[0] == f"Preparing: {READING}"
    assert seen[0].splitlines()[1] == f"Preparing: {LOADING}, step_9.pt"


@pytest.mark.parametrize("command", ["run", "check"])
def test_the_first_line_is_there_before_torch_is_imported(command):
    code = (
        "import sys\n"
        "from analyze.cli import main\n"
        "from analyze.runs import progress\n"
        "progress.Lines.stage = lambda *_: sys.exit(40 + ('torch' in sys.modules))\n"
        f"main([{command!r}, 'a run'])\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 40


def test_a_check_tells_of_reading_timing_and_pilot(tiny, recorder):
    analyze.check(tiny.path, device="cpu", folds=1, progress=recorder)
    assert recorder.stages[:4] == [READING, *[CHECKPOINTS] * 3]
    assert recorder.places[1:4] == ["1 of 3", "2 of 3", "3 of 3"]
    assert recorder.stages[-2:] == [TIMED.name, PILOTED.name]
    assert recorder.shares == sorted(recorder.shares)


def test_measure_counts_the_probes(tiny, recorder):
    probes = small_probes()
    model = build_model(ModelSpec.parse(SPEC))
    analyze.measure(model, probes, device="cpu", folds=1, progress=recorder)
    assert recorder.stages == PLANNING
    assert recorder.examples == len(probes)


def test_a_second_call_of_measure_tells_fewer_stages(recorder):
    model = build_model(ModelSpec.parse(SPEC))
    for _ in range(2):
        analyze.measure(model, small_probes(), device="cpu", folds=1, progress=recorder)
    assert recorder.stages == [*PLANNING, FIT, PROOF]
    assert recorder.shares[len(PLANNING) :] == [0, recorder.shares[-1]]


def test_functions_show_nothing_unless_asked(tiny, capfd):
    analyze.run(tiny.path, output=tiny.output, device="cpu", folds=1)
    analyze.check(tiny.path, device="cpu", folds=1)
    model = build_model(ModelSpec.parse(SPEC))
    analyze.measure(model, small_probes(), device="cpu", folds=1)
    assert capfd.readouterr() == ("", "")


def test_lines_do_not_grow_with_the_checkpoints(tmp_path):
    counts = []
    for further in (0, 20):
        folder = tmp_path / str(further)
        folder.mkdir()
        series = make_run(folder)
        for k in range(further):
            (series.path / f"step_{200 + k}.pt").write_bytes((series.path / NAMES[0]).read_bytes())
        lines = call("check", str(series.path), "--device", "cpu").stderr.splitlines()
        assert all(line.startswith("Preparing") for line in lines)
        counts.append(len(lines))
    assert counts[0] == counts[1] < 16


def test_a_stage_that_does_not_come_counts_as_done(recorder):
    stages = Stages(recorder, last=[Stage("last", 60)])
    stages.begin("before")
    stages.expect([Stage("first", 10), Stage("skipped", 20), Stage("second", 10)])
    for name in ("first", "between", "second", "last", "first"):
        stages.begin(name)
    assert recorder.shares == [0, 0, 0.1, 0.3, 0.4, 1]


def test_a_terminal_shows_stage_and_share_without_a_thread(capsys, monkeypatch):
    """Workers are forked while it is shown."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    threads = threading.active_count()
    with Bar() as bar:
        bar.stage(CALIBRATION, "[a].pt, 1 of 3", 0.25)
        assert threading.active_count() == threads
        assert f"Preparing, 25%: {CALIBRATION}, [a].pt, 1 of 3" in capsys.readouterr().err
        bar.start(["[a].pt"], 8)
        bar.checkpoint("[a].pt", Place("here", 1, "cpu"))
        bar.advance(8, "[a].pt")
    assert "[1/1] [a].pt" in capsys.readouterr().err


def test_a_narrow_terminal_shows_a_stage_on_one_line(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    with Bar() as bar:
        bar.stage(CALIBRATION, "checkpoint_" + "0" * 40, 0.25)
        text = capsys.readouterr().err
    assert "Preparing, 25%: cal" in text
    assert "\n" not in text.strip()


def test_a_display_ends_with_an_error(tiny):
    class Ending(Recorder):
        ended = False

        def finish(self) -> None:
            self.ended = True

    progress = Ending()
    with pytest.raises(InputError):
        run(tiny, progress, model="builtin:none")
    assert progress.ended
