"""M-coherence as it is defined, in a few lines that share no code with ``analyze``.

``scripts/verify`` prints its numbers beside those of ``analyze.measure``: the sum of all m x m dot
products of per-example gradients over the sum of the m squared norms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import analyze
from analyze.models.builtin import SmallInception, SmallMLP, SmallResNet

BOUND = 1e-9  # of the relative difference, in float64
CHECKPOINT = "half_noise/checkpoint_00448.pt"


@dataclass(frozen=True)
class Compared:
    """One case: the value by definition and that of ``analyze``."""

    case: str
    statistics: str  # of batch norm
    by_definition: float
    measured: float

    @property
    def difference(self) -> float:
        """Relative."""
        return abs(self.measured - self.by_definition) / abs(self.by_definition)


def m_coherence(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """``sum_ij g_i . g_j / sum_i g_i . g_i``, a backward pass for each example, in eval mode."""
    model = model.double().eval()
    parameters = list(model.parameters())
    gradients = []
    for x, y in zip(inputs.double(), targets, strict=True):
        loss = nn.functional.cross_entropy(model(x[None]), y[None])
        parts = torch.autograd.grad(loss, parameters)
        gradients.append(torch.cat([part.flatten() for part in parts]))
    matrix = torch.stack(gradients)
    products = matrix @ matrix.T
    return float(products.sum() / products.diagonal().sum())


def recompute(model: nn.Module, inputs: Tensor) -> None:
    """Batch norm statistics of one batch of all inputs, as a user would set them."""
    model.double().train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        model(inputs.double())


def compared(samples: Path, probes: int = 60) -> Iterator[Compared]:
    """Every case, the first ``probes`` training probes of a sample run each."""
    inputs, targets = _probes(samples, probes)
    for case, model in _models(samples).items():
        normalised = any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
        for mode in ("saved", "recomputed") if normalised else ("saved",):
            tree = analyze.measure(
                model, analyze.ProbeSet(inputs, targets), precision="float64", batch_norm=mode,
                folds=2, device="cpu",
            )  # fmt: skip
            if mode == "recomputed":
                recompute(model, inputs)
            value = float(tree["network"]["m_coherence"].sel(subset="all").item())
            statistics = mode if normalised else "none"
            yield Compared(case, statistics, m_coherence(model, inputs, targets), value)


def _models(samples: Path) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    trained = SmallResNet()
    trained.load_state_dict(torch.load(samples / CHECKPOINT, weights_only=True)["model"])
    return {
        "half_noise, step 448": trained,
        "small_mlp, untrained": SmallMLP(),
        "small_resnet, untrained": SmallResNet(width=8),
        "small_resnet with group norm, untrained": SmallResNet(width=8, norm="group"),
        "small_inception, untrained": SmallInception(width=4),
    }


def _probes(samples: Path, count: int) -> tuple[Tensor, Tensor]:
    """Images, scaled as the file says, and the labels given."""
    file = load_file(samples / "half_noise_probes.safetensors")
    rows = torch.nonzero(file["subset"] < 2)[:count, 0]  # the third subset is held out
    pixels = file["inputs"][rows].double() / 255
    return (pixels - pixels.mean()) / pixels.std(), file["targets"][rows].long()


def table(rows: list[Compared]) -> list[str]:
    """Lines to print."""
    lines = [f"{'':42}{'batch norm':>12}{'definition':>12}{'analyze':>12}{'difference':>12}"]
    for row in rows:
        values = f"{row.by_definition:12.6f}{row.measured:12.6f}{row.difference:12.1e}"
        lines.append(f"{row.case:42}{row.statistics:>12}{values}")
    return lines
