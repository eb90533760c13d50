"""The size below which a gradient, or a difference of two, is rounding."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from analyze.gradients.checks.precision import ANEW, RELATIVE, ROUNDINGS, rounding_share
from analyze.gradients.checks.reference import Autograd, Reference, squared_norm, squared_norms
from analyze.gradients.data.loader import Examples
from analyze.gradients.forms import Summary

RESOLVED = 0.1**2  # of a squared norm: rounding below it leaves a gradient to be seen
MARGIN = 8.0  # times what a parameter's own arithmetic rounds: its floor
EXPLAINED = 0.05**2  # of a squared norm: rounding below it may explain that two ways differ


class Floors:
    """The floor of each parameter and example, and which numbers differ by more.

    It is ``(64 eps)^2`` of the network's squared gradient, or what the parameter's own arithmetic
    rounds where that is less (``Autograd.rounding``).
    """

    def __init__(self, autograd: Autograd, examples: Examples, reference: Reference) -> None:
        self._autograd = autograd
        self._examples = examples
        self._reference = reference
        self._network = rounding_share(autograd.precision) * reference.network
        self._own: dict[str, Tensor] = {}
        small = [
            name
            for name, squares in reference.squared_norms.items()
            if bool((squares > 0).any()) and bool((squares <= self._network).all())
        ]
        for name, rounding in autograd.rounding(examples, small, ANEW).items():
            squares = reference.squared_norms[name]
            if bool((rounding <= RESOLVED * squares)[squares > 0].any()):
                self._own[name] = torch.minimum(MARGIN**2 * rounding.max(), self._network)

    def of(self, name: str) -> Tensor:
        """The floor ``[N]`` of a parameter's squared norms."""
        return self._own.get(name, self._network)

    def disagreeing(self, result: Mapping[str, Summary], names: Collection[str]) -> set[str]:
        """Parameters whose squared norms or sum differ from the reference by more than rounding.

        A parameter that ``result`` lacks had no gradient.
        """
        changes = squared_norms((name, self._apart(result, name)) for name in self._of_any(result))
        wrong = {name for name in names if self._differs(name, result.get(name), changes)}
        return wrong - self._explained_by_the_model(result, wrong)

    def _of_any(self, result: Mapping[str, Summary]) -> set[str]:
        """Parameters with a gradient in the result or the reference."""
        return result.keys() | self._reference.totals.keys()

    def _apart(self, result: Mapping[str, Summary], name: str) -> Tensor:
        """The sum of a parameter's gradients less the reference's."""
        summary, expected = result.get(name), self._reference.totals.get(name)
        if summary is None:
            assert expected is not None
            return expected
        total = summary.totals[0]
        return total if expected is None else total - expected

    def _differs(self, name: str, summary: Summary | None, changes: Mapping[str, float]) -> bool:
        """Whether ``|q - q_ref| > rtol * q_ref + floor`` for an example, or the sum differs so."""
        rtol, floor = RELATIVE[self._autograd.precision], self.of(name)
        expected = self._reference.squared_norms.get(name, torch.zeros_like(floor))
        norms = torch.zeros_like(floor) if summary is None else summary.squared_norms
        off = not bool(((norms - expected).abs() <= rtol * expected + floor).all())
        return off or (name in changes and sum_is_off(changes[name], expected, rtol, floor))

    def _explained_by_the_model(
        self, result: Mapping[str, Summary], wrong: Collection[str]
    ) -> set[str]:
        """The disagreeing parameters whose own arithmetic rounds as far."""
        measured, names = [name for name in wrong if name in result], set[str]()
        for name, rounding in self._autograd.rounding(self._examples, measured).items():
            squares, summary = self._reference.squared_norms[name], result[name]
            change = squared_norm(self._apart(result, name))
            lengths = (summary.squared_norms.sqrt() - squares.sqrt()).square()
            each = zip(lengths, rounding, squares, strict=True)
            if explained(change, rounding.sum(), squares.sum()) and all(
                explained(float(length), e, q) for length, e, q in each
            ):
                names.add(name)
        return names


def sum_is_off(difference: float, expected: Tensor, rtol: float, floor: Tensor) -> bool:
    """Whether a sum of gradients is further from the expected one than rounding explains.

    ``difference`` is the squared length of the difference of both sums; ``expected`` ``[N]`` the
    squared norm of each gradient, and ``floor`` ``[N]`` the squared norm that is rounding.
    """
    allowed = rtol**2 * len(floor) * expected.sum() + len(floor) * floor.sum()
    return bool(difference > allowed)


def explained(difference: float, rounding: Tensor, expected: Tensor) -> bool:
    """Whether a squared difference is within the rounding of the parameter's own arithmetic.

    Rounding as large as the gradient explains nothing.
    """
    allowed = ROUNDINGS**2 * float(rounding)
    return difference <= allowed <= EXPLAINED * float(expected)
