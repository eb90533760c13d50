"""Running statistics of batch norm: as saved in a checkpoint, or recomputed from the probes.

As saved they lag behind the weights, and in mid-training m-coherence is largely an artefact of
that lag; recomputed is the default. The losses under both tell how far they lag.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from analyze.errors import InputError, listed
from analyze.gradients.data.loader import ProbeLoader
from analyze.gradients.data.share import WHOLE, Share
from analyze.gradients.device.devices import device_with_float64
from analyze.gradients.losses import Loss
from analyze.gradients.measurement import Measurement
from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.replica import Replica
from analyze.gradients.numbers import double
from analyze.gradients.step.output import losses_at
from analyze.probes import ProbeSet
from analyze.probes.cells import mixed

EXAMPLES_PER_BATCH = 128
SPECTRAL = ("_u", "_v")
MINIMUM = 2  # a variance needs two
COMPARED_EXAMPLES = 128  # examples of each subset whose loss tells whether the statistics lag
AS_SAVED = (
    "used as saved, as only the statistics of torch's batch norms are recomputed: {names}, which "
    "forward passes change in training mode"
)
Saved = list[tuple[_BatchNorm, str, Tensor]]  # layers, names and values of their statistics
COMPARED_FROM = 256  # probes for the statistics compared with, if those are not measured with


@dataclass(frozen=True)
class Uses:
    """The statistics of a layer added up over its uses, in float64."""

    count: int
    totals: dict[str, Tensor]

    def plus(self, other: Uses) -> Uses:
        """Those of further uses as well."""
        more = {n: self.totals[n] + t if n in self.totals else t for n, t in other.totals.items()}
        return Uses(self.count + other.count, {**self.totals, **more})

    def on(self, device: torch.device) -> Uses:
        """The same in the memory of a device; on the CPU where it has no float64."""
        place = device_with_float64(device)
        return Uses(self.count, {name: total.to(place) for name, total in self.totals.items()})


class BatchNormStatistics:
    """The statistics that models are measured with, and losses of some probes under the others.

    ``choice`` is ``recomputed`` or ``saved``.
    """

    def __init__(self, probes: ProbeSet, loader: ProbeLoader, loss: Loss, choice: str) -> None:
        self._loader = loader
        self._loss = loss
        self._recomputed = choice == "recomputed"
        by_hash = np.argsort(mixed(probes.id), kind="stable")
        self._rows = by_hash[np.isin(by_hash, probes.training)]
        if not self._recomputed:  # they are for the comparison only
            self._rows = self._rows[:COMPARED_FROM]
        codes = probes.subset[by_hash]
        first = [by_hash[codes == code][:COMPARED_EXAMPLES] for code in np.unique(codes)]
        self._compared = np.sort(np.concatenate(first))

    def set(self, replica: Replica) -> Saved:
        """Give a model the statistics that it is measured with; those that it came with.

        Raises:
            InputError: they are to be recomputed, and there are too few probes.

        Cost: a forward pass of the probes that are not held out, if they are recomputed.
        """
        saved = _statistics(replica)
        if self._recomputed:
            _recompute_statistics(replica, self._loader, self._rows)
        return saved

    def came_with(self, replica: Replica) -> Saved:
        """The statistics that a model has, to be given back."""
        return _statistics(replica)

    def uses(self, replica: Replica, share: Share) -> list[Uses]:
        """What the passes of ``set`` add up for each layer, of the batches of one rank."""
        return _uses(replica, self._loader, self._rows, share)

    def set_from(self, replica: Replica, of_ranks: Sequence[list[Uses]]) -> None:
        """Give a model the statistics that ``set`` gives it, from the uses of all ranks."""
        _give_averages(replica, of_ranks)

    def passes_to_set(self, model: nn.Module) -> int:
        """Number of examples in the forward passes of ``set``."""
        is_set = self._recomputed and bool(_layers_with_statistics(model))
        return len(self._rows) if is_set else 0

    def losses_under_others(self, replica: Replica, saved: Saved, size: int) -> np.ndarray | None:
        """Losses under the statistics that are not measured with, of some probes of each subset.

        The model has been ``set``, which gave ``saved``, and has the same statistics afterwards;
        ``size`` examples run at a time.

        Returns:
            ``[N]``, NaN but for those probes, infinite where a loss is no number; None where the
            model has no statistics, or too few probes are there to recompute from.

        Cost: a forward pass of up to 128 probes of each subset, and of up to 256 to recompute.
        """
        if not saved or (not self._recomputed and len(self._rows) < MINIMUM):
            return None
        measured_with = _statistics(replica)
        if self._recomputed:
            _give_back(replica, saved)
        else:
            _recompute_statistics(replica, self._loader, self._rows)
        losses = self._losses(replica, size)
        _give_back(replica, measured_with)
        return losses

    def with_both_losses(self, measured: Measurement, others: np.ndarray | None) -> Measurement:
        """A measurement with losses under both statistics, of the probes that ``others`` has."""
        if others is None:
            return measured
        losses = np.where(np.isnan(others), np.nan, measured.loss)
        saved, recomputed = (others, losses) if self._recomputed else (losses, others)
        return replace(measured, loss_saved=saved, loss_recomputed=recomputed)

    def notes(self, replica: Replica, probes: Inputs) -> list[str]:
        """Notes on statistics that are not recomputed though asked for, from a copy's pass."""
        if not self._recomputed:
            return []
        names = _other_statistics(replica, probes)
        return [AS_SAVED.format(names=listed(names))] if names else []

    def passes(self, model: nn.Module) -> int:
        """Number of examples in the forward passes that all this takes."""
        return len(self._rows) + len(self._compared) if _layers_with_statistics(model) else 0

    def _losses(self, replica: Replica, size: int) -> np.ndarray:
        losses = np.full(len(self._loader.targets), np.nan)
        compared = losses_at(replica, self._loader, self._compared, self._loss, size)
        losses[self._compared] = np.where(np.isnan(compared), np.inf, compared)
        return losses


def _statistics(replica: Replica) -> Saved:
    """Layers of batch norm, names and values of their statistics."""
    return [
        (layer, name, buffer.clone())
        for layer in _layers_with_statistics(replica.model)
        for name, buffer in layer.named_buffers(recurse=False)
    ]


def _give_back(replica: Replica, saved: Saved) -> None:
    """Give a model the values that its statistics had."""
    for layer, name, values in saved:
        layer.get_buffer(name).copy_(values)
    replica.keep_buffers()


def _layers_with_statistics(model: nn.Module) -> list[_BatchNorm]:
    """The batch norm layers that keep running statistics."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


def _other_statistics(replica: Replica, inputs: Inputs) -> list[str]:
    """Names of running statistics that are not of torch's batch norms.

    They are floating point buffers that a pass in training mode changes, but for the vectors of
    spectral norm, which belong to the weights. A model that cannot run in training mode has none.

    Cost: a copy and a forward pass, where there are such buffers.
    """
    norms = {id(b) for layer in _layers_with_statistics(replica.model) for b in layer.buffers()}
    names = [
        name
        for name, buffer in replica.model.named_buffers()
        if buffer.is_floating_point() and id(buffer) not in norms and not name.endswith(SPECTRAL)
    ]
    if not names:
        return []
    other = replica.as_dtype(replica.dtype)
    before = {name: buffer.clone() for name, buffer in other.model.named_buffers()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            other(inputs, list(other.model.modules()), training=True)
        except Exception:  # whatever a forward pass misses in training, such as targets
            return []
    after = dict(other.model.named_buffers())
    return [name for name in names if name in after and not torch.equal(after[name], before[name])]


def _recompute_statistics(replica: Replica, loader: ProbeLoader, order: np.ndarray) -> None:
    """Set the running statistics by one forward pass in training mode of batch norm alone.

    The statistics become the average of means and unbiased variances over all uses of a layer, one
    or more a batch, as with ``momentum=None``. All other layers stay in eval mode.

    Raises:
        InputError: fewer than two examples.

    Cost: one forward pass.
    """
    if _layers_with_statistics(replica.model):
        _give_averages(replica, [_uses(replica, loader, order, WHOLE)])


def _uses(replica: Replica, loader: ProbeLoader, order: np.ndarray, share: Share) -> list[Uses]:
    """The uses of each layer in the batches of one rank.

    The examples at the rows ``order`` go through in ``ceil(len(order) / 128)`` batches of nearly
    equal size, whatever the batch size of the measurement, so that the numbers do not depend on
    it. No batch depends on another, as all compute with their own statistics.
    """
    layers = _layers_with_statistics(replica.model)
    if len(order) < MINIMUM:
        raise InputError(
            "there are too few probes to recompute the statistics of batch norm from",
            found=f"{len(order)} probes that are not held out",
            expected=f"{MINIMUM} or more; some hundreds give statistics that mean something",
            fix="--batch-norm saved, or more probes that are not held out",
        )
    batches = np.array_split(order, -(-len(order) // EXAMPLES_PER_BATCH))
    batches = share.of(batches, [len(batch) for batch in batches])
    adding = [_Adding(layer) for layer in layers]
    hooks = (of_layer.layer.register_forward_hook(of_layer.add) for of_layer in adding)
    with replica.hooked(hooks), torch.no_grad():
        for examples in loader.ahead(batches, replica.device, replica.dtype):
            # A momentum of 1 leaves the use's own statistics; averaging in place would round.
            replica(examples.inputs, layers, training=True, momentum=1.0)
    replica.forget()
    return [of_layer.uses for of_layer in adding]


def _give_averages(replica: Replica, of_ranks: Sequence[list[Uses]]) -> None:
    """Give each layer the averages over its uses; one that is never used keeps what it has."""
    with torch.no_grad():
        for layer, *uses in zip(_layers_with_statistics(replica.model), *of_ranks, strict=True):
            all_uses = reduce(Uses.plus, uses)
            for name, total in all_uses.totals.items():
                getattr(layer, name).copy_(total / all_uses.count)
    replica.keep_buffers()


class _Adding:
    """Adds up a layer's statistics over its uses, one or more a pass."""

    def __init__(self, layer: _BatchNorm) -> None:
        self.layer = layer
        self.uses = Uses(0, {})

    def add(self, *_: object) -> None:
        """A hook on the layer: its buffers hold the statistics of the use that just ended."""
        buffers = {name: getattr(self.layer, name) for name in ("running_mean", "running_var")}
        # Copies, or they would be the buffers themselves.
        values = {n: double(b).clone() for n, b in buffers.items() if b is not None}
        self.uses = self.uses.plus(Uses(1, values))
