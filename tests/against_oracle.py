"""Compare a results tree with the oracle, over a sample run or a model: shared by tests and verify.

Reads checkpoints and probe files with their own libraries, not with ``analyze``.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import xarray as xr
from safetensors import safe_open
from torch import Tensor, nn

from tests import oracle

FLOAT64_WORST = 1e-9
FLOAT32_MEDIAN, FLOAT32_WORST, FLOAT32_RATIO = 1e-5, 1e-2, 3.0


@dataclass(frozen=True)
class Probes:
    """A probe file as the oracle reads it: decoded inputs, targets, ids and subset names."""

    inputs: Tensor
    targets: Tensor
    ids: list[int]
    subsets: list[str]
    names: list[str]
    held_out: list[str]

    def take(self, ids: Sequence[int]) -> Probes:
        """The probes with these ids, in this order."""
        rows = [self.ids.index(int(i)) for i in ids]
        return Probes(
            self.inputs[rows],
            self.targets[rows],
            [self.ids[r] for r in rows],
            [self.subsets[r] for r in rows],
            self.names,
            self.held_out,
        )

    def cells(self, folds: int) -> list[int]:
        """The cell of each probe: subset, then fold."""
        return [
            self.names.index(s) * folds + oracle.fold_of(i, folds)
            for s, i in zip(self.subsets, self.ids, strict=True)
        ]

    def training_order(self) -> list[int]:
        """Rows of the probes that are not held out, in the order of their ids' hashes."""
        return [k for k in oracle.hash_order(self.ids) if self.subsets[k] not in self.held_out]


def read_probes(path: Path) -> Probes:
    """A probe file of images in float64."""
    tensors = safetensors.torch.load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    names = json.loads(metadata["subset_names"])
    mean, std = (
        torch.tensor(json.loads(metadata[k]), dtype=torch.float64) for k in ("mean", "std")
    )
    scaled = (tensors["inputs"].double() / 255 - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    return Probes(
        scaled,
        tensors["targets"],
        tensors["id"].tolist(),
        [names[code] for code in tensors["subset"].tolist()],
        names,
        json.loads(metadata["held_out"]),
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a sample checkpoint, whichever of the three formats it has."""
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    content = torch.load(path, weights_only=True)
    weights = content.get("state_dict", content.get("model"))
    return {name.removeprefix("model."): tensor for name, tensor in weights.items()}


def expected_statistics(
    model: nn.Module,
    probes: Probes,
    folds: int,
    *,
    recompute: bool,
    dtype: torch.dtype = torch.float64,
    batch_size: int = 1,
) -> oracle.Statistics:
    """The oracle's statistics of a model with loaded weights, which is left alone.

    ``batch_size`` is that of the forward pass: in float32 a batch takes other decisions at ReLU
    and max-pool than an example alone, so precision is compared on equal batches.
    """
    model = copy.deepcopy(model).to(dtype)
    cells = probes.cells(folds)
    if recompute:
        order = probes.training_order()
        oracle.recompute_batch_norm(model, probes.inputs.to(dtype), order)
    return oracle.statistics(
        model,
        probes.inputs,
        probes.targets,
        cells,
        folds * len(probes.names),
        dtype=dtype,
        groups=oracle.batches_of_cells(cells, batch_size),
    )


@dataclass(frozen=True)
class Errors:
    """Largest errors per layer: scaled Gram, squared norms, and m-coherence over the subsets."""

    gram: dict[str, float]
    squared_norms: dict[str, float]
    m_coherence: dict[str, float]

    def of(self, layer: str) -> float:
        """The largest of the three."""
        return max(self.gram[layer], self.squared_norms[layer], self.m_coherence[layer])


def errors_of_tree(tree: xr.DataTree, k: int, expected: oracle.Statistics) -> Errors:
    """Errors of checkpoint ``k`` of a results tree, per layer and for ``network``."""
    parameters = tree["parameters"].to_dataset().isel(checkpoint=k)
    layers = tree["layers"].to_dataset().isel(checkpoint=k)
    network = tree["network"].to_dataset().isel(checkpoint=k)
    members = _members(tree)

    def gram_of(name: str) -> np.ndarray:
        return parameters["gradient_gram"].sel(parameter=name).values

    def squares_of(name: str) -> np.ndarray:
        return parameters["gradient_sqnorm"].sel(parameter=name).values

    def coherence_of(layer: str) -> np.ndarray:
        at = network if layer == "network" else layers.sel(layer=layer)
        return at["m_coherence"].sel(subset=list(members)).values

    return _errors(tree, members, gram_of, squares_of, coherence_of, expected)


def errors_of_oracle(
    tree: xr.DataTree, found: oracle.Statistics, expected: oracle.Statistics
) -> Errors:
    """The same errors of plain autograd in another precision; ``tree`` says what the layers are."""
    members = _members(tree)
    owner = _owner(tree)

    def coherence_of(layer: str) -> np.ndarray:
        names = [n for n in owner if layer in (owner[n], "network")]
        return _coherence(names, found, members)

    return _errors(
        tree,
        members,
        found.gram.__getitem__,
        found.squared_norms.__getitem__,
        coherence_of,
        expected,
    )


def _errors(
    tree: xr.DataTree,
    members: dict[str, np.ndarray],
    gram_of: Callable[[str], np.ndarray],
    squares_of: Callable[[str], np.ndarray],
    coherence_of: Callable[[str], np.ndarray],
    expected: oracle.Statistics,
) -> Errors:
    owner = _owner(tree)
    found = Errors({}, {}, {})
    for layer in [*dict.fromkeys(owner.values()), "network"]:
        names = [n for n in owner if layer in (owner[n], "network")]
        found.gram[layer] = max(
            oracle.scaled_gram_error(gram_of(n), expected.gram[n]) for n in names
        )
        found.squared_norms[layer] = max(
            oracle.relative_error(squares_of(n), expected.squared_norms[n]) for n in names
        )
        found.m_coherence[layer] = oracle.relative_error(
            coherence_of(layer), _coherence(names, expected, members)
        )
    return found


def _coherence(
    names: list[str], of: oracle.Statistics, members: dict[str, np.ndarray]
) -> np.ndarray:
    gram = np.sum([of.gram[n] for n in names], axis=0)
    squares = np.sum([of.squared_norms[n] for n in names], axis=0)
    return np.array([gram[np.ix_(w, w)].sum() / squares[w].sum() for w in members.values()])


def _owner(tree: xr.DataTree) -> dict[str, str]:
    parameters = tree["parameters"].to_dataset()
    return dict(zip(parameters["parameter"].values, parameters["layer"].values, strict=True))


def _members(tree: xr.DataTree) -> dict[str, np.ndarray]:
    """The cells of each subset, ``all`` included."""
    parameters = tree["parameters"].to_dataset()
    held_out = json.loads(tree.attrs["provenance"])["held_out"]
    subset = parameters["cell_subset"].values
    members = {name: subset == name for name in dict.fromkeys(subset)}
    members["all"] = ~np.isin(subset, held_out)
    return members


@dataclass(frozen=True)
class Verdict:
    """Median and worst error over the layers, ours and plain autograd's, and whether it will do.

    In float64 the worst may be 1e-9. In float32 the worst may be 1e-2 and 3 times that of plain
    float32 autograd on the same batches; the median 1e-5, or where a decision flipped so early
    that plain autograd exceeds that itself, 3 times its median.
    """

    median: float
    worst: float
    plain_median: float
    plain_worst: float

    @classmethod
    def on(cls, ours: Errors, plain: Errors | None) -> Verdict:
        """Of the errors of a tree; ``plain`` belongs to float32."""
        errors = np.array([ours.of(layer) for layer in ours.gram])
        theirs = np.array([] if plain is None else [plain.of(layer) for layer in plain.gram])
        return cls(
            float(np.median(errors)),
            float(errors.max()),
            float(np.median(theirs)) if plain else float("nan"),
            float(theirs.max()) if plain else float("nan"),
        )

    @property
    def good(self) -> bool:
        """Within the bounds."""
        if np.isnan(self.plain_worst):
            return self.worst <= FLOAT64_WORST
        return (
            self.median <= max(FLOAT32_MEDIAN, FLOAT32_RATIO * self.plain_median)
            and self.worst <= FLOAT32_WORST
            and self.worst <= FLOAT32_RATIO * self.plain_worst
        )
