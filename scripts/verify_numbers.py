"""Compare every number with plain autograd, one example at a time, in float64.

For every layer, subset and checkpoint of a sample run, and for torchvision's ResNet-18 with random
weights, in float32 and float64 and for two batch sizes: ``m_coherence``, ``gradient_gram`` and
``gradient_sqnorm``. And m-coherence of small cases beside a computation by its definition. Exits
with 1 when a bound is broken.

The bounds are those of ``tests.against_oracle.Verdict``; "plain" is float32 autograd on equal
batches.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import xarray as xr
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import analyze
from analyze.models.builtin import SmallResNet
from analyze.runs.progress import for_stderr
from scripts import by_definition
from tests.against_oracle import (
    Probes,
    Verdict,
    errors_of_oracle,
    errors_of_tree,
    expected_statistics,
    read_probes,
    read_weights,
)

BATCH_SIZES = (4, 16)
PRECISIONS = ("float64", "float32")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, default=Path("sample_checkpoints/half_noise"))
    parser.add_argument("--checkpoints", default=":", help="a slice, such as ::4")
    parser.add_argument("--max-probes", type=int, help="fewer probes of the sample run")
    parser.add_argument("--resnet18-probes", type=int, default=60)
    arguments = parser.parse_args()
    print(f"{'':51}{'ours':>20}{'plain float32':>20}")
    header = f"{'':34}{'precision':>10}{'batch':>7}"
    print(header + f"{'median':>10}{'worst':>10}" * 2, flush=True)
    good = verify_run(arguments.run, arguments.checkpoints, arguments.max_probes)
    good &= verify_resnet18(arguments.run, arguments.resnet18_probes)
    good &= verify_definition(arguments.run.parent)
    print("All within the bounds." if good else "BOUNDS BROKEN")
    return 0 if good else 1


def verify_run(run: Path, checkpoints: str, max_probes: int | None) -> bool:
    """Every checkpoint of a sample run, with recomputed batch norm statistics."""
    with TemporaryDirectory() as folder:
        trees = {
            (precision, size): analyze.run(
                run,
                output=Path(folder) / f"{precision}_{size}.h5",
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
    probes = everything.take(first["examples"].to_dataset()["probe"].values.tolist())
    good = True
    for k, name in enumerate(first.to_dataset()["checkpoint"].values):
        model = SmallResNet()
        model.load_state_dict(read_weights(run / str(name)))
        good &= compare(str(name), model, probes, 10, trees, k, recompute=True)
    return good


def verify_resnet18(run: Path, count: int) -> bool:
    """An ordinary torchvision model on 64 px images: the sample probes, enlarged."""
    from torchvision import models

    everything = read_probes(run.parent / f"{run.name}_probes.safetensors")
    rows = np.linspace(0, len(everything.ids) - 1, count).astype(int)
    probes = everything.take([everything.ids[int(r)] for r in rows])
    images = nn.functional.interpolate(probes.inputs, 64, mode="bilinear").expand(-1, 3, -1, -1)
    images = images.float().double().contiguous()
    probes = Probes(
        images, probes.targets, probes.ids, probes.subsets, probes.names, probes.held_out
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
    measured = partial(analyze.measure, model, given, batch_norm="saved", folds=2, device="cpu")
    trees = {
        (precision, size): measured(precision=precision, batch_size=size)
        for precision in PRECISIONS
        for size in BATCH_SIZES
    }  # fmt: skip
    return compare("torchvision:resnet18", model, probes, 2, trees, 0, recompute=False)


def verify_definition(samples: Path) -> bool:
    """Print small cases beside a computation by the definition; whether they agree."""
    rows = list(by_definition.compared(samples))
    print(*by_definition.table(rows), sep="\n", flush=True)
    return all(row.difference < by_definition.BOUND for row in rows)


def compare(
    name: str,
    model: nn.Module,
    probes: Probes,
    folds: int,
    trees: dict[tuple[str, int], xr.DataTree],
    k: int,
    *,
    recompute: bool,
) -> bool:
    """Print a line for each tree; whether all are within the bounds."""
    exact = expected_statistics(model, probes, folds, recompute=recompute)
    good = True
    for (precision, size), tree in trees.items():
        plain = None
        if precision == "float32":
            expected = expected_statistics(
                model, probes, folds, recompute=recompute, dtype=torch.float32, batch_size=size
            )
            plain = errors_of_oracle(tree, expected, exact)
        verdict = Verdict.on(errors_of_tree(tree, k, exact), plain)
        figures = (verdict.median, verdict.worst, verdict.plain_median, verdict.plain_worst)
        columns = "".join(f"{'-' if np.isnan(v) else format(v, '.1e'):>10}" for v in figures)
        broken = "" if verdict.good else "  BROKEN"
        print(f"{name:34}{precision:>10}{size:7}{columns}{broken}", flush=True)
        good &= verdict.good
    return good


if __name__ == "__main__":
    sys.exit(main())
