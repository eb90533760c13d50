"""The engine: models in, sufficient statistics out.

One engine serves one probe set, loss and setting. ``prepare`` makes a state, a proven plan with all
that is known of it, from one or more models (``planner``); ``measure`` gives the statistics of one
(``measurer``). The state (``state``) is a value that nobody changes: each step gives the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from analyze.gradients.architecture import DTYPES
from analyze.gradients.checks.proof import Proof
from analyze.gradients.data.share import Share
from analyze.gradients.device.devices import all_of, largest_batch_bytes, resolve_device
from analyze.gradients.device.memory import enough_memory
from analyze.gradients.device.timing import Timing
from analyze.gradients.established import ESTABLISHED, fingerprint
from analyze.gradients.losses import Loss
from analyze.gradients.measurement import Measurement, Settings
from analyze.gradients.measurer import Measurer
from analyze.gradients.member import Member
from analyze.gradients.model.replica import Replica
from analyze.gradients.plan import Plan
from analyze.gradients.planner import Planner, Ready
from analyze.gradients.ranks.team import Team
from analyze.gradients.stages import MEASURING, Announce, Stage, expected, unheard
from analyze.gradients.state import EngineState
from analyze.gradients.step.conditions import measuring
from analyze.gradients.sums.directions import Weights
from analyze.gradients.threads.division import Division, divided
from analyze.gradients.workload import Workload
from analyze.probes import Cells, ProbeSet

REPLICAS = 8  # times the model is held, for the most part in float64 while it is proven


def _unheard(examples: int) -> None:
    """A progress callback that does nothing."""


class Engine:
    """Measures models on one probe set, by one loss of each example and one setting.

    ``announce`` is called with each stage that begins of ``prepare`` or ``measure_alone``.
    """

    def __init__(
        self, probes: ProbeSet, loss: Loss, settings: Settings, announce: Announce = unheard
    ) -> None:
        self.probes = probes
        self.loss = loss
        self.settings = settings
        self.threads = 1  # how many may share the batches of a model
        self._turns = 1  # checkpoints that are measured one after the other
        self._device = resolve_device(settings.device, DTYPES[settings.precision])
        self._workload = Workload(probes, loss, settings)
        self._announce = announce
        self._planner = Planner(self._workload, announce)
        self._state: EngineState | None = None

    @property
    def cells(self) -> Cells:
        """The cells that gradients are summed by."""
        return self._workload.cells

    @property
    def passes(self) -> int:
        """How often ``measure`` goes over the probes."""
        return self._workload.passes

    @property
    def current(self) -> EngineState:
        """The state that ``prepare`` made, with all that was learned since."""
        assert self._state is not None, "prepare comes first"
        return self._state

    @property
    def device(self) -> torch.device:
        """The device that models are measured on."""
        return self._device if self._state is None else self._state.architecture.device

    @property
    def plan(self) -> Plan:
        """The method of each parameter."""
        return self.current.plan

    @property
    def proof(self) -> Proof:
        """What was compared with plain autograd so far."""
        return self.current.proof

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of how models are measured."""
        return self.current.notes

    @property
    def batch_size(self) -> int:
        """The number of examples in a batch as it is now."""
        return self.current.memory.batch_size

    def divide(self, model: nn.Module, checkpoints: int = 1, before: int | None = None) -> Division:
        """How the processor is divided for some checkpoints; the engine takes its part of it.

        The size of ``model`` decides how many processes there is room for. ``before`` is the number
        of threads that each process had when a resumed run began.
        """
        values = sum(parameter.numel() for parameter in model.parameters())
        size = DTYPES[self.settings.precision].itemsize
        held = size * values * (len(self.cells) + REPLICAS)
        needed = largest_batch_bytes(self.device) + held
        division = divided(checkpoints, self.device, needed, before)
        devices = all_of(self.settings.device, self.device)[:checkpoints]
        if len(devices) > 1:
            division = replace(division, devices=tuple(map(str, devices)))
        self.divide_as(division, checkpoints)
        return division

    def divide_as(self, division: Division, checkpoints: int) -> None:
        """Take a part of a processor that is divided in this way."""
        self.threads = division.sharing
        self._turns = division.turns(checkpoints)

    def prepare(
        self, models: Iterable[nn.Module], earlier: Mapping[str, Any] | None = None
    ) -> None:
        """Make the plan on the first model and prove it on all of them.

        Args:
            models: Of one architecture, best the first, middle and last checkpoint of a run:
                what is zero at the start is proven later. Each is taken over.
            earlier: The state of an earlier run, whose choices are proven again instead of made
                again: another algorithm rounds differently.

        Raises:
            CheckpointError: a model's losses or gradients are not finite; the engine is as before.
            InputError: the model cannot take the probes, mixes examples, is not deterministic, or
                has a parameter that no method measures exactly, or none of those selected.
        """
        earlier = None if earlier is None else self._as_asked(earlier)
        with measuring(self.device), enough_memory(self.device):
            for model in models:
                if self._state is None:
                    first = self._planner.first(model, self.threads, self._turns, earlier)
                    self._state = first.state
                else:
                    self._state = self._planner.again(self._state, model)

    def stages(self, model: nn.Module, further: int = 0) -> list[Stage]:
        """The stages of ``prepare`` for a model and as many further ones, in their order."""
        passes = self._workload.statistics.passes_to_set(model)
        others = [stage for _ in range(further) for stage in expected(passes, is_first=False)]
        return [*expected(passes, is_first=True), *others]

    def state(self) -> dict[str, Any]:
        """All that is known as plain values, from which ``restore`` goes on to the same bits."""
        return {"requested_batch_size": self.settings.batch_size} | self.current.as_values()

    def restore(self, values: Mapping[str, Any]) -> None:
        """Add what an earlier run knew, see ``EngineState.restored``.

        Its batch size only where it was asked for the same.
        """
        self._state = self.current.restored(self._as_asked(values))

    def note(self, *notes: str) -> None:
        """Add what the user should know of how models are measured."""
        self._state = self.current.noting(*notes)

    def _as_asked(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """What an earlier run knew, with the batch size of now where it was asked for another."""
        size = self.settings.batch_size
        if values.get("requested_batch_size") == size:
            return values
        size = size if self._state is None else self.batch_size
        return values if size == "auto" else {**values, "batch_size": size}

    def measure(
        self,
        model: nn.Module,
        progress: Callable[[int], None] = _unheard,
        following: Mapping[str, Tensor] | None = None,
        team: Team | None = None,
    ) -> Measurement:
        """The sufficient statistics of one model, which is taken over.

        What is learned from this model holds for those after it. Its notes name the model and so
        belong to the measurement, from which ``restore`` takes them.

        Args:
            model: A model of the architecture that was prepared.
            progress: Called with the number of examples of each batch.
            following: The weights of the next checkpoint by name, for the direction ``update``.
            team: Other ranks that have the same model as ``Member``, and measure parts of it. Only
                without directions.

        Raises:
            CheckpointError: a loss or gradient is not finite, or the model mixes examples; the
                engine is as before.
            InputError: no method measures a parameter as plain autograd does.

        Cost: one forward and backward pass over the probes and what the rules add, one forward
        pass for the batch norm statistics; a few hundred probes more to see whether those lag;
        about one probe of 32 once more, and 1.5 % of the work, at least two probes, for plain
        autograd.
        """
        before = self.current
        with measuring(self.device), enough_memory(self.device):
            measurer = replace(self._measurer(model, following), team=team)
            measurement, after = measurer.measure(before, model, progress)
        return self._with_its_notes(measurement, before, after)

    def measure_alone(
        self,
        model: nn.Module,
        copied: Callable[[], nn.Module],
        progress: Callable[[int], None] = _unheard,
    ) -> Measurement:
        """The statistics of a single model: what ``prepare`` and ``measure`` do, by one replica.

        The plan by which a model like it was measured in this process is taken over, if it is
        proven on this one. ``copied`` gives a copy of the model, which is taken over; ``progress``
        is that of ``measure``, and the stage before its first batch is ``MEASURING``.

        Raises:
            As ``prepare`` and ``measure``.

        Cost: that of both, with one forward pass less for the batch norm statistics. With a plan
        that is taken over, three forward passes over two probes and a proof on two come before.
        """
        measurer = self._measurer(model)
        key = fingerprint(model, self._workload, self.device, self.threads)
        known = None if key is None else ESTABLISHED.of(key)
        with measuring(self.device), enough_memory(self.device):
            measurement = None
            if known is not None:
                measurement = self._measured_by(known, copied(), measurer, progress)
            if measurement is None:
                first = self._planner.first(copied(), self.threads, 1, None)
                measurement = self._measured(first, measurer, progress)
                # What was learned while measuring is learned again, with a note of it.
                if (
                    key is not None
                    and self.current.numerical_choices == first.state.numerical_choices
                ):
                    ESTABLISHED.keep(key, first.of_any_like_it)
        return measurement

    def _measured_by(
        self,
        known: EngineState,
        model: nn.Module,
        measurer: Measurer,
        progress: Callable[[int], None],
    ) -> Measurement | None:
        """The measurement of a model by the plan of another; None where anything is amiss."""
        try:
            ready = self._planner.taken_over(known, model)
            if ready is None:
                return None
            measurement = self._measured(ready, measurer, progress)
        except Exception:  # from the start it succeeds, or fails with a message that is right
            return None
        return measurement if self.current.numerical_choices == known.numerical_choices else None

    def _measured(
        self, ready: Ready, measurer: Measurer, progress: Callable[[int], None]
    ) -> Measurement:
        """The measurement of a model, by whose state the engine goes on."""
        self._announce(MEASURING)
        before = ready.state
        measurement, after = measurer.measured(before, ready.replica, ready.saved, progress)
        return self._with_its_notes(measurement, before, after)

    def _with_its_notes(
        self, measurement: Measurement, before: EngineState, after: EngineState
    ) -> Measurement:
        """The measurement with the notes made meanwhile; the engine goes on without these."""
        self._state = replace(after, notes=before.notes)
        return replace(measurement, notes=after.notes[len(before.notes) :])

    def member(self, state: EngineState, model: nn.Module, share: Share) -> Member:
        """A rank's part of a model, which is taken over, by the ``state`` of another engine."""
        state = state.on(self._device)
        with measuring(self._device), enough_memory(self._device):
            replica, _ = self._planner.replica(state, model)
        return Member(self._measurer(), replica, share)

    def take(self, state: EngineState) -> None:
        """Go on by the state of an engine like this in another process."""
        self._state = state.on(self._device)

    def timing(self, model: nn.Module) -> Timing:
        """An estimate of what ``measure`` takes, from a few batches and one forward pass.

        Raises:
            InputError: memory is not enough.
        """
        with measuring(self.device), enough_memory(self.device):
            return self._measurer().timing(self.current, model)

    def accumulate(self, replica: Replica) -> Measurement:
        """What ``measure`` gives of a replica as it is, without verification.

        Raises:
            CheckpointError: a loss or gradient is not finite.
            ForwardChangedError, MethodFailedError: the plan does not hold for this model.
        """
        return self._measurer().observed(replica, _unheard, self.current).measurement

    def _measurer(
        self, model: nn.Module | None = None, following: Mapping[str, Tensor] | None = None
    ) -> Measurer:
        """What measures, with the weights of a model where directions follow from them."""
        weights = Weights()
        if model is not None and self._workload.directions_of_passes[0]:
            weights = Weights.of(model, following)
        return Measurer(self._workload, self._planner, self.threads, weights)
