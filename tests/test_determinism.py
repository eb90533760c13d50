"""``scripts/determinism`` sees every bit and every entry of the plan."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from analyze.runs.units.folder import Folder
from scripts import determinism
from scripts.determinism import differing, digests_of, main


@pytest.fixture
def copy(measured, tmp_path) -> Path:
    """A copy of what a run wrote, to be changed."""
    output = tmp_path / measured.output.name
    shutil.copy(measured.output, output)
    shutil.copytree(Folder(measured.output).path, Folder(output).path, dirs_exist_ok=True)
    return output


def test_what_is_equal_is_equal(measured, copy):
    digests = digests_of(copy)
    assert differing(digests_of(measured.output), digests) == []
    assert {"results/loss", "results/parameters/gradient_gram", "plan/methods"} <= digests.keys()


def test_one_bit_is_seen(copy):
    before = digests_of(copy)
    with h5py.File(copy, "r+") as file:
        loss = file["loss"]
        values = loss[...]
        values.view(np.uint8).reshape(-1)[-8] ^= 1  # the last bit of a value
        loss[...] = values
    assert differing(before, digests_of(copy)) == ["results/loss"]


def test_another_plan_is_seen_and_another_order_is_none(copy):
    before, folder = digests_of(copy), Folder(copy)
    plan = folder.plan()
    folder.keep_plan(dict(reversed(plan.items())))
    assert digests_of(copy) == before
    folder.keep_plan(plan | {"batch_size": plan["batch_size"] + 1})
    assert differing(before, digests_of(copy)) == ["plan/batch_size"]


@pytest.mark.parametrize(("last", "code"), [("a", 0), ("b", 1)])
def test_a_line_for_each_run_and_the_exit_code(monkeypatch, capsys, last, code):
    coming = iter(["c", "c", "c", "a", "a", last])  # two threads may give other bits than one
    monkeypatch.setattr(
        determinism, "fresh_run", lambda command, threads: {"results/loss": next(coming)}
    )
    assert main(["--runs", "3"]) == code
    *lines, verdict = capsys.readouterr().out.splitlines()
    assert [line.partition("  plan")[0] for line in lines] == [
        f"threads {threads}  run  {k}" for threads in (1, 2) for k in (1, 2, 3)
    ]
    assert [line.endswith("DIFFERS in results/loss") for line in lines] == [False] * 5 + [code == 1]
    assert verdict == ("RUNS DIFFER" if code else "All equal.")
