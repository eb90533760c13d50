"""A run survives what happens to it: units, resume, lock, interruption."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import analyze
from analyze.checkpoints import checkpoint
from analyze.gradients.device.memory import Held
from analyze.gradients.engine import Engine
from analyze.gradients.losses import build_loss
from analyze.gradients.measurement import Settings
from analyze.models.building import build_model
from analyze.runs import loading, measuring, preparation
from analyze.runs.units.files import read_sealed, write_sealed
from analyze.runs.units.lock import locked
from analyze.specs.model import ModelSpec
from tests.conftest import (
    NAMES,
    SPEC,
    TinyRun,
    assert_input_error,
    make_run,
    small_probes,
    small_weights,
)
from tests.crash import assert_same_arrays
from tests.nightly import of_every_run


def stopped_after(monkeypatch, count: int, problem: BaseException) -> None:
    """Raise something in place of the measurement after the first few."""
    measure, done = Engine.measure, []

    def stops(self, *arguments):
        if len(done) == count:
            raise problem
        done.append(None)
        return measure(self, *arguments)

    monkeypatch.setattr(Engine, "measure", stops)


def test_a_run_that_has_measured_nothing_is_in_nobodys_way(tiny):
    """A misspelt layer, loss or renaming is mended by the next command, without --restart."""
    assert_input_error(tiny.run("--layers", "hiden"), "has none of the layers asked for")
    assert tiny.run("--checkpoints", ":1").exit_code == 0
    assert_input_error(tiny.run("--layers", "hidden"), "the units of another configuration")
    for unit in tiny.units:
        unit.unlink()
    result = tiny.run("--layers", "hidden")
    assert_input_error(result, "the units of another configuration")  # there are its results


def test_the_same_command_again_measures_nothing_and_gives_the_same_bits(tiny, measurements):
    assert tiny.run().exit_code == 0
    before = analyze.open_results(tiny.output)
    assert len(measurements) == len(tiny.units) == 3
    assert tiny.run().exit_code == 0
    assert len(measurements) == 3
    assert_same_arrays(before, analyze.open_results(tiny.output))


def test_what_was_verified_stays_with_the_units(tiny):
    """Of a resumed run as of one that measured all by itself."""
    assert "Verified: " in tiny.run().stderr
    before = json.loads(analyze.open_results(tiny.output).attrs["provenance"])["verification"]
    assert before["compared_with_autograd_alone"] >= 3 * 2
    tiny.units[1].unlink()
    assert "Verified: " in tiny.run().stderr
    after = json.loads(analyze.open_results(tiny.output).attrs["provenance"])["verification"]
    assert after["measured_again_in_another_batch"] == before["measured_again_in_another_batch"]


def test_new_checkpoints_are_added_and_changed_ones_measured_again(tiny, measurements):
    assert tiny.run().exit_code == 0
    torch.save(small_weights(7), tiny.path / "step_200.pt")
    assert tiny.run().exit_code == 0
    assert len(measurements) == 4
    torch.save(small_weights(8), tiny.path / NAMES[0])
    assert tiny.run().exit_code == 0
    assert len(measurements) == 5
    assert list(analyze.open_results(tiny.output)["checkpoint"].values) == [*NAMES, "step_200.pt"]


def test_a_removed_checkpoint_leaves_the_results(tiny):
    assert tiny.run().exit_code == 0
    (tiny.path / NAMES[1]).unlink()
    assert tiny.run().exit_code == 0
    assert list(analyze.open_results(tiny.output)["checkpoint"].values) == NAMES[::2]


@pytest.mark.parametrize("damage", of_every_run(["byte", "cut", "empty", "gone"], {"byte"}))
def test_a_damaged_unit_is_measured_again(tiny, measurements, damage):
    assert tiny.run().exit_code == 0
    before = analyze.open_results(tiny.output)
    unit = tiny.units[1]
    content = bytearray(unit.read_bytes())
    content[len(content) // 2] ^= 1
    new = {"byte": content, "cut": content[:-1], "empty": b"", "gone": b""}[damage]
    unit.write_bytes(new)
    if damage == "gone":
        unit.unlink()
    assert tiny.run().exit_code == 0
    assert len(measurements) == 4
    assert_same_arrays(before, analyze.open_results(tiny.output))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> TinyRun:
    """A run that is done; not to be changed."""
    run = make_run(tmp_path_factory.mktemp("finished"))
    assert run.run().exit_code == 0
    return run


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (["--precision", "float64"], "precision: float32, now float64"),
        (["--batch-norm", "saved"], "batch norm: recomputed, now saved"),
        (["--max-probes", "12"], "probes: "),
        (["--loss", "mse?a=1"], None),
        (["--loss", "cross_entropy?label_smoothing=0.1"], "loss: cross_entropy, now cross_entropy"),
        (["--layers", "*1*"], "selected layers: [], now ['*1*']"),
    ],
)
def test_another_configuration_in_the_same_output_is_refused(finished, options, field):
    before = finished.output.read_bytes()
    result = finished.run(*options)
    assert_input_error(result, *([field, "--restart", "--output ANOTHER.h5"] if field else []))
    assert finished.output.read_bytes() == before
    assert len(finished.units) == 3


def test_other_probes_in_the_same_file_are_refused(tiny):
    from analyze.probes import write_probes

    assert tiny.run().exit_code == 0
    probes = small_probes()
    probes.inputs[""][0, 0] += 1
    write_probes(tiny.probes, probes)
    assert_input_error(tiny.run(), "probes: ")


def test_restart_throws_the_units_away(tiny, measurements):
    assert tiny.run().exit_code == 0
    assert tiny.run("--restart").exit_code == 0
    assert len(measurements) == 6


def test_another_batch_size_keeps_what_is_finished(tiny, measurements):
    assert tiny.run("--batch-size", "8").exit_code == 0
    before = {unit.name: unit.read_bytes() for unit in tiny.units}
    last = max(before)
    (tiny.units[0].parent / last).unlink()
    assert tiny.run("--batch-size", "3").exit_code == 0
    assert len(measurements) == 4
    kept = {unit.name: unit.read_bytes() for unit in tiny.units if unit.name != last}
    assert kept == {name: content for name, content in before.items() if name != last}
    assert json.loads(analyze.open_results(tiny.output).attrs["provenance"])["batch_size"] == 3


@pytest.mark.parametrize("count", [0, 1, 2])
def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(tiny, count):
    with pytest.MonkeyPatch.context() as patch:
        stopped_after(patch, count, KeyboardInterrupt())
        result = tiny.run()
    assert result.exit_code == 130
    kept = "1 unit is" if count == 1 else f"{count} units are"
    assert f"Stopped: {kept} kept in {tiny.output}.units." in result.stderr
    assert len(tiny.units) == count
    assert not tiny.output.exists()
    assert tiny.run().exit_code == 0


def test_sigterm_stops_with_143(tiny, monkeypatch):
    def terminated(self, *arguments):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Engine, "measure", terminated)
    before = signal.getsignal(signal.SIGTERM)
    assert tiny.run().exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_resumed_run_has_the_bits_of_an_undisturbed_one(tiny):
    assert tiny.run().exit_code == 0
    undisturbed = analyze.open_results(tiny.output)
    for unit in tiny.units[1:]:
        unit.unlink()
    tiny.output.unlink()
    assert tiny.run().exit_code == 0
    assert_same_arrays(undisturbed, analyze.open_results(tiny.output))


def test_two_runs_on_one_output_are_refused_and_a_stale_lock_is_not(tiny):
    folder = Path(f"{tiny.output}.units")
    folder.mkdir()
    with locked(folder / "lock"):
        assert_input_error(tiny.run(), "another run writes", f"process {os.getpid()} on ")
    assert tiny.run().exit_code == 0


def test_what_a_killed_run_left_of_the_results_is_removed(tiny):
    """The temporary file of the results and of a unit; not those of other outputs."""
    assert tiny.run().exit_code == 0
    folder = Path(f"{tiny.output}.units")
    left = [tiny.output.with_name(f"{tiny.output.name}.a1b2c3d4.analyze.part"),
            folder / "x.a1b2c3d4.analyze.part"]  # fmt: skip
    others = [tiny.output.with_name(f"{tiny.output.name}.other.h5.a1b2c3d4.analyze.part"),
              folder / "film.part"]  # fmt: skip
    for path in left + others:
        path.write_bytes(b"half")
    assert tiny.run().exit_code == 0
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in others)


def test_a_file_replaced_while_it_is_read_is_skipped(tiny, monkeypatch):
    fill = loading.fill

    def replacing(model, job, checkpoint):
        prefix = fill(model, job, checkpoint)
        if checkpoint.name == NAMES[1] and (Path(f"{tiny.output}.units") / "plan").exists():
            torch.save(small_weights(99), checkpoint.path)
        return prefix

    monkeypatch.setattr(loading, "fill", replacing)
    result = tiny.run()
    assert result.exit_code == 4
    assert "the checkpoint changed while it was read" in result.stderr
    assert len(tiny.units) == 2


def test_a_full_disk_is_told_and_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "unit"
    write_sealed(path, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(analyze.InputError, match="No space left on device"):
        write_sealed(path, b"new")
    assert read_sealed(path) == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("apart", of_every_run([1, 2], {"2"}))
def test_a_disk_that_is_full_at_any_write_loses_nothing(tiny, apart):
    assert tiny.run().exit_code == 0
    undisturbed = analyze.open_results(tiny.output)
    plan = (Path(f"{tiny.output}.units") / "plan").read_bytes()
    failed = 0
    for place in range(0, 30, apart):
        for left in [tiny.output, *Path(f"{tiny.output}.units").iterdir()]:
            left.unlink(missing_ok=True)
        (Path(f"{tiny.output}.units") / "plan").write_bytes(plan)
        with pytest.MonkeyPatch.context() as patch:
            fails_at(patch, place)
            result = tiny.run()
        if result.exit_code == 0:
            break
        failed += 1
        assert_input_error(result, "cannot be written", "No space left on device")
        assert not tiny.output.exists()
        assert not list(tiny.path.parent.rglob("*.part"))
        assert tiny.run().exit_code == 0
        assert_same_arrays(undisturbed, analyze.open_results(tiny.output))
    assert failed * apart >= 5  # configuration, three units, results


def fails_at(patch: pytest.MonkeyPatch, place: int) -> None:
    """Let the disk be full at one sync of a file of the run."""
    sync, calls = os.fsync, []

    def full(descriptor):
        if stat.S_ISREG(os.fstat(descriptor).st_mode):  # of a directory: nothing is lost
            calls.append(None)
            if len(calls) == place + 1:
                raise OSError(28, "No space left on device")
        sync(descriptor)

    patch.setattr(os, "fsync", full)


@pytest.mark.parametrize("name", of_every_run(["run", "run with workers", "run --follow"], {"run"}))
def test_runs_that_something_happened_to_are_resumed_to_the_same_bits(name):
    command = [sys.executable, "-m", "scripts.crash_test", "--kills", "24", "--faults", "1"]
    command += ["--only", name, "--threads", "2" if "workers" in name else "1"]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not equal 0" in done.stdout
    for fault in ("2 commands killed, 0 with anything wrong", "failing write: ", "short read: "):
        assert fault in done.stdout


def test_the_kind_of_weights_that_is_taken_anyway_is_no_other_configuration(tiny, measurements):
    assert tiny.run().exit_code == 0
    assert tiny.run("--weights", "model").exit_code == 0
    assert len(measurements) == 3


def test_units_of_another_version_are_kept_with_a_warning(tiny, measurements, monkeypatch):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "versions", lambda: {"gradient-coherence": "0.0.1"})
        assert tiny.run("--checkpoints", ":2").exit_code == 0
    result = tiny.run()
    assert result.exit_code == 0
    assert len(measurements) == 3
    said = "Warning: 2 of 3 checkpoints were measured by version 0.0.1 of the program, and this is"
    assert said in result.stderr
    assert "measured by version 0.0.1" in analyze.open_results(tiny.output).attrs["provenance"]
    assert "measured by version" not in tiny.run("--restart").stderr


def test_what_a_checkpoint_measured_between_others_showed_stays():
    """Units of later checkpoints know nothing of it."""
    engine = Engine(small_probes(), build_loss("cross_entropy"), Settings("cpu", batch_size=8))
    engine.prepare([loaded(0)])
    later = engine.state()
    name, other = list(engine.plan.methods)[:2]
    now, note = engine.current, "out of memory: batches of 4 from then on"
    engine._state = replace(
        now, plan=now.plan.demoted({name}), proof=now.proof.adding({other: 1e-3}, {name}),
        memory=now.memory.lowered(Held(1, 1, 1, True))[0], repeatable=False, notes=(note,),
    )  # fmt: skip
    engine.restore(later)
    assert engine.plan.named_methods == later["methods"] | {name: "vmap(grad)"}
    assert engine.proof.errors == later["errors"] | {other: 1e-3}
    assert name in engine.proof.rounding
    assert (engine.batch_size, engine.current.repeatable) == (4, False)
    assert engine.notes == (note,)


def test_what_units_know_is_added_up_in_their_order():
    engine = Engine(small_probes(), build_loss("cross_entropy"), Settings("cpu", batch_size=8))
    engine.prepare([loaded(0)])
    ended = engine.state() | {
        "batch_size": 2, "notes": ["a note"], "errors": dict.fromkeys(engine.plan.methods, 1e-4),
        "methods": dict.fromkeys(engine.plan.methods, "one at a time"), "examples": 99,
    }  # fmt: skip
    engine.restore(engine.state())
    engine.restore(ended)
    assert engine.state() == ended


def loaded(seed: int) -> torch.nn.Module:
    model = build_model(ModelSpec.parse(SPEC))
    model.load_state_dict(small_weights(seed))
    return model


@pytest.mark.parametrize("moment", ["before", "while it is read"])
def test_a_file_that_vanishes_is_skipped_and_measured_when_it_is_back(tiny, monkeypatch, moment):
    """After it was found, and after its hash was taken."""
    read, load, content = measuring._read, measuring.load, (tiny.path / NAMES[1]).read_bytes()

    def vanishing(checkpoint):
        if checkpoint.name == NAMES[1]:
            (tiny.path / NAMES[1]).unlink()

    def before(prepared, checkpoint, *others):
        vanishing(checkpoint)
        return read(prepared, checkpoint, *others)

    def meanwhile(job, content, *others):
        vanishing(content.checkpoint)
        return load(job, content, *others)

    with pytest.MonkeyPatch.context() as patch:
        if moment == "before":
            patch.setattr(measuring, "_read", before)
        else:
            patch.setattr(measuring, "load", meanwhile)
        result = tiny.run()
    assert result.exit_code == 4, result.stderr
    assert "1 of 3 checkpoints were skipped" in result.stderr
    assert "No such file or directory" in result.stderr
    (tiny.path / NAMES[1]).write_bytes(content)
    assert tiny.run().exit_code == 0


def test_a_file_that_vanishes_before_the_proof_is_skipped(tiny, monkeypatch):
    call = preparation.loaded_model

    def vanishing(job, checkpoint):
        if checkpoint.name == NAMES[2]:
            (tiny.path / NAMES[2]).unlink()
        return call(job, checkpoint)

    monkeypatch.setattr(preparation, "loaded_model", vanishing)
    result = tiny.run()
    assert result.exit_code == 4, result.stderr
    assert len(tiny.units) == 2


def test_a_file_without_read_permission_is_skipped(tiny, monkeypatch):
    hashed = checkpoint.sha256_of_all

    def denied(files):
        if files[0].name == NAMES[0]:
            raise PermissionError(13, "Permission denied")
        return hashed(files)

    monkeypatch.setattr(checkpoint, "sha256_of_all", denied)
    result = tiny.run()
    assert result.exit_code == 4, result.stderr
    assert f"{NAMES[0]}: Permission denied" in result.stderr


@pytest.mark.parametrize("moment", of_every_run([0, 2**31], {"0"}))
def test_a_clock_that_jumps_changes_nothing(tiny, measurements, moment):
    """Files from before and after all time: units go by content."""
    assert tiny.run().exit_code == 0
    before = analyze.open_results(tiny.output)
    for path in [*tiny.path.iterdir(), *tiny.units, tiny.output]:
        os.utime(path, (moment, moment))
    assert tiny.run().exit_code == 0
    assert len(measurements) == 3
    assert_same_arrays(before, analyze.open_results(tiny.output))


def test_the_lock_file_of_a_killed_run_is_not_in_the_way(tiny):
    folder = Path(f"{tiny.output}.units")
    folder.mkdir()
    (folder / "lock").write_text("process 1 on another machine, since 1970-01-01", encoding="utf-8")
    assert tiny.run().exit_code == 0
    assert sorted(path.suffix for path in folder.iterdir()) == ["", "", "", *[".unit"] * 3]


def test_a_file_system_without_locks_is_warned_of(tiny, monkeypatch):
    from analyze.files import whole

    def unsupported(descriptor, operation):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(whole.fcntl, "flock", unsupported)
    result = tiny.run()
    assert result.exit_code == 0
    assert f"Warning: no locks beside {tiny.output}: run one command at a time" in result.stderr


def test_a_folder_of_units_that_cannot_be_made_is_told(tiny, monkeypatch):
    folder = Path(f"{tiny.output}.units")
    folder.write_text("mine", encoding="utf-8")
    assert_input_error(tiny.run(), f"{folder}: File exists", "a unit of the run cannot be written")
    folder.unlink()

    def read_only(self, *arguments, **options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", read_only)
    assert_input_error(tiny.run(), f"{folder}: Read-only file system")


def test_an_output_that_becomes_read_only_keeps_the_units(tiny, monkeypatch):
    """Whatever happens at the last step: the work of the run is there."""
    replace = Path.replace

    def read_only(self, target):
        if Path(target) == tiny.output:
            raise OSError(30, "Read-only file system")
        return replace(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", read_only)
        assert_input_error(tiny.run(), f"{tiny.output}: Read-only file system")
    assert len(tiny.units) == 3
    assert not list(tiny.path.parent.glob("*.part"))


@pytest.fixture
def reads(tmp_path_factory, monkeypatch) -> Callable[[], dict[str, int]]:
    """Counts how often tensors are read and files are hashed, in this process and in workers."""
    log = tmp_path_factory.mktemp("reads") / "log"
    for module, name in ((loading, "read_weights"), (checkpoint, "sha256_of_all")):
        monkeypatch.setattr(module, name, logged(getattr(module, name), log))
    monkeypatch.setattr(loading, "COARSE", 0.0)  # the files of a test are a moment old

    def counts() -> dict[str, int]:
        calls = log.read_text().split()
        log.write_text("")
        return dict(Counter(calls))

    return counts


def logged(call: Callable, log: Path) -> Callable:
    def counted(*arguments):
        with log.open("a") as file:
            file.write(f"{call.__name__}\n")
        return call(*arguments)

    return counted


def test_a_checkpoint_is_read_once(tiny, reads):
    """Once to be measured, and the ends and the middle once more, for the proof before."""
    for step in range(200, 205):
        torch.save(small_weights(step), tiny.path / f"step_{step}.pt")
    assert tiny.run().exit_code == 0
    assert reads() == {"read_weights": 8 + 3, "sha256_of_all": 8}
    assert tiny.run().exit_code == 0
    assert reads() == {"read_weights": 3, "sha256_of_all": 8}  # a unit goes by the hash


def test_what_cannot_be_read_is_read_once_and_told_when_its_turn_comes(tiny, reads):
    (tiny.path / NAMES[0]).write_bytes(b"")
    torch.save(small_weights(0, SPEC.replace("12", "11")), tiny.path / NAMES[2])
    torch.save(small_weights(4), tiny.path / "step_200.pt")
    result = tiny.run()
    assert result.exit_code == 4
    assert reads()["read_weights"] == 2 + 2 + 1  # of the proof; of the run; the unfit one
    assert result.stderr.index(NAMES[1]) < result.stderr.index(f"Skipped {NAMES[2]}")


def test_with_fail_all_are_read_before_the_first_is_measured(tiny, reads, measurements):
    assert tiny.run("--on-error", "fail").exit_code == 0
    assert reads() == {"read_weights": 3 + 3 + 3, "sha256_of_all": 3}
    torch.save(small_weights(0, SPEC.replace("12", "11")), tiny.path / "step_200.pt")
    assert_input_error(tiny.run("--on-error", "fail", "--restart"), "does not fit", "step_200.pt")
    assert len(measurements) == 3


def test_a_new_date_is_no_new_content(tiny, monkeypatch):
    fill = loading.fill

    def touching(model, job, checkpoint):
        os.utime(checkpoint.path)
        return fill(model, job, checkpoint)

    monkeypatch.setattr(loading, "fill", touching)
    assert tiny.run().exit_code == 0
