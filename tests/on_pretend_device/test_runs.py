"""Runs by the command line on the device: the numbers of a CPU, resumed and followed to the bit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import analyze
from analyze.checkpoints.finding import watch
from tests.conftest import NAMES, TinyRun, call, small_weights
from tests.crash import assert_same_arrays
from tests.nightly import of_every_run
from tests.pretend_device import device
from tests.pretend_device.environment import PROJECT, environment

SAMPLES = PROJECT / "sample_checkpoints"
STATISTICS = ("gradient_gram", "gradient_sqnorm")


def program(*arguments: str, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own, as a user calls it."""
    command = [sys.executable, "-m", "analyze", *arguments]
    return subprocess.run(
        command, env=environment(limit), cwd=PROJECT, capture_output=True, text=True, check=False
    )


def assert_agree(one: xr.DataTree, other: xr.DataTree, rounding: float) -> None:
    """All statistics agree, each relative to the largest of its parameter and checkpoint."""
    for name in STATISTICS:
        left = one["parameters"].to_dataset()[name].values
        right = other["parameters"].to_dataset()[name].values
        scale = np.nanmax(np.abs(right), axis=tuple(range(2, right.ndim)), keepdims=True)
        np.testing.assert_allclose(left / scale, right / scale, rtol=0, atol=rounding)


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A part of a sample run: the first checkpoint and a later one."""
    run = tmp_path / "half_noise"
    run.mkdir()
    shutil.copy(SAMPLES / "half_noise" / "run.toml", run)
    shutil.copy(SAMPLES / "half_noise_probes.safetensors", tmp_path)
    for step in ("00000", "00064"):
        shutil.copy(SAMPLES / "half_noise" / f"checkpoint_{step}.pt", run)
    return run


@pytest.mark.parametrize("batch_norm", of_every_run(["recomputed", "saved"], {"recomputed"}))
def test_a_sample_run_has_the_numbers_of_a_cpu(sample, batch_norm):
    options = ("--folds", "2", "--precision", "float64", "--batch-norm", batch_norm)
    trees = {}
    for name in ("cpu", "pretend:0"):
        output = sample.parent / f"{name}.h5"
        words = ("run", str(sample), "--device", name, "--output", str(output), *options)
        words += ("--max-probes", "20")
        if name == "cpu":
            assert call(*words).exit_code == 0
        else:
            done = program(*words)
            assert done.returncode == 0, done.stderr
        trees[name] = analyze.open_results(output)
    provenance = json.loads(trees["pretend:0"].attrs["provenance"])
    assert provenance["device"].startswith("pretend")
    assert provenance["warnings"] == json.loads(trees["cpu"].attrs["provenance"])["warnings"]
    assert_agree(trees["pretend:0"], trees["cpu"], 1e-9)
    methods = [tree["parameters"]["method"].values.tolist() for tree in trees.values()]
    assert methods[0] == methods[1]


@pytest.mark.nightly
def test_auto_takes_it(tiny):
    done = tiny.run("--device", "auto")
    assert done.exit_code == 0, done.stderr
    provenance = json.loads(analyze.open_results(tiny.output).attrs["provenance"])
    assert provenance["device"] == "pretend:0"


@pytest.mark.parametrize("name", of_every_run(["pretend:0", "pretend:1"], {"pretend:1"}))
def test_a_resumed_run_has_the_bits_of_an_undisturbed_one(tiny, name):
    elsewhere = int(name == "pretend:0")
    device.reset_peak()
    before = device.peak(elsewhere)
    options = ("--device", name, "--batch-size", "4")
    assert tiny.run(*options).exit_code == 0
    undisturbed = analyze.open_results(tiny.output).load()
    tiny.units[1].unlink()
    assert tiny.run(*options).exit_code == 0
    assert_same_arrays(undisturbed, analyze.open_results(tiny.output))
    assert device.peak(elsewhere) == before  # nothing is on the device that was not asked for


def test_what_is_written_meanwhile_is_followed(tiny: TinyRun, monkeypatch):
    name = "step_200.pt"
    steps = [lambda: torch.save(small_weights(7), tiny.path / name), lambda: None]

    def pause(seconds: float) -> None:
        if not steps:
            raise KeyboardInterrupt
        steps.pop(0)()

    monkeypatch.setattr(watch, "sleep", pause)
    assert tiny.run("--follow", "--device", "pretend").exit_code == 0
    tree = analyze.open_results(tiny.output)
    assert tree["checkpoint"].values.tolist() == [*NAMES, name]
    assert np.isfinite(tree["network"]["m_coherence"].sel(subset="all")).all()
