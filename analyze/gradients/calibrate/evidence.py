"""Where the examples lie in the calls of a model, learned from values.

For an argument, one example of a tiny batch is exchanged for another, and what changes belongs to
it. For a result, the gradient of one example's output is zero at all entries of the others. Batches
of two and of three tell an axis of examples from one that has their number by chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

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

SIZES = (2, 3)  # of the batches; the first is the one that is looked at
Recordings = Mapping[int, Recording]  # by the number of examples


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


def gather(
    replica: Replica, probes: Inputs, base: Recordings, met: list[Meeting]
) -> list[Evidence] | None:
    """Evidence of each call, or None where exchanging an example makes the model call others.

    ``base`` has recordings by batch size. Where its sizes are not ``SIZES``, as it takes more
    examples to make the calls together, exchanges that make other calls are ignored. ``met`` are
    the calls to look at.

    Cost: seven forward passes and five backward passes.
    """
    numbers = {m.number for m in met}
    sizes = tuple(base)
    first = base[sizes[0]].counted
    kept = {n: record(replica, probes.take(rows(n, len(probes))), numbers) for n in sizes}
    if not all(_alike(recording, base[n]) for n, recording in kept.items()):
        return None
    arguments = {m: _possible({n: tensors_of(base[n].counted[m]) for n in sizes}) for m in numbers}
    ragged: set[int] = set()
    for n, example, exchanged in _exchanges(sizes, len(probes)):
        other = record(replica, probes.take(exchanged), numbers)
        if not _alike(other, base[n]):
            if sizes == SIZES:
                return None
            continue
        for number in numbers:
            before, after = kept[n].counted[number], other.counted[number]
            _narrow(arguments[number], tensors_of(before), tensors_of(after), example)
            if _shapes(before) != _shapes(after):
                ragged.add(number)
    outputs = _axes_of_outputs(base, met)
    evidence = []
    for m in met:
        places = tensors_of(first[m.number])
        weights = {
            place: Weight(tensor, {n: replica.parameters[n] for n in m.weights[id(tensor)]})
            for place, tensor in places.items()
            if id(tensor) in m.weights
        }
        data = frozenset(place for place, tensor in places.items() if id(tensor) in m.data)
        first_record = kept[sizes[0]].counted[m.number]
        output, irregular = outputs.get(m.number), m.number in ragged
        axes = arguments[m.number]
        evidence.append(Evidence(first_record, weights, data, axes, output, irregular, m.chosen))
    return evidence


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


def _exchanges(sizes: Iterable[int], available: int) -> Iterator[tuple[int, int, Tensor]]:
    """Batch size, the example exchanged, and the rows of the probes with it exchanged."""
    for n in sizes:
        for example in range(n):
            exchanged = rows(n, available).clone()
            other = (n + example) % available
            exchanged[example] = (other + 1) % available if other == exchanged[example] else other
            yield n, example, exchanged


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


def _axes_of_outputs(base: Recordings, met: list[Meeting]) -> dict[int, list[ExampleAxis]]:
    """Axes outside of which the gradient of one example's output is zero, by call."""
    first = next(iter(base.values())).counted
    place = {
        m.number: [tensor is m.output for tensor in first[m.number].outputs].index(True)
        for m in met
        if m.output is not None
    }
    results = {
        n: {m: recording.counted[m].outputs[k] for m, k in place.items()}
        for n, recording in base.items()
    }
    axes = {m: possible_axes({n: results[n][m].shape for n in base}) for m in place}
    for n in base:
        for example in range(n):
            for m, gradient in _gradients(base[n].output, results[n], example):
                changed = changed_entries(torch.zeros_like(gradient), gradient)
                axes[m] = [at for at in axes[m] if agrees(at, changed, example)]
    return axes


def _gradients(
    output: Tensor, results: Mapping[int, Tensor], example: int
) -> Iterator[tuple[int, Tensor]]:
    """The gradient of a random combination of one example's outputs, at each call's result."""
    if not results:
        return
    seed = torch.zeros_like(output)
    # Random: the sum of a softmax's outputs has no gradient.
    generator = torch.Generator().manual_seed(example)
    seed[example] = torch.randn(seed[example].shape, generator=generator).to(seed)
    grads = torch.autograd.grad(
        seeded(output, seed), [*results.values()], retain_graph=True, allow_unused=True
    )
    for m, gradient in zip(results, grads, strict=True):
        if gradient is not None:
            yield m, gradient
