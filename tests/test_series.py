"""Files found once, in order, of one run, and left for later while they are being written."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from analyze.checkpoints.finding.one_run import several_runs
from analyze.checkpoints.finding.series import remarks, select
from analyze.checkpoints.options import ReadingOptions
from analyze.checkpoints.scan import scan
from analyze.runs.job import resolve
from analyze.runs.options import Options
from tests.checkpoint_files import (
    FOREIGN,
    assert_weights,
    found,
    hugging_face,
    known,
    reasons,
    save,
    weights,
)
from tests.conftest import assert_input_error, call, small_weights

# --- links, copies, order


def test_hard_links_are_found_once(tmp_path):
    path = save(tmp_path / "step_1.pt", weights(1))
    os.link(path, tmp_path / "model_best.pt")
    assert [c.name for c in found(tmp_path)] == ["step_1.pt"]
    assert reasons(tmp_path)["model_best.pt"] == "the same file as step_1.pt"


def test_a_link_is_read_where_its_target_would_not_be(tmp_path):
    """The cache of Hugging Face: names are links to files that are named by their hash."""
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for step in (1, 512):
        save_file(weights(step), blobs / f"sha{step}")
        folder = tmp_path / "snapshots" / f"step{step}"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").symlink_to(f"../../blobs/sha{step}")
    (tmp_path / "snapshots" / "main").symlink_to("step512")
    checkpoints = found(tmp_path)
    assert [c.step for c in checkpoints] == [1, 512]
    for c in checkpoints:
        assert_weights(c, weights(int(c.step)))
    assert reasons(tmp_path)["snapshots/main"] == "a link to snapshots/step512"


def test_a_name_without_ending_may_be_a_link_to_the_last(tmp_path):
    save(tmp_path / "step_1.pt", weights(1))
    (tmp_path / "latest").symlink_to("step_1.pt")
    (tmp_path / "last_checkpoint").write_text("step_1.pt")
    assert reasons(tmp_path) == {
        "latest": "a link to step_1.pt", "last_checkpoint": "says which checkpoint is the last one",
    }  # fmt: skip
    assert [c.name for c in found(tmp_path)] == ["step_1.pt"]


def test_of_two_copies_the_one_with_more_progress_stays(tmp_path):
    hugging_face(tmp_path / "checkpoint-5", 5, weights(5))
    other = tmp_path / "checkpoint-5" / "global_step5" / "mp_rank_00_model_states.pt"
    save(other, {"module": weights(5), "global_steps": 5})
    assert [(c.name, c.epoch) for c in found(tmp_path)] == [
        ("checkpoint-5/model.safetensors", 0.01)
    ]


def test_a_copy_without_a_step_is_found_once(tmp_path):
    for step in (1, 2):
        save(tmp_path / f"step_{step}.pt", weights(step))
    save(tmp_path / "final.pt", {"model": {f"module.{k}": v for k, v in weights(2).items()}})
    assert [c.name for c in found(tmp_path)] == ["step_1.pt", "step_2.pt"]
    assert reasons(tmp_path)["final.pt"] == "the same weights as step_2.pt"


def test_equal_weights_at_different_steps_are_two_checkpoints(tmp_path):
    for step in (1, 2):
        save(tmp_path / f"step_{step}.pt", weights(1))
    assert len(found(tmp_path)) == 2


def test_one_step_with_different_weights_is_kept_and_told(tmp_path):
    save(tmp_path / "epoch=0-step=5.ckpt", weights(1))
    save(tmp_path / "epoch=0-step=5-v1.ckpt", weights(2))
    assert len(found(tmp_path)) == 2
    assert "different weights at one step" in " ".join(scan(tmp_path).warnings)


def test_unknown_steps_stand_last_by_age_with_a_warning(tmp_path):
    for age, name in enumerate(["zeta.pt", "alpha.pt", "step_5.pt"]):
        path = save(tmp_path / name, weights(age))
        os.utime(path, (1000 + age, 1000 + age))
    assert [c.name for c in found(tmp_path)] == ["step_5.pt", "zeta.pt", "alpha.pt"]
    assert "no step is known of zeta.pt, alpha.pt" in " ".join(scan(tmp_path).warnings)


def test_what_has_no_progress_does_not_spoil_the_order_of_the_others(tmp_path):
    for age, name in enumerate(["last.pt", "epoch_10.pt", "epoch_9.pt"]):
        path = save(tmp_path / name, weights(age))
        os.utime(path, (1000 + age, 1000 + age))
    assert [c.name for c in found(tmp_path)] == ["epoch_9.pt", "epoch_10.pt", "last.pt"]
    assert "no step is known of last.pt, which is taken" in " ".join(scan(tmp_path).warnings)


def test_a_number_that_never_changes_is_no_step(tmp_path):
    for k, name in enumerate(["resnet18_best.pt", "resnet18_other.pt"]):
        save(tmp_path / name, weights(k))
    assert [known(c.step) for c in found(tmp_path)] == [None, None]


def test_gaps_are_told(tmp_path):
    for k, step in enumerate((100, 200, 300, 400, 700, 800)):
        save(tmp_path / f"step_{step}.pt", weights(k))
    assert scan(tmp_path).warnings == ["gaps between step 400 and 700: the others are 100 apart"]


@pytest.mark.parametrize(
    "steps", [(0, 1, 2, 3, 4, 5, 7, 10, 20), (1, 2, 4, 8, 16, 32), (100, 200, 300, 400, 1000)]
)
def test_a_series_that_grows_sparser_has_no_gaps(tmp_path, steps):
    for k, step in enumerate(steps):
        save(tmp_path / f"step_{step}.pt", weights(k))
    assert scan(tmp_path).warnings == []


# --- several runs in one directory


def versions(root: Path, steps=((10, 20), (10, 20))) -> Path:
    """Runs of Lightning, one after the other into the same directory."""
    for v, own in enumerate(steps):
        for step in own:
            folder = root / "lightning_logs" / f"version_{v}" / "checkpoints"
            content = {"state_dict": weights(100 * v + step), "global_step": step, "epoch": step}
            save(folder / f"epoch={step}-step={step}.ckpt", content)
    return root


MIXED = {
    "the same steps": ("{}/step_{}.pt", {"a": (10, 20), "b": (20, 30)}, "step 20 in a/step_20.pt"),
    "steps between": ("{}/step_{}.pt", {"a": (10, 30), "b": (20, 40)}, "steps 10 to 30 in a and"),
    "epochs": ("{}/epoch_{}.pt", {"a": (1, 2), "b": (1, 2)}, "epoch 1 in a/epoch_1.pt"),
    "names with epochs": (
        "{}_epoch90/epoch_{}.pt", {"a": (1, 2), "b": (1, 2)}, "epoch 1 in a_epoch90/epoch_1.pt"),
    "a directory each": (
        "{}/checkpoint-{}/w.pt", {"a": (5, 9), "b": (7, 11)}, "steps 5 to 9 in a/checkpoint-5"),
    "parts of a model": ("step_{1}/{0}/w.pt", {"a": (5, 9), "b": (5, 9)}, "step 5 in step_5/a"),
    "names in a directory": (
        "{}_{}.pt", {"adam": (1, 2), "sgd": (1, 2)}, "step 1 in adam_1.pt and in sgd_1.pt"),
    "averages beside": (
        "model_{1}{0}.pt", {"": (1, 2), "_ema": (1, 2)}, "step 1 in model_1.pt and in model_1_ema"),
    "settings in names": (
        "noise{}_epoch{}.pt", {"0": (1, 2), "50": (1, 2)}, "epoch 1 in noise0_epoch1.pt and in"),
}  # fmt: skip


@pytest.mark.parametrize("case", MIXED)
def test_several_runs_are_told_with_what_to_type(tmp_path, case):
    form, runs, told = MIXED[case]
    for k, (run, steps) in enumerate(runs.items()):
        for step in steps:
            save(tmp_path / form.format(run, step), weights(100 * k + step))
    (warning,) = [w for w in scan(tmp_path).warnings if "several runs" in w]
    assert told in warning
    assert not any("take turns" in w for w in scan(tmp_path).warnings)
    choices = re.findall(r"--checkpoints '(.*?)'", warning)
    checkpoints = found(tmp_path)
    assert len(checkpoints) == 4
    parts = [select(checkpoints, choice) for choice in choices]
    assert [len(part) for part in parts] == [2, 2]
    assert all(several_runs(part) is None for part in parts)


@pytest.mark.parametrize(
    "names",
    [
        ("epoch=3-acc=9.ckpt", "epoch=3-acc=8.ckpt", "epoch=4-acc=9.ckpt", "epoch=4-acc=8.ckpt"),
        ("epoch_1.pt", "epoch_2.pt", "best_epoch_1.pt", "best_epoch_2.pt"),
        ("warm_1.pt", "warm_2.pt", "main_3.pt", "main_4.pt"),
    ],
)  # fmt: skip
def test_metrics_best_ones_and_names_that_follow_one_another_make_no_runs(tmp_path, names):
    for k, name in enumerate(names):
        save(tmp_path / name, weights(k))
    assert several_runs(found(tmp_path)) is None
    assert "take turns" not in " ".join(scan(tmp_path).warnings)


def test_names_that_take_turns_are_told(tmp_path):
    for name in ("adam_1000.pt", "sgd_1500.pt", "adam_2000.pt", "sgd_2500.pt"):
        save(tmp_path / name, weights(len(name) + int(name[-7:-3])))
    assert [w for w in scan(tmp_path).warnings if "take turns" in w] == [
        "adam_*.pt, sgd_*.pt take turns in their steps; two runs may be mixed: --checkpoints GLOB "
        "takes one"
    ]


@pytest.mark.parametrize(
    ("names", "choice", "warned"),
    [
        (("adam_10.pt", "sgd_15.pt", "adam_20.pt", "sgd_25.pt"), "adam_*", []),
        (("adam_10.pt", "sgd_15.pt", "adam_20.pt", "sgd_25.pt"), "*_?[05].pt", ["take turns"]),
        (("step_1.pt", "step_2.pt", "step_3.pt"), "step_1.pt", []),  # the single one is the user's
    ],
)  # fmt: skip
def test_warnings_are_of_the_checkpoints_that_were_chosen(tmp_path, names, choice, warned):
    for k, name in enumerate(names):
        save(tmp_path / name, weights(k))
    every = found(tmp_path)
    said = remarks(every, select(every, choice))
    assert len(said) == len(warned)
    assert all(words in text for words, text in zip(warned, said, strict=True))


def test_the_choice_that_the_warning_names_ends_it(tiny):
    for path in tiny.path.glob("*.pt"):
        path.unlink()
    for k, name in enumerate(("adam_10.pt", "sgd_15.pt", "adam_20.pt", "sgd_25.pt")):
        torch.save(small_weights(k), tiny.path / name)
    glob = ("--checkpoints", "adam_*")
    for options, warned in (((), True), (glob, False)):
        result = call("check", str(tiny.path), *options)
        assert ("take turns" in result.output) == warned


def test_two_versions_of_lightning_are_not_one_series(tmp_path, tiny):
    run = versions(tmp_path / "runs")
    common = ["--model", "builtin:small_mlp", "--probes", str(tiny.probes)]
    for command in ("check", "run"):
        result = call(command, str(run), *common)
        assert_input_error(result, "of several runs", "lightning_logs/version_1/checkpoints/*")
    choice = Options(checkpoints="lightning_logs/version_1/*", model="builtin:small_mlp",
                     probes=tiny.probes)  # fmt: skip
    assert [c.step for c in resolve(run, choice).checkpoints] == [10, 20]
    listing = tmp_path / "list.csv"
    lines = [f"{c.name},{k}" for k, c in enumerate(found(run))]
    listing.write_text("\n".join(["checkpoint,step", *lines]))
    options = replace(choice, checkpoints=None, reading=ReadingOptions(manifest=listing))
    assert len(resolve(run, options).checkpoints) == 4
    assert "several runs" not in " ".join(scan(run, manifest=listing).warnings)


def test_a_run_that_was_resumed_is_one_run(tmp_path):
    run = versions(tmp_path, ((10, 20), (30, 40)))
    save(run / "best" / "step_25.pt", weights(25))  # alone, and between the others
    assert several_runs(found(run)) is None
    assert [c.step for c in found(run)] == [10, 20, 25, 30, 40]


def test_a_lone_checkpoint_of_a_numbered_run_is_none_of_the_run_before(tmp_path):
    error = several_runs(found(versions(tmp_path, ((10, 20), (30, 50), (40,)))))
    assert "steps 30 to 50 in lightning_logs/version_1/checkpoints" in error.found
    assert "--checkpoints 'lightning_logs/version_2/checkpoints/*'" in error.fix


def test_a_renaming_that_changes_nothing_is_told(tmp_path):
    for step in (1, 2):
        save(tmp_path / f"step_{step}.pt", {f"module.{k}": v for k, v in weights(step).items()})
    rules = ("heda=fc", "0=1", "*.bias=*.shift")
    told = " ".join(remarks(found(tmp_path, rename=rules)))
    assert "--rename heda=fc changes no name: no checkpoint has such tensors" in told
    assert "0=1" not in told
    assert "shift" not in told


# --- written at this moment


def test_what_is_still_being_written_is_left_for_later(tmp_path, monkeypatch):
    save(tmp_path / "step_1.pt", weights(1))
    growing = tmp_path / "step_2.pt"
    growing.write_bytes((tmp_path / "step_1.pt").read_bytes()[:700])

    def meanwhile(_seconds: float) -> None:
        growing.write_bytes((tmp_path / "step_1.pt").read_bytes()[:900])

    monkeypatch.setattr("analyze.checkpoints.finding.discovery.time.sleep", meanwhile)
    assert reasons(tmp_path) == {"step_2.pt": "still being written: run again later"}
    assert [c.name for c in found(tmp_path)] == ["step_1.pt"]


@FOREIGN
def test_a_distributed_checkpoint_is_whole_when_its_metadata_is_there(tmp_path):
    import torch.distributed.checkpoint as dcp

    save(tmp_path / "step_1.pt", weights(1))
    dcp.save({"model": weights(2)}, checkpoint_id=tmp_path / "step-2")
    (tmp_path / "step-2" / ".metadata").unlink()
    assert reasons(tmp_path)["step-2"].startswith("still being written")


def test_a_recent_file_that_cannot_be_read_is_told(tmp_path):
    save(tmp_path / "step_1.pt", weights(1))
    (tmp_path / "step_2.pt").write_bytes(b"PK")
    warnings = scan(tmp_path).warnings
    assert any("step_2.pt cannot be read and was changed" in text for text in warnings)
    (tmp_path / "step_3.pt").write_bytes(b"PK")
    (warning,) = [text for text in scan(tmp_path).warnings if "cannot be read" in text]
    assert warning.startswith("step_2.pt, step_3.pt cannot be read and were changed within a")
    os.utime(tmp_path / "step_2.pt", (1000, 1000))
    os.utime(tmp_path / "step_3.pt", (1000, 1000))
    assert not any("still being written" in text for text in scan(tmp_path).warnings)
