"""Compare every number with plain autograd, one example at a time, in float64.

For every layer, subset and checkpoint of a sample run, and for torchvision's ResNet-18 with random
weights, in float32 and float64 and for two batch sizes: ``m_coherence``, ``gradient_gram`` and
``gradient_sqnorm``. Exits with 1 when a bound is broken.

Bounds: float64: 1e-9, Gram entries scaled by sqrt(G_ii G_jj). float32: median over the layers
1e-5, worst 1e-2, and at most 3 times the error of plain float32 autograd.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import analyze
from analyze.models.builtin import SmallResNet
from analyze.progress import for_stderr
from tests.comparison import (
    Errors,
    Probes,
    errors_of_oracle,
    errors_of_tree,
    expected_statistics,
    read_probes,
    read_weights,
)

FLOAT64_BOUND = 1e-9
FLOAT32_MEDIAN, FLOAT32_WORST, FLOAT32_RATIO = 1e-5, 1e-2, 3.0
BATCH_SIZES = (17, 64)
PRECISIONS = ("float64", "float32")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, default=Path("sample_checkpoints/half_noise"))
    parser.add_argument("--checkpoints", default=":", help="a slice, such as ::4")
    parser.add_argument("--max-probes", type=int, help="fewer probes of the sample run")
    parser.add_argument("--resnet18-probes", type=int, default=60)
    arguments = parser.parse_args()
    print(f"{'':34}{'precision':>10}{'batch':>7}{'median':>10}{'worst':>10}{'plain':>10}")
    good = verify_run(arguments.run, arguments.checkpoints, arguments.max_probes)
    good &= verify_resnet18(arguments.run, arguments.resnet18_probes)
    print("All within the bounds." if good else "BOUNDS BROKEN")
    return 0 if good else 1


def verify_run(run: Path, checkpoints: str, max_probes: int | None) -> bool:
    """Every checkpoint of a sample run, with recomputed batch norm statistics."""
    with TemporaryDirectory() as folder:
        trees = {
            (precision, size): analyze.run(
                run,
                output=Path(folder) / "results.h5",
                precision=precision,
                batch_size=size,
                checkpoints=checkpoints,
                max_probes=max_probes,
                examples="on",
                device="cpu",
                progress=for_stderr(),
            )
            for precision in PRECISIONS
            for size in BATCH_SIZES
        }
    first = next(iter(trees.values()))
    everything = read_probes(run.parent / f"{run.name}_probes.safetensors")
    probes = everything.take(first["examples"].to_dataset()["probe"].values)
    good = True
    for k, name in enumerate(first.to_dataset()["checkpoint"].values):
        model = SmallResNet()
        model.load_state_dict(read_weights(run / str(name)))
        good &= compare(str(name), model, probes, 10, trees.items(), k, recompute=True)
    return good


def verify_resnet18(run: Path, count: int) -> bool:
    """An ordinary torchvision model on 64 px images: the sample probes, enlarged."""
    from torchvision import models

    everything = read_probes(run.parent / f"{run.name}_probes.safetensors")
    rows = np.linspace(0, len(everything.ids) - 1, count).astype(int)
    probes = everything.take([everything.ids[r] for r in rows])
    images = nn.functional.interpolate(probes.inputs, 64, mode="bilinear").expand(-1, 3, -1, -1)
    probes = Probes(
        images.contiguous(), probes.targets, probes.ids, probes.subsets, probes.names, probes.held_out
    )  # fmt: skip
    torch.manual_seed(0)
    model = models.resnet18(weights=None, num_classes=10).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model(probes.inputs.float())
    model.eval()
    given = analyze.ProbeSet(
        probes.inputs.float(), probes.targets, probes.subsets, probes.ids,
        held_out=probes.held_out, subset_names=probes.names,
    )  # fmt: skip
    trees = {
        (precision, size): analyze.measure(
            model, given, precision=precision, batch_size=size, batch_norm="saved", folds=2, device="cpu"
        )
        for precision in PRECISIONS
        for size in (5, 32)
    }  # fmt: skip
    probes = Probes(
        probes.inputs.float().double(), probes.targets, probes.ids, probes.subsets, probes.names,
        probes.held_out,
    )  # fmt: skip
    good = True
    for (precision, size), tree in trees.items():
        # ReLU and max-pool decide otherwise in a batch; plain autograd is given the same batches.
        groups = _batches(probes.cells(2), size)
        one = [((precision, size), tree)]
        good &= compare("torchvision:resnet18", model, probes, 2, one, 0, groups, recompute=False)
    return good


def _batches(cells: list[int], size: int) -> list[list[int]]:
    """The examples of each cell in nearly equal batches of at most ``size``."""
    found = []
    for cell in sorted(set(cells)):
        rows = np.flatnonzero(np.array(cells) == cell)
        found += [part.tolist() for part in np.array_split(rows, -(-len(rows) // size))]
    return found


def compare(
    name: str,
    model: nn.Module,
    probes: Probes,
    folds: int,
    trees: Iterable[tuple[tuple[str, int], object]],
    k: int,
    groups: list[list[int]] | None = None,
    *,
    recompute: bool,
) -> bool:
    """Print a line for each tree; whether all are within the bounds."""
    exact = expected_statistics(copy.deepcopy(model), probes, folds, recompute=recompute)
    plain = expected_statistics(
        copy.deepcopy(model), probes, folds, recompute=recompute, dtype=torch.float32, groups=groups
    )
    good = True
    for (precision, size), tree in trees:
        errors = errors_of_tree(tree, k, exact)  # type: ignore[arg-type]
        reference = errors_of_oracle(tree, plain, exact)  # type: ignore[arg-type]
        good &= _report(name, precision, size, errors, reference)
    return good


def _report(name: str, precision: str, size: int, errors: Errors, plain: Errors) -> bool:
    ours = np.array([errors.of(layer) for layer in errors.gram])
    theirs = np.array([plain.of(layer) for layer in errors.gram])
    if precision == "float64":
        good = bool(ours.max() <= FLOAT64_BOUND)
    else:
        good = bool(
            np.median(ours) <= FLOAT32_MEDIAN
            and ours.max() <= FLOAT32_WORST
            and ours.max() <= FLOAT32_RATIO * theirs.max()
        )
    figures = f"{np.median(ours):10.1e}{ours.max():10.1e}{theirs.max():10.1e}"
    print(f"{name:34}{precision:>10}{size:7}{figures}{'' if good else '  BROKEN'}", flush=True)
    return good


if __name__ == "__main__":
    sys.exit(main())
