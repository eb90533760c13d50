"""What a user can get wrong: exit code 3 and a message that says what to type, no traceback."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import analyze
from tests.conftest import (
    NAMES,
    SPEC,
    assert_input_error,
    assert_three_facts,
    call,
    small_weights,
    without_preparation,
)


def write_over(tiny, **changes) -> None:
    """Replace tensors of the probe file; None takes one out, ``meta`` replaces metadata."""
    meta = {"subset_names": ["clean", "corrupted", "held_out"]} | changes.pop("meta", {})
    arrays = {k: v for k, v in (load_file(tiny.probes) | changes).items() if v is not None}
    text = {k: json.dumps(v) for k, v in meta.items() if v is not None}
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, tiny.probes, text)


# --- the run and its card

RUNS = {
    "missing": (lambda run: run.rename(run.parent / "gone"), "the run is missing", "/run"),
    "empty": (
        lambda run: [p.unlink() for p in run.iterdir()],
        "no checkpoints in the run",
        "0 files below",
    ),
    "no checkpoint": (
        lambda run: [run.joinpath(name).rename(run / f"{name}.distcp") for name in NAMES],
        "no checkpoints in the run",
        "4 files below {run} (3 .distcp, 1 .toml), none of them a checkpoint",
    ),
}


@pytest.mark.parametrize("command", ["run", "scan", "check"])
@pytest.mark.parametrize("case", RUNS)
def test_a_directory_without_a_run(tiny, monkeypatch, case, command):
    monkeypatch.chdir(tiny.path.parent)
    change, what, found = RUNS[case]
    change(tiny.path)
    result = call(command, str(tiny.path))
    assert_input_error(result, f"Error: {what}\n", found.format(run=tiny.path))
    assert not list(tiny.path.parent.glob("*.h5"))


CARDS = {
    "broken": ('[run\nmodel = "x"', "the run card is not understood", "line 1"),
    "no table": ('model = "x"', "the run card is not understood", "['model']"),
    "empty": ("", "the run card is not understood", "[]"),
    "unknown key": ('[run]\nmodle = "x"', "the run card is not understood", "modle = 'x'"),
    "no text": ("[run]\nmodel = 3", "the run card is not understood", "model = 3"),
    "training": ("[run]\n[training]\nrates = [1, 2]", "is not understood", "rates = [1, 2] in"),
    "training value": ("training = 3\n[run]", "the run card is not understood", "training = 3"),
    "no model": ("[run]", "the model of the run is not known", "no --model"),
    "no probes": (f'[run]\nmodel = "{SPEC}"', "the probes of the run are not known", "--probes"),
    "file": ('[run]\nmodel = "model.py:build"', "names Python code", "--model 'model.py:build'"),
    "module": ('[run]\nmodel = "os:getcwd"', "names Python code", "os:getcwd"),
    "path": ('[run]\nmodel = "builtin:small_mlp?a=../b"', "a file or an address", "'../b'"),
    "colon": ('[run]\nmodel = "builtin:small_mlp?a=s3:b"', "a file or an address", "'s3:b'"),
    "hub": ('[run]\nmodel = "timm:hf-hub:a/b"', "a file or an address", "'hf-hub:a/b'"),
    "weights": ('[run]\nmodel = "torchvision:resnet18?weights=DEFAULT"', "asks for weights", ""),
    "pretrained": ('[run]\nmodel = "timm:resnet18?pretrained=true"', "asks for weights", ""),
    "own file": ('[run]\nmodel = "timm:resnet18?checkpoint_path=x"', "asks for weights", ""),
    "cache": ('[run]\nmodel = "timm:resnet18?cache_dir=x"', "asks for weights", "cache_dir"),
    "loss": (f'[run]\nmodel = "{SPEC}"\nloss = "l.py:f"', "names a loss that is not", "'l.py:f'"),
    "no such probes": (
        f'[run]\nmodel = "{SPEC}"\nprobes = "gone.safetensors"',
        "the probe file is missing",
        "run/gone.safetensors",
    ),
}


@pytest.mark.parametrize("case", CARDS)
def test_a_run_card_that_is_refused(tiny, case):
    text, what, found = CARDS[case]
    tiny.card(text)
    (tiny.path / "model.py").write_text("raise SystemExit('code of a card was run')")
    assert_input_error(tiny.run(), what, found)
    assert not tiny.output.exists()


def test_a_card_that_is_no_text(tiny):
    (tiny.path / "run.toml").write_bytes(b"\xff\xfe")
    assert_input_error(tiny.run(), "the run card is not understood", "utf-8")


def test_without_a_card_the_message_has_what_to_type(tiny):
    (tiny.path / "run.toml").unlink()
    assert without_preparation(tiny.run().stderr) == (
        "Error: the model of the run is not known\n"
        f"  found:    no --model, and the run card {tiny.path / 'run.toml'} does not exist\n"
        "  expected: builtin:NAME, torchvision:NAME, timm:NAME, transformers:auto, FILE.py:FACTORY "
        "or package.module:FACTORY, from the run card or the command line\n"
        '  to fix:   --model SPEC, or a run card with [run] and model = "..."\n'
    )


# --- checkpoints


def with_weights(change):
    """Write the middle checkpoint again, changed."""

    def write(path: Path) -> None:
        weights = small_weights(1)
        change(weights)
        torch.save(weights, path)

    return write


def set_nan(weights) -> None:
    weights["fc.bias"][1] = float("nan")


CHECKPOINTS = {
    "empty": (lambda p: p.write_bytes(b""), "cannot be read", "it is empty (0 bytes)"),
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:900]), "cannot be read", "900 bytes"),
    "no format": (lambda p: p.write_bytes(b"hello world"), "cannot be read", "11 bytes"),
    "no dictionary": (lambda p: torch.save([1], p), "no dictionary of tensors", "list"),
    "not finite": (with_weights(set_nan), "values that are not finite", "NaN or infinity in fc.bi"),
    "missing": (with_weights(lambda w: w.pop("fc.bias")), "does not fit", "3 tensors in step_"),
}


def test_bad_checkpoints_are_skipped_and_the_others_are_kept(tiny):
    bad = {f"step_{k}.pt": case for k, case in enumerate(CHECKPOINTS)}
    for name, case in bad.items():
        torch.save(small_weights(1), tiny.path / name)
        CHECKPOINTS[case][0](tiny.path / name)
    result = tiny.run()
    assert result.exit_code == 4, (result.exception, result.stderr)
    assert f"{len(bad)} of {len(bad) + 3} checkpoints were skipped" in result.stderr
    tree = analyze.open_results(tiny.output)
    assert list(tree["checkpoint"].values) == [*bad, *NAMES]
    status = dict(zip([*bad, *NAMES], tree["status"].values.tolist(), strict=True))
    for name, case in bad.items():
        _, what, found = CHECKPOINTS[case]
        assert what in status[name]
        assert found in status[name]
        message = result.stderr.partition(f"Skipped {name}: ")[2].partition("\n[")[0]
        what, found = message.splitlines()[0], message.splitlines()[1][12:]
        # Results travel: where the run lay is of use where the message is read, not in them.
        assert status[name] == f"{what}: {found.replace(f'{tiny.path}/', '')}"
        assert str(tiny.path.parent) not in status[name]
        assert_three_facts(message)
    assert [status[name] for name in NAMES] == ["ok"] * 3
    for group in tree.subtree:
        for variable in group.data_vars.values():
            if "checkpoint" in variable.dims:
                assert np.isnan(variable.isel(checkpoint=slice(len(bad)))).all(), variable.name
                if "stderr" not in str(variable.name):
                    kept = variable.isel(checkpoint=slice(len(bad), None))
                    assert np.isfinite(kept).all(), variable.name


def test_the_first_bad_checkpoint_stops_the_run_when_asked(tiny):
    (tiny.path / "step_10.pt").write_bytes(b"")
    assert_input_error(tiny.run("--on-error", "fail"), "cannot be read", "step_10.pt")
    assert not tiny.output.exists()


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_nothing_to_measure_is_an_error(tiny, case):
    for name in NAMES:
        CHECKPOINTS[case][0](tiny.path / name)
    result = tiny.run()
    assert_input_error(result, CHECKPOINTS[case][1])
    assert not tiny.output.exists()


# --- options

OPTIONS = {
    "model": (["--model", "builtin:small_mpl"], "unknown builtin model", "--model 'builtin:small"),
    "loss": (["--loss", "entropy"], "unknown loss", "cross_entropy"),
    "loss argument": (["--loss", "cross_entropy?smooth=1"], "does not take these", "'smooth'"),
    "device": (["--device", "gpu"], "there is no such device", "auto, or one of cpu"),
    "selection": (["--checkpoints", "epoch*"], "leaves no checkpoint", "names like step_9.pt"),
    "empty slice": (["--checkpoints", "::0"], "leaves no checkpoint", "'::0' of 3"),
    "probes": (["--probes", "gone.safetensors"], "the probe file is missing", "no file gone"),
    "output": (["--output", "gone/out.h5"], "the output cannot be written", "no directory gone"),
    "directory": (["--output", "run"], "the output cannot be written", "run: it is a directory"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_an_option_with_a_value_that_means_nothing(tiny, monkeypatch, case):
    monkeypatch.chdir(tiny.path.parent)
    options, what, found = OPTIONS[case]
    assert_input_error(tiny.run(*options), what, found)


USAGE = [
    ["--folds", "0"], ["--batch-size", "0"], ["--batch-size", "many"], ["--max-probes", "0"],
    ["--precision", "float16"], ["--batch-norm", "none"], ["--on-error", "stop"], ["--what"],
    ["--examples", "some"],
]  # fmt: skip


def test_an_output_that_ends_in_a_separator_is_no_name_of_a_file(tiny):
    result = tiny.run("--output", "/")
    assert result.exit_code == 2
    assert "'/' ends in a separator: it is the name of a file" in result.stderr


@pytest.mark.parametrize("options", USAGE, ids=" ".join)
def test_wrong_usage(tiny, options):
    result = tiny.run(*options)
    assert result.exit_code == 2
    assert options[0] in result.stderr
    assert not tiny.output.exists()


def test_show_takes_a_checkpoint_with_layers_only(measured):
    result = call("show", str(measured.output), "--checkpoint", "step_9.pt")
    assert (result.exit_code, "--checkpoint goes with --layers" in result.stderr) == (2, True)
    options = ["--layers", "--checkpoint", "step_8.pt"]
    assert_input_error(
        call("show", str(measured.output), *options), "'step_8.pt'", ", ".join(NAMES)
    )


# --- probes against the model

PROBES = {
    "shape": ({"inputs": np.ones((24, 11), np.float32)}, "cannot take the probe inputs", "[11]"),
    "range": ({"targets": np.arange(24)}, "a target is out of range", "classes 0 to 2"),
    "negative": ({"targets": np.full(24, -1)}, "a target is out of range", "target -1 (probe 0"),
    "floats": ({"targets": np.ones(24, np.float32)}, "targets do not fit", "float32 [24]"),
    "not finite": ({"inputs": np.full((24, 12), np.nan)}, "inputs are not finite", "probe 0 (24"),
}


@pytest.mark.parametrize("case", PROBES)
def test_probes_that_the_model_cannot_be_measured_on(tiny, case):
    changes, what, found = PROBES[case]
    write_over(tiny, **changes)
    assert_input_error(tiny.run(), what, found)
    assert not tiny.output.exists()


# --- results files


def _edit(path: Path, change) -> None:
    with h5py.File(path, "a") as file:
        change(file)


RESULTS = {
    "missing": (Path.unlink, "the results file is missing", "analyze run RUN --output FILE.h5"),
    "empty": (lambda p: p.write_bytes(b""), "this is not a results file", ""),
    "text": (lambda p: p.write_text("m-coherence"), "this is not a results file", ""),
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:9999]), "this is not a results file", ""),
    "foreign": (
        lambda p: (p.unlink(), _edit(p, lambda f: f.create_dataset("x", data=[1.0]))),
        "this is not a results file",
        "no schema_version",
    ),
    "no version": (
        lambda p: _edit(p, lambda f: f.attrs.__setitem__("schema_version", "new")),
        "this is not a results file",
        "schema_version 'new'",
    ),
    "newer": (
        lambda p: _edit(p, lambda f: f.attrs.__setitem__("schema_version", 99)),
        "the results file is newer than this program",
        "pip install --upgrade",
    ),
    "incomplete": (
        lambda p: _edit(p, lambda f: f.__delitem__("network/m_coherence")),
        "this is not a results file",
        "/network/m_coherence missing",
    ),
}


@pytest.mark.parametrize("case", RESULTS)
def test_a_results_file_that_cannot_be_read(tmp_path, measured, case):
    damage, what, found = RESULTS[case]
    path = tmp_path / "results.h5"
    path.write_bytes(measured.output.read_bytes())
    damage(path)
    assert_input_error(call("show", str(path)), what, found, str(path))


@pytest.mark.parametrize("content", [b"notes of a year", b""])
def test_an_output_that_is_something_else_is_left_alone(tiny, content):
    tiny.output.write_bytes(content)
    assert_input_error(tiny.run(), "this is not a results file", "nothing was written to this one")
    assert tiny.output.read_bytes() == content


def test_an_output_of_ours_is_replaced(tiny, measured):
    tiny.output.write_bytes(measured.output.read_bytes())
    assert tiny.run("--checkpoints", ":1").exit_code == 0
    assert analyze.open_results(tiny.output).sizes["checkpoint"] == 1


def test_a_directory_without_write_permission_is_found_before_the_work(tiny, monkeypatch):
    def refused(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("analyze.files.targets.new_part", refused)
    monkeypatch.setattr("analyze.runs.pipeline.resolve", lambda *_: pytest.fail("work was begun"))
    assert_input_error(tiny.run(), "the output cannot be written", "Permission denied")


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        (("--subset", "cats"), ("'cats'", "clean")),
        (("--layer", "x*"), ("'x*'", "hidden")),
        (("--checkpoints", "last*"), ("'last*'", NAMES[0])),
        (("--sort", "size"), ("'size'", "m_coherence")),
    ],
)
def test_show_refuses_what_is_not_there(measured, options, facts):
    assert_input_error(call("show", str(measured.output), *options), *facts)


@pytest.mark.parametrize("options", [("--json", "--csv"), ("--layers", "--checkpoints", "*")])
def test_show_refuses_options_that_contradict(measured, options):
    assert call("show", str(measured.output), *options).exit_code == 2
