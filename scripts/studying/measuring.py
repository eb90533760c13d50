"""One training, measured: results files with all layers, and what of them the page shows."""

from __future__ import annotations

import json
import platform
import time
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
import torch
import xarray as xr

import analyze
from analyze import statistics
from analyze.probes.subsets import ALL
from scripts.studying.design import FOLDS, PLACES, SAVED_STEPS, Training
from scripts.studying.images import examples_of
from scripts.studying.training import train

MODES = ("recomputed", "saved")
HALF = FOLDS // 2  # the folds of the smaller sample
Labelled = TypeVar("Labelled", xr.Dataset, xr.DataArray)
KEPT = ("m_coherence", "m_coherence_stderr", "degrees_of_freedom", "null_upper")


def measured(training: Training, data: Path, build: Path) -> xr.Dataset:
    """Train, measure and take out; the weights are not kept, the results files in ``build`` are."""
    start, processor = time.monotonic(), time.process_time()
    examples = examples_of(training, data)
    build = build.absolute()
    # By a relative path, so that results and pages do not say where on this machine it lay.
    with TemporaryDirectory() as name, chdir(name):
        folder = Path(training.name)
        folder.mkdir()
        course = train(training, examples, folder)
        trained = time.process_time() - processor
        trees = {}
        for mode in MODES if training.network.has_batch_norm else MODES[:1]:
            if mode == "saved":
                for path in folder.iterdir():
                    if int(path.stem.removeprefix("step_")) not in SAVED_STEPS:
                        path.unlink()
            trees[mode] = analyze.run(
                folder, model=training.network.model, probes=examples.probes, folds=FOLDS,
                output=build / f"{training.name}_{mode}.h5", batch_norm=mode, device="cpu",
            )  # fmt: skip
    taken = taken_out(trees, training)
    facts = {
        "accuracy_of_epochs": course.accuracy,
        "loss_of_epochs": course.loss,
        "seconds": round(time.monotonic() - start),
        "processor_seconds": round(time.process_time() - processor),
        "processor_seconds_of_training": round(trained),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "analyze": json.loads(trees["recomputed"].attrs["provenance"])["versions"][
            "gradient-coherence"
        ],
        "processor": processor_name(),
        "command": f"scripts/study --only {training.name}",
    }
    taken.attrs = {"facts": json.dumps(facts), "processor_seconds": facts["processor_seconds"]}
    return taken


def taken_out(trees: dict[str, xr.DataTree], training: Training) -> xr.Dataset:
    """Of the network and three layers what the page shows, ``[mode, size, place, subset, step]``.

    ``size`` is 2m, all probes, or m, those in the first half of the folds. NaN where a step was not
    measured as saved. ``loss``, ``accuracy`` and ``effective_sample_size`` of the network are of
    all probes, ``[mode, subset, step]``; ``gradient_cosine`` is that of the clean and the corrupted
    ones, ``[mode, size, place, step]``.
    """
    layers = {p: [name] for p, name in zip(PLACES[1:], training.network.layers, strict=True)}
    found = [_of_mode(tree, layers) for tree in trees.values()]
    taken = xr.concat(found, xr.Variable("mode", list(trees)), join="outer")
    taken = taken.transpose("mode", "size", "place", "subset", "step")
    return taken.astype(np.float32).assign_coords(step=taken["step"].astype(np.int32))


def _of_mode(tree: xr.DataTree, layers: dict[str, list[str]]) -> xr.Dataset:
    """What was measured with one kind of batch norm statistics."""
    sizes = [_of_size(t, layers) for t in (_first_folds(tree), tree)]
    whole = xr.concat(sizes, xr.Variable("size", ["m", "2m"]), join="exact")
    root, network = tree.to_dataset(), tree["network"].to_dataset()
    scalars = xr.Dataset(
        {
            "loss": _bare(root["loss"]),
            "accuracy": _bare(root["accuracy"]),
            "effective_sample_size": _bare(network["effective_sample_size"]),
        }
    )
    steps = root["step"].values.astype(int)
    return whole.assign(scalars).rename(checkpoint="step").assign_coords(step=steps)


def _of_size(tree: xr.DataTree, layers: dict[str, list[str]]) -> xr.Dataset:
    """Network and layers one after the other, and how many probes each subset has."""
    network = statistics.coherence(tree, layers="network").expand_dims(layer=[PLACES[0]])
    groups = [_kept(group) for group in (network, statistics.coherence(tree, layers=layers))]
    both = xr.concat(groups, "layer", join="exact").rename(layer="place")
    table = tree["parameters"].to_dataset()
    numbers, of = table["probe_count"].values, table["cell_subset"].values
    counts = [
        numbers[of != "held_out" if name == ALL else of == name].sum()
        for name in both["subset"].values
    ]
    return both.assign(count=("subset", counts))


def _kept(group: xr.Dataset) -> xr.Dataset:
    """The variables that the page needs, without labels of checkpoints."""
    kept = group[list(KEPT)]
    if "corrupted" in group["subset"].values:
        cosine = group["gradient_cosine"].sel(subset="clean", subset_other="corrupted", drop=True)
        kept = kept.assign(gradient_cosine=cosine)
    return _bare(kept)


def _bare(labelled: Labelled) -> Labelled:
    """Without the labels of checkpoints, which steps take the place of."""
    return labelled.reset_coords(drop=True).drop_vars(["checkpoint", "epoch"], errors="ignore")


def _first_folds(tree: xr.DataTree) -> xr.DataTree:
    """The tree of the probes in the first half of the folds."""
    table = tree["parameters"].to_dataset()
    kept = table["cell_fold"].values < HALF
    part = table.isel(cell=kept, cell_other=kept)
    root = tree.to_dataset()
    return xr.DataTree.from_dict({"/": root, "/parameters": part})


def processor_name() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
