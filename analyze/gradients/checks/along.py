"""Dot products with directions, compared with plain autograd and with forward-mode autograd.

Letters: ``D`` directions, ``N`` examples.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from analyze.errors import out_of_memory
from analyze.gradients.checks.floors import Floors, explained
from analyze.gradients.checks.precision import RELATIVE
from analyze.gradients.checks.reference import Autograd, Reference, norms_of
from analyze.gradients.data.loader import Examples
from analyze.gradients.model.replica import Replica, logits_of
from analyze.gradients.numbers import as_real, double
from analyze.gradients.rules import RULES
from analyze.gradients.step.along import Along

Vectors = Mapping[str, Tensor]  # [D, *shape] by parameter
Dots = Mapping[str, Tensor]  # [D, N] float64 by parameter, for those that have a gradient


def trial_directions(replica: Replica, count: int) -> dict[str, Tensor]:
    """Random directions ``[count, *shape]`` of each parameter, the same in every run."""
    made = {}
    for name, parameter in replica.parameters.items():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        shape = as_real(parameter.detach()).shape
        values = torch.randn(count, *shape, generator=generator, dtype=torch.float64)
        values = torch.view_as_complex(values) if parameter.is_complex() else values
        made[name] = values.to(parameter)
    return made


def trial_passes(replica: Replica, directions: tuple[int, int]) -> list[Along | None]:
    """Random directions for each pass over the probes; None for one that has none."""
    known, sums = (trial_directions(replica, count) if count else None for count in directions)
    first = None if known is None else Along.scaled(known, alone=False)
    return [first] if sums is None else [first, Along.scaled(sums, alone=True)]


def disagreeing(
    autograd: Autograd,
    examples: Examples,
    reference: Reference,
    floors: Floors,
    found: Dots,
    names: Collection[str],
) -> set[str]:
    """Parameters whose dot products differ from the reference's by more than rounding.

    They agree when ``|a - a_ref| <= |v| (rtol |g| + floor)`` for each example and direction, with
    the floor of a gradient's norm. ``found`` may have fewer directions than the reference, its
    first; a parameter that it lacks had no gradient.
    """
    off: dict[str, Tensor] = {}
    for name in names:
        floor = floors.of(name)
        squares = reference.squared_norms.get(name, torch.zeros_like(floor))
        expected = reference.dots.get(name)
        dots = found.get(name)
        if dots is None and expected is None:
            continue
        dots = torch.zeros_like(expected) if dots is None else dots.cpu()  # type: ignore[arg-type]
        expected = torch.zeros_like(dots) if expected is None else expected[: len(dots)]
        lengths = norms_of(autograd.along[name])[: len(dots), None]
        apart = (dots - expected).abs() / lengths.clamp_min(torch.finfo(torch.float64).tiny)
        if not bool((apart <= RELATIVE[autograd.precision] * squares.sqrt() + floor.sqrt()).all()):
            off[name] = apart.amax(0).square()  # of the part of a gradient along a direction
    rounding = autograd.rounding(examples, off.keys() & reference.squared_norms.keys())
    return {
        name
        for name, squared in off.items()
        if name not in rounding
        or not all(map(explained, squared.tolist(), rounding[name], reference.squared_norms[name]))
    }


def differs_from_derivative(autograd: Autograd, examples: Examples, reference: Reference) -> bool:
    """Whether the gradients do not add up to the derivatives of the losses along a direction.

    ``sum_p g_i,p . v_p = d L_i(w + h v) / dh`` by one forward pass of dual numbers along the first
    direction. It is so unless the model's gradients are no derivatives, as those of a
    straight-through estimator. Where torch or the model has no such pass nothing is told: False.
    """
    slopes = _slopes(autograd, examples)
    if slopes is None or not reference.dots:
        return False
    total = torch.stack([dots[0] for dots in reference.dots.values()]).sum(0)
    lengths = {name: norms_of(autograd.along[name])[0] for name in reference.dots}
    scale = torch.stack(
        [squares.sqrt() * lengths[n] for n, squares in reference.squared_norms.items()]
    ).sum(0)
    return bool(((total - slopes).abs() > RELATIVE[autograd.precision] * scale).any())


class _WithoutPadding(TorchFunctionMode):
    """Padding of embeddings has no derivative, as it has no gradient."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if func is not F.embedding:
            return found
        arguments = RULES[func].bind(args, kwargs or {})
        padding, ids = arguments["padding_idx"], arguments["input"]
        if padding is None:
            return found
        there = ids == padding % len(arguments["weight"])
        return torch.where(there[..., None], found.detach(), found)


@contextmanager
def _dual_numbers() -> Iterator[None]:
    """Forward-mode autograd, with attention by operations that have it."""
    attention = sdpa_kernel(SDPBackend.MATH)
    with forward_ad.dual_level(), torch.no_grad(), attention, _WithoutPadding():
        yield


def _slopes(autograd: Autograd, examples: Examples) -> Tensor | None:
    """Derivatives ``[N]`` of the losses along the first direction; None where there is no way."""
    replica = autograd.replica
    tensors = examples.inputs.of_its_own(replica.device, replica.dtype)
    replica.forget()
    try:
        # Its formulas are compiled when they are first used, by what torch itself warns of.
        with warnings.catch_warnings(action="ignore"), _dual_numbers():
            duals = {
                name: forward_ad.make_dual(parameter.detach(), autograd.along[name][0])
                for name, parameter in replica.parameters.items()
            }
            with replica.substituted(duals), replica.computing():
                model = replica.model
                output = logits_of(model(tensors[""]) if "" in tensors else model(**tensors))
            value, tangent = forward_ad.unpack_dual(output)
    except Exception as error:  # torch lacks a formula, or the model takes no dual numbers
        if out_of_memory(error):
            raise
        return None
    finally:
        replica.forget()
    if tangent is None or value.shape[:1] != (len(examples.inputs),):
        return None
    seed = autograd.loss.seed(value, examples.targets.to(value.device))
    products = double(as_real(seed)) * double(as_real(tangent))
    return products.reshape(len(products), -1).sum(1).cpu()
