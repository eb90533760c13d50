"""Results and pages travel: they say nothing of where on a machine they were made."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import h5py
import pytest

from analyze.checkpoints.checkpoint import NAN, Checkpoint
from analyze.checkpoints.damage import damaged
from analyze.runs.outcome import Outcome
from analyze.runs.provenance import command
from tests.conftest import call, make_run

COMMANDS = {
    "analyze run runs/mine": ["/usr/local/venv/bin/analyze", "run", "runs/mine"],
    "analyze run a": ["/usr/lib/python3/site-packages/analyze/__main__.py", "run", "a"],
    "train.py --rate 0.1": ["train.py", "--rate", "0.1"],
    "a notebook": ["/usr/lib/ipykernel_launcher.py", "-f", "/home/me/.local/kernel-1.json"],
}


@pytest.mark.parametrize("typed", COMMANDS)
def test_a_command_is_what_was_typed(typed):
    assert command(COMMANDS[typed]) == typed


@pytest.mark.parametrize("name", ["step_1.pt", "late/step_1.pt"])
@pytest.mark.parametrize("run", ["runs/mine", "/data/runs/mine", "."])
def test_why_a_checkpoint_was_skipped_names_its_place_in_the_run(run, name):
    """A worker has absolute paths where the run was given by a relative one."""
    path = Path(run) / name
    here = Checkpoint(name, path, NAN, NAN, "none", "torch", "", "", 1)
    for place in (path, path.absolute()):
        problem = damaged(place, ValueError())
        assert str(place) in str(problem)
        reason = Outcome(replace(here, path=path), problem=problem).reason
        assert reason == f"the checkpoint file cannot be read: {name}: No such file or directory"


def _texts(path: Path) -> list[str]:
    """All names, attributes and texts of an HDF5 file."""
    found: list[str] = []

    def look(name: str, item: h5py.Group | h5py.Dataset) -> None:
        found.extend([name, *(f"{key}: {value}" for key, value in item.attrs.items())])
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "OS":
            found.extend(map(str, item[...].ravel().tolist()))

    with h5py.File(path) as file:
        look("/", file)
        file.visititems(look)
    return found


@pytest.mark.parametrize("page", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_nothing_made_by_relative_paths_names_the_machine(tmp_path, monkeypatch, page):
    """Neither where the program and the run lay nor where what was skipped lay."""
    monkeypatch.chdir(tmp_path)
    run = make_run(Path())
    (run.path / "step_10.pt").write_bytes(b"")
    assert run.run().exit_code == 4
    texts = _texts(run.output)
    if page:
        assert call("report", "out.h5").exit_code == 0
        texts = [Path("out_report/index.html").read_text(encoding="utf-8")]
    assert any("step_10.pt: it is empty" in text for text in texts)
    for place in {str(tmp_path), os.path.realpath(tmp_path), str(Path.home())} - {"/"}:
        assert not [text[:300] for text in texts if place in text]
