"""Fit a checkpoint's tensors to a model: all of them, or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from analyze.checkpoints.mismatch import Mismatch, as_built, misfit
from analyze.checkpoints.names import any_matches, prefix_of, renamed, stripped, unwrapped
from analyze.checkpoints.plain import oddity
from analyze.errors import CheckpointError, listed


def fit(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    name: str,
    model_name: str,
    *,
    rename: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> str:
    """Load the weights into the model; returns the prefix that was taken off their names.

    Missing keys are errors unless tied to a present one: weights left at random would give
    plausible numbers.

    Args:
        model: Changed in place.
        weights: Tensors by name.
        name: Of the checkpoint, for messages.
        model_name: The model's spec, for messages.
        rename: ``OLD=NEW`` for names of the checkpoint, as they are or without the prefix.
        ignore: Globs. A buffer of the model may then be missing or misshapen, and stays as built
            (not the statistics of a norm, which training changes); a tensor that the model has no
            place for is left out. A parameter of the model never is.

    Raises:
        CheckpointError: missing, unknown or wrongly shaped tensors, all of them listed; values
            that are not finite, or no floating point numbers where the model has them; two values
            for what is one parameter in the model.
    """
    own = model.state_dict(keep_vars=True)
    weights = renamed(weights, rename)
    prefix = prefix_of(weights, own)
    found = unwrapped(renamed(stripped(weights, own, prefix), rename, own), own)
    found = _without_ignored(found, own, ignore)
    _check_plain({key: kind for key, tensor in found.items() if (kind := oddity(tensor))}, name)
    missing = [
        key for key, tensor in own.items()
        if key not in found and not _spare(key, own, found)
        and not (any_matches(key, ignore) and as_built(key, tensor))
    ]  # fmt: skip
    unknown = [key for key in found if key not in own]
    misshapen = [k for k, t in found.items() if k in own and t.shape != own[k].shape]
    if missing or unknown or misshapen:
        raise misfit(found, own, Mismatch(missing, unknown, misshapen), name, model_name)
    _check_values(found, own, name)
    _check_ties(found, own, name, model_name)
    model.load_state_dict(found, strict=False)
    return prefix


def _without_ignored(
    found: Mapping[str, Tensor], own: Mapping[str, Tensor], ignore: Sequence[str]
) -> dict[str, Tensor]:
    """Without what the user wants left out; parameters of the model stay, whatever is wanted."""
    return {
        key: tensor
        for key, tensor in found.items()
        if not any_matches(key, ignore)
        or (key in own and not (as_built(key, own[key]) and tensor.shape != own[key].shape))
    }


def _spare(key: str, own: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> bool:
    """A missing key that loses nothing: tied to a present one, or a counter unused in eval mode."""
    if key.endswith("num_batches_tracked"):
        return True
    return any(other in present for other, tensor in own.items() if tensor is own[key])


def _check_plain(odd: Mapping[str, str], name: str) -> None:
    """Dense floating point numbers, as the model has them; ``odd`` says what is not."""
    if odd:
        raise CheckpointError(
            "the checkpoint holds tensors that are not plain weights",
            found=f"{listed([f'{key} ({kind})' for key, kind in odd.items()])} in {name}",
            expected="dense floating point numbers, as the model has them",
            fix="save the weights as the model computes with them: "
            "torch.save(model.state_dict(), path), after to_dense() or dequantize() where needed",
        )


def _check_values(found: Mapping[str, Tensor], own: Mapping[str, Tensor], name: str) -> None:
    """Plain finite numbers, as the model has them."""
    _check_plain({k: kind for k, t in found.items() if (kind := _other_kind(t, own[k]))}, name)
    bad = [k for k, t in found.items() if not _finite(t) and _finite(own[k])]
    if bad:
        raise CheckpointError(
            "the checkpoint holds values that are not finite",
            found=f"NaN or infinity in {listed(bad)} in {name}",
            expected="finite weights",
            fix="leave it out: --checkpoints GLOB; the training had diverged",
        )


def _check_ties(
    found: Mapping[str, Tensor], own: Mapping[str, Tensor], name: str, model_name: str
) -> None:
    """What is one parameter in the model has one value: else the last one loaded would win."""
    first: dict[int, str] = {}
    for key in found:
        other = first.setdefault(id(own[key]), key)
        if other != key and not torch.equal(found[key], found[other]):
            raise CheckpointError(
                "the checkpoint has two values for one parameter of the model",
                found=f"{other} and {key} differ in {name}",
                expected=f"equal values: they are one parameter of {model_name}",
                fix="give the model that was trained, without tied weights: --model SPEC",
            )


def _other_kind(tensor: Tensor, own: Tensor) -> str:
    """The type of numbers where the model has floating point or complex ones, and these are not."""
    kinds = [(t.is_floating_point(), t.is_complex()) for t in (tensor, own)]
    return "" if kinds[0] == kinds[1] or not any(kinds[1]) else str(tensor.dtype)


def _finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point():
        return True
    wide = tensor.float() if tensor.element_size() == 1 else tensor  # no isfinite for float8
    return bool(torch.isfinite(wide).all())
