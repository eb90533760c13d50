"""The numbers behind each figure of a page, as arrays with labels: for its words and its table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from analyze.figures.accuracy_over_training import has_accuracy
from analyze.figures.cross_help_over_training import has_cross_help
from analyze.figures.names import plain
from analyze.figures.subset_pairs import pairs
from analyze.probes.subsets import ALL
from analyze.results.carried import FIRST, SECOND, between, of_contrast
from analyze.results.subsets import shown_subsets
from analyze.statistics.between_subsets import has_sums
from analyze.statistics.sizes import at_one_size, shown_size
from analyze.text import shown_name

INDEX = ("layer", "checkpoint")  # dimensions whose labels begin a row of the table


@dataclass(frozen=True)
class Quantity:
    """What a figure draws.

    Args:
        name: What it is, with its unit.
        values: Over ``checkpoint``, over ``layer`` where it is one of layers, and over at most one
            further dimension, whose labels name the lines or panels of the figure.
        errors: Standard errors, over the same dimensions; None where it has none.
    """

    name: str
    values: xr.DataArray
    errors: xr.DataArray | None = None

    @property
    def beside(self) -> str | None:
        """The further dimension, or None."""
        return next((str(dim) for dim in self.values.dims if dim not in INDEX), None)


Numbers = list[Quantity]


def coherence(results: xr.DataTree, group: str = "network") -> Quantity:
    """M-coherence of the network or of the layers, at the size shown, of the subsets shown."""
    labels = shown_subsets(results)
    shown = at_one_size(results, group).sel(subset=list(labels))
    shown = shown.assign_coords(subset=list(labels.values()))
    return Quantity(shown_size(results).quantity, shown["m_coherence"], shown["m_coherence_stderr"])


def of_network(results: xr.DataTree) -> Numbers:
    """M-coherence of the network with loss and, where it is known, accuracy, by subset."""
    root, labels = results.to_dataset(), shown_subsets(results)
    units = shown_name(str(root["loss"].attrs.get("units", "")))
    found = [coherence(results)]
    for name, title in (("loss", f"loss ({units})" if units else "loss"), ("accuracy", "accuracy")):
        if name == "loss" or has_accuracy(results):
            values = root[name].sel(subset=list(labels)).assign_coords(subset=list(labels.values()))
            found.append(Quantity(title, values))
    return found


def _against_loss(results: xr.DataTree) -> Numbers:
    loss = results.to_dataset()["loss"].sel(subset=ALL, drop=True)
    return [Quantity("loss of all training probes", loss), coherence(results)]


def _between_subsets(results: xr.DataTree) -> Numbers:
    network = results["network"].to_dataset()
    if has_sums(results):
        network = network.assign(between(results))

    def quantity(name: str, variable: str, within: bool) -> Quantity:
        chosen = pairs(results, within=within)
        labels = xr.DataArray([pair.label for pair in chosen], dims="pair")

        def lines(matrix: xr.DataArray) -> xr.DataArray:
            two = [matrix.sel(subset=p.first, subset_other=p.second, drop=True) for p in chosen]
            return xr.concat(two, "pair").assign_coords(pair=labels)

        error = f"{variable}_stderr"
        errors = lines(network[error]) if error in network else None
        return Quantity(name, lines(network[variable]), errors)

    found = [quantity("cosine of mean gradients", "gradient_cosine", within=False)]
    if has_cross_help(results):
        units = shown_name(str(results.to_dataset()["loss"].attrs.get("units", "nats")))
        name = f"cross help ({units} per unit of learning rate)"
        found.append(quantity(name, "cross_help", within=True))
    return found


def _contrast(results: xr.DataTree) -> Numbers:
    compared = of_contrast(results)
    return [
        Quantity(f"ratio, {SECOND} to {FIRST}", xr.apply_ufunc(np.exp, compared["log_ratio"])),
        Quantity(f"difference, {SECOND} less {FIRST} (examples)", compared["difference"]),
    ]


def _energy(results: xr.DataTree) -> Numbers:
    share = results["layers"].to_dataset()["energy_share"].sel(subset=ALL, drop=True)
    return [Quantity("share of the network's sum of squared gradient norms (%)", 100.0 * share)]


def _layers(results: xr.DataTree) -> Numbers:
    return [coherence(results, "layers")]


def _runs(comparison: xr.DataTree) -> Numbers:
    return [_joined(shown_size(comparison).quantity, at_one_size(comparison), "run")]


def _groups(comparison: xr.DataTree) -> Numbers:
    name = f"{shown_size(comparison).quantity}, geometric mean over seeds"
    return [replace(_joined(name, at_one_size(comparison, "groups/network"), "group"), errors=None)]


def _joined(name: str, dataset: xr.Dataset, of: str) -> Quantity:
    """Runs or groups by subset: one dimension, ``half_noise, clean``."""
    both = [
        f"{plain(str(one))}, {plain(str(subset))}"
        for one in dataset[of].values for subset in dataset["subset"].values
    ]  # fmt: skip

    def lines(values: xr.DataArray) -> xr.DataArray:
        ordered = values.transpose("checkpoint", of, "subset")
        flat = ordered.values.reshape(len(ordered), -1)
        return xr.DataArray(flat, dims=("checkpoint", "line"), coords={"line": both})

    error = "m_coherence_stderr"
    errors = lines(dataset[error]) if error in dataset else None
    return Quantity(name, lines(dataset["m_coherence"]), errors)


def _ratio(comparison: xr.DataTree, pair: int) -> Numbers:
    layers = comparison["pairs/layers"].to_dataset().isel(pair=pair)
    name = f"ratio of m-coherence, {plain(str(layers['pair'].item()))}"
    return [Quantity(name, xr.apply_ufunc(np.exp, layers["log_ratio"].drop_vars("pair")))]


OF_A_RUN: dict[str, Callable[[xr.DataTree], Numbers]] = {
    "training": of_network,
    "loss": _against_loss,
    "between_subsets": _between_subsets,
    "layers": _layers,
    "clean_corrupted": _contrast,
    "energy": _energy,
}
OF_A_COMPARISON: dict[str, Callable[[xr.DataTree], Numbers]] = {
    "training": _runs,
    "groups": _groups,
}
SAME = {"profile": "layers", "layer_panels": "layers"}  # figures that show another one's numbers


FEW_DRAWN = {  # figures that show a part of their numbers, in words before these
    "profile": "It draws up to four checkpoints of each subset; over all checkpoints"
}


def numbers_behind(tree: xr.DataTree, name: str) -> Numbers:
    """The numbers of the figure in a file of this name, of a run or of a comparison.

    Raises:
        KeyError: a figure of a page without an entry here.
    """
    if "pairs" not in tree.children:
        return OF_A_RUN[SAME.get(name, name)](tree)
    kind, _, number = name.rpartition("_")
    return _ratio(tree, int(number) - 1) if kind == "ratio" else OF_A_COMPARISON[name](tree)
