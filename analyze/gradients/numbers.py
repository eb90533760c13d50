"""Numbers: real, complex, integer and truth values, each kept as what it is; float64."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from analyze.errors import InputError, listed
from analyze.gradients.device.devices import has_float64
from analyze.gradients.device.sending import sent

COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}
# Modules of torch.ao hold packed weights; tensors of the others are classes of their own.
PACKED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")
PLAIN = "FloatFunctional"  # which adds and multiplies, in models that are yet to be quantised
CLASSES_OF_TENSORS = ("torchao.", "bitsandbytes.")


def differentiable(tensor: Tensor) -> bool:
    """Whether a gradient with respect to it can exist: integers and truth values have none."""
    return tensor.is_floating_point() or tensor.is_complex()


def as_real(tensor: Tensor) -> Tensor:
    """Complex ``[...]`` as its real and imaginary parts ``[..., 2]``; any other as it is.

    A complex parameter's gradient is ``dL/dRe + i dL/dIm``, so that sums, squared norms and inner
    products of the parts are those of the gradient: ``|g|^2`` and ``Re <g, h>``.
    """
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def at_least(dtype: torch.dtype, least: torch.dtype) -> torch.dtype:
    """``dtype``, or the dtype of its kind in the precision ``least`` if that is higher."""
    if dtype.is_complex:
        return torch.promote_types(dtype, COMPLEX[least])
    return torch.promote_types(dtype, least) if dtype.is_floating_point else dtype


def with_precision(model: nn.Module, device: torch.device, least: torch.dtype) -> nn.Module:
    """The model on a device, its parameters and buffers in the precision ``least`` or higher.

    Complex ones stay complex and integers integers. ``Module.to(dtype)`` would drop imaginary
    parts. Nothing is lowered: what a model keeps in float64 beside float32 it needs in float64.
    """

    def converted(tensor: Tensor) -> Tensor:
        dtype = tensor.dtype
        # A float8 has no promotion; its values are among those of every wider kind.
        narrow = dtype.is_floating_point and dtype.itemsize == 1
        wide = least if narrow else at_least(dtype, least)
        return sent(tensor, device, wide)

    return model._apply(converted)


def precision_of(model: nn.Module, least: torch.dtype) -> torch.dtype:
    """The precision in which a model takes its inputs: float64 where its first layer is that."""
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.dtype.itemsize > 1:
            return torch.promote_types(parameter.dtype, least)
    return least


def refuse_quantised(model: nn.Module) -> None:
    """Refuse weights that have no gradient because they are quantised, by ``InputError``."""
    names = [f"{n or 'the model'} ({type(m).__name__})" for n, m in model.named_modules()
             if _quantised(m)]  # fmt: skip
    kinds = {name: parameter.dtype for name, parameter in model.named_parameters()}
    if not names and not any(differentiable(p) for p in model.parameters()):
        names = [f"{name} ({named(dtype)})" for name, dtype in kinds.items()]
    if names:
        raise InputError(
            "the model is quantised, and quantised weights have no gradients",
            found=listed(names, 4),
            expected="weights that are floating point or complex numbers",
            fix="give the model as it was before it was quantised, or a factory that builds it "
            "with floating point weights: --model FILE.py:FACTORY",
        )


def notes_on(model: nn.Module, asked: torch.dtype) -> list[str]:
    """Notes for the user on the kinds of numbers in a model."""
    notes = []
    if (computed := precision_of(model, asked)) != asked:
        notes.append(
            f"the model's weights are {named(computed)}: it is measured in {named(computed)}"
        )
    integers = [name for name, p in model.named_parameters() if not differentiable(p)]
    if integers:
        notes.append(
            f"parameters of integers or truth values have no gradient: {listed(integers, 4)} "
            f"{'is' if len(integers) == 1 else 'are'} not measured"
        )
    return notes


def named(dtype: torch.dtype) -> str:
    """A dtype as a reader knows it."""
    return str(dtype).removeprefix("torch.")


def _quantised(module: nn.Module) -> bool:
    tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return (
        (type(module).__module__.startswith(PACKED) and not type(module).__name__.endswith(PLAIN))
        or any(tensor.is_quantized for tensor in tensors)
        or any(type(tensor).__module__.startswith(CLASSES_OF_TENSORS) for tensor in tensors)
    )


def where_it_is(values: Tensor) -> Tensor:
    """The values on a device that has float64."""
    return values if has_float64(values.device) else values.cpu()


def double(values: Tensor) -> Tensor:
    """The values in float64, on a device that has it."""
    return where_it_is(values).double()


def widest(values: Tensor) -> Tensor:
    """The values in float64 where their device has it, else as they are."""
    return values.double() if has_float64(values.device) else values
