"""The only reference for numbers: plain autograd, one example at a time.

Shares nothing with ``analyze``: neither its gradients, nor its sums, nor its folds. Obviously
right, and slow.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

Inputs = Tensor | dict[str, Tensor]


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """The summed cross-entropy of one example, classes on the last axis of the output."""
    return nn.functional.cross_entropy(
        output.reshape(-1, output.shape[-1]), target.reshape(-1), reduction="sum"
    )


def fold_of(identifier: int, folds: int) -> int:
    """The fold of an id, by SplitMix64 in plain integers."""
    mask = (1 << 64) - 1
    z = (identifier + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) % folds


def hash_order(identifiers: Sequence[int]) -> list[int]:
    """Positions in the order of the ids' hashes."""
    return sorted(range(len(identifiers)), key=lambda k: fold_of(int(identifiers[k]), 1 << 64))


def take(inputs: Inputs, rows: Sequence[int]) -> Inputs:
    """The examples at ``rows`` as a batch."""
    if isinstance(inputs, dict):
        return {name: tensor[list(rows)] for name, tensor in inputs.items()}
    return inputs[list(rows)]


def call(model: nn.Module, inputs: Inputs) -> Tensor:
    """The logits."""
    output = model(**inputs) if isinstance(inputs, dict) else model(inputs)
    if isinstance(output, dict):
        return output["logits"]
    return getattr(output, "logits", output)


def as_dtype(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    if isinstance(inputs, dict):
        return {name: cast(tensor, dtype) for name, tensor in inputs.items()}
    return cast(inputs, dtype)


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """In a precision, of the kind of numbers that it was: complex ones have two of ``dtype``."""
    if tensor.is_complex():
        return tensor.to(torch.complex(*torch.zeros(2, 1, dtype=dtype)).dtype)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def real_parts(tensor: Tensor) -> Tensor:
    """Complex numbers as pairs of real ones."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def recompute_batch_norm(model: nn.Module, inputs: Tensor, order: Sequence[int]) -> None:
    """Statistics from the examples in ``order``, in nearly equal batches of at most 128."""
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    batches = np.array_split(np.array(order), -(-len(order) // 128))
    seen: dict[str, list[Tensor]] = {}
    model.eval()
    for layer in layers:
        layer.train()
        layer.momentum = 1.0  # the statistics of the last batch alone
    with torch.no_grad():
        for rows in batches:
            model(inputs[torch.from_numpy(rows)])
            for name, buffer in model.named_buffers():
                seen.setdefault(name, []).append(buffer.double().clone())
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(torch.stack(seen[name]).mean(0))
    model.eval()


def batches_of_cells(cell: Sequence[int], size: int) -> list[list[int]]:
    """The examples of each cell in nearly equal batches of at most ``size``."""
    found = []
    for one in sorted(set(cell)):
        rows = [k for k, c in enumerate(cell) if c == one]
        found += [part.tolist() for part in np.array_split(rows, -(-len(rows) // size))]
    return found


@dataclass
class Statistics:
    """Per parameter: Gram matrix of the cells' gradient sums, and the cells' squared norms."""

    gram: dict[str, np.ndarray]
    squared_norms: dict[str, np.ndarray]
    per_example: dict[str, np.ndarray]
    loss: np.ndarray


def statistics(
    model: nn.Module,
    inputs: Inputs,
    targets: Tensor,
    cell: Sequence[int],
    cells: int,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    dtype: torch.dtype = torch.float64,
    between: Callable[[nn.Module], None] = lambda model: None,
    groups: Sequence[Sequence[int]] | None = None,
    copied: bool = True,
) -> Statistics:
    """One backward pass per example, in eval mode, on a copy of the model.

    Args:
        model: Left alone, unless it is not ``copied``, as some models cannot be.
        inputs: ``[N, ...]``.
        targets: ``[N, ...]``.
        cell: The cell of each example.
        cells: Their number.
        loss: Of the output and target of one example.
        dtype: Precision of the model; sums are kept in float64.
        between: Called before each forward pass, for models that keep things between calls.
        groups: Examples whose forward pass is made together; one at a time by default. In float32
            a batch takes other decisions at ReLU and max-pool than an example alone.
    """
    model = (copy.deepcopy(model) if copied else model)._apply(lambda t: cast(t, dtype)).eval()
    inputs = as_dtype(inputs, dtype)
    named = dict(model.named_parameters())
    named = {n: p for n, p in named.items() if p.is_floating_point() or p.is_complex()}
    for parameter in named.values():
        parameter.requires_grad_(True)
    sizes = {n: real_parts(p.detach()).numel() for n, p in named.items()}
    sums = {n: torch.zeros(cells, size, dtype=torch.float64) for n, size in sizes.items()}
    squares = {n: np.zeros(cells) for n in named}
    per_example = {n: np.full(len(targets), np.nan) for n in named}
    losses = np.zeros(len(targets))
    for group in groups or [[k] for k in range(len(targets))]:
        between(model)
        batch = take(inputs, group)
        output = call(model, batch)
        for place, k in enumerate(group):
            model.zero_grad(set_to_none=True)
            value = loss(output[place : place + 1], targets[k : k + 1])
            value.backward(retain_graph=place + 1 < len(group))
            losses[k] = value.item()
            for name, parameter in named.items():
                if parameter.grad is None:
                    continue
                gradient = real_parts(parameter.grad.detach().to_dense()).double().flatten()
                sums[name][cell[k]] += gradient
                squared = float(gradient @ gradient)
                squares[name][cell[k]] += squared
                per_example[name][k] = squared
    gram = {n: (s @ s.T).numpy() for n, s in sums.items()}
    unused = [n for n in named if np.isnan(per_example[n]).all()]
    for name in unused:
        gram[name][:] = np.nan
        squares[name][:] = np.nan
    return Statistics(gram, squares, per_example, losses)


def gradients(
    model: nn.Module,
    inputs: Inputs,
    targets: Tensor,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    dtype: torch.dtype = torch.float64,
    between: Callable[[nn.Module], None] = lambda model: None,
    groups: Sequence[Sequence[int]] | None = None,
) -> dict[str, np.ndarray]:
    """Each example's gradient of each parameter that has any, ``[N, values]``, by plain autograd.

    The model is used as it is, in another precision; the arguments are those of ``statistics``.
    """
    model._apply(lambda t: cast(t, dtype)).eval()
    inputs = as_dtype(inputs, dtype)
    named = {n: p for n, p in model.named_parameters() if p.is_floating_point() or p.is_complex()}
    found: dict[str, np.ndarray] = {}
    for parameter in named.values():
        parameter.requires_grad_(True)
    for group in groups or [[k] for k in range(len(targets))]:
        between(model)
        output = call(model, take(inputs, group))
        for place, k in enumerate(group):
            model.zero_grad(set_to_none=True)
            value = loss(output[place : place + 1], targets[k : k + 1])
            value.backward(retain_graph=place + 1 < len(group))
            for name, parameter in named.items():
                if parameter.grad is not None:
                    values = real_parts(parameter.grad.detach().to_dense()).double().flatten()
                    rows = found.setdefault(name, np.zeros((len(targets), len(values))))
                    rows[k] = values.numpy()
    return found


def scaled_gram_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest error of a Gram entry, in units of ``sqrt(G_ii G_jj)``; NaN must meet NaN."""
    if np.isnan(expected).any() or np.isnan(found).any():
        return 0.0 if np.isnan(expected).all() and np.isnan(found).all() else float("inf")
    norms = np.sqrt(np.diagonal(expected))
    scale = norms[:, None] * norms[None, :]
    difference = np.abs(found - expected)
    if (difference[scale == 0] > 0).any():
        return float("inf")
    return float((difference[scale > 0] / scale[scale > 0]).max(initial=0.0))


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest relative error; NaN must meet NaN, zero must meet zero."""
    found, expected = np.asarray(found, dtype=float), np.asarray(expected, dtype=float)
    if (np.isnan(found) != np.isnan(expected)).any():
        return float("inf")
    known = ~np.isnan(expected)
    difference, size = np.abs(found - expected)[known], np.abs(expected)[known]
    if (difference[size == 0] > 0).any():
        return float("inf")
    return float((difference[size > 0] / size[size > 0]).max(initial=0.0))
