"""Outputs: refused before the work where they cannot be, written where links lead, never over
files of the user's; what a killed program left goes, and only that."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from analyze.errors import InputError
from analyze.figures.contact_sheet import write_sheet
from analyze.files.targets import check_target, directory
from analyze.files.whole import PART, drop_parts, new_part, write_together, write_whole
from analyze.probes.file import write_probes
from analyze.probes.freezing.recipe import Recipe, freeze
from analyze.runs.messages import Advanced, showing
from analyze.runs.progress import Progress
from analyze.runs.units import interruption, lock
from analyze.runs.units.files import write_sealed
from analyze.runs.units.folder import Folder
from analyze.runs.units.lock import check_held, locked
from tests.conftest import call
from tests.writers import IMAGES, WRITERS, contents, drawn_quickly


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with drawn_quickly():
        yield


# --- names that cannot be used

UNUSABLE = {
    "": "empty", "a\0b": "NUL", "sub/": "separator", "new/": "separator", "sub": "directory",
    "gone/a": "no directory", "file/a": "no directory", "x" * 300: "too long",
    "x" * 240: "too long", "circle": "circle", "pipe": "pipe",
}  # fmt: skip


@pytest.fixture
def crowded(tmp_path, monkeypatch) -> Path:
    """A directory with everything that is no usable target, and the one to work in."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "circle").symlink_to("circle")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_name_that_cannot_be_used_is_refused_and_nothing_is_left(crowded, name):
    before = contents(crowded / "sub")
    with pytest.raises(OSError, match=UNUSABLE[name]):
        check_target(name)
    assert contents(crowded / "sub") == before
    assert not list(crowded.glob(f"*{PART}"))


@pytest.mark.parametrize("name", ["file", "fresh", "dangling"])
def test_other_names_can_be_used(crowded, name):
    (crowded / "dangling").symlink_to("not yet")
    names = sorted(path.name for path in crowded.iterdir())
    check_target(name)
    assert sorted(path.name for path in crowded.iterdir()) == names


@contextmanager
def another_user() -> Iterator[None]:
    """Root may write everywhere: take the rights of another user for a moment."""
    if os.getuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.mark.skipif(os.getuid() != 0, reason="files of two owners need root")
def test_a_file_of_another_owner_is_refused_before_the_work():
    with tempfile.TemporaryDirectory() as name:  # which others may enter
        folder, path = Path(name), Path(name) / "out"
        path.write_text("mine")
        for folder_mode, mode in ((0o777, 0o644), (0o1777, 0o666)):  # the second as /tmp
            folder.chmod(folder_mode)
            path.chmod(mode)
            with another_user(), pytest.raises(PermissionError, match="of another owner"):
                check_target(path)
        folder.chmod(0o777)
        with another_user():
            check_target(path)
        assert contents(folder) == {"out": b"mine"}


@pytest.mark.parametrize("options", [("--output", "new/"), ("--output", "sub/")])
def test_the_command_line_refuses_the_name_of_a_directory(tiny, crowded, options):
    result = tiny.run(*options)
    assert result.exit_code == 2
    assert "ends in a separator" in result.stderr


# --- files of the user's


def test_probes_are_not_built_over_what_they_are_made_of(tmp_path):
    path = tmp_path / "p.safetensors"
    write_probes(path, IMAGES)
    before = path.read_bytes()
    for recipe in (Recipe(str(path)), Recipe("x.npz", held_out=str(path)),
                   Recipe("x.npz", noise=[f"mask:{tmp_path}/./p.safetensors"])):  # fmt: skip
        with pytest.raises(InputError, match="replace what it is made of"):
            freeze(recipe, path, overwrite=True)
    assert path.read_bytes() == before


def test_a_sheet_replaces_none_but_a_sheet(tmp_path):
    path = tmp_path / "sheet.png"
    write_sheet(IMAGES, path)
    before = path.read_bytes()
    write_sheet(IMAGES, path)
    assert path.read_bytes() == before
    path.write_bytes(b"\x89PNG my photograph")
    with pytest.raises(InputError, match="contact sheet cannot be written"):
        write_sheet(IMAGES, path)
    assert path.read_bytes() == b"\x89PNG my photograph"


@pytest.mark.parametrize("name", ["report", "compare"])
def test_pages_replace_no_picture_of_the_users(tmp_path, name):
    (tmp_path / "pages" / "figures").mkdir(parents=True)
    mine = tmp_path / "pages" / "figures" / "loss.pdf"
    mine.write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(InputError, match="would replace another picture") as told:
        WRITERS[name](tmp_path)
    assert str(mine) in told.value.found
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["report", "compare"])
def test_pages_go_on_over_the_figures_of_a_killed_command(tmp_path, name):
    WRITERS[name](tmp_path)
    whole = contents(tmp_path)
    (tmp_path / "pages" / "index.html").unlink()
    (tmp_path / "pages" / "figures" / "loss.pdf").unlink()
    WRITERS[name](tmp_path)
    assert contents(tmp_path) == whole


def test_a_comparison_replaces_no_results(tmp_path):
    (tmp_path / "pages").mkdir()
    WRITERS["results"](tmp_path)
    shutil.copy(tmp_path / "out.h5", tmp_path / "pages" / "comparison.h5")
    before = contents(tmp_path)
    with pytest.raises(InputError, match="would replace another file"):
        WRITERS["compare"](tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["report", "compare"])
def test_a_directory_that_cannot_be_is_refused_before_anything_is_drawn(
    tmp_path, name, monkeypatch
):
    from analyze.comparison import page
    from analyze.reports import page as report_page

    def drawn(*_: object) -> None:
        raise AssertionError("it was drawn")

    for module, draws in ((report_page, "run_figures"), (page, "comparison_figures")):
        monkeypatch.setattr(module, draws, drawn)
    (tmp_path / "pages").write_text("mine")
    with pytest.raises(InputError, match="cannot be written"):
        WRITERS[name](tmp_path)
    assert contents(tmp_path) == {"pages": b"mine"}


# --- links


def test_what_is_left_beside_the_target_of_a_link_is_removed(tmp_path):
    (tmp_path / "there").mkdir()
    link, left = tmp_path / "out.h5", tmp_path / "there" / f"real.h5.a1b2c3d4{PART}"
    link.symlink_to(tmp_path / "there" / "real.h5")
    left.write_bytes(b"half")
    mine = tmp_path / f"other.h5.a1b2c3d4{PART}"
    mine.symlink_to(link)
    drop_parts(link)
    drop_parts(tmp_path / "other.h5")
    assert not left.exists()
    assert mine.is_symlink()


def test_a_run_follows_no_link_in_the_folder_of_its_units(tmp_path):
    mine, empty = tmp_path / "mine", tmp_path / "empty"
    mine.write_text("mine")
    empty.touch()
    folder = Folder(tmp_path / "out.h5")
    (folder.path / "lock").symlink_to(empty)
    with pytest.raises(InputError, match="cannot be written"), locked(folder.lock):
        pass
    assert empty.read_text() == ""
    (folder.path / "plan").symlink_to(mine)
    with pytest.raises(InputError, match="it is a link"):
        write_sealed(folder.path / "plan", b"content")
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("kind", ["text", "pipe", "directory"])
def test_a_lock_that_no_run_has_made_is_left_alone(tmp_path, kind):
    path = tmp_path / "out.h5.units" / "lock"
    path.parent.mkdir()
    {"text": lambda: path.write_text("mine"), "pipe": lambda: os.mkfifo(path),
     "directory": path.mkdir}[kind]()  # fmt: skip
    before = path.lstat().st_mode
    with pytest.raises(InputError, match="cannot be written"), locked(path):
        pass
    assert path.lstat().st_mode == before
    assert kind != "text" or path.read_text() == "mine"


def test_other_methods_remove_only_units_of_ours(tmp_path):
    folder = Folder(tmp_path / "out.h5")
    (folder.path / "notes.unit").write_text("mine")
    (folder.path / f"{'0' * 32}.unit").write_bytes(b"\0" * 40 + b'{"')
    assert len(folder) == 1
    folder.drop_units()
    assert contents(folder.path) == {"notes.unit": b"mine"}


# --- writing


def test_files_appear_together_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "b").write_bytes(b"old")
    sync, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(sorted(path.name for path in tmp_path.iterdir() if PART not in path.name))
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_together({tmp_path / name: [b"new"] for name in "abc"})
    assert calls == [["b"]] * 3
    assert contents(tmp_path) == {"b": b"old"}


def test_a_part_that_is_cleaned_up_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    from analyze.files import whole

    hold, cleaned = whole.lock, []

    def late(file) -> bool:
        if not cleaned:
            cleaned.extend(tmp_path.iterdir())
            drop_parts(tmp_path / "a")
        return hold(file)

    def dropped(left: Path) -> None:
        left.unlink()

    monkeypatch.setattr(whole, "lock", late)
    monkeypatch.setattr(whole, "drop_part", dropped)
    write_whole(tmp_path / "a", b"whole")
    assert len(cleaned) == 1
    assert contents(tmp_path) == {"a": b"whole"}


def test_new_directories_go_with_a_failure_and_others_stay(tmp_path):
    (tmp_path / "a" / "mine").mkdir(parents=True)

    def fails(path: Path, name: str | None = None) -> None:
        with directory(path):
            if name is not None:
                (path / name).write_text("mine")
            raise ZeroDivisionError

    for path, name in ((tmp_path / "a" / "b" / "c", None), (tmp_path / "d" / "e", "file")):
        with pytest.raises(ZeroDivisionError):
            fails(path, name)
    with directory(tmp_path / "tried" / "only", keep=False):
        assert (tmp_path / "tried" / "only").is_dir()
    assert set(contents(tmp_path)) == {"a", "a/mine", "d", "d/e", "d/e/file"}


# --- locks and signals


def test_a_lock_goes_with_its_run_and_an_empty_folder_too(tmp_path):
    folder = Folder(tmp_path / "out.h5")
    with locked(folder.lock):
        assert folder.lock.read_text().startswith(f"process {os.getpid()} on ")
    assert contents(tmp_path) == {}
    folder = Folder(tmp_path / "out.h5")
    with locked(folder.lock):
        (folder.path / "plan").write_bytes(b"kept")
    assert contents(folder.path) == {"plan": b"kept"}


def test_a_lock_whose_folder_is_removed(tmp_path):
    """Nobody else came: the results are written. Another run has it now: this one stops."""
    folder = Folder(tmp_path / "out.h5")
    with locked(folder.lock):
        shutil.rmtree(folder.path)
        folder.check_held()
        with locked(Folder(tmp_path / "out.h5").lock):
            holder = folder.lock.read_text()
            lock._held.clear()
        assert not folder.lock.exists()
    assert holder.startswith("process ")
    with locked(folder.lock):
        shutil.rmtree(folder.path)
        folder.path.mkdir()
        folder.lock.write_text("process 1 on another machine")
        with pytest.raises(InputError, match="another run writes to this output") as told:
            check_held(folder.lock)
        assert "process 1 on another machine" in told.value.found
    assert folder.lock.read_text() == "process 1 on another machine"


def test_a_lock_that_its_holder_removes_meanwhile_is_made_anew(tmp_path, monkeypatch):
    path, hold, times = tmp_path / "out.h5.units" / "lock", lock.lock, []

    def late(file) -> bool:
        times.append(None)
        if len(times) == 1:  # as the holder does at its end, between our opening and locking
            path.unlink()
            path.parent.rmdir()
        return hold(file)

    monkeypatch.setattr(lock, "lock", late)
    with locked(path):
        assert path.exists()
    assert len(times) == 2


def test_a_lost_signal_is_raised_where_examples_are_counted(monkeypatch):
    monkeypatch.setattr(interruption, "_came", [signal.SIGTERM])
    with pytest.raises(KeyboardInterrupt):
        showing(Progress())(Advanced("step_9.pt", 1))


def test_outputs_of_the_command_line(tmp_path, monkeypatch):
    """By the whole command: its message, and the old file."""
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", inputs=np.zeros((9, 2), np.float32), targets=np.arange(9) % 3)
    for output, fact in (("gone/p.safetensors", "no directory"), ("circle.safetensors", "circle")):
        Path("circle.safetensors").unlink(missing_ok=True)
        Path("circle.safetensors").symlink_to("circle.safetensors")
        result = call("probes", "build", output, "--data", "data.npz")
        assert (result.exit_code, fact in result.stderr) == (3, True)
    result = call("probes", "show", "data.npz", "--sheet", "x/")
    assert (result.exit_code, "ends in a separator" in result.stderr) == (2, True)


def test_a_part_of_another_file_is_no_part_of_this_one(tmp_path):
    with ExitStack() as stack:
        _, part = new_part(stack, tmp_path / "a")
        drop_parts(tmp_path / "a")
        assert part.exists()  # it is being written
    assert contents(tmp_path) == {}
