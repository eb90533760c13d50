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

pytestmark = pytest.mark.usefixtures("pages_only")

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


@pytest.fixture
def place(tmp_path) -> Path:
    """A directory with a part of the samples, as a reader of the README has them all."""
    shutil.copytree(
        ROOT / "sample_checkpoints", tmp_path / "sample_checkpoints", ignore=lambda _, names: [
            n for n in names if n.endswith(".pt") and not any(kept in n for kept in KEPT)
        ],
    )  # fmt: skip
    shutil.copy(ROOT / "README.md", tmp_path)
    return tmp_path


def ran(words: list[str]) -> None:
    """The program in this process, and a script of the reader's in one of its own."""
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


def changed(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        text = text.replace(old, new)
    return text


# By what the README is made shorter: fewer images, epochs and probes, also of the sample.
FEWER = {"2000": "600", "range(6)": "range(2)", "[run]": "[run]\nmax_probes = 60"}


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize(
    ("changes", "epochs", "probes"),
    [
        pytest.param(FEWER, 2, 50, id="short"),
        pytest.param({}, 6, 500, id="as it stands", marks=pytest.mark.nightly),
    ],
)
def test_the_readme_runs(place, changes, epochs, probes, monkeypatch):
    """Its two commands, a training of one's own with its five lines, and the language model."""
    monkeypatch.chdir(place)
    training, language_model = blocks("README.md")
    Path("train.py").write_text(changed(training, changes), "utf-8")
    card = Path("sample_checkpoints/half_noise/run.toml")
    card.write_text(changed(card.read_text("utf-8"), changes), "utf-8")
    Path("runs/mine").mkdir(parents=True)
    for words in commands("README.md"):
        ran([str(probes) if word == "500" else word for word in words])
    for page in ("half_noise_report/index.html", "mine_report/index.html"):
        assert Path(page).exists()
    mine = analyze.open_results("mine.h5")
    counts = {"clean": probes, "corrupted": probes, "all": 2 * probes}
    assert mine["probe_count"].to_series().to_dict() == counts
    assert mine.sizes["checkpoint"] == epochs
    exec(compile(language_model, "README.md", "exec"), {})


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

    for name, code in zip(("mine.py", "train.py"), blocks("docs/walk-through.md"), strict=True):
        Path(name).write_text(changed(code, changes), "utf-8")
    Path("runs/mine").mkdir(parents=True)
    for words in commands("docs/walk-through.md"):
        if changes and words[1] == "report":
            continue  # the README's are made by every run of the tests
        ran([changed(word, changes) if word != "100" else str(probes) for word in words])
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
