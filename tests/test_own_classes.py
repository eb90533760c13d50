"""Objects of a script's own classes beside the weights: data in place of them, and nothing runs."""

from __future__ import annotations

import enum
import subprocess
import sys
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
import torch

from analyze.checkpoints.finding.discovery import find
from analyze.checkpoints.options import ReadingOptions
from analyze.checkpoints.reading import read_weights
from analyze.checkpoints.torch_files.pickle_records import Placeholder
from analyze.checkpoints.torch_files.pickles import load_values
from analyze.errors import CheckpointError
from tests.hostile_files import WEIGHTS


class Mode(enum.Enum):
    FAST = "fast"


class Place(NamedTuple):
    epoch: int
    loss: float


@dataclass
class Settings:
    rate: float = 0.1
    mode: Mode = Mode.FAST
    layers: list[int] = field(default_factory=lambda: [3, 2])
    within: object = None


class Slotted:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 3


class Names(dict):
    """A dictionary whose entries are attributes, too, as many scripts have one."""


class Rows(list):
    pass


class Momentum(torch.optim.SGD):
    """An optimizer that keeps objects in its state."""


class Keywords:
    def __new__(cls, *, size):
        made = super().__new__(cls)
        made.size = size
        return made

    def __getnewargs_ex__(self):
        return (), {"size": self.size}


def own_state() -> dict:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = Momentum([parameter], 0.1)
    optimizer.state[parameter] = {"place": Place(1, 0.5), "average": torch.ones(2)}
    return optimizer.state_dict()


OWN = {
    "dataclass": Settings(within=Settings()), "enumeration": Mode.FAST, "tuple": Place(3, 0.5),
    "slots": Slotted(), "dictionary": Names(rate=0.1), "list": Rows([1, 2]), "class": Settings,
    "optimizer": own_state(), "as a key": {Mode.FAST: 1},
    "in a set": {Mode.FAST},
}  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("case", OWN)
def test_the_weights_beside_them_are_read(tmp_path, case, legacy):
    path = tmp_path / "step_1.pt"
    content = {"model": WEIGHTS, "step": 7, "own": OWN[case]}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert torch.equal(read_weights(path)["weight"], WEIGHTS["weight"])
    (found,) = find(tmp_path).checkpoints
    assert (found.problem, found.step) == (None, 7)


def test_a_class_that_is_made_by_keywords(tmp_path):
    torch.save({"own": Keywords(size=3), **WEIGHTS}, tmp_path / "a.pt", pickle_protocol=4)
    assert dict(load_values(tmp_path / "a.pt")["own"]) == {"size": 3}


def test_weights_in_one_of_them_are_found(tmp_path):
    torch.save(Names(model=WEIGHTS, settings=Settings()), tmp_path / "step_1.pt")
    assert torch.equal(read_weights(tmp_path / "step_1.pt")["weight"], WEIGHTS["weight"])
    torch.save({"state": Settings(within=WEIGHTS), "step": 2}, tmp_path / "step_2.pt")
    read = read_weights(tmp_path / "step_2.pt", ReadingOptions(weights_key="state.within"))
    assert torch.equal(read["weight"], WEIGHTS["weight"])


def test_a_placeholder_holds_what_was_saved_and_nothing_else(tmp_path):
    torch.save({"own": Settings(within=Rows([1]))}, tmp_path / "a.pt")
    own = load_values(tmp_path / "a.pt")["own"]
    assert type(own) is Placeholder
    assert own.name == "tests.test_own_classes.Settings"
    assert dict(own) | {"within": None, "mode": None} == {
        "rate": 0.1, "mode": None, "layers": [3, 2], "within": None,
    }  # fmt: skip
    assert own["within"].members == [1]
    assert own["mode"].arguments == ("fast",)
    assert own != Settings()


SCRIPT = """
import pathlib

pathlib.Path("imported").touch()

class Evil:
    def __new__(cls, *_):
        pathlib.Path("made").touch()
        return super().__new__(cls)

    def __setstate__(self, state):
        pathlib.Path("set").touch()

    def __reduce__(self):
        return run, ("ran",)

class Quiet(Evil):
    __reduce__ = object.__reduce__
    def __getstate__(self):
        return {"x": 1}

def run(name):
    pathlib.Path(name).touch()
"""


def test_nothing_of_a_class_runs_though_it_could_be_imported(tmp_path, monkeypatch):
    (tmp_path / "evil_script.py").write_text(SCRIPT)
    saving = (
        "import torch, evil_script as script; torch.save({'model': {'weight': torch.ones(2, 3)}, "
        "'evil': script.Evil(), 'quiet': script.Quiet()}, 'step_1.pt')"
    )
    subprocess.run([sys.executable, "-c", saving], cwd=tmp_path, check=True)
    marks = ("imported", "made", "set", "ran")
    for mark in marks:
        (tmp_path / mark).unlink(missing_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert torch.equal(read_weights(tmp_path / "step_1.pt")["weight"], torch.ones(2, 3))
    assert "evil_script" not in sys.modules
    assert not any((tmp_path / mark).exists() for mark in marks)
    torch.load("step_1.pt", weights_only=False)  # what the marks would show
    assert all((tmp_path / mark).exists() for mark in marks)


@pytest.mark.parametrize("own", [torch.nn.Linear(2, 2), torch.optim.SGD], ids=["module", "class"])
def test_objects_of_torch_are_still_refused(tmp_path, own):
    torch.save({"model": WEIGHTS, "x": own}, tmp_path / "step_1.pt")
    with pytest.raises(CheckpointError, match="would run code"):
        read_weights(tmp_path / "step_1.pt")


def test_an_extra_state_with_one_counts_as_missing(tmp_path):
    torch.save({**WEIGHTS, "a._extra_state": Settings()}, tmp_path / "step_1.pt")
    assert "a._extra_state" not in read_weights(tmp_path / "step_1.pt")
