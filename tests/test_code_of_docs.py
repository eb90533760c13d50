"""The code of the documents runs as it stands, in an order in which a reader would type it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import analyze
from analyze.models.builtin import SmallResNet
from analyze.probes import write_probes
from analyze.probes.probe_set import Column
from tests.conftest import call
from tests.data_sources import idx

ROOT = Path(__file__).parent.parent
KEPT = ("01280",)  # of the sample's twelve checkpoints, for less time


def blocks(page: str) -> list[str]:
    """The Python code of a page, block after block."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.M | re.S)


def commands(page: str) -> Iterator[list[str]]:
    """The commands of a page, which stand indented; lines may go on after a backslash."""
    text = (ROOT / page).read_text("utf-8").replace("\\\n", " ")
    for line in re.findall(r"^    (?:mkdir -p runs/mine && )?((?:analyze|python) .*)$", text, re.M):
        yield shlex.split(line, comments=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A directory with a part of the samples, as a reader of the README has them all."""
    folder = tmp_path_factory.mktemp("reader")
    samples = folder / "sample_checkpoints"
    shutil.copytree(
        ROOT / "sample_checkpoints", samples, ignore=lambda _, names: [
            n for n in names if n.endswith(".pt") and not any(kept in n for kept in KEPT)
        ],
    )  # fmt: skip
    shutil.copy(ROOT / "README.md", folder)
    return folder


def ran(words: list[str]) -> None:
    """The program in this process, and what a reader gives to Python in one of its own."""
    program, *arguments = words
    if program == "analyze":
        result = call(*arguments)
        assert result.exit_code == 0, (words, result.output)
        return
    environment = os.environ | {"PYTHONPATH": str(Path(analyze.__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, (words, done.stdout)


def test_the_readme_runs_as_it_stands(place, monkeypatch):
    """Its two commands, a training of one's own with its five lines, and the language model."""
    training, language_model = blocks("README.md")
    (place / "train.py").write_text(training, "utf-8")
    (place / "runs/mine").mkdir(parents=True)
    monkeypatch.chdir(place)
    for words in commands("README.md"):
        ran(words)
    for page in ("half_noise_report/index.html", "mine_report/index.html"):
        assert (place / page).exists()
    counts = analyze.open_results(place / "mine.h5")["probe_count"].to_series()
    assert counts.to_dict() == {"clean": 500, "corrupted": 500, "all": 1000}
    assert analyze.open_results(place / "mine.h5").sizes["checkpoint"] == 6
    ran(["python", "-c", language_model])


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> dict[str, object]:
    """What a reader of the pages has: results in the files that they name, a network, its data."""
    folder = tmp_path_factory.mktemp("pages")
    draw = np.random.default_rng(0)
    images = draw.standard_normal((48, 1, 8, 8), dtype=np.float32)
    true = draw.integers(0, 10, 48)
    given = np.where(np.arange(48) % 2, true, (true + 1) % 10)
    columns = {"class": Column(np.asarray(true % 2), ("cat", "dog"))}
    probes = analyze.ProbeSet(images, given, ["corrupted", "clean"] * 24, columns=columns)
    write_probes(folder / "probes.safetensors", probes)
    (folder / "mine").mkdir()
    for step in (8, 64):
        torch.manual_seed(step)
        net = SmallResNet(width=4)
        torch.save(net.state_dict(), folder / "mine" / f"step_{step}.pt")
    analyze.run(
        folder / "mine", output=folder / "mine.h5", model="builtin:small_resnet?width=4",
        probes=folder / "probes.safetensors", cells=["class"], folds=3, device="cpu", examples="on",
    )  # fmt: skip
    shutil.copy(folder / "mine.h5", folder / "half_noise.h5")
    inputs, targets = torch.from_numpy(images), torch.from_numpy(given)
    data = TensorDataset(inputs, targets)
    numbered = [(inputs[k], targets[k], 100 + k) for k in range(48)]
    return {
        "folder": folder,
        "analyze": analyze,
        "np": np,
        "torch": torch,
        "F": functional,
        "nn": nn,
        "partial": partial,
        "net": net,
        "probes": probes,
        "train_set": data,
        "data": numbered,
        "loader": DataLoader(data, 24),
        "inputs": inputs,
        "targets": targets,
        "given": given,
        "true": true,
        "mask": given != true,
        "train": lambda net, batch: None,
        "w": torch.ones(10),
    }


# What a page says of a larger data set than the one here.
SMALLER = {"count=500": "count=20"}


PYTHON = ("gallery", "losses", "pages", "probes", "results", "statistics")


@pytest.mark.parametrize("page", PYTHON)
def test_the_python_of_a_page_runs(page, reader, monkeypatch):
    monkeypatch.chdir(reader["folder"])
    code = "".join(blocks(f"docs/{page}.md"))
    for larger, smaller in SMALLER.items():
        code = code.replace(larger, smaller)
    exec(compile(code, f"docs/{page}.md", "exec"), dict(reader))


# By what a page's training is made shorter: fewer images, and so fewer steps; a smaller model.
SHORTER = {"2000": "150", "step % 20": "step % 6", "resnet10t": "test_resnet"}


@pytest.mark.parametrize(
    ("changes", "images", "steps", "probes"),
    [
        pytest.param(SHORTER, 150, 6, 10, id="short"),
        pytest.param({}, 2000, 80, 100, id="as it stands", marks=pytest.mark.nightly),
    ],
)
def test_the_walk_through_runs(changes, images, steps, probes, tmp_path, monkeypatch):
    """Its files, its commands and what it says they find, on images that the samples have."""
    pytest.importorskip("timm")
    sample = load_file(ROOT / "sample_checkpoints/half_noise_probes.safetensors")
    pixels, true = sample["inputs"][:, 0], sample["column.true_class"].astype(np.uint8)
    raw = tmp_path / "data/FashionMNIST/raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        idx(raw / f"{part}-images-idx3-ubyte", pixels)
        idx(raw / f"{part}-labels-idx1-ubyte", true)
    monkeypatch.chdir(tmp_path)

    def changed(text: str) -> str:
        for old, new in changes.items():
            text = text.replace(old, new)
        return text

    for name, code in zip(("mine.py", "train.py"), blocks("docs/walk-through.md"), strict=True):
        Path(name).write_text(changed(code), "utf-8")
    Path("runs/mine").mkdir(parents=True)
    for words in commands("docs/walk-through.md"):
        if changes and words[1] == "report":
            continue  # the README's are made by every run of the tests
        ran([changed(word) if word != "100" else str(probes) for word in words])
    results = analyze.open_results("mine.h5")
    last = results["checkpoint"].values[-1]
    assert last == f"step_{steps}.pt"
    found = analyze.scan("runs/mine")
    assert [(f.name, f.why) for f in found.left_out] == [("last.pt", f"the same weights as {last}")]
    counts = {"clean": probes, "corrupted": probes, "all": 2 * probes}
    assert results["probe_count"].to_series().to_dict() == counts
    assert np.isfinite(results["network"]["m_coherence"].sel(subset="all")).all()
    assert len(np.load("given.npy")) == images
    assert changes or Path("mine_report/index.html").exists()


def test_no_page_has_python_that_is_not_run():
    """The page of functions is tested with the functions."""
    pages = {path.stem for path in (ROOT / "docs").glob("*.md") if blocks(f"docs/{path.name}")}
    assert pages - {"api", "walk-through"} == set(PYTHON)
