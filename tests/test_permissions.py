"""What the user may not read is told in a message by every command, and by Python's functions."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator

import pytest

import analyze
from analyze.errors import InputError
from analyze.probes.file import read_probes
from analyze.runs import pipeline
from tests.conftest import assert_input_error, call, make_run

READS_ALL = 0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
VERSION = 0x20080522  # of the calls below


def effective_rights(change) -> None:
    """Change the rights that this thread uses; it keeps those that it could use."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(VERSION, 0), (ctypes.c_uint32 * 6)()
    for function in (libc.capget, libc.capset):
        if function is libc.capset:
            data[0] = change(data[0])
        if function(header, data) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@pytest.fixture
def closed() -> Iterator[None]:
    """Modes of files hold for root, too."""
    if os.getuid() != 0:
        yield
        return
    effective_rights(lambda rights: rights & ~READS_ALL)
    yield
    effective_rights(lambda rights: rights | READS_ALL)


@pytest.fixture
def places(tmp_path, measured, closed):
    """A run, and files and directories that may not be read."""
    run = make_run(tmp_path)
    shutil.copy(measured.output, tmp_path / "secret.h5")
    for name in ("dir", "deep/sub"):
        shutil.copytree(run.path, tmp_path / name)
    shutil.copy(run.probes, tmp_path / "secret.safetensors")
    shut = [tmp_path / n for n in ("dir", "deep/sub", "secret.h5", "secret.safetensors")]
    for path in shut:
        path.chmod(0)
    with pytest.raises(PermissionError):
        (tmp_path / "secret.h5").read_bytes()
    yield tmp_path
    for path in shut:
        path.chmod(0o700)


def test_every_command_says_what_may_not_be_read(places, monkeypatch):
    monkeypatch.chdir(places)
    for command in (
        "scan dir", "check dir", "run dir", "show secret.h5", "report secret.h5",
        "examples secret.h5", "compare secret.h5 dir/other.h5", "probes show secret.safetensors",
        "run run --probes secret.safetensors --output new.h5",
    ):  # fmt: skip
        result = call(*command.split())
        assert result.exit_code == 3, (command, result.stderr)
        assert "Error: a file or directory may not be read\n" in result.stderr, command
        assert "found:    no permission to read " in result.stderr
    for command in ("scan dir/run", "show dir/out.h5", "status dir/out.h5"):
        what = f"no permission to enter {places / 'dir'}\n"
        assert_input_error(call(*command.split()), what)
    assert not (places / "new.h5").exists()


def test_functions_raise_what_commands_say(places):
    for function, name in (
        (analyze.scan, "dir"), (analyze.check, "dir"), (analyze.run, "dir"),
        (analyze.show, "secret.h5"), (read_probes, "secret.safetensors"),
    ):  # fmt: skip
        with pytest.raises(InputError, match="a file or directory may not be read"):
            function(places / name)
    with pytest.raises(InputError, match="no run has begun here"):
        analyze.status(places / "dir" / "out.h5")


def test_a_directory_in_the_run_that_may_not_be_read_is_told(places):
    shutil.copy(places / "run" / "step_9.pt", places / "deep" / "step_9.pt")
    scanned = analyze.scan(places / "deep")
    assert [one.name for one in scanned.checkpoints] == ["step_9.pt"]
    assert [(left.name, left.why) for left in scanned.left_out] == [
        ("sub", "a directory that may not be read")
    ]


def test_a_run_card_that_may_not_be_read_is_not_called_broken(places):
    (places / "run" / "run.toml").chmod(0)
    assert_input_error(call("scan", str(places / "run")), "no permission to read ", "run.toml")


def test_what_else_may_not_be_read_is_a_message_too(tiny, monkeypatch):
    def refused(*arguments, **options):
        raise PermissionError(13, "Permission denied", "/some/file")

    monkeypatch.setattr(pipeline, "run", refused)
    assert "found:    no permission to read /some/file\n" in tiny.run().stderr


def test_links_that_cannot_be_read_are_left_out(tiny, monkeypatch):
    """As those in /proc of other users, or of a process that has ended meanwhile."""
    (tiny.path / "step_11.pt").symlink_to(tiny.path / "elsewhere")
    read = os.readlink

    def refused(path, *arguments, **options):
        if os.fspath(path).endswith("step_11.pt"):
            raise PermissionError(13, "Permission denied", path)
        return read(path, *arguments, **options)

    monkeypatch.setattr(os, "readlink", refused)
    scanned = analyze.scan(tiny.path)
    assert [one.step for one in scanned.checkpoints] == [9, 10, 100]
    assert "step_11.pt" in [left.name for left in scanned.left_out]


def test_ctrl_c_before_anything_is_measured_ends_as_shells_expect(tiny, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run", interrupted)
    result = tiny.run()
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "Stopped."
