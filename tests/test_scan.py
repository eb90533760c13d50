"""The user's word on which files are checkpoints, at which step, and which weights are read."""

from __future__ import annotations

import json
import math

import pytest
import torch

import analyze
from analyze.checkpoints.finding.discovery import find
from analyze.checkpoints.options import ReadingOptions
from analyze.cli.tables import print_table
from analyze.errors import InputError, shortened
from tests.conftest import NAMES, assert_input_error, call, small_weights
from tests.nightly import of_every_run


def manifest(run, text: str):
    path = run.parent / "list.csv"
    path.write_text(text)
    return path


def test_a_manifest_goes_before_everything_else(tiny):
    torch.save({"model": small_weights(5), "step": 77, "epoch": 7}, tiny.path / "recovery-1-2.pt")
    path = manifest(
        tiny.path, "checkpoint,step,epoch,tokens\nrecovery-1-2.pt,20,1.5,\nstep_9.pt,10,,3e9\n"
    )
    found = find(tiny.path, reading=ReadingOptions(manifest=path))
    assert [(c.name, c.step, c.step_rule) for c in found.checkpoints] == [
        ("step_9.pt", 10, "manifest"), ("recovery-1-2.pt", 20, "manifest"),
    ]  # fmt: skip
    first, second = found.checkpoints
    assert (second.epoch, math.isnan(first.epoch), first.tokens) == (1.5, True, 3e9)
    why = {one.name: one.why for one in found.left_out}
    assert why["step_10.pt"] == "not in the manifest"


def test_a_manifest_takes_numbers_as_names_have_them(tiny):
    path = manifest(tiny.path, "checkpoint,step,tokens\nstep_9.pt,1.5k,-1\nstep_10.pt,10k,1e4\n")
    first, second = find(tiny.path, reading=ReadingOptions(manifest=path)).checkpoints
    assert [(c.step, c.tokens) for c in (first, second)] == [(1500, -1), (10_000, 10_000)]


BAD = {
    "gone": ("checkpoint,step\ngone.pt,1\n", "line 2: no 'gone.pt'"),
    "out of the run": ("checkpoint,step\n../probes.safetensors,1\n", "../probes.safetensors"),
    "no header": ("step_9.pt,1\n", "the columns step_9.pt, 1"),
    "no step": ("checkpoint\nstep_9.pt\n", "the columns checkpoint"),
    "no number": ("checkpoint,step\nstep_9.pt,nine\n", "step 'nine'"),
    "infinite": ("checkpoint,step\nstep_9.pt,inf\n", "step 'inf'"),
    "twice": ("checkpoint,step\nstep_9.pt,1\nstep_9.pt,2\n", "a checkpoint twice"),
    "empty": ("checkpoint,step\n", "no line below the header"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_manifest_that_is_not_understood(tiny, case):
    text, expected = BAD[case]
    path = manifest(tiny.path, text)
    result = call("scan", str(tiny.path), "--manifest", str(path))
    assert_input_error(result, "the manifest is not understood", expected)


def test_a_missing_manifest(tiny):
    result = call("scan", str(tiny.path), "--manifest", "gone.csv")
    assert_input_error(result, "the manifest cannot be read", "gone.csv")


def test_a_pattern_for_steps_goes_before_what_files_say(tmp_path):
    for k, step in enumerate((40_000, 80_000)):
        content = {"model": small_weights(k), "step": 1}
        torch.save(content, tmp_path / f"mates-{step // 1000}k-e{k + 3}.pt")
    pattern = r"mates-(?P<step>\d+)k-e(?P<epoch>\d+)"
    found = find(tmp_path, reading=ReadingOptions(step_regex=pattern)).checkpoints
    assert [(c.step, c.epoch, c.step_rule) for c in found] == [
        (40, 3, "--step-regex"), (80, 4, "--step-regex"),
    ]  # fmt: skip


@pytest.mark.parametrize("pattern", ["(", r"(\d+)", r"(?P<when>\d+)"])
def test_a_pattern_that_finds_nothing(tiny, pattern):
    result = call("scan", str(tiny.path), "--step-regex", pattern)
    assert_input_error(result, "the pattern for steps is not understood", repr(pattern))


def test_there_are_two_kinds_of_weights():
    with pytest.raises(InputError, match="no such weights"):
        ReadingOptions(weights="average")


@pytest.mark.parametrize("rule", ["head", "=fc", "head=", "head=fc.*"])
def test_renamings_that_are_not_understood(tiny, rule):
    assert_input_error(tiny.run("--rename", rule), "a renaming is not understood", repr(rule))


def test_scan_has_a_decision_for_every_file(tiny):
    torch.save({}, tiny.path / "optimizer.pt")
    torch.save({"loss": [1.0]}, tiny.path / "history.pt")
    (tiny.path / "notes.txt").write_text("")
    content = json.loads(call("scan", str(tiny.path), "--json").stdout)
    files = [row["checkpoint"] for row in content["checkpoints"]]
    files += [row["file"] for row in content["left_out"]]
    assert sorted(files) == sorted(p.name for p in tiny.path.iterdir())
    table = call("scan", str(tiny.path)).stdout
    assert "state of an optimizer" in table
    assert "holds no tensors of a model" in table
    assert "1 .txt" in table
    assert "run.toml" not in table


def test_the_headline_counts_what_can_be_read(tiny):
    (tiny.path / "step_10.pt").write_bytes(b"x" * 9)
    text = call("scan", str(tiny.path)).stdout
    assert text.startswith("2 checkpoints, and 1 that cannot be read in ")
    assert "step_10.pt: its 9 bytes are no torch file\n  to fix: copy or save it again" in text
    (tiny.path / "step_9.pt").unlink()
    text = call("scan", str(tiny.path)).stdout
    assert text.startswith("1 checkpoint, and 1 that cannot be read in ")
    (tiny.path / "step_10.pt").unlink()
    assert call("scan", str(tiny.path)).stdout.startswith("1 checkpoint in ")


def test_equal_problems_are_told_once(tiny):
    for name in ("step_10.pt", "step_11.pt", "step_12.pt"):
        (tiny.path / name).write_bytes(b"x" * 9)
    (tiny.path / "step_13.pt").write_bytes(b"")
    text = call("scan", str(tiny.path)).stdout
    assert text.count("its 9 bytes are no torch file") == 1
    assert "  the same for 2 further checkpoints: step_11.pt, step_12.pt\n" in text
    assert "step_13.pt: " in text
    result = tiny.run()
    assert result.stderr.count("its 9 bytes are no torch file") == 1
    assert (
        "Skipped step_12.pt: the checkpoint file cannot be read, as of step_10.pt" in result.stderr
    )
    shown = call("show", str(tiny.output)).stdout
    assert shown.count("its 9 bytes are no torch file") == 1


def test_a_list_has_five_lines_and_the_number_of_further_ones(tiny, tmp_path):
    for k in range(7):
        (tiny.path / f"bad_{k}.pt").write_bytes(b"x" * (k + 1))  # each with a reason of its own
        torch.save({}, tiny.path / f"optimizer_{k}.pt")  # one reason for all
    details = tmp_path / "details.txt"
    result = call("--details", str(details), "scan", str(tiny.path))
    assert result.stdout.count("no torch file") == 5
    assert result.stdout.endswith("and 2 more\n")
    assert "optimizer_0.pt, optimizer_1.pt and 5 more" in result.stdout
    content = json.loads(call("scan", str(tiny.path), "--json").stdout)
    assert len(content["left_out"]) == 8
    text = details.read_text()
    assert all(f"bad_{k}.pt" in text and f"optimizer_{k}.pt" in text for k in range(7))


def test_what_is_refused_is_named_and_not_waited_for(tiny):
    torch.save(torch.nn.Linear(2, 2), tiny.path / "step_10.pt")
    torch.save({"ema": small_weights(1)}, tiny.path / "step_9.pt")
    text = call("scan", str(tiny.path)).stdout
    assert "asks for torch.nn.modules.linear.Linear\n  to fix: " in text
    assert "--trust-pickle" in text
    assert "still being written" not in text


TEACHER = {
    "two parts": lambda t, s: {"teacher": t, "student": s, "epoch": 3},
    "beside tensors": lambda t, s: {"teacher": t, "student": s, "center": torch.ones(4)},
    "deeper": lambda t, s: {"nets": {"teacher": {"net": t}, "student": s}},
    "beside an optimizer": lambda t, s: {
        "optimizer": {"moments": t}, "nets": {"teacher": {"net": t}, "student": s}},
}  # fmt: skip


@pytest.mark.parametrize("case", of_every_run(TEACHER, {"two parts", "deeper"}))
def test_weights_at_a_key_that_is_not_known(tiny, case):
    for k, name in enumerate(NAMES):
        content = TEACHER[case](small_weights(k), small_weights(k + 10))
        torch.save(content, tiny.path / name)
    result = call("scan", str(tiny.path))
    first = "nets.teacher.net" if "nets" in content else "teacher"
    other = "nets.student" if "nets" in content else "student"
    told = f"tensors at {first} (4), {other} (4): --weights-key KEY"
    keys = f"{first}, {other}"
    if "nets" in content:  # the outermost comes first
        told = f"tensors at {other} (4), {first} (4): --weights-key KEY"
        keys = f"{other}, {first}"
    assert_input_error(result, "no checkpoints in the run", told, "--weights-key KEY")
    result = tiny.run("--weights-key", other)
    assert result.exit_code == 0, result.stderr
    provenance = json.loads(analyze.open_results(tiny.output).attrs["provenance"])
    assert provenance["reading"] == {"weights_key": other}
    assert {c["weights_key"] for c in provenance["checkpoints"]} == {other}
    assert_input_error(tiny.run("--weights-key", first), "another configuration", "weights key")
    average = find(tiny.path, reading=ReadingOptions(weights="ema", weights_key=first)).checkpoints
    assert {(c.weights, c.weights_key) for c in average} == {("ema", first)}
    (missing, *_) = find(tiny.path, reading=ReadingOptions(weights_key="net")).checkpoints
    assert f"no tensors at net of {tiny.path / NAMES[0]}" in missing.problem.found
    assert missing.problem.fix.startswith(f"--weights-key KEY, one of {keys}")


def test_choices_go_into_the_results(tiny):
    for k, name in enumerate(NAMES):
        content = {"model": small_weights(k), "model_ema": small_weights(k + 10)}
        torch.save(content, tiny.path / name)
    values = {}
    for weights in ("model", "ema"):
        assert tiny.run("--weights", weights, "--restart").exit_code == 0
        tree = analyze.open_results(tiny.output)
        provenance = json.loads(tree.attrs["provenance"])
        assert provenance["reading"] == {"weights": weights}
        assert {c["weights"] for c in provenance["checkpoints"]} == {weights}
        values[weights] = tree["network"]["m_coherence"].values
    assert (values["model"] != values["ema"]).any()
    assert tiny.run("--restart").exit_code == 0
    tree = analyze.open_results(tiny.output)
    assert (tree["network"]["m_coherence"].values == values["model"]).all()
    assert "averaged (EMA) weights" in " ".join(json.loads(tree.attrs["provenance"])["warnings"])


def test_renamed_and_ignored_from_the_command_line(tiny):
    for k, name in enumerate(NAMES):
        weights = small_weights(k)
        content = {n.replace("fc.", "head."): t for n, t in weights.items()}
        torch.save(content | {"criterion.weight": torch.ones(3)}, tiny.path / name)
    refused = tiny.run()
    assert_input_error(refused, "does not fit", "--rename head=fc")
    result = tiny.run("--rename", "head=fc", "--ignore", "criterion.*", "--restart")
    assert result.exit_code == 0, result.stderr
    reading = json.loads(analyze.open_results(tiny.output).attrs["provenance"])["reading"]
    assert reading == {"rename": "('head=fc',)", "ignore": "('criterion.*',)"}


def test_a_title_is_one_line_however_narrow_the_table(capsys):
    from analyze.cli.tables import print_table

    title = "a title of many words, longer than the table below it is wide"
    print_table(title, ["step"], [[1], [2]])
    assert capsys.readouterr().out.splitlines()[0] == title


def test_a_table_has_as_many_rows_as_wanted_and_the_number_of_further_ones(capsys):
    rows = [[f"file {k}", f"reason {k}"] for k in range(7)]
    with shortened(keep=True) as parts:
        print_table("Left out", ["file", "why"], rows, most=5)
    text = capsys.readouterr().out
    assert [f"file {k}" in text for k in range(7)] == [True] * 5 + [False] * 2
    assert text.endswith("and 2 more\n")
    assert "file 6: reason 6" in parts.whole[0]
    print_table("Left out", ["file", "why"], rows[:5], most=5)
    assert "more" not in capsys.readouterr().out


def test_a_checkpoint_without_a_step_is_said_to_be_the_last(tiny):
    torch.save(small_weights(5), tiny.path / "final.pth")
    text = call("scan", str(tiny.path)).stdout
    assert "no step is known of final.pth, which is taken for the last checkpoint" in text
