"""A private copy of a model that can be measured without leaving a trace on the original."""

from __future__ import annotations

import copy
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from analyze.errors import InputError
from analyze.gradients.computing import Computing
from analyze.gradients.float64 import device_with_float64, double
from analyze.gradients.kinds import COMPLEX, differentiable, refuse_quantised, with_precision

# Attributes that torch keeps on every module; all others are the model's own.
_TORCH_STATE = frozenset(nn.Module().__dict__)
_CONTAINERS = frozenset({dict, list, set})


@dataclass(frozen=True)
class Inputs:
    """What the model is called with: one positional tensor, or tensors by keyword.

    Args:
        tensors: By keyword; the positional one has the name ``""``.
        mean: Per channel; with ``std`` it turns uint8 images into ``(x / 255 - mean) / std``.
        std: Per channel.
    """

    tensors: Mapping[str, Tensor]
    mean: Tensor | None = None
    std: Tensor | None = None

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def take(self, rows: Tensor) -> Inputs:
        """The examples at ``rows``, in that order."""
        taken = {name: tensor[rows] for name, tensor in self.tensors.items()}
        return Inputs(taken, self.mean, self.std)

    def pinned(self) -> Inputs:
        """In memory from which a GPU fetches them by itself."""
        pinned = {name: tensor.pin_memory() for name, tensor in self.tensors.items()}
        return Inputs(pinned, self.mean, self.std)

    def to(self, device: torch.device, dtype: torch.dtype, non_blocking: bool = False) -> Inputs:
        """As the model takes them: on ``device``, images scaled, real and complex in ``dtype``.

        Integers are int64; truth values stay what they are: ``~`` of an integer is another thing.
        ``non_blocking``: without waiting until pinned ones have arrived.
        """
        moved = {name: t.to(device, non_blocking=non_blocking) for name, t in self.tensors.items()}
        return Inputs({name: self._decoded(tensor, dtype) for name, tensor in moved.items()})

    def _decoded(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        if tensor.is_floating_point():
            return tensor.to(dtype)
        if tensor.is_complex():
            return tensor.to(COMPLEX[dtype])
        if tensor.dtype == torch.bool:
            return tensor
        if tensor.dtype != torch.uint8 or self.mean is None or self.std is None:
            return tensor.long()
        per_channel = (-1,) + (1,) * (tensor.dim() - 2)  # [N, C, *positions]
        # In float64, or every input would be off by a rounding and so now and then a ReLU.
        exact = double(tensor)
        mean, std = (v.to(exact.device).view(per_channel) for v in (self.mean, self.std))
        return ((exact / 255 - mean) / std).to(tensor.device, dtype)


class Replica:
    """A copy of ``model`` in eval mode that forgets what its forward passes leave behind.

    Some models keep tensors made from parameters between eval calls (timm's LeViT its attention
    biases): a later pass would see stale weights, or a graph that is gone. Before every pass the
    modules' own attributes and mode are set back to what they were at first, and ``train()`` then
    ``eval()``, where a module has its own, lets models drop what they keep elsewhere.

    Args:
        model: Taken over and changed; ``copy_of`` leaves it alone. Its parameters all count,
            whatever their ``requires_grad``, but integers and truth values, which have none.
        device: Where the replica lives.
        dtype: Of its inputs, and the least precision of its parameters and buffers and of all it
            computes: what is in float64 stays there. Complex numbers stay complex.
        selected: Names of the parameters to measure; all by default.

    Raises:
        InputError: the model is compiled to TorchScript, whose calls cannot be seen, or quantised.
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
        self.device = device
        self.dtype = dtype
        self.model = with_precision(model, device, dtype)
        self.undone: set[str] = set()  # casts of the forward pass, in words
        self._selected = selected
        self.parameters: dict[str, nn.Parameter] = {}
        for name, parameter in self.model.named_parameters():
            parameter.grad = None
            if not differentiable(parameter):
                continue
            parameter.requires_grad_(selected is None or name in selected)
            if parameter.requires_grad:
                self.parameters[name] = parameter
        self.model.train()
        self.model.eval()
        self._own_modes = any(
            type(m).train is not nn.Module.train or type(m).eval is not nn.Module.eval
            for m in self.model.modules()
        )
        self._attributes = [_Attributes(module) for module in self.model.modules()]
        self._axes: int | None = None  # of the output of several examples

    @property
    def values(self) -> int:
        """Numbers in the parameters to measure."""
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

    def __call__(self, inputs: Inputs, altered: Sequence[nn.Module] = (), **state: Any) -> Tensor:
        """The model's output for a batch, the logits where it gives several things.

        For this pass alone the modules ``altered`` have the attributes ``state``. A model that
        ends in ``squeeze()`` takes the examples' axis from a batch of one: it is put back.
        """
        self.forget()
        for module in altered:
            vars(module).update(state)
        tensors = inputs.to(self.device, self.dtype).tensors
        with self.computing():
            if "" in tensors:
                output = logits_of(self.model(tensors[""]))
            else:
                output = logits_of(self.model(**tensors))
        if len(inputs) == 1:
            return self._with_axis_of_examples(output, inputs)
        self._axes = output.dim()
        return output

    def _with_axis_of_examples(self, output: Tensor, one: Inputs) -> Tensor:
        """The output of one example with as many axes as that of several has."""
        if output.dim() > 1 and len(output) == 1:
            return output
        if self._axes is None:
            # Nobody watches this pass: calls are counted, and this one is not the batch's.
            with torch.no_grad(), torch._C.DisableTorchFunction():
                self(one.take(torch.tensor([0, 0])))
        return output[None] if output.dim() + 1 == self._axes else output

    def computing(self) -> Computing:
        """The conditions of a forward pass: its precision, whatever the model casts to."""
        return Computing(self.dtype, self.undone.add)

    def forget(self) -> None:
        """Undo what forward passes left on the modules."""
        for attributes in self._attributes:
            attributes.restore()
        if self._own_modes:
            self.model.train()
            self.model.eval()

    def for_another_thread(self) -> Replica:
        """A further one, which shares nothing with it but the parameters' memory."""
        self.forget()
        memo: dict[int, Any] = {}
        for parameter in self.model.parameters():
            if type(parameter) is nn.Parameter:  # another class would be lost; it is copied
                memo[id(parameter)] = nn.Parameter(
                    parameter.detach(), requires_grad=differentiable(parameter)
                )
        return Replica(copied(self.model, memo), self.device, self.dtype, self._selected)

    def as_dtype(self, dtype: torch.dtype) -> Replica:
        """A further copy, in another precision and on a device that has it."""
        self.forget()
        device = device_with_float64(self.device) if dtype == torch.float64 else self.device
        return Replica.copy_of(self.model, device, dtype, self._selected)


def aliases(model: nn.Module) -> dict[str, list[str]]:
    """Each parameter's first name to its further ones: tied weights have several."""
    first: dict[int, str] = {}
    names: dict[str, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in first:
            names[first[id(parameter)]].append(name)
        else:
            first[id(parameter)] = name
            names[name] = []
    return names


def logits_of(output: Any) -> Tensor:
    """The tensor a loss is taken of: the output itself, or its ``logits``.

    Raises:
        InputError: neither a tensor nor something with logits.
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


def copied(model: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """A deep copy.

    Args:
        model: Stays as it is.
        memo: What to take instead of a copy, by the ``id`` of what is copied.

    Raises:
        InputError: the model holds something that cannot be copied, such as a tensor computed from
            its parameters when it was built.
    """
    memo = {} if memo is None else memo
    for path, module in model.named_modules():
        remade = {getattr(hook, "name", None) for hook in module._forward_pre_hooks.values()}
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                if name not in remade:  # by weight_norm and spectral_norm of the old kind
                    raise _keeps_a_graph(f"{path}.{name}" if path else name)
                memo[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:  # whatever a model's own __deepcopy__ or a cached tensor raises
        raise InputError(
            "the model cannot be copied, and measuring would change it",
            found=f"{type(model).__name__}: {error}",
            expected="a model that copy.deepcopy copies; tensors with a graph are in the way",
            fix="call model.train() then model.eval() first, or give a freshly built model",
        ) from error


def _keeps_a_graph(name: str) -> InputError:
    return InputError(
        "the model keeps a tensor that it computed from its parameters earlier",
        found=f"{name} has a graph: another checkpoint's weights would not reach it",
        expected="tensors computed from parameters in the forward pass",
        fix="compute it in forward, or in a property; or give a freshly built model",
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


class _Attributes:
    """A module's own attributes as they are now. Containers are copied: models put things there."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        own = {k: v for k, v in vars(module).items() if k not in _TORCH_STATE}
        self._containers = {k: copy.copy(v) for k, v in own.items() if type(v) in _CONTAINERS}
        self._others = {k: v for k, v in own.items() if k not in self._containers}
        self._others["training"] = False
        self._count = len(vars(module))

    def restore(self) -> None:
        """Set the module's attributes back, in eval mode."""
        current = vars(self._module)
        current.update(self._others)
        for name, value in self._containers.items():
            current[name] = copy.copy(value)
        if len(current) > self._count:
            kept = self._containers.keys() | self._others.keys() | _TORCH_STATE
            for name in [k for k in current if k not in kept]:
                del current[name]
