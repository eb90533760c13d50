"""Whole commands on a tiny run: what they print, write and exit with."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import analyze
from analyze.cli import patience
from analyze.cli.show import _by_label
from analyze.models.builtin import SmallResNet
from analyze.probes import write_probes
from analyze.results.findings import in_plain_text
from analyze.runs.job import resolve
from analyze.runs.options import Options
from analyze.statistics.sizes import at_one_size
from analyze.statistics.warnings import KINDS, kinds_of, marks_of
from analyze.text import to_two_digits
from tests.conftest import (
    NAMES,
    SPEC,
    SUBSETS,
    call,
    make_run,
    small_probes,
    without_preparation,
)
from tests.trees import make_tree

ALL = [*SUBSETS, "all"]


def parsed(text: str):
    """JSON as the standard has it: no NaN, no infinity."""

    def refuse(constant: str):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def network(path) -> np.ndarray:
    return analyze.open_results(path)["network"]["m_coherence"].values


def test_run_writes_every_checkpoint_in_order(tiny):
    result = tiny.run()
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Wrote {tiny.output}\n")
    tree = analyze.open_results(tiny.output)
    assert list(tree["checkpoint"].values) == NAMES
    assert list(tree["step"].values) == [9, 10, 100]
    assert list(tree["status"].values) == ["ok"] * 3
    assert list(tree["subset"].values) == ALL
    assert np.isfinite(tree["network"]["m_coherence"].values).all()
    assert sorted(p.name for p in tiny.path.parent.iterdir()) == [
        "out.h5", "out.h5.units", "probes.safetensors", "run",
    ]  # fmt: skip


def test_a_run_ends_with_what_it_found(tiny):
    wrote, head, *lines, warned, following = tiny.run().stdout.splitlines()
    assert wrote == f"Wrote {tiny.output}"
    assert head.split() == ["m-coherence", "of", "8", "examples", "probes", "first", "peak", "last"]
    tree = analyze.open_results(tiny.output)
    shown = at_one_size(tree)
    assert [line.split()[0] for line in lines[: len(ALL)]] == ALL
    for line in lines[: len(ALL)]:
        series = shown.sel(subset=line.split()[0]).dropna("checkpoint", subset=["m_coherence"])
        for k in (0, int(np.argmax(series["m_coherence"].values)), -1):
            at = series.isel(checkpoint=k)
            value = to_two_digits(float(at["m_coherence"]), float(at["m_coherence_stderr"]))
            assert f"{value} at step {float(at['step']):,.0f}" in line
    assert lines[len(ALL) :] == in_plain_text(tree)
    assert re.fullmatch(r"\d warnings?", warned)
    page = f"analyze report {tiny.output} for a page with figures, and the warnings in words"
    assert following == f"Next: {page}"


def test_progress_is_a_plain_line_for_each_checkpoint(tiny):
    *lines, verified = without_preparation(tiny.run().stderr).splitlines()
    assert verified.startswith("Verified: 6 of 6 probes agree with plain autograd alone")
    assert [line.split("  ")[0] for line in lines] == [
        f"[{k}/3] {name}" for k, name in enumerate(NAMES, 1)
    ]
    assert lines[-1].endswith(" left")


def test_output_is_by_default_the_name_of_the_run_here(tiny, tmp_path, monkeypatch):
    here = tmp_path / "elsewhere"
    here.mkdir()
    monkeypatch.chdir(here)
    result = call("run", "../run", "--device", "cpu", "--folds", "1", "--checkpoints", ":1")
    assert result.exit_code == 0
    assert result.stdout.startswith("Wrote run.h5\n")
    assert "\nNext: analyze report run.h5 for a page with figures" in result.stdout
    assert sorted(p.name for p in here.iterdir()) == ["run.h5", "run.h5.units"]


def test_a_run_without_a_card_takes_everything_from_the_command_line(tiny):
    (tiny.path / "run.toml").unlink()
    result = tiny.run("--model", SPEC, "--probes", str(tiny.probes), "--loss", "cross_entropy")
    assert result.exit_code == 0, result.stderr
    provenance = json.loads(analyze.open_results(tiny.output).attrs["provenance"])
    assert (provenance["run"]["name"], provenance["loss"]) == ("run", "cross_entropy")


@pytest.mark.parametrize(
    ("selection", "expected"),
    [("step_1*", NAMES[1:]), ("::2", NAMES[::2])],
)
def test_checkpoints_by_glob_or_slice(tiny, selection, expected):
    assert tiny.run("--checkpoints", selection).exit_code == 0
    assert list(analyze.open_results(tiny.output)["checkpoint"].values) == expected


def test_max_probes_takes_a_fixed_part_of_them(tiny):
    assert tiny.run("--max-probes", "12", "--checkpoints", ":1").exit_code == 0
    chosen = set(analyze.open_results(tiny.output)["examples"]["probe"].values)
    assert len(chosen) == 12
    fewer = set(resolve(tiny.path, Options(max_probes=6)).probes.id)
    assert len(fewer) == 6
    assert fewer < chosen < set(small_probes().id)
    for count in (0, -3):
        with pytest.raises(analyze.InputError, match="max_probes"):
            Options(max_probes=count)


def test_precision_changes_rounding_and_nothing_else(tiny):
    found = {}
    for precision in ("float32", "float64"):
        assert tiny.run("--precision", precision, "--restart").exit_code == 0
        found[precision] = network(tiny.output)
        provenance = json.loads(analyze.open_results(tiny.output).attrs["provenance"])
        assert provenance["precision"] == precision
    assert (found["float32"] != found["float64"]).any()
    np.testing.assert_allclose(found["float32"], found["float64"], rtol=1e-4)


def test_batch_norm_saved_is_another_measurement(tmp_path):
    import torch

    from analyze.probes import write_probes
    from tests.conftest import small_weights

    run = make_run(tmp_path)
    spec = "builtin:small_resnet?width=2&num_classes=3"
    for name in NAMES:
        torch.save(small_weights(0, spec), run.path / name)
    draw = np.random.default_rng(1)
    images = draw.standard_normal((8, 1, 4, 4)).astype(np.float32)
    write_probes(run.probes, analyze.ProbeSet(images, draw.integers(0, 3, 8)))
    found = {}
    for mode in ("recomputed", "saved"):
        result = run.run("--model", spec, "--checkpoints", ":1", "--batch-norm", mode, "--restart")
        assert result.exit_code == 0, result.stderr
        tree = analyze.open_results(run.output)
        assert json.loads(tree.attrs["provenance"])["batch_norm"] == mode
        found[mode] = float(tree["loss"][0, 0])
        assert found[mode] == pytest.approx(float(tree[f"loss_{mode}"][0, 0]), rel=1e-5)
    assert found["saved"] != pytest.approx(found["recomputed"], rel=1e-3)


@pytest.mark.parametrize(("choice", "present"), [("on", True), ("off", False)])
def test_examples_are_kept_when_asked_for(tiny, choice, present):
    assert tiny.run("--examples", choice, "--checkpoints", ":1").exit_code == 0
    assert ("examples" in analyze.open_results(tiny.output).children) is present


def test_scan(tiny):
    result = call("scan", str(tiny.path), "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = parsed(result.stdout)["checkpoints"]
    assert [row["checkpoint"] for row in rows] == NAMES
    assert rows[0] == {
        "checkpoint": "step_9.pt", "step": 9.0, "epoch": None, "step_rule": "name step=N",
        "format": "torch", "weights_key": "", "prefix": "", "tensors": 4, "problem": None,
        "epochs_completed": None, "tokens": None, "learning_rate": None, "weights": "model",
    }  # fmt: skip
    table = call("scan", str(tiny.path)).stdout
    assert [line.split()[0] for line in table.splitlines()[2:]] == NAMES


def test_scan_names_what_cannot_be_read(tiny):
    (tiny.path / "step_10.pt").write_bytes(b"")
    assert call("scan", str(tiny.path)).stdout.splitlines()[-2:] == [
        "step_10.pt: the checkpoint file cannot be read: "
        f"{tiny.path / 'step_10.pt'}: it is empty (0 bytes)",
        "  to fix: copy or save it again, or leave it out: --checkpoints GLOB",
    ]


def test_check_measures_nothing_and_writes_nothing(tiny, monkeypatch):
    monkeypatch.chdir(tiny.path.parent)
    before = sorted(tiny.path.parent.rglob("*"))
    result = call("check", str(tiny.path), "--device", "cpu", "--folds", "2", "--json")
    assert result.exit_code == 0, result.exception
    found = parsed(result.stdout)
    assert [row["verdict"] for row in found["parameters"]] == ["proven"] * 4
    assert (found["warnings"], found["skipped"]) == ([], {})
    report = found["report"]
    assert (report["checkpoints"], report["probes"], report["cells"]) == (3, 24, 6)
    assert report["gram_bytes"] == 8 * 3 * 4 * 6**2
    measuring = report["seconds"] - report["preparation_seconds"]
    assert 0 < report["gram_seconds"] < measuring < report["seconds"]
    assert sorted(tiny.path.parent.rglob("*")) == before


def test_check_tells_the_smallest_coherence_to_be_seen(tiny):
    write_probes(tiny.probes, small_probes(300))
    result = call("check", str(tiny.path), "--device", "cpu", "--json")
    assert result.exit_code == 0, result.exception
    rows = parsed(result.stdout)["layers"]
    assert [(row["layer"], row["parameters"]) for row in rows] == [("hidden", 65), ("fc", 18)]
    for row in rows:
        dimension = row["effective_dimension"]
        assert 1 <= dimension <= row["parameters"]
        smallest = stats.chi2.isf(stats.norm.sf(3), dimension) / dimension
        assert row["m_coherence"] == pytest.approx(smallest)
        expected = {name: pytest.approx((smallest - 1) / 99) for name in SUBSETS}
        assert row["alpha_unbiased"] == expected
    text = call("check", str(tiny.path), "--device", "cpu").stdout
    assert "Smallest coherence that these probes tell from chance" in text
    assert "alpha, clean" in text


def test_check_says_what_would_be_skipped(tiny):
    (tiny.path / "step_10.pt").write_bytes(b"")
    result = call("check", str(tiny.path), "--device", "cpu", "--folds", "2")
    assert result.exit_code == 4
    assert "hidden.weight" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("Would skip step_10.pt: ")


def test_show_is_the_results_as_a_table(measured):
    result = call("show", str(measured.output))
    assert (result.exit_code, result.stderr) == (0, "")
    title, header, *lines = result.stdout.splitlines()
    own = "m-coherence of the network, each subset at its own m: compare those of one m"
    assert title.strip() == own
    one = call("show", str(measured.output), "--subset", "c*").stdout  # of equal size
    assert one.splitlines()[0].strip() == "m-coherence of the network"
    for column in ("clean (m=8)", "corrupted (m=8)", "held_out (m=8)", "all (m=16)"):
        assert column in header
    flags = analyze.open_results(measured.output)["network"]["warning_flags"]
    warned = [kind for kind in KINDS if any(kind in kinds_of(f) for f in flags.values.flat)]
    assert "few_folds" in [kind.name for kind in warned]
    assert [line.split()[0] for line in lines] == [*NAMES, *["Warning"] * len(warned), "Skipped"]
    for line, kind in zip(lines[3:-1], warned, strict=True):
        assert line == f"Warning {kind.mark or kind.name}: {kind.text}"
    first = analyze.open_results(measured.output)["network"].isel(checkpoint=0, subset=0)
    value, error = (float(first[k]) for k in ("m_coherence", "m_coherence_stderr"))
    assert f"{value:.3g} +- {error:.2g} {marks_of(float(first['warning_flags']))} " in lines[0]
    assert lines[-1].startswith("Skipped step_10.pt: the checkpoint file cannot be read")


def test_show_layers(measured):
    last = call("show", str(measured.output), "--layers").stdout.splitlines()
    assert last[0].strip().startswith("m-coherence at step_100.pt, each subset at its own m")
    assert [line.split()[:3] for line in last[2:4]] == [
        ["hidden", "Linear", "65"], ["fc", "Linear", "18"],
    ]  # fmt: skip
    other = call("show", str(measured.output), "--layers", "--checkpoint", "step_9.pt").stdout
    assert other.splitlines()[0].strip().startswith("m-coherence at step_9.pt, each subset at")
    assert other.splitlines()[2:] != last[2:]


@pytest.mark.parametrize("options", [[], ["--layers"], ["--layers", "--checkpoint", "step_10.pt"]])
def test_show_as_json(measured, options):
    rows = parsed(call("show", str(measured.output), "--json", *options).stdout)
    assert len(rows) == (3 * 4 if not options else 2 * 4)
    assert {row["subset"] for row in rows} == set(ALL)
    for row in rows:
        assert (row["m_coherence"] is None) == (row["checkpoint"] == "step_10.pt")


def test_infinity_is_not_json(measured, monkeypatch):
    tree = analyze.open_results(measured.output)
    tree["network"]["m_coherence_stderr"].values[0, 0] = np.inf
    monkeypatch.setattr("analyze.results.file.open_results", lambda path: tree)
    assert parsed(call("show", "any", "--json").stdout)[0]["m_coherence_stderr"] is None


def test_python_gives_what_the_command_writes(tiny):
    tree = analyze.run(tiny.path, output=tiny.output, device="cpu", folds=2, checkpoints=":1")
    written = analyze.open_results(tiny.output)
    assert written.identical(tree)


def test_as_a_module(tmp_path):
    command = [sys.executable, "-m", "analyze", "show", str(tmp_path / "gone.h5")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("Error: the results file is missing\n  found:    no file")


def rows_of(measured, *options):
    return parsed(call("show", str(measured.output), "--json", *options).stdout)


def test_a_word_is_said_where_a_command_takes_long_and_only_there(monkeypatch, capsys):
    monkeypatch.setattr(patience, "MOMENT", 0)
    with patience.told_if_long("Looking") as timer:
        timer.join()
    monkeypatch.setattr(patience, "MOMENT", 1000)
    with patience.told_if_long("Never said") as timer:
        pass
    timer.join()
    assert capsys.readouterr().err == "Looking\n"


def test_a_subset_that_is_all_by_itself_has_one_column():
    tree = make_tree(subsets=["train"], held_out=[])
    for group in ("network", "layers"):
        table = tree[group].to_dataset()
        same = table.sel(subset=["train", "train"]).assign_coords(subset=["train", "all"])
        tree[group] = xr.DataTree(same)
    rows = _by_label(tree, analyze.show(tree, layers=True))
    assert [row["subset"] for row in rows] == ["train = all"] * 3
    asked = analyze.show(tree, subset=["all"])
    assert _by_label(tree, asked) == asked
    several = analyze.show(make_tree())
    assert _by_label(make_tree(), several) == several


def test_show_selects_subsets_layers_and_checkpoints(measured):
    rows = rows_of(measured, "--subset", "c*", "--checkpoints", "step_9*")
    assert {row["subset"] for row in rows} == {"clean", "corrupted"}
    assert {row["checkpoint"] for row in rows} == {"step_9.pt"}
    every = {row["layer"] for row in rows_of(measured, "--layers")}
    some = rows_of(measured, "--layer", "hid*", "--checkpoint", "*")
    assert {row["layer"] for row in some} == {name for name in every if name.startswith("hid")}
    assert {row["checkpoint"] for row in some} == set(NAMES)
    table = call("show", str(measured.output), "--layer", "hid*", "--checkpoint", "*").stdout
    assert all(name in table for name in NAMES)


def test_show_sorts_numbers_from_the_largest_and_missing_last(measured):
    rows = rows_of(measured, "--sort", "m_coherence")
    values = [row["m_coherence"] for row in rows]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=True)
    assert values == [*known, *[None] * (len(values) - len(known))]
    assert None in values
    names = [row["subset"] for row in rows_of(measured, "--sort", "subset")]
    assert names == sorted(names)


def test_a_sorted_table_keeps_its_columns(measured):
    path = str(measured.output)
    plain = call("show", path, "--layers").stdout.splitlines()
    ordered = call("show", path, "--layers", "--sort", "layer").stdout.splitlines()
    assert sorted(plain) == sorted(ordered)


def test_show_as_csv_is_the_rows_of_json(measured):
    rows = rows_of(measured)
    lines = list(csv.DictReader(call("show", str(measured.output), "--csv").stdout.splitlines()))
    assert [line["subset"] for line in lines] == [row["subset"] for row in rows]
    for line, row in zip(lines, rows, strict=True):
        value = float(line["m_coherence"]) if line["m_coherence"] else None
        assert value == row["m_coherence"]
        assert line["warnings"].split() == row["warnings"]


def test_a_list_that_a_message_shows_in_part_is_written_in_full_on_request(tiny, tmp_path):
    command = ("check", str(tiny.path), "--model", "builtin:small_resnet")
    plain = call(*command)
    assert plain.exit_code == 3
    assert plain.stderr.count(" more") >= 1
    assert "in full:  main --details FILE check ..." in plain.stderr
    file = tmp_path / "details.txt"
    detailed = call("--details", str(file), *command)
    assert detailed.exit_code == 3
    assert "in full:" not in detailed.stderr
    parameters = dict(SmallResNet().named_parameters())
    assert parameters.keys() <= set(re.split(r"\s", file.read_text()))


def test_details_that_cannot_be_written_are_refused_before_the_work(tiny, tmp_path):
    told = call("--details", str(tmp_path / "missing" / "file"), "scan", str(tiny.path))
    assert told.exit_code == 2
    assert "no directory" in told.stderr


def test_a_message_with_everything_in_it_offers_no_details(tmp_path):
    assert "in full:" not in call("scan", str(tmp_path / "missing")).stderr
