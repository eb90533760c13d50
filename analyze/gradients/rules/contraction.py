"""Products with a matrix: ``matmul``, ``mm``, ``bmm``, ``addmm`` and ``einsum``.

Each is written as an einsum of the examples' operand and the weight. A label of the weight that
both others have is a group ``G``, one that only the examples' operand has an input ``K``, one that
only the output has an output ``O``; labels that the weight lacks are positions ``T``. Then
``g[n, g, o, k] = sum_t dy[n, g, t, o] x[n, g, t, k]``, as for a linear layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from string import ascii_letters
from typing import Any, NamedTuple

import torch
from torch import Tensor

from analyze.gradients.forms import Explicit, OuterProducts
from analyze.gradients.rules.rule import Call, Forms, Rule, broadcast_sum


@dataclass(frozen=True)
class _Equation:
    """Labels of the examples' operand, the weight and the output, one letter for each axis."""

    data: str
    weight: str
    output: str

    @property
    def groups(self) -> str:
        """Labels that all three have."""
        return "".join(a for a in self.weight if a in self.data and a in self.output)

    @property
    def inputs(self) -> str:
        """Labels that are summed over."""
        return "".join(a for a in self.weight if a in self.data and a not in self.output)

    @property
    def outputs(self) -> str:
        """Labels that the examples' operand lacks."""
        return "".join(a for a in self.weight if a not in self.data and a in self.output)

    @property
    def plain(self) -> bool:
        """Whether every label is in two of the three, and none twice in one."""
        triple = (self.data, self.weight, self.output)
        once = all(len(set(labels)) == len(labels) for labels in triple)
        return once and all(
            sum(label in labels for labels in triple) >= 2 for label in "".join(triple)
        )


def _labels_of_matmul(a: Tensor, b: Tensor) -> tuple[str, str, str] | None:
    """Labels of ``a``, ``b`` and ``a @ b``; None where a batch axis is broadcast."""
    batch = max(a.dim(), b.dim(), 2) - 2
    letters = ascii_letters[:batch]
    row, inner, column = list(ascii_letters[batch : batch + 3])
    left = inner if a.dim() == 1 else letters[batch - (a.dim() - 2) :] + row + inner
    right = inner if b.dim() == 1 else letters[batch - (b.dim() - 2) :] + inner + column
    sizes: dict[str, int] = {}
    for labels, tensor in ((left, a), (right, b)):
        for label, size in zip(labels, tensor.shape, strict=True):
            if sizes.setdefault(label, size) != size:
                return None
    output = letters + (row if a.dim() > 1 else "") + (column if b.dim() > 1 else "")
    return left, right, output


def _labels_of_einsum(text: str, *operands: Tensor) -> tuple[str, str, str] | None:
    """Labels of the operands and output of an einsum of two; an ellipsis gets letters."""
    inputs, arrow, output = text.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != 2 or not arrow:
        return None
    free = [a for a in ascii_letters if a not in text]
    hidden = [
        t.dim() - len(term.replace("...", "")) for term, t in zip(terms, operands, strict=True)
    ]
    width = max(hidden)
    left, right = (
        term.replace("...", "".join(free[width - axes : width]))
        for term, axes in zip(terms, hidden, strict=True)
    )
    return left, right, output.replace("...", "".join(free[:width]))


_Operands = tuple[str, ...]  # names of the two arguments that are multiplied


class _Product(NamedTuple):
    """Which argument of a call holds the examples, which is the weight, and their equation."""

    data: str
    weight: str
    equation: _Equation


def _product(operands: _Operands, call: Call) -> _Product | None:
    """The product of two arguments of a call, of which exactly one is a weight."""
    named = {name: call.arguments[name] for name in operands}
    weights = [name for name in operands if name in call.weights]
    if len(weights) != 1 or not all(isinstance(value, Tensor) for value in named.values()):
        return None
    if "equation" in call.arguments:
        labels = _labels_of_einsum(call.arguments["equation"], *named.values())
    else:
        labels = _labels_of_matmul(*named.values())
    if labels is None:
        return None
    first, second = operands
    a, b, output = labels
    if weights == [second]:
        return _Product(first, second, _Equation(a, b, output))
    return _Product(second, first, _Equation(b, a, output))


def _forms(operands: _Operands, call: Call, dy: Tensor) -> Forms:
    """The weight as ``OuterProducts``, and the summand of ``addmm`` summed over positions."""
    forms: Forms = {}
    if "bias" in call.wanted:
        shape = call.weights["bias"].tensor.shape
        forms["bias"] = Explicit(broadcast_sum(call.output.single(dy), shape))
    placed = _product(operands, call)
    if placed is None or placed.weight not in call.wanted:
        return forms
    data, name, equation = placed
    axis, weight = call.axes[data], call.weights[name].tensor
    along = equation.data[axis.dim]
    positions = "".join(a for a in equation.data if a in equation.output and a != along)
    positions = along + "".join(a for a in positions if a not in equation.weight)
    x = axis.examples_first(call.arguments[data])  # [N, positions along the axis, *others]
    x = _arranged(x, equation.data, along, (equation.groups, positions, equation.inputs))
    dy = call.output.examples_first(dy)
    dy = _arranged(dy, equation.output, along, (equation.groups, positions, equation.outputs))
    canonical = equation.groups + equation.outputs + equation.inputs
    axes = [equation.weight.index(a) for a in canonical]
    shape = torch.Size(weight.shape[a] for a in axes)

    def batch_sum(start: int, stop: int) -> Tensor:
        # [G, N*T, K] and [G, N*T, O]
        flat_x, flat_dy = (v[start:stop].transpose(0, 1).flatten(1, 2) for v in (x, dy))
        return (flat_dy.transpose(1, 2) @ flat_x).reshape(shape)

    forms[name] = OuterProducts(
        count=len(x),
        shape=shape,
        dims=(x.shape[1], x.shape[2], dy.shape[3], x.shape[3]),
        factors=lambda start, stop: (x[start:stop], dy[start:stop]),
        batch_sum=batch_sum,
        like=x,
        view=None if axes == sorted(axes) else lambda w: w.permute(axes),
    )
    return forms


def _contracts_examples_with_a_weight(operands: _Operands, call: Call) -> bool:
    """Whether the examples are multiplied with a weight, on one axis of input and output."""
    placed = _product(operands, call)
    if placed is None or placed.data not in call.axes or not placed.equation.plain:
        return False
    axis, equation = call.axes[placed.data], placed.equation
    along, across = equation.data[axis.dim], equation.output[call.output.dim]
    plain = call.arguments.get("alpha", 1) == 1 and call.arguments.get("beta", 1) == 1
    others = set(call.axes) == {placed.data} and set(call.weights) <= {placed.weight, "bias"}
    alike = (axis.before, axis.after) == (call.output.before, call.output.after)
    return plain and others and alike and along == across and along not in equation.weight


def _arranged(tensor: Tensor, labels: str, along: str, parts: tuple[str, str, str]) -> Tensor:
    """``[N, positions, *others]`` to ``[N, G, T, features]``, each a product of labelled axes."""
    place = {a: k for k, a in enumerate((a for a in labels if a != along), start=2)}
    place[along] = 1
    arranged = tensor.permute(0, *(place[a] for part in parts for a in part))
    sizes, shape = list(arranged.shape[1:]), []
    for part in parts:
        shape.append(math.prod(sizes[: len(part)]))
        sizes = sizes[len(part) :]
    return arranged.reshape(len(tensor), *shape)


def _rule(name: str, functions: tuple[Callable[..., Any], ...], arguments: dict[str, Any]) -> Rule:
    weights = tuple(a for a in arguments if a not in ("equation", "alpha", "beta"))
    operands = tuple(a for a in weights if a != "bias")
    return Rule(
        name, functions, arguments, weights, operands, partial(_forms, operands),
        partial(_contracts_examples_with_a_weight, operands), reads=weights,
    )  # fmt: skip


T = Tensor
CONTRACTIONS = (
    _rule(
        "matmul",
        (torch.matmul, torch.mm, torch.bmm, T.matmul, T.mm, T.bmm),
        {"input": None, "other": None},
    ),
    _rule(
        "addmm",
        (torch.addmm, T.addmm),
        {"bias": None, "mat1": None, "mat2": None, "beta": 1, "alpha": 1},
    ),
    _rule("einsum", (torch.einsum,), {"equation": None, "input": None, "other": None}),
)
