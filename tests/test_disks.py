"""Disks and systems that refuse: every command ends in its message, with nothing half written."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import analyze
from analyze.errors import InputError
from analyze.files import whole
from analyze.files.whole import PART
from tests.crash import assert_same_arrays
from tests.writers import WRITERS, contents, drawn_quickly

STEPS = ((tempfile, "mkstemp"), (Path, "mkdir"), (os, "fsync"), (Path, "chmod"), (Path, "replace"))
EVERY = pytest.mark.parametrize("name", WRITERS)


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with drawn_quickly():
        yield


def failing(
    patch: pytest.MonkeyPatch, step: tuple[object, str], which: int, code: int
) -> list[int]:
    """Let the ``which``-th call of a step fail; the list holds a number for each call."""
    place, name = step
    function, calls = getattr(place, name), []

    def called(*arguments, **options):
        calls.append(len(calls))
        if calls[-1] == which:
            raise OSError(code, os.strerror(code))
        return function(*arguments, **options)

    patch.setattr(place, name, called)
    return calls


def refusal(write: Callable[[Path], object], folder: Path) -> InputError | None:
    """What a writer raises."""
    try:
        write(folder)
    except InputError as told:
        return told
    return None


def assert_old_or_new(folder: Path, before: dict, after: dict) -> None:
    """Every file is whole, and there is none besides."""
    for name, content in contents(folder).items():
        wholes = [state[name] for state in (before, after) if name in state]
        assert content in wholes, name


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[1])
@EVERY
def test_a_call_that_fails_leaves_nothing_half_written(tmp_path, name, step):
    """Each call of each step in turn; inodes run out where the temporary file is made."""
    (tmp_path / "whole").mkdir()
    WRITERS[name](tmp_path / "whole")
    after = contents(tmp_path / "whole")
    for which in range(40):
        folder = tmp_path / str(which)
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            calls = failing(patch, step, which, errno.ENOSPC)
            told = refusal(WRITERS[name], folder)
            if len(calls) <= which:
                break
        assert told is None or os.strerror(errno.ENOSPC) in told.found
        assert_old_or_new(folder, {}, after)
        if step[1] != "replace":  # before the first file takes its place none has
            assert contents(folder) in ({}, after)
        WRITERS[name](folder)
        assert contents(folder) == after
    assert which > 0 or (step[1] == "mkdir" and set(after) == {Path(n).name for n in after})


@EVERY
def test_a_file_that_may_not_grow(tmp_path, name):
    """The system's own refusal in the middle of a write."""
    child = os.fork()
    if not child:
        code = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
            WRITERS[name](tmp_path)
        except InputError as told:
            code = 3 if os.strerror(errno.EFBIG) in told.found else 4
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 3
    assert contents(tmp_path) == {}


@pytest.fixture
def mounted(tmp_path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system in memory with options, where this process may."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:  # there is no such program
            done = False
        if not done:
            pytest.skip("no file system may be mounted here")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True, check=False)


@pytest.mark.parametrize("options", ["size=4k", "nr_inodes=1", "ro"])
@EVERY
def test_a_disk_that_is_full_without_inodes_or_read_only(mounted, name, options):
    folder = mounted(options)
    if "size" in options:
        (folder / "all of it").write_bytes(bytes(4096))
    before = contents(folder)
    with pytest.raises(InputError, match="cannot be written") as told:
        WRITERS[name](folder)
    reasons = (errno.ENOSPC, errno.EROFS)
    assert any(os.strerror(reason) in told.value.found for reason in reasons)
    assert contents(folder) == before


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP], ids=["ENOLCK", "ENOTSUP"])
@EVERY
def test_a_file_system_without_locks(tmp_path, monkeypatch, name, code):
    def refused(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(whole.fcntl, "flock", refused)
    WRITERS[name](tmp_path)
    before = contents(tmp_path)
    WRITERS[name](tmp_path)
    assert contents(tmp_path) == before
    assert not [path for path in before if PART in path]


@pytest.mark.parametrize("moment", [0, 2**32], ids=["long ago", "in the future"])
@EVERY
def test_a_clock_that_jumps(tmp_path, name, moment):
    """What is older, or newer than now, is replaced by the same bytes."""
    WRITERS[name](tmp_path)
    before = contents(tmp_path)
    for path in tmp_path.rglob("*"):
        os.utime(path, (moment, moment))
    WRITERS[name](tmp_path)
    assert contents(tmp_path) == before


# --- a run


def test_a_run_without_a_byte_of_room_leaves_nothing(tiny, monkeypatch):
    failing(monkeypatch, (tempfile, "mkstemp"), 0, errno.ENOSPC)
    assert tiny.run().exit_code == 3
    before = contents(tiny.path.parent)
    failing(monkeypatch, (os, "fsync"), 0, errno.ENOSPC)  # of the configuration
    result = tiny.run()
    assert (result.exit_code, "No space left on device" in result.stderr) == (3, True)
    assert contents(tiny.path.parent) == before
    assert not Path(f"{tiny.output}.units").exists()


def test_a_run_on_a_clock_that_jumps_back_at_every_look(tiny, monkeypatch):
    from analyze.runs import loading

    assert tiny.run().exit_code == 0
    before = analyze.open_results(tiny.output)
    ticks = iter(range(2**31, 0, -1000))
    monkeypatch.setattr(loading.time, "time", lambda: float(next(ticks)))
    assert tiny.run("--restart").exit_code == 0
    assert_same_arrays(before, analyze.open_results(tiny.output))
