"""``--follow``: new checkpoints are measured as a training writes them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import analyze
from analyze.checkpoints.checkpoint import NAN, Checkpoint
from analyze.checkpoints.finding import watch
from analyze.checkpoints.finding.series import in_order
from tests.conftest import NAMES, TinyRun, assert_input_error, call, saved
from tests.crash import assert_same_arrays


def cut(tiny: TinyRun, seed: int, name: str, share: float = 0.5) -> Callable[[], None]:
    """The first part of a checkpoint, as a training that is writing it leaves it."""

    def write() -> None:
        saved(tiny, seed, name)()
        content = (tiny.path / name).read_bytes()
        (tiny.path / name).write_bytes(content[: int(share * len(content))])

    return write


def nothing() -> None:
    """A pause in which the training writes nothing."""


def measured(tiny: TinyRun) -> list[str]:
    return [str(name) for name in analyze.open_results(tiny.output)["checkpoint"].values]


def test_new_checkpoints_are_measured_as_they_come(tiny, training):
    seen = []
    training(
        lambda: seen.append(measured(tiny)),
        saved(tiny, 7, "step_200.pt"), nothing,
        lambda: seen.append(measured(tiny)),
        saved(tiny, 8, "step_150.pt"), nothing, nothing,
    )  # fmt: skip
    result = tiny.run("--follow")
    assert result.exit_code == 0, result.stderr
    assert seen == [NAMES, [*NAMES, "step_200.pt"]]
    assert measured(tiny) == [*NAMES, "step_150.pt", "step_200.pt"]
    assert f"Waiting for new checkpoints in {tiny.path}: Ctrl-C ends" in result.stderr


def test_the_results_are_those_of_a_run_afterwards(tiny, training):
    training(saved(tiny, 7, "step_200.pt"), nothing, nothing)
    assert tiny.run("--follow").exit_code == 0
    followed = analyze.open_results(tiny.output)
    assert tiny.run().exit_code == 0
    assert_same_arrays(followed, analyze.open_results(tiny.output))


def test_what_is_still_being_written_is_left_for_later(tiny, training):
    seen: list[list[str]] = []
    training(
        cut(tiny, 7, "step_200.pt", 0.3),
        cut(tiny, 7, "step_200.pt", 0.6),
        lambda: (seen.append(measured(tiny)), saved(tiny, 7, "step_200.pt")()),
        nothing, nothing,
    )  # fmt: skip
    result = tiny.run("--follow")
    assert result.exit_code == 0, result.stderr
    assert seen == [NAMES]
    assert measured(tiny) == [*NAMES, "step_200.pt"]
    assert "Skipped" not in result.stderr


def test_a_checkpoint_that_changes_is_measured_again(tiny, training):
    training(saved(tiny, 7, NAMES[0]), nothing, nothing)
    assert tiny.run("--follow").exit_code == 0
    again = analyze.open_results(tiny.output)
    assert measured(tiny) == NAMES
    assert tiny.run("--restart").exit_code == 0
    anew = analyze.open_results(tiny.output)
    one, other = (t["parameters"]["gradient_gram"].values for t in (again, anew))
    assert one == pytest.approx(other, rel=1e-5)


def test_a_broken_checkpoint_is_skipped_and_tried_again_when_it_changes(tiny, training):
    seen = []
    training(
        cut(tiny, 7, "step_200.pt"), nothing,
        lambda: seen.append(str(analyze.open_results(tiny.output)["status"].values[-1])),
        saved(tiny, 7, "step_200.pt"), nothing, nothing,
    )  # fmt: skip
    result = tiny.run("--follow")
    assert "cannot be read" in seen[0]
    assert result.exit_code == 0, result.stderr
    assert list(analyze.open_results(tiny.output)["status"].values) == ["ok"] * 4


def test_what_the_training_deletes_stays_also_when_the_watch_is_begun_again(tiny, training):
    training((tiny.path / NAMES[0]).unlink, saved(tiny, 7, "step_200.pt"), nothing, nothing)
    assert tiny.run("--follow").exit_code == 0
    assert measured(tiny) == [*NAMES, "step_200.pt"]
    before = analyze.open_results(tiny.output)
    training(nothing)
    assert tiny.run("--follow").exit_code == 0
    assert_same_arrays(before, analyze.open_results(tiny.output))
    assert tiny.run().exit_code == 0
    assert measured(tiny) == [*NAMES[1:], "step_200.pt"]


def test_the_first_checkpoint_is_waited_for(tiny, training):
    for name in NAMES:
        (tiny.path / name).unlink()
    training(cut(tiny, 1, "step_0.pt"), nothing, saved(tiny, 1, "step_0.pt"), nothing, nothing)
    result = tiny.run("--follow")
    assert result.exit_code == 0, result.stderr
    assert f"Waiting for the first checkpoint in {tiny.path}: Ctrl-C ends" in result.stderr
    assert measured(tiny) == ["step_0.pt"]


def test_no_first_checkpoint_ends_in_the_message_of_any_run(tiny, training):
    for name in NAMES:
        (tiny.path / name).unlink()
    training()
    result = tiny.run("--follow")
    assert result.exit_code == 3
    assert "no checkpoints in the run" in result.stderr
    assert not Path(f"{tiny.output}.units").exists()


def test_ctrl_c_while_a_checkpoint_is_measured_keeps_what_is_written(tiny, training, monkeypatch):
    from analyze.gradients.engine import Engine

    training(saved(tiny, 7, "step_200.pt"), nothing)
    measure, done = Engine.measure, []

    def stops(self, *arguments):
        done.append(None)
        if len(done) == 4:
            raise KeyboardInterrupt
        return measure(self, *arguments)

    monkeypatch.setattr(Engine, "measure", stops)
    result = tiny.run("--follow")
    assert result.exit_code == 130
    assert "Stopped: 3 units are kept" in result.stderr
    assert measured(tiny) == NAMES


def test_patience_ends_the_watch(tiny, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(watch, "monotonic", lambda: next(clock))
    monkeypatch.setattr(watch, "sleep", lambda seconds: None)
    assert tiny.run("--follow", "--patience", "0.5").exit_code == 0
    assert 30 <= next(clock) <= 40


def test_patience_goes_with_follow(tiny):
    result = tiny.run("--patience", "5")
    assert (result.exit_code, "--patience goes with --follow" in result.stderr) == (2, True)
    with pytest.raises(analyze.InputError, match="patience"):
        analyze.run(tiny.path, output=tiny.output, patience=5)


def test_a_run_that_does_not_exist_is_not_waited_for(tmp_path):
    result = call("run", str(tmp_path / "gone"), "--follow", "--output", str(tmp_path / "o.h5"))
    assert_input_error(result, "the run is missing")


def test_nothing_depends_on_which_file_is_older(tmp_path, training):
    """A file with an older time is news like any other: clocks jump, and copies keep times."""
    training(nothing, nothing)
    run = tmp_path / "run"
    run.mkdir()
    torch.save({}, run / "a.pt")
    looks = watch.Watch(run, 1e9)
    torch.save({}, run / "b.pt")
    os.utime(run / "b.pt", (0, 0))
    assert next(looks.news()).fresh == {run / "b.pt"}
    os.utime(run / "a.pt", (1, 1))
    assert next(looks.news()).fresh == {run / "a.pt"}


def test_a_checkpoint_without_step_that_is_gone_has_a_place(tmp_path):
    gone = Checkpoint("gone.pt", tmp_path / "gone.pt", NAN, NAN, "none", "torch", "", "", 0)
    assert in_order([gone]) == [gone]
