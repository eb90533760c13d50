"""Spoilt files of every kind are read as data: a small part of scripts/fuzz, and every find of it.

Inputs are read in forks of this process, as an audit hook cannot be taken off.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import sys
from functools import partial

import pytest

from scripts.fuzzing.__main__ import CORPUS, corpus_of, made, tasks_of, warm_up
from scripts.fuzzing.children import run_all
from scripts.fuzzing.kind import Kind
from scripts.fuzzing.table import KINDS
from scripts.fuzzing.watch import Watch
from tests.nightly import of_every_run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts memory by /proc")
FEW = {"pages": 1, "results": 3, "names": 1, "cards": 4, "configs": 4, "pictures": 8}
MANY = 15
DEAR = {"pages"}  # seconds for each input: at night


def finds(kinds: list[Kind], folder, count: int) -> dict[str, list[str]]:
    """What reading did besides, by the number of the input."""
    os.chdir(folder)
    seeds = {kind.name: [*kind.seeds(), *corpus_of(kind)] for kind in kinds}
    warm_up(kinds, seeds)
    tasks = tasks_of(kinds, seeds, count, 0)
    trials = list(run_all(tasks, partial(made, seeds, 0), 1))
    assert len(trials) == len(tasks)
    return {f"{t.kind} {t.index}": t.finds for t in trials if t.finds}


@pytest.fixture(autouse=True)
def _stay_here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("times", of_every_run([1, 14], {"1"}))
@pytest.mark.parametrize("kind", of_every_run(KINDS, {k.name for k in KINDS} - DEAR))
def test_spoilt_files_and_earlier_finds_are_read_as_data(kind, times, tmp_path):
    assert finds([kind], tmp_path, times * FEW.get(kind.name, MANY)) == {}


def test_every_find_is_of_a_kind():
    assert {path.name for path in CORPUS.iterdir()} <= {kind.name for kind in KINDS}


def runs(folder) -> str:
    eval("1")
    return ""


def imports(folder) -> str:
    sys.modules.pop("this", None)  # the poem, which nobody has
    with contextlib.redirect_stdout(io.StringIO()):
        import this
    return this.__name__


def opens(folder) -> str:
    return (folder.parent / "secret").read_text()


def writes(folder) -> str:
    (folder.parent / "new").write_text("")
    return ""


def spoils(folder) -> str:
    (folder / "a").write_text("")
    return ""


def poisons(folder) -> str:
    from analyze.checkpoints.torch_files.pickle_records import Record

    Record.suffix = ".part"
    return ""


def fills(folder) -> str:
    return str(len(b"x" * (700 << 20)))


def hangs(folder) -> str:
    while True:
        pass


def dies(folder) -> str:
    faulthandler.disable()  # pytest's, whose report would look like a fault of the tests
    os.abort()


def breaks(folder) -> str:
    raise KeyError("a")


def colours(folder) -> str:
    return "\x1b[31m"


@pytest.mark.parametrize(
    ("read", "find"),
    [
        (runs, "ran: exec"), (imports, "ran: import 'this'"), (opens, "read: "),
        (writes, "wrote: "), (spoils, "wrote: files of the input"), (fills, "memory: "),
        (poisons, "changed: analyze.checkpoints.torch_files.pickle_records.Record.suffix"),
        (hangs, "hang: "), (dies, "died: SIGABRT"), (breaks, "traceback: KeyError"),
        (colours, "shown: a character"), (opens, "shown: a file that is not"),
    ],
)  # fmt: skip
def test_what_reading_may_not_do_is_noticed(read, find):
    case = {"a": b"content"}
    seconds = 0.2 if read is hangs else 1.0
    kind = Kind("one", 1.0, lambda: [case], lambda draw, corpus: case, read, seconds=seconds)
    trials = list(run_all([(kind, 0), (kind, 1)], lambda kind, index: case, 1))
    assert any(fact.startswith(find) for fact in trials[0].finds), trials[0].finds
    assert trials[1].index == 1  # the next is read, too, whatever came of this one


def test_nothing_is_noticed_of_a_quiet_reader(tmp_path):
    case = {"a": b"content"}
    kind = Kind("one", 1.0, lambda: [case], lambda draw, corpus: case, lambda folder: "fine")
    (trial,) = run_all([(kind, 0)], lambda kind, index: case, 1)
    assert (trial.outcome, trial.finds) == ("accepted", [])
    assert Watch(tmp_path).notes == []
