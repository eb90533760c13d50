"""Which example each row of a call belongs to, found in the batch itself.

Experts see the examples that a router sends them, packed sequences end one after the other, batches
are sorted by length: no fixed order tells whose a row is. The backward pass is linear, so it does:
with the gradient of example n's loss multiplied by ``2^n``, a row of that example receives ``2^n``
times the gradient, to the bit, and a row that mixes examples no such multiple.

    R rows of a call, N examples, F entries in a row
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from analyze.gradients.data.example_axes import ExampleAxis
from analyze.gradients.rules import MASKED, Call
from analyze.gradients.rules.rule import KEPT

BASE = 64  # powers of two in a pass: far from infinity in float32
MIXED = 1e-4  # of a row's largest entry: what is further from a multiple belongs to several


class RowsMixExamplesError(Exception):
    """A row of a call belongs to several examples, or the call has no rows."""


def passes(count: int) -> int:
    """Backward passes that tell so many examples apart."""
    return 1 if count <= BASE else 1 + passes(-(-count // BASE))


def factors(seed: Tensor, digit: int) -> Tensor:
    """Factors of the seed ``[N, ...]`` in a pass, ``[N, 1, ...]``."""
    number = torch.arange(len(seed), device=seed.device) // BASE**digit % BASE
    return torch.ldexp(torch.ones_like(number, dtype=seed.dtype), number).view(
        -1, *[1] * (seed.dim() - 1)
    )


def owners(dy: Tensor, multiples: list[Tensor]) -> Tensor:
    """The example of each row of ``dy``, ``[R, F]``; -1 for a row of zeros.

    ``multiples`` are the gradients of each pass, in which the examples' seeds had the ``factors``.

    Raises:
        RowsMixExamplesError: a row belongs to several.
    """
    largest = dy.abs().argmax(1, keepdim=True)
    entry = dy.gather(1, largest)  # [R, 1]
    there, owner = entry != 0, torch.zeros_like(largest)
    for digit, multiple in enumerate(multiples):
        ratio = torch.where(there, multiple.gather(1, largest) / entry, 1.0)
        exponent = torch.where(ratio > 0, ratio, 1.0).log2().round().long().clamp(0, BASE - 1)
        power = torch.ldexp(torch.ones_like(entry), exponent)
        if bool(((multiple - power * dy).abs() > MIXED * power * entry.abs()).any()):
            raise RowsMixExamplesError("a row belongs to several examples")
        owner = owner + exponent * BASE**digit
    return torch.where(there, owner, -1).squeeze(1)


def by_example(
    call: Call, dy: Tensor, multiples: list[Tensor], count: int
) -> tuple[Call, Tensor] | None:
    """A call with the rows of each example together, as many for each; None if all are zero.

    What an example has less than the longest is filled with the first row and no gradient.

    Raises:
        RowsMixExamplesError: a row belongs to several examples, or an argument has other rows.
    """
    if call.rule is MASKED:
        raise RowsMixExamplesError("its arguments have no rows of examples")
    axis = call.output.dim
    flat = [_rows_first(value, axis) for value in (dy, *multiples)]
    if not flat[0].numel():
        return None
    of_row = owners(flat[0], flat[1:])
    if int(of_row.max()) >= count:
        raise RowsMixExamplesError("a row belongs to no example")
    rows = (of_row >= 0).nonzero().squeeze(1)
    if not len(rows):
        return None
    rows = rows[of_row[rows].argsort(stable=True)]  # example by example
    sizes = of_row[rows].bincount(minlength=count)
    most = int(sizes.max())
    place = torch.arange(len(rows), device=dy.device) - (sizes.cumsum(0) - sizes)[of_row[rows]]
    place = place + of_row[rows] * most  # [R], of N * most
    taken = torch.zeros(count * most, dtype=torch.long, device=dy.device)
    taken[place] = rows
    gradient = torch.zeros(count * most, *flat[0].shape[1:], dtype=dy.dtype, device=dy.device)
    gradient[place] = flat[0][rows]
    shape = [count * most, *dy.shape[:axis], *dy.shape[axis + 1 :]]
    axes = {k: ExampleAxis(at.dim, 1, most) for k, at in call.axes.items()}
    arguments = call.arguments | {
        k: _taken(call.arguments[k], at.dim, taken, dy.shape[axis]) for k, at in call.axes.items()
    }
    if KEPT in arguments:
        # Statistics of the forward pass, which lie as the output does.
        arguments[KEPT] = tuple(_taken(v, axis, taken, dy.shape[axis]) for v in arguments[KEPT])
    regular = replace(call, arguments=arguments, axes=axes, output=ExampleAxis(axis, 1, most))
    if not call.rule.accepts(regular):
        raise RowsMixExamplesError("its rows are not examples")
    return regular, gradient.view(shape).movedim(0, axis)


def _rows_first(tensor: Tensor, axis: int) -> Tensor:
    """``tensor`` as ``[R, F]``, its rows along ``axis`` first."""
    return tensor.movedim(axis, 0).flatten(1) if tensor.dim() > 1 else tensor[:, None]


def _taken(argument: Tensor, axis: int, taken: Tensor, rows: int) -> Tensor:
    if argument.dim() <= axis or argument.shape[axis] != rows:
        raise RowsMixExamplesError("an argument has other rows than the output")
    return argument.index_select(axis, taken)
