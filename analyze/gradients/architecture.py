"""What all models of one architecture have in common, found on the first of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from analyze.errors import InputError
from analyze.gradients.calibrate.recording import Recording, record
from analyze.gradients.checks.precision import precision_inside
from analyze.gradients.checks.reference import Autograd
from analyze.gradients.device.devices import resolve_device
from analyze.gradients.layers import selected_parameters
from analyze.gradients.losses import Loss
from analyze.gradients.measurement import Settings
from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.replica import Replica
from analyze.gradients.model.settling import Settled
from analyze.gradients.numbers import notes_on, precision_of
from analyze.gradients.step.output import seeded

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Architecture:
    """How the replicas of an architecture's models are made."""

    device: torch.device
    dtype: torch.dtype  # the least precision of what is measured
    selected: frozenset[str]  # names of the parameters to measure
    settled: Settled | None = None  # what a pass needs; None until the first model was tried
    inside: torch.dtype = torch.float32  # the coarsest precision inside a replica
    exact: torch.dtype = torch.float64  # of the reference: float64 where the models run in it
    inside_exact: torch.dtype = torch.float64  # the coarsest precision inside the reference

    @classmethod
    def of(cls, model: nn.Module, settings: Settings) -> tuple[Architecture, list[str]]:
        """The architecture of a model, and notes on its numbers.

        Raises:
            InputError: no parameter is selected or there, or the device has no such numbers.
        """
        selected = selected_parameters(model, settings.layers, settings.parameters)
        dtype = precision_of(model, DTYPES[settings.precision])
        device = resolve_device(settings.device, dtype)
        notes = notes_on(model, DTYPES[settings.precision])
        return cls(device, dtype, selected), notes

    def replica(self, model: nn.Module, inputs: Inputs) -> tuple[Replica, Architecture]:
        """A settled replica of a model, which is taken over, and the architecture with its needs.

        ``inputs`` are one or two probes.
        """
        replica = Replica(model, self.device, self.dtype, self.selected)
        settled = replica.settle(inputs, self.settled)
        return replica, replace(self, settled=settled)

    def with_reference(self, replica: Replica, probe: Inputs) -> tuple[Architecture, Replica]:
        """The architecture with the precision of its references, and a first one.

        Raises:
            InputError: the model computes with weights that are not its own.

        Cost: a copy, a forward and a backward pass over ``probe`` in float64.
        """
        reference = replica.as_dtype(torch.float64)
        recording = _recorded(reference, probe)
        if recording is None:
            reference = replica.as_dtype(self.dtype)
            recording = record(reference, probe)
        inside = precision_inside(reference, recording)
        return replace(self, exact=reference.dtype, inside_exact=inside), reference

    def truth(self, replica: Replica, loss: Loss, copies: int = 1) -> Autograd:
        """Plain autograd of a new reference, a copy of the replica in the exact precision."""
        return self.autograd(replica.as_dtype(self.exact), loss, copies)

    def autograd(self, reference: Replica, loss: Loss, copies: int = 1) -> Autograd:
        """Plain autograd of a reference."""
        return Autograd(reference, loss, self.inside_exact, copies)


def _recorded(exact: Replica, inputs: Inputs) -> Recording | None:
    """A pass of a copy in float64, from which a backward pass was seen to work.

    None where torch or the model has no forward or backward pass in float64.
    """
    try:
        recording = exact.with_own_weights(partial(record, exact, inputs))
        output = recording.output
        if output.requires_grad:
            start, leaves = seeded(output, torch.ones_like(output)), exact.parameters.values()
            torch.autograd.grad(start, [*leaves], allow_unused=True)
    except InputError:
        raise
    except Exception:  # torch raises many kinds
        return None
    return recording
