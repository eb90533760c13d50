"""``analyze status``: what a run has done, is doing and has left, also of a run that died."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

import analyze
from analyze.files.whole import lock
from analyze.gradients.engine import Engine
from analyze.runs import recording
from analyze.runs import status as status_module
from analyze.runs.units import lock as lock_module
from analyze.runs.units.activity import (
    ACTIVITY,
    Activity,
    Place,
    Running,
    read_activity,
    write_activity,
)
from analyze.runs.units.lock import holder, locked
from tests.conftest import NAMES, TinyRun, assert_input_error, call

HERE = socket.gethostname()


@pytest.fixture(autouse=True)
def all_is_written(monkeypatch):
    """However long that takes."""
    monkeypatch.setattr(recording, "SHARE", math.inf)


def folder_of(tiny: TinyRun) -> Path:
    return Path(f"{tiny.output}.units")


def test_a_run_that_is_complete(measured):
    found = analyze.status(measured.output)
    assert (found.state, found.detail) == ("complete", "")
    assert (found.checkpoints, found.done, found.left, found.running) == (3, 2, 0, ())
    assert list(found.failed) == ["step_10.pt"]
    assert "checkpoint" in found.failed["step_10.pt"]
    assert found.seconds_left is None
    shown = call("status", str(measured.output))
    assert "complete" in shown.stdout
    assert "2 of 3 checkpoints are done, 0 running, 1 failed, 0 left" in shown.stdout
    assert "Failed step_10.pt: " in shown.stdout
    assert json.loads(call("status", str(measured.output), "--json").stdout) == json.loads(
        json.dumps(asdict(found))
    )


def test_nothing_is_written(measured):
    def files() -> dict[Path, tuple[int, bytes]]:
        paths = [p for p in measured.path.parent.rglob("*") if p.is_file()]
        return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in paths}

    before = files()
    call("status", str(measured.output), "--watch")  # it is over: one look
    assert files() == before


def test_a_run_that_goes_on(tiny, monkeypatch):
    measure, seen = Engine.measure, []

    def looking(self, model, progress, *others):
        progress(6)  # of 24 probes
        seen.append(analyze.status(tiny.output))
        progress(-6)
        return measure(self, model, progress, *others)

    monkeypatch.setattr(Engine, "measure", looking)
    assert tiny.run().exit_code == 0
    first, second, _ = seen
    assert (first.state, first.checkpoints, first.done, first.left) == ("measuring", 3, 0, 2)
    assert (second.done, second.left) == (1, 1)
    assert first.by == f"process {os.getpid()} on {HERE}"
    (running,) = first.running
    assert running.checkpoint == NAMES[0]
    assert (running.host, running.process, running.device) == (HERE, os.getpid(), "cpu")
    assert running.share in (0, 0.25)  # as it is when the file is written
    assert 0 <= running.seconds <= first.seconds
    assert second.seconds_left > 0
    assert analyze.status(tiny.output).state == "complete"


def test_the_preparation_has_its_stages(tiny, monkeypatch):
    prepare, seen = Engine.prepare, []

    def looking(self, *arguments):
        seen.append(analyze.status(tiny.output))
        return prepare(self, *arguments)

    monkeypatch.setattr(Engine, "prepare", looking)
    assert tiny.run().exit_code == 0
    assert {found.state for found in seen} == {"preparing"}
    assert "loading its weights, step_9.pt" in seen[0].detail
    assert call("status", str(tiny.output)).exit_code == 0


def test_a_run_that_ended_early_says_why(tiny, monkeypatch):
    measure, count = Engine.measure, []

    def once(self, *arguments):
        count.append(None)
        if len(count) == 2:
            raise KeyboardInterrupt
        return measure(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "measure", once)
        assert tiny.run().exit_code == 130
    found = analyze.status(tiny.output)
    assert (found.state, found.detail) == ("stopped", "stopped by a signal")
    assert (found.done, found.left, found.running) == (1, 2, ())
    result = tiny.run("--folds", "3")
    assert result.exit_code == 3
    why = "the output holds the units of another configuration"
    assert analyze.status(tiny.output).detail == why


def test_a_run_that_was_refused_at_once_leaves_no_folder(tiny):
    result = tiny.run("--model", "builtin:none")
    assert result.exit_code == 3
    assert not folder_of(tiny).exists()
    assert_input_error(call("status", str(tiny.output)), "no run has begun here")


@pytest.mark.parametrize("output", ["", ".", "/", "..", "none.h5", "a/none.h5"])
def test_where_no_run_has_begun(tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    assert_input_error(call("status", output), "no run has begun here")


def test_the_folder_of_units_leads_to_its_results(measured):
    folder = folder_of(measured)
    command = f"analyze status {measured.output}"
    assert_input_error(call("status", str(folder)), "no run has begun here", command)
    assert call(*command.split()[1:]).exit_code == 0


@pytest.fixture
def killed(tiny) -> Iterator[TinyRun]:
    """A run that was killed while it measured the second checkpoint."""
    code = (
        "import os, signal\n"
        "import analyze\n"
        "from analyze.gradients.engine import Engine\n"
        "from analyze.runs import recording\n"
        "recording.SHARE = 1e9\n"
        "measure, count = Engine.measure, []\n"
        "def dying(self, *arguments):\n"
        "    count.append(None)\n"
        "    len(count) == 2 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return measure(self, *arguments)\n"
        "Engine.measure = dying\n"
        f"analyze.run({str(tiny.path)!r}, output={str(tiny.output)!r}, device='cpu', folds=2)\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, env=environment, check=False).returncode == -9
    return tiny


def test_a_killed_run_does_not_look_alive(killed):
    activity = read_activity(folder_of(killed))
    assert activity is not None
    assert NAMES[1] in activity.running
    found = analyze.status(killed.output)
    assert (found.state, found.detail) == ("stopped", "its process ended without a word")
    assert found.running == ()
    assert found.done + found.left == 3
    # Another run holds the lock, and has said nothing yet.
    with locked(folder_of(killed) / "lock"):
        found = analyze.status(killed.output)
    assert (found.state, found.running) == ("starting", ())
    assert found.by == f"process {os.getpid()} on {HERE}"


def test_where_there_are_no_locks_the_process_tells(killed, monkeypatch):
    monkeypatch.setattr(lock_module, "is_free", lambda file: False)
    assert (folder_of(killed) / "lock").exists()
    assert analyze.status(killed.output).state == "stopped"
    monkeypatch.setattr(status_module.os, "kill", lambda process, signal: None)
    assert analyze.status(killed.output).state == "measuring"


def test_a_unit_that_is_not_there_is_not_done(measured, tmp_path):
    folder = tmp_path / "out.h5.units"
    folder.mkdir()
    write_activity(folder, Activity(1, "elsewhere", 0.0, checkpoints=["a", "b"], done=["a"]))
    found = analyze.status(tmp_path / "out.h5")
    assert (found.done, found.left) == (0, 2)


def test_who_looks_holds_nobody_up(tmp_path):
    path = tmp_path / "out.h5.units" / "lock"
    path.parent.mkdir()
    path.write_text("process 1 on a machine")
    with path.open("rb") as looking:
        import fcntl

        fcntl.flock(looking.fileno(), fcntl.LOCK_SH)
        began = []

        def waits(seconds: float) -> None:
            began.append(seconds)
            fcntl.flock(looking.fileno(), fcntl.LOCK_UN)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "sleep", waits)
            with locked(path) as supported:
                assert supported
                assert holder(path) is not None
    assert len(began) == 1
    assert holder(path) is None


def test_two_who_look_at_once(tmp_path):
    path = tmp_path / "lock"
    path.write_text("process 1 on a machine")
    with path.open("rb") as held:
        lock(held)
        assert holder(path) == holder(path) == "process 1 on a machine"
    assert holder(path) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b'{"process": 1}', b"\xff" * 60, b'{"running": {"a": 3}}', b"[" * 100_000],
)
def test_a_damaged_file_says_nothing(tmp_path, content):
    from analyze.runs.units.files import write_sealed

    folder = tmp_path / "out.h5.units"
    folder.mkdir()
    (folder / ACTIVITY).write_bytes(content)
    assert read_activity(folder) is None
    write_sealed(folder / ACTIVITY, content)
    assert read_activity(folder) is None
    assert_input_error(call("status", str(tmp_path / "out.h5")), "no run has begun here")


def test_what_is_written_is_read(tmp_path):
    place = Place("a host", 7, "cuda:1")
    activity = Activity(
        3, "b", 1.5, "stage", "end", ["x", "y", "z"], 24,
        {"x": Running(place, 2.5, 3)}, ["y"], {"z": "why"}, 2.0, 1, 9.0,
    )  # fmt: skip
    write_activity(tmp_path, activity)
    assert read_activity(tmp_path) == activity
    assert str(place) == "process 7 on a host, cuda:1"


def test_it_is_written_through_no_link(tmp_path):
    (tmp_path / "thesis").write_text("text")
    (tmp_path / ACTIVITY).symlink_to(tmp_path / "thesis")
    write_activity(tmp_path, Activity(1, "a", 0.0))
    assert (tmp_path / "thesis").read_text() == "text"


def test_a_disk_that_is_full_does_not_stop_a_run(tiny, monkeypatch):
    from analyze.runs.units import activity

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(activity, "write_unsynced", full)
    assert tiny.run().exit_code == 0


def test_results_without_their_units(measured, tmp_path):
    output = tmp_path / "moved.h5"
    output.write_bytes(measured.output.read_bytes())
    result = call("status", str(output))
    assert_input_error(result, "left no units", f"analyze show {output}")


def test_watching_ends_with_the_run(tiny):
    assert tiny.run().exit_code == 0
    code = (
        "import analyze.runs.status as status, time\n"
        "from analyze.cli import main\n"
        "real, states = status._state, ['measuring', 'measuring', 'complete']\n"
        "status._state = lambda *_: (states.pop(0), '')\n"
        "time.sleep = lambda seconds: None\n"
        f"main(['status', {str(tiny.output)!r}, '--watch', '--json'])\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    looks = [json.loads(line)["state"] for line in shown.stdout.splitlines()]
    assert looks == ["measuring", "measuring", "complete"]
