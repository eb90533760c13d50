"""Where the examples lie in the calls of a model, learned from values.

For an argument, one example of a batch of three is exchanged for another, and what changes belongs
to it. For a result, the gradient of one example's output is zero at all entries of the others. A
batch of two tells an axis of examples from one that has their number by chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from analyze.gradients.calibrate.dependence import Meeting
from analyze.gradients.calibrate.recording import Record, Recording, record
from analyze.gradients.data.example_axes import (
    ExampleAxis,
    agrees,
    changed_entries,
    possible_axes,
)
from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.replica import Replica
from analyze.gradients.rules.one_call import flattened
from analyze.gradients.rules.weights import Weight
from analyze.gradients.step.output import seeded

SIZES = (2, 3)  # of the batches; the first is the one whose calls rules are tried on
Recordings = Mapping[int, Recording]  # by the number of examples, a few and more
Gradients = Mapping[int, Tensor]  # at the results of calls, by number


@dataclass(frozen=True)
class Evidence:
    """What is known of one call in which weights meet the examples."""

    record: Record  # the call over the first batch, its arguments as they were then
    weights: dict[str, Weight]  # by place among the arguments
    data: frozenset[str]  # places of the arguments that depend on the examples
    arguments: dict[str, list[ExampleAxis]]  # possible axes of each that grows with the batch
    output: list[ExampleAxis] | None  # possible axes; None where a call has several results
    ragged: bool = False  # whether its size changes where an example is exchanged for another
    chosen: bool = False  # whether the examples' values choose its rows, or their order

    @property
    def output_axis(self) -> ExampleAxis | None:
        """The axis of the result; of several possible ones, the one that an argument has too."""
        left = self.output or []
        if len(left) > 1:
            left = [at for at in left if any(at in axes for axes in self.arguments.values())]
        return left[0] if len(left) == 1 else None

    @property
    def argument_axes(self) -> dict[str, ExampleAxis]:
        """The axes of arguments with a single possible one, or with the result's among them."""
        axes = {}
        for place, left in self.arguments.items():
            if len(left) == 1:
                axes[place] = left[0]
            elif self.output_axis in left:
                axes[place] = left[left.index(self.output_axis)]
        return axes


class Gathered(NamedTuple):
    """What exchanging examples has shown."""

    calls: list[Evidence] | None  # None where it makes the model call others
    steady: bool  # whether the outputs of the other examples kept every bit


def gather(
    replica: Replica, probes: Inputs, base: Recordings, met: list[Meeting], at_results: Gradients
) -> Gathered:
    """Evidence of each call, from exchanging each example of the larger batch.

    ``base`` has recordings by batch size, with the arguments as they were. Where its sizes are not
    ``SIZES``, as it takes more examples to make the calls together, exchanges that make other calls
    are ignored. ``met`` are the calls to look at, and ``at_results`` the gradients at their results
    that ``backward`` gave of the first example of the larger batch.

    Cost: three forward passes and two backward passes of three examples.
    """
    numbers = {m.number for m in met}
    small, large = base
    kept = {m: base[large].counted[m].as_it_was() for m in numbers}
    arguments = {m: _possible({n: tensors_of(base[n].counted[m]) for n in base}) for m in numbers}
    ragged: set[int] = set()
    steady = True
    for example, exchanged in _exchanges(large, len(probes)):
        other = record(replica, probes.take(exchanged), numbers)
        if not _alike(other, base[large]):
            if (small, large) == SIZES:
                return Gathered(None, False)
            continue
        steady &= _others_the_same(base[large].output, other.output, example)
        for number in numbers:
            before, after = kept[number], other.counted[number].as_it_was()
            _narrow(arguments[number], tensors_of(before), tensors_of(after), example)
            if _shapes(before) != _shapes(after):
                ragged.add(number)
    outputs = _axes_of_outputs(base, met, at_results)
    evidence = []
    for m in met:
        first = base[small].counted[m.number]
        places = tensors_of(first)
        weights = {
            place: Weight(tensor, {n: replica.parameters[n] for n in m.weights[id(tensor)]})
            for place, tensor in places.items()
            if id(tensor) in m.weights
        }
        data = frozenset(place for place, tensor in places.items() if id(tensor) in m.data)
        output, irregular = outputs.get(m.number), m.number in ragged
        axes, was = arguments[m.number], first.as_it_was()
        evidence.append(Evidence(was, weights, data, axes, output, irregular, m.chosen))
    return Gathered(evidence, steady)


def row_by_row(evidence: Evidence) -> Evidence | None:
    """The call with each row as an example, along the first axis unless more is known.

    The result is None where data and output have other rows.
    """
    tensors, outputs = tensors_of(evidence.record), evidence.record.outputs
    axis = evidence.output_axis.dim if evidence.output_axis else 0
    with_rows = [outputs[0], *(tensors[place] for place in evidence.data)]
    if evidence.output is None or any(t.dim() <= axis for t in with_rows):
        return None
    if len({t.shape[axis] for t in with_rows}) != 1:
        return None
    at = [ExampleAxis(axis)]
    return replace(evidence, arguments=dict.fromkeys(evidence.data, at), output=at)


def rows(count: int, available: int) -> Tensor:
    """Rows of the probes in a batch of ``count``."""
    return torch.arange(count) % available


def tensors_of(record: Record) -> dict[str, Tensor]:
    """The tensors among the arguments of a call, by place."""
    flat = flattened(record.args, record.kwargs)
    return {place: value for place, value in flat.items() if isinstance(value, Tensor)}


def _shapes(record: Record) -> list[torch.Size]:
    """The shapes of the tensors among a call's arguments and results."""
    return [tensor.shape for tensor in (*tensors_of(record).values(), *record.outputs)]


def _alike(first: Recording, second: Recording) -> bool:
    """Whether two passes made the same calls in the same order, tensors in the same places."""
    return len(first.counted) == len(second.counted) and all(
        a.function == b.function and tensors_of(a).keys() == tensors_of(b).keys()
        for a, b in zip(first.counted, second.counted, strict=True)
    )


def _exchanges(count: int, available: int) -> Iterator[tuple[int, Tensor]]:
    """Each example of a batch, and the rows of the probes with it exchanged."""
    for example in range(count):
        exchanged = rows(count, available).clone()
        other = (count + example) % available
        exchanged[example] = (other + 1) % available if other == exchanged[example] else other
        yield example, exchanged


def _others_the_same(before: Tensor, after: Tensor, example: int) -> bool:
    """Whether all rows but one have the same bits in two outputs."""
    others = [row for row in range(len(before)) if row != example]
    return before.shape == after.shape and torch.equal(before[others], after[others])


def _possible(batches: Mapping[int, dict[str, Tensor]]) -> dict[str, list[ExampleAxis]]:
    """Axes that are possible by shape alone, of the arguments that grow with the batch."""
    axes = {}
    for place in next(iter(batches.values())):
        shapes = {n: batch[place].shape for n, batch in batches.items()}
        if len(set(shapes.values())) > 1:
            axes[place] = possible_axes(shapes)
    return axes


def _narrow(
    axes: dict[str, list[ExampleAxis]],
    before: dict[str, Tensor],
    after: dict[str, Tensor],
    example: int,
) -> None:
    """Keep the axes that explain what changed when one example was exchanged."""
    for place, left in axes.items():
        if before[place].shape != after[place].shape:
            axes[place] = []
        else:
            changed = changed_entries(before[place], after[place])
            axes[place] = [at for at in left if agrees(at, changed, example)]


def results_of(met: Iterable[Meeting], first: Recording, other: Recording) -> dict[int, Tensor]:
    """The result of each call in ``other``, a pass like ``first`` in which they were met."""
    return {
        m.number: other.counted[m.number].outputs[place]
        for m in met
        for place, tensor in enumerate(first.counted[m.number].outputs)
        if tensor is m.output
    }


def _axes_of_outputs(
    base: Recordings, met: list[Meeting], at_results: Gradients
) -> dict[int, list[ExampleAxis]]:
    """Axes outside of which the gradient of one example's output is zero, by call."""
    small, large = base.values()
    results = results_of(met, small, large)
    smaller = results_of(met, small, small)
    few, more = base
    axes = {m: possible_axes({few: smaller[m].shape, more: results[m].shape}) for m in results}
    for example in range(more):
        gradients = at_results if example == 0 else backward(large.output, example, results)
        for m, gradient in gradients.items():
            changed = changed_entries(torch.zeros_like(gradient), gradient)
            axes[m] = [at for at in axes[m] if agrees(at, changed, example)]
    return axes


def backward(output: Tensor, example: int, wanted: Mapping[Any, Tensor]) -> dict[Any, Tensor]:
    """The gradients of a random combination of one example's outputs, where there are any."""
    if not (wanted and output.requires_grad):
        return {}
    seed = torch.zeros_like(output)
    # Random: the sum of a softmax's outputs has no gradient.
    generator = torch.Generator().manual_seed(example)
    seed[example] = torch.randn(seed[example].shape, generator=generator).to(seed)
    gradients = torch.autograd.grad(
        seeded(output, seed), [*wanted.values()], retain_graph=True, allow_unused=True
    )
    return {key: g for key, g in zip(wanted, gradients, strict=True) if g is not None}
