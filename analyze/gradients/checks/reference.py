"""The reference: plain autograd of the untouched model, by which everything else is judged."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from analyze.gradients.checks.precision import shaken
from analyze.gradients.data.loader import Examples
from analyze.gradients.device.arriving import Arriving
from analyze.gradients.device.sending import sent
from analyze.gradients.losses import Loss
from analyze.gradients.model.replica import Replica
from analyze.gradients.numbers import as_real, double
from analyze.gradients.step.output import seeded

TRIALS = 2  # ways in which the weights are shaken

Gradients = dict[str, Tensor]  # by parameter, for those that have one


@dataclass(frozen=True)
class Reference:
    """What plain autograd gives of N examples."""

    squared_norms: dict[str, Tensor]  # ``[N]`` float64 of each parameter with a gradient
    totals: Gradients  # sums of the gradients
    losses: Tensor  # ``[N]`` float64
    dots: dict[str, Tensor] = field(default_factory=dict)  # ``[D, N]`` float64, with directions

    @property
    def network(self) -> Tensor:
        """Squared norm ``[N]`` of each example's whole gradient."""
        norms = [*self.squared_norms.values()]
        return torch.stack(norms).sum(0) if norms else torch.zeros_like(self.losses)


@dataclass(frozen=True)
class Autograd:
    """Plain autograd of one model and loss.

    Args:
        replica: The model; best in float64.
        loss: A backward pass starts from its seed, as the engine's does.
        precision: The coarsest inside the model.
        copies: How often an example that is measured alone stands in its batch; the gradient is
            divided by that. Two where torch's backward pass is wrong for a batch of one.
        along: Directions ``[D, *shape]`` of each parameter, if gradients are multiplied with any.
    """

    replica: Replica
    loss: Loss
    precision: torch.dtype
    copies: int = 1
    along: Mapping[str, Tensor] = field(default_factory=dict)

    def alone(self, examples: Examples, summed: bool = True) -> Reference:
        """What autograd gives of each example alone, by a forward and a backward pass for each.

        Without sums where they are not to be ``summed``.
        """
        count = len(examples.inputs)
        squares: dict[tuple[str, int], Tensor] = {}
        totals: Gradients = {}
        along: dict[tuple[str, int, int], Tensor] = {}
        losses: list[Tensor] = []
        for k in range(count):
            loss, gradients = self._of_one(examples, k)
            losses.append(loss)
            for name, gradient in gradients.items():
                squares[name, k] = _square(gradient)
                if summed:
                    totals[name] = totals[name] + gradient if name in totals else gradient
                for d, vector in enumerate(self.along.get(name, ())):
                    along[name, d, k] = _inner(gradient, vector)
        read = [float(n) for n in Arriving([*losses, *squares.values(), *along.values()]).read()]
        norms = {name: torch.zeros(count, dtype=torch.float64) for name, _ in squares}
        for (name, k), number in zip(squares, read[count:], strict=False):
            norms[name][k] = number
        dots = {n: norms[n].new_zeros(len(self.along[n]), count) for n, *_ in along}
        for (name, d, k), number in zip(along, read[count + len(squares) :], strict=True):
            dots[name][d, k] = number
        return Reference(norms, totals, torch.tensor(read[:count], dtype=torch.float64), dots)

    def of_one(
        self, examples: Examples, k: int, names: Collection[str] | None = None
    ) -> tuple[float, Gradients]:
        """Loss and gradients of example ``k`` alone, of all parameters or of some."""
        loss, gradients = self._of_one(examples, k, names)
        return float(loss), gradients

    def beside_others(self, examples: Examples, k: int) -> tuple[float, Gradients]:
        """Loss and gradients of example ``k`` in the batch."""
        losses, gradients = self.together(examples, only=k)
        return float(losses[k]), gradients

    def _of_one(
        self, examples: Examples, k: int, names: Collection[str] | None = None
    ) -> tuple[Tensor, Gradients]:
        """As ``of_one``, the loss being on its device still."""
        rows = torch.tensor([k] * self.copies)
        copies = Examples(examples.inputs.take(rows), examples.targets[rows])
        losses, gradients = self._together(copies, names=names)
        return losses[0], {name: g / self.copies for name, g in gradients.items()}

    def together(
        self, examples: Examples, only: int | None = None, names: Collection[str] | None = None
    ) -> tuple[Tensor, Gradients]:
        """Losses ``[N]`` and the sum of a batch's gradients, or the gradient of example ``only``.

        Cost: a forward and a backward pass.
        """
        losses, gradients = self._together(examples, only, names)
        return losses.cpu(), gradients

    def gradients(self, examples: Examples, names: Collection[str]) -> Gradients:
        """Gradients of some parameters summed over a batch."""
        return self._together(examples, names=names)[1]

    def _together(
        self, examples: Examples, only: int | None = None, names: Collection[str] | None = None
    ) -> tuple[Tensor, Gradients]:
        """As ``together``, the losses being on their device still."""
        parameters = self.replica.parameters
        wanted = [name for name in parameters if names is None or name in names]
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in wanted)
        output = self.replica(examples.inputs)
        target = sent(examples.targets, output.device)
        with torch.no_grad():
            losses = self.loss.per_example(output.detach(), target)
            seed = self.loss.seed(output.detach(), target)
        if only is not None:
            kept = seed[only].clone()
            seed = torch.zeros_like(seed)
            seed[only] = kept
        grads: tuple[Tensor | None, ...] = (None,) * len(wanted)
        if output.requires_grad and wanted:
            leaves = [parameters[name] for name in wanted]
            grads = torch.autograd.grad(seeded(output, seed), leaves, allow_unused=True)
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        gradients = {  # embeddings may give sparse ones
            n: g.to_dense() for n, g in zip(wanted, grads, strict=True) if g is not None
        }
        return double(losses.detach()), gradients

    def rounding(
        self, examples: Examples, names: Collection[str], steps: int = 1
    ) -> dict[str, Tensor]:
        """How much of each example's gradient is rounding, by the parameter's own arithmetic.

        ``e_i^2 = |g_i(w) - g_i(w')|^2`` where each weight of ``w'`` is ``steps`` of the precision
        off, the largest of two trials. If the steps are ``precision.ANEW``, it is of the size of
        ``|g_i|^2`` where there is nothing but rounding.

        Returns:
            ``[N]`` float64 for each of the parameters ``names`` that has a gradient.

        Cost: three forward and backward passes for each example.
        """
        count = len(examples.inputs)
        rounding: dict[str, Tensor] = {}
        for k in range(count if names else 0):
            _, steady = self.of_one(examples, k, names)
            for trial in range(TRIALS):
                with shaken(self.replica, self.precision, TRIALS * k + trial, steps):
                    _, moved = self.of_one(examples, k, names)
                changes = squared_norms((n, g - moved[n]) for n, g in steady.items() if n in moved)
                for name, change in changes.items():
                    rounding.setdefault(name, torch.zeros(count, dtype=torch.float64))
                    rounding[name][k] = max(float(rounding[name][k]), change)
        return rounding


def norms_of(vectors: Tensor) -> Tensor:
    """Norm ``[D]`` float64 of each of D directions, on the CPU."""
    squares = squared_norms((str(number), vector) for number, vector in enumerate(vectors))
    return torch.tensor([*squares.values()], dtype=torch.float64).sqrt()


def inner_product(gradient: Tensor, vector: Tensor) -> float:
    """``g . v`` in float64; of complex values the sum of those of both parts."""
    return float(_inner(gradient, vector))


def _inner(gradient: Tensor, vector: Tensor) -> Tensor:
    gradient = double(as_real(gradient))
    return (gradient * double(as_real(vector)).to(gradient.device)).sum()


def squared_norm(gradient: Tensor) -> float:
    """``|g|^2`` in float64; of complex values the sum of those of both parts."""
    return float(_square(gradient))


def squared_norms(gradients: Iterable[tuple[str, Tensor]]) -> dict[str, float]:
    """``squared_norm`` of each by name: one wait for a GPU, not one for each."""
    squares = {name: _square(gradient) for name, gradient in gradients}
    if not squares:
        return {}
    return dict(zip(squares, map(float, Arriving([*squares.values()]).read()), strict=True))


def _square(gradient: Tensor) -> Tensor:
    return double(as_real(gradient)).square().sum()
