"""A private copy of a model that can be measured without leaving a trace on the original."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from analyze.errors import InputError, listed
from analyze.gradients.device.devices import device_with_float64
from analyze.gradients.model.attributes import Attributes
from analyze.gradients.model.computing import Computing
from analyze.gradients.model.copying import copied, made_eager, origin_of
from analyze.gradients.model.foreign import without_foreign
from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.settling import (
    Settled,
    hooked_parameters,
    needs_gradients,
    output_without_graph,
    refuse_kept_graph,
    refuse_meta,
    refuse_unlike,
    set_to_eval,
    tried,
    unable_to_have_gradients,
    without_gradients,
    without_hooks,
)
from analyze.gradients.numbers import differentiable, refuse_quantised, with_precision

Result = TypeVar("Result")
LEFT_OUT = (
    "left out, as they are frozen and forward passes write to them in place or read them by "
    "numpy(): {names}"
)


class Replica:
    """A copy of ``model`` in eval mode that forgets what its forward passes leave behind.

    Some models keep tensors made from parameters between eval calls (timm's LeViT its attention
    biases), or install hooks at the first: a later pass would see stale weights, a graph that is
    gone, or hooks twice. Before every pass attributes, hooks, containers and buffers are set back,
    together, to what they were at first, and ``train()`` then ``eval()``, where a module has its
    own, lets models drop what they keep elsewhere.

    Args:
        model: Taken over and changed; ``copy_of`` leaves it alone. Its parameters all count,
            whatever their ``requires_grad``, but integers and truth values, which have none.
        device: Where the replica lives.
        dtype: Precision of its inputs, and the least of its parameters and buffers and of all it
            computes: what is in float64 stays there. Complex numbers stay complex.
        selected: Names of the parameters to measure; all by default.

    Raises:
        InputError: the model is compiled to TorchScript, whose calls cannot be seen, is quantised,
            or has parameters without values.
    """

    def __init__(
        self,
        model: nn.Module,
        device: torch.device,
        dtype: torch.dtype,
        selected: Container[str] | None = None,
    ) -> None:
        _refuse_torchscript(model)
        refuse_quantised(model)
        refuse_meta(model)
        made_eager(model)
        self.device = device
        self.dtype = dtype
        self.undone: set[str] = set()  # casts of the forward pass, in words
        self.notes = without_hooks(model)  # what the user should know of how it was measured
        self.parameters: dict[str, nn.Parameter] = {}
        self._frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
        self.model = with_precision(model, device, dtype)
        self._all_selected = True
        for name, parameter in self.model.named_parameters():
            parameter.grad = None
            wanted = selected is None or name in selected
            self._all_selected &= wanted
            parameter.requires_grad_(wanted and differentiable(parameter))
            if parameter.requires_grad:
                self.parameters[name] = parameter
        self._own_modes = set_to_eval(self.model, self.notes)
        self._settled = Settled()
        self._hooks: set[int] = set()
        self._attributes = Attributes(self.model)
        self._axes: int | None = None  # of the output of several examples

    @property
    def values(self) -> int:
        """The number of values in the parameters to measure."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    @classmethod
    def copy_of(
        cls,
        model: nn.Module,
        device: torch.device,
        dtype: torch.dtype,
        selected: Container[str] | None = None,
    ) -> Replica:
        """A replica that leaves ``model`` as it is.

        Raises:
            InputError: the model cannot be copied, or is compiled to TorchScript.
        """
        _refuse_torchscript(model)
        return cls(copied(model), device, dtype, selected)

    def settle(self, inputs: Inputs, known: Settled | None = None) -> Settled:
        """Learn what the model's passes need, by some over ``inputs``, one or two probes.

        A model that takes gradients inside, as one of forces does, has gradients on in all of its
        passes. Parameters that are frozen in the user's model and written to in place stay frozen:
        those are left out. Nothing is tried where it is ``known`` from another model of the
        architecture. A model that cannot take the inputs is reported by the first real pass.

        Raises:
            InputError: the model computes with weights that are not its own, or unlike the one
                that it is a copy of, or gives no output that has a gradient.
        """
        if known is None:
            known = self._tried_out(inputs)
            self.forget()
        else:
            self._settle_as(known)
        return known

    def with_own_weights(self, run: Callable[[], Result]) -> Result:
        """What a run of this copy gives, watched to see that it computes with weights of its own.

        Raises:
            InputError: naming the weight, and the function that reads it. Else what ``run`` raises.
        """
        origin = origin_of(self.model)
        return run() if origin is None else without_foreign(run, origin.foreign)

    def compared_with_origin(self, inputs: Inputs) -> Tensor:
        """The output of a settled copy, which is what the model gives that it is a copy of.

        Raises:
            InputError: it is not, or the copy computes with weights that are not its own.

        Cost: a forward pass over ``inputs``, a few examples, and one of the original.
        """
        origin = origin_of(self.model)
        with torch.enable_grad():
            output = self.with_own_weights(partial(self, inputs))
        if origin is not None and origin.model is not None:
            refuse_unlike(origin.model, partial(self._pass, inputs), output, output)
        return output

    def _settle_as(self, known: Settled) -> Replica:
        self._settled = known
        for name, parameter in self.model.named_parameters():
            if name in known.left_out:
                self.parameters.pop(name, None)
                parameter.requires_grad_(False)
                self._attributes.add_buffers([parameter])
        self.forget()
        return self

    def _tried_out(self, inputs: Inputs) -> Settled:
        run, origin = partial(self, inputs), origin_of(self.model)
        original = None if origin is None else origin.model
        self.notes += [] if original is None else hooked_parameters(original)
        output, error = self.with_own_weights(partial(tried, run, gradients=True))
        left_out: list[str] = []
        if error is not None:
            left_out = self._left_out(run)
            self._settle_as(Settled(left_out=tuple(left_out)))
            output, error = tried(run, gradients=True)
        if output is None:
            if error is not None and tried(run, gradients=False).error is None:
                raise without_gradients(error)
            return Settled()
        if self.parameters and self._all_selected and not output.requires_grad:
            raise output_without_graph(self.model)
        refuse_kept_graph(run, output, {id(p): name for name, p in self.parameters.items()})
        again = tried(run, gradients=False).output
        self._settled = Settled(needs_gradients(again, output), tuple(left_out))
        if self._settled.differentiates:
            again = tried(run, gradients=False).output
        if original is not None:
            refuse_unlike(original, partial(self._pass, inputs), again, output)
        return self._settled

    def __call__(self, inputs: Inputs, altered: Sequence[nn.Module] = (), **state: Any) -> Tensor:
        """The model's output for a batch, the logits where it gives several things.

        For this pass alone the modules ``altered`` have the attributes ``state``. A model that
        ends in ``squeeze()`` takes the examples' axis from a batch of one: it is put back.
        """
        self.forget()
        for module in altered:
            vars(module).update(state)
        output = self._pass(inputs, self.model, self.device, self.dtype)
        if len(inputs) == 1:
            return self._with_axis_of_examples(output, inputs)
        self._axes = output.dim()
        return output

    def _with_axis_of_examples(self, output: Tensor, example: Inputs) -> Tensor:
        """The output of one example with as many axes as that of several has."""
        if output.dim() > 1 and output.shape[0] == 1:  # len() would be counted as a call
            return output
        if self._axes is None:
            # Nobody watches this pass: calls are counted, and this one is not the batch's.
            with torch.no_grad(), torch._C.DisableTorchFunction():
                self(example.take(torch.tensor([0, 0])))
        return output[None] if output.dim() + 1 == self._axes else output

    def computing(self) -> Computing:
        """The conditions of a forward pass: its precision, whatever the model casts to."""
        return Computing(self.dtype, self.undone.add)

    def _pass(
        self, inputs: Inputs, model: nn.Module, device: torch.device, dtype: torch.dtype
    ) -> Tensor:
        """The output of the model, or of one like it; gradients are on where it needs them."""
        tensors = inputs.of_its_own(device, dtype)
        wanted = torch.is_grad_enabled()
        computing = Computing(torch.promote_types(dtype, torch.float32), self.undone.add)
        with computing, torch.set_grad_enabled(wanted or self._settled.differentiates):
            output = logits_of(model(tensors[""]) if "" in tensors else model(**tensors))
        return output if wanted else output.detach()

    @contextmanager
    def hooked(self, handles: Iterable[RemovableHandle]) -> Iterator[None]:
        """In the block, hooks that were just registered on the modules stay; then they go."""
        kept = list(handles)
        self._hooks.update(handle.id for handle in kept)
        try:
            yield
        finally:
            for handle in kept:
                handle.remove()

    @contextmanager
    def substituted(self, tensors: Mapping[str, Tensor]) -> Iterator[None]:
        """In the block, other tensors stand wherever these parameters stand.

        Each place is changed once. ``torch.func.functional_call`` changes the place of a module
        with several names once a name, and leaves its own tensor there in the end.
        """
        by_parameter = {id(self.parameters[name]): t for name, t in tensors.items()}
        places = [
            (module._parameters, name, parameter)
            for module in self.model.modules()
            for name, parameter in module._parameters.items()
            if id(parameter) in by_parameter
        ]
        for parameters, name, parameter in places:
            parameters[name] = by_parameter[id(parameter)]  # type: ignore[assignment]
        try:
            yield
        finally:
            for parameters, name, parameter in places:
                parameters[name] = parameter

    def forget(self) -> None:
        """Undo what forward passes left on the modules."""
        self._attributes.restore(self._hooks)
        if self._own_modes:
            self.model.train()
            self.model.eval()

    def keep_buffers(self) -> None:
        """Take the buffers' values, which were just set, for those of the model."""
        self._attributes.accept_buffers()
        self.forget()

    def for_another_thread(self) -> Replica:
        """Another replica, which shares nothing with this one but the parameters' memory."""
        self.forget()
        memo: dict[int, Any] = {}
        for parameter in self.model.parameters():
            if type(parameter) is nn.Parameter:  # another class would be lost; it is copied
                memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
        other = Replica(copied(self.model, memo), self.device, self.dtype, self.parameters)
        return other._settle_as(self._settled)

    def as_dtype(self, dtype: torch.dtype) -> Replica:
        """Another copy, in another precision and on a device that has it."""
        self.forget()
        device = device_with_float64(self.device) if dtype == torch.float64 else self.device
        other = Replica.copy_of(self.model, device, dtype, self.parameters)
        return other._settle_as(self._settled)

    def _left_out(self, run: Callable[[], Tensor]) -> list[str]:
        """Parameters frozen in the user's model that must stay so."""
        frozen = [name for name in self.parameters if name in self._frozen]
        self._attributes.add_buffers(self.parameters[name] for name in frozen)
        kept = unable_to_have_gradients(run, self.model, frozen)
        self._attributes.restore(self._hooks)
        self._attributes.drop_parameters()
        self.parameters |= {name: self.model.get_parameter(name) for name in frozen}
        if kept:
            self.notes.append(LEFT_OUT.format(names=listed(kept)))
        return kept


def aliases(model: nn.Module) -> dict[str, list[str]]:
    """Each parameter's first name to its further ones: tied weights have several."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {first: further for first, *further in names.values()}


def logits_of(output: Any) -> Tensor:
    """The tensor a loss is taken of: the output itself, or its ``logits``.

    Raises:
        InputError: the output is neither a tensor nor something with logits.
    """
    if isinstance(output, Tensor):
        return output
    logits = (
        output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    )
    if isinstance(logits, Tensor):
        return logits
    raise InputError(
        "the model's output is not understood",
        found=f"an output of type {type(output).__name__}",
        expected="a tensor, or a dictionary or dataclass with the tensor `logits`",
        fix="wrap the model in a factory that returns its logits: --model FILE.py:FACTORY",
    )


def _refuse_torchscript(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise InputError(
                "the model holds TorchScript, whose use of parameters cannot be seen",
                found=f"a {type(module).__name__} at {name or 'the root'}",
                expected="modules that run in Python",
                fix="give the model before torch.jit.script or torch.jit.trace was applied",
            )
