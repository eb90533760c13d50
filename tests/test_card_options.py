"""Options that are data in the run card: those of the command line, which overrules them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import analyze
from analyze.checkpoints.naming.file_names import position_by_pattern
from analyze.errors import InputError
from analyze.probes import write_probes
from analyze.probes.subsets import Column
from analyze.runs.job import resolve
from analyze.runs.options import Options
from analyze.specs.card_patterns import why_slow
from analyze.specs.run_card import read_run_card
from tests.conftest import SPEC, TinyRun, assert_three_facts, call, small_probes, small_weights

HEAD = f'[run]\nmodel = "{SPEC}"\nprobes = "../probes.safetensors"\n'


def odd(run: TinyRun) -> None:
    """Files as a training of one's own writes them: another key, other names, more tensors."""
    for path in run.path.glob("*.pt"):
        path.unlink()
    for turn in (1, 2):
        weights = {f"net.{name}": value for name, value in small_weights(turn).items()}
        weights["net.top.weight"] = weights.pop("net.fc.weight")
        weights["net.top.bias"] = weights.pop("net.fc.bias")
        content = {"student": weights | {"net.loss.scale": torch.ones(3)}, "teacher": weights}
        torch.save(content, run.path / f"s{turn}x7.pt")


CARD = (
    HEAD
    + r"""
weights_key = "student"
step_regex = 's(?P<step>\d+)x'
rename = ["net.top=net.fc"]
ignore = ["loss.*"]
cells = ["kind"]
directions = ["clean"]
layers = ["fc"]
max_probes = 12
"""
)


def test_a_card_says_what_the_command_line_would(tiny):
    odd(tiny)
    probes = small_probes(columns={"kind": Column(np.arange(24) % 2, ("a", "b"))})
    write_probes(tiny.probes, probes)
    tiny.card(CARD)
    scanned = json.loads(call("scan", str(tiny.path), "--json").stdout)["checkpoints"]
    assert [row["step"] for row in scanned] == [1, 2]
    assert {row["weights_key"] for row in scanned} == {"student"}
    result = tiny.run()
    assert result.exit_code == 0, result.stderr
    by_card = analyze.open_results(tiny.output)
    tiny.card(HEAD)
    typed = tiny.run(
        "--weights-key", "student", "--step-regex", r"s(?P<step>\d+)x", "--rename",
        "net.top=net.fc", "--ignore", "loss.*", "--cells", "kind", "--directions", "clean",
        "--layers", "fc", "--max-probes", "12", "--restart",
    )  # fmt: skip
    assert typed.exit_code == 0, typed.stderr
    by_option = analyze.open_results(tiny.output)
    for group in ("network", "layers", "parameters", "examples"):
        assert by_card[group].to_dataset().equals(by_option[group].to_dataset())


def test_the_command_line_overrules_the_card(tiny):
    tiny.card(HEAD + 'checkpoints = "step_9.pt"\nmax_probes = 5\n')
    job = resolve(tiny.path, Options())
    assert ([c.name for c in job.checkpoints], len(job.probes)) == (["step_9.pt"], 5)
    job = resolve(tiny.path, Options(checkpoints="step_10*", max_probes=7))
    assert [c.name for c in job.checkpoints] == ["step_10.pt", "step_100.pt"]
    assert len(job.probes) == 7


@pytest.mark.parametrize(
    "line",
    ["max_probes = '5'", "max_probes = 0", "max_probes = true", "rename = 'a=b'", "ignore = [1]",
     "cells = 3", "folds = 3", "trust_pickle = true", "manifest = 'steps.csv'", "device = 'cpu'",
     f"ignore = [{'1,' * 2000}]", "layers = [['a']]", 'ignore = ["a\\u0000"]'],
    ids=lambda line: line[:24],
)  # fmt: skip
def test_what_a_card_does_not_have_is_refused(tiny, line):
    tiny.card(HEAD + line + "\n")
    with pytest.raises(InputError, match="run card is not understood") as error:
        read_run_card(tiny.path)
    assert_three_facts(str(error.value))


def test_a_value_that_means_nothing_is_named_with_the_card(tiny):
    for line, what in (("weights = 'best'", "no such weights"), ("rename = ['a']", "renaming")):
        tiny.card(HEAD + line + "\n")
        with pytest.raises(InputError, match=what) as error:
            resolve(tiny.path, Options())
        assert error.value.found.endswith("run.toml")


SLOW = [
    r"(a+)+(?P<step>\d+)", r"(?P<step>(\d+)*)x", r"(a|a)*(?P<step>\d+)", r"a*a*a*(?P<step>\d+)",
    r"(?P<step>\d+)(?=x*y)", r"(x)\1*(?P<step>\d+)", r"(?P<step>\d{1,9}){2,9}", "(",
]  # fmt: skip


@pytest.mark.parametrize("pattern", SLOW)
def test_patterns_that_may_take_for_ever_are_refused_from_a_card(tiny, pattern):
    tiny.card(HEAD + f"step_regex = '{pattern}'\n")
    with pytest.raises(InputError, match="may take for ever"):
        read_run_card(tiny.path)


@pytest.mark.parametrize(
    "pattern",
    [r"iter(?P<step>\d+)", r"e(?P<epoch>[0-9]+)_s(?P<step>[\d.]+)", r"^(?P<step>\d{3})\.pt$",
     r"^.*_(?P<step>\d+)k"],
)  # fmt: skip
def test_usual_patterns_are_taken_from_a_card(pattern):
    assert why_slow(pattern) == ""


def test_a_pattern_is_looked_for_at_the_end_of_a_long_path_only():
    """What is left grows with the third power of a length that nobody can choose."""
    pattern = r"s(?P<step>\d+)x"
    assert position_by_pattern("a" * 600 + "s7x", pattern).step == 7
    assert position_by_pattern("s7x" + "a" * 600, pattern) is None


def test_many_stars_are_refused_from_a_card(tiny):
    tiny.card(HEAD + 'rename = ["a*a*a*a*=b"]\n')
    with pytest.raises(InputError, match="too many stars"):
        read_run_card(tiny.path)
