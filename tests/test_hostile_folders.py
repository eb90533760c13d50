"""What a run removes, follows and hashes: only its own files, whatever happens to the user's."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from analyze.checkpoints.finding import watch
from analyze.checkpoints.finding.duplicates import without_duplicates
from analyze.checkpoints.fitting.tensor_names import prefixes_of
from analyze.checkpoints.options import DEFAULTS
from analyze.errors import MOST_CHARACTERS, InputError, out_of_memory
from analyze.files import whole as whole_file
from analyze.files.whole import drop_part, drop_parts_in, write_whole
from analyze.runs.units.folder import Folder
from analyze.runs.units.interruption import Interrupted, check_interruption, interruptible
from analyze.specs.user_files import files_of
from tests.conftest import small_weights


def test_a_restart_removes_only_what_a_run_has_made(tmp_path):
    folder = Folder(tmp_path / "out.h5")
    folder.open({"a": 1}, restart=False)
    unit = folder.path / f"{'0' * 32}.unit"
    unit.write_bytes(b"\0" * 40 + b'{"')
    foreign = [folder.path / n for n in ("notes.txt", "film.part", f"{'1' * 32}.unit", "x.unit")]
    for path in foreign:
        path.write_text("mine")
    (folder.path / "more").mkdir()
    (folder.path / f"{'2' * 32}.unit").symlink_to(unit)
    folder.open({"a": 2}, restart=True)
    assert not unit.exists()
    assert all(path.exists() for path in [*foreign, folder.path / "more"])
    assert (folder.path / f"{'2' * 32}.unit").is_symlink()


def test_a_folder_of_units_that_is_a_link_is_left_alone(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "thesis.tex").write_text("mine")
    (tmp_path / "out.h5.units").symlink_to(tmp_path / "docs")
    with pytest.raises(InputError, match="is a link") as error:
        Folder(tmp_path / "out.h5")
    assert "docs" in error.value.found
    assert [p.name for p in (tmp_path / "docs").iterdir()] == ["thesis.tex"]


def test_a_part_that_is_being_written_stays(tmp_path, monkeypatch):
    """What its writer holds is locked; what a killed one left is not."""
    seen = []

    def fsync(descriptor: int) -> None:
        for part in tmp_path.glob("*.part"):
            drop_part(part)
            seen.append(part.exists())

    monkeypatch.setattr(whole_file.os, "fsync", fsync)
    write_whole(tmp_path / "a", b"whole")
    assert (seen, (tmp_path / "a").read_bytes()) == ([True], b"whole")
    left = tmp_path / "a.a1b2c3d4.analyze.part"
    others = [tmp_path / "film.part", tmp_path / "a.analyze.part"]
    for path in [left, *others]:
        path.write_bytes(b"half")
    drop_parts_in(tmp_path)
    assert not left.exists()
    assert all(path.exists() for path in others)


def test_an_output_that_is_a_link_is_written_where_it_points(tmp_path):
    (tmp_path / "there").mkdir()
    link, target = tmp_path / "out.h5", tmp_path / "there" / "real.h5"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_whole(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert [p.name for p in target.parent.iterdir()] == ["real.h5"]


def test_a_name_that_leaves_no_room_is_refused_before_the_work(tmp_path):
    from analyze.results.file import check_writable

    with pytest.raises(InputError, match="output cannot be written") as error:
        check_writable(tmp_path / f"{'x' * 250}.h5")
    assert "name too long" in error.value.found


# --- the user's code


def package(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


FILES = {
    "net/__init__.py": "", "net/model.py": "from torch import nn\nfrom .layers import block\n",
    "net/layers/__init__.py": "from . import block\n",
    "net/layers/block.py": "def f():\n    import helpers.more as m\n",
    "helpers/more.py": "import numpy, broken\nfrom net import *\n", "broken.py": "def (",
    "unused.py": "",
}  # fmt: skip


@pytest.mark.parametrize("source", ["net.model", "net/model.py"])
def test_all_code_that_a_spec_imports_is_its_own(tmp_path, monkeypatch, source):
    package(tmp_path, FILES)
    monkeypatch.syspath_prepend(str(tmp_path))
    source = str(tmp_path / source) if source.endswith(".py") else source
    first, *others = files_of(source)
    assert first == tmp_path / "net" / "model.py"
    found = {str(path.relative_to(tmp_path)) for path in others}
    if source.endswith(".py"):  # a file is in no package, so that nothing is beside it
        return
    assert found == set(FILES) - {"net/model.py", "unused.py"}


def test_helpers_beside_a_file_are_found(tmp_path):
    package(tmp_path, {"model.py": "from act import scale\nimport torch, analyze\n", "act.py": ""})
    assert files_of(str(tmp_path / "model.py")) == [tmp_path / "model.py", tmp_path / "act.py"]
    assert files_of("analyze.nowhere") == []


# --- following and signals


def test_a_directory_that_is_away_ends_no_watch(tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    looks = []
    news = watch.Watch(run, None)

    def passed(_seconds: float) -> None:
        looks.append(None)
        if len(looks) == 1:
            run.rename(tmp_path / "away")
        if len(looks) == 3:
            (tmp_path / "away").rename(run)
            torch.save(small_weights(0), run / "step_1.pt")

    monkeypatch.setattr(watch, "sleep", passed)
    first = next(news.news()).fresh
    assert [path.name for path in first] == ["step_1.pt"]


def test_a_file_that_was_filled_in_under_its_old_time_is_news(tmp_path):
    path = tmp_path / "step_1.pt"
    path.write_bytes(b"\0" * 9)
    before, times = watch._state(path), path.stat()
    path.write_bytes(b"x" * 9)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert watch._state(path) != before


class Dies:
    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_in_a_destructor_is_not_lost(tmp_path):
    def dying() -> None:
        with interruptible(Folder(tmp_path / "out.h5")):
            dies = Dies()
            del dies
            sum(range(1000))
            check_interruption()

    with pytest.raises(Interrupted) as stopped:
        dying()
    assert stopped.value.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# --- work and words without end


def test_copies_are_found_by_reading_each_file_twice_at_most(tmp_path, monkeypatch):
    from analyze.checkpoints.finding import duplicates
    from analyze.checkpoints.finding.discovery import find

    names = [f"{a}{b}" for a in "abcdef" for b in "abcdef"]
    for k, name in enumerate(names):
        torch.save({"a": torch.ones(2), "w": torch.full((3,), float(k // 2))}, tmp_path / name)
        (tmp_path / name).rename(tmp_path / f"{name}.pt")
    reads = []
    for function in ("read_sample", "read_weights"):
        real = getattr(duplicates, function)

        def counted(path, reading, real=real):
            reads.append(path)
            return real(path, reading)

        monkeypatch.setattr(duplicates, function, counted)
    found = find(tmp_path)
    assert len(found.checkpoints) == len(names) // 2
    assert {o.why for o in found.left_out} == {f"the same weights as {n}.pt" for n in names[::2]}
    assert len(reads) <= 2 * len(names)
    assert without_duplicates([], DEFAULTS) == ([], [])


STATES = {  # extra states of a copy, and whether it is told from the first, which has {"n": 1}
    "equal": ({"n": 1}, True), "one more": ({"m": "a", "n": 1}, False),
    "another number": ({"n": 2}, False), "another type": ({"n": 1.0}, False),
    "a truth value": ({"n": True}, False), "another name": ({"k": 1}, False),
    "no dictionary": (1, False), "deeper": ({"n": {"n": 1}}, False),
    "the longest number": ({"n": 1 << 60_000}, False),
}  # fmt: skip


@pytest.mark.parametrize("case", STATES)
def test_copies_have_the_same_extra_states(tmp_path, case):
    from analyze.checkpoints.finding.discovery import find

    other, same = STATES[case]
    for name, state in (("a.pt", {"n": 1}), ("b.pt", other)):
        torch.save({"w": torch.ones(3), "_extra_state": state}, tmp_path / name)
    found = find(tmp_path)
    assert [o.why for o in found.left_out] == ["the same weights as a.pt"] * same


def test_names_cannot_be_written_so_that_others_look_like_them(tmp_path):
    from analyze.checkpoints.finding.discovery import find

    one, two = torch.ones(3), torch.ones(3)
    torch.save({"a": one, "b\ud800": two}, tmp_path / "a.pt")
    torch.save({"a": one, "b\udfff": two}, tmp_path / "b.pt")
    torch.save({"a\nb": one, "c": two}, tmp_path / "c.pt")
    assert not find(tmp_path).left_out


def test_a_prefix_is_found_in_names_of_any_length():
    own = {"w": 0, "a.w": 0}
    assert prefixes_of({".".join("x" * 50_000): 0, "m.w": 0, "m.a.w": 0}, own) == (["m."], 2)
    tied = {f"p{k}.w": 0 for k in range(20_000)}
    assert prefixes_of(tied, own) == (sorted(f"p{k}." for k in range(20_000)), 1)
    assert prefixes_of({"w": 0, "a.w": 0}, own) == ([""], 2)


def test_a_message_is_at_most_a_screen():
    error = InputError("what", found="x" * 10**7, expected="a", fix="b")
    assert len(str(error)) < MOST_CHARACTERS + 200
    assert "characters more) ... x" in error.found


@pytest.mark.parametrize("make", [lambda: np.zeros(1 << 58), lambda: torch.zeros(1 << 55)])
def test_no_memory_is_known_for_what_it_is(tmp_path, make):
    from analyze.checkpoints.damage import damaged

    with pytest.raises((MemoryError, RuntimeError)) as error:
        make()
    assert out_of_memory(error.value)
    assert not out_of_memory(RuntimeError("shapes do not fit"))
    (tmp_path / "a.pt").write_bytes(b"x")
    told = damaged(tmp_path / "a.pt", error.value)
    assert told.what == "there is not enough memory to open the checkpoint"
