"""Fit a checkpoint's tensors to a model: all of them, or not at all."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from analyze.errors import CheckpointError, listed

N_AVERAGED = "n_averaged"  # torch's AveragedModel counts its updates beside the weights


def fit(model: nn.Module, weights: Mapping[str, Tensor], name: str, model_name: str) -> str:
    """Load the weights into the model; returns the prefix that was taken off their names.

    Missing keys are errors unless tied to a present one: weights left at random would give
    plausible numbers.

    Args:
        model: Changed in place.
        weights: Tensors by name.
        name: Of the checkpoint, for messages.
        model_name: The model's spec, for messages.

    Raises:
        CheckpointError: missing, unknown or wrongly shaped tensors, all of them listed; or values
            that are not finite, or no floating point numbers where the model has them.
    """
    own = model.state_dict(keep_vars=True)
    prefix = prefix_of(weights, own)
    stripped = _stripped(weights, own, prefix)
    missing = [key for key in own if key not in stripped and not _spare(key, own, stripped)]
    unknown = [key for key in stripped if key not in own]
    misshapen = [k for k, t in stripped.items() if k in own and t.shape != own[k].shape]
    if missing or unknown or misshapen:
        raise _misfit(stripped, own, missing, unknown, misshapen, name, model_name)
    odd = [f"{k} ({kind})" for k, t in stripped.items() if (kind := _odd(t, own[k]))]
    if odd:
        raise CheckpointError(
            "the checkpoint holds tensors that are not plain weights",
            found=f"{listed(odd)} in {name}",
            expected="dense floating point numbers, as the model has them",
            fix="save the weights as the model computes with them: "
            "torch.save(model.state_dict(), path)",
        )
    bad = [k for k, t in stripped.items() if not _finite(t) and _finite(own[k])]
    if bad:
        raise CheckpointError(
            "the checkpoint holds values that are not finite",
            found=f"NaN or infinity in {listed(bad)} in {name}",
            expected="finite weights",
            fix="leave it out: --checkpoints GLOB; the training had diverged",
        )
    model.load_state_dict(stripped, strict=False)
    return prefix


def prefix_of(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """The prefix whose removal makes most names of the checkpoint those of the model."""
    candidates = {""}
    for key in weights:
        parts = key.split(".")
        for k in range(1, len(parts)):
            if ".".join(parts[k:]) in own:
                candidates.add("".join(f"{part}." for part in parts[:k]))

    def matches(prefix: str) -> int:
        return sum(key.startswith(prefix) and key[len(prefix) :] in own for key in weights)

    return max(sorted(candidates, key=len), key=matches)


def _stripped(
    weights: Mapping[str, Tensor], own: Mapping[str, Tensor], prefix: str
) -> dict[str, Tensor]:
    """The tensors without the prefix; a name that would hide another one keeps it."""
    stripped = {}
    for key, tensor in weights.items():
        short = key.removeprefix(prefix)
        if short in own or short != N_AVERAGED:
            stripped[key if short in weights else short] = tensor
    return stripped


def _spare(key: str, own: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> bool:
    """A missing key that loses nothing: tied to a present one, or a counter unused in eval mode."""
    if key.endswith("num_batches_tracked"):
        return True
    return any(other in present for other, tensor in own.items() if tensor is own[key])


def _odd(tensor: Tensor, own: Tensor) -> str:
    """What makes a tensor's values no weights; empty for one that the model can take."""
    if tensor.is_meta:
        return "without values"
    if tensor.layout != torch.strided:
        return "sparse"
    kinds = [(t.is_floating_point(), t.is_complex()) for t in (tensor, own)]
    return "" if kinds[0] == kinds[1] or not any(kinds[1]) else str(tensor.dtype)


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _misfit(
    stripped: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    missing: list[str],
    unknown: list[str],
    misshapen: list[str],
    name: str,
    model_name: str,
) -> CheckpointError:
    """Every mismatch, with the shapes on both sides and the closest names."""

    def shaped(tensors: Mapping[str, Tensor], keys: list[str]) -> str:
        return ", ".join(f"{key} {list(tensors[key].shape)}" for key in keys)

    found = [f"{len(stripped)} tensors in {name}"]
    expected = [f"{len(own)} tensors of {model_name}"]
    if unknown:
        found.append(f"{len(unknown)} of them unknown: {shaped(stripped, unknown)}")
    if misshapen:
        found.append(f"{len(misshapen)} of another shape: {shaped(stripped, misshapen)}")
        expected.append(f"where they are {shaped(own, misshapen)}")
    if missing:
        expected.append(f"{len(missing)} of them missing: {shaped(own, missing)}")
    close = [
        f"{key} for {match[0]}"
        for key in unknown
        if (match := difflib.get_close_matches(key, missing, n=1))
    ]
    hint = f" (perhaps {listed(close, 3)})" if close else ""
    return CheckpointError(
        "the checkpoint does not fit the model",
        found=", ".join(found),
        expected=", ".join(expected),
        fix=f"give the model that was trained: --model SPEC{hint}",
    )
