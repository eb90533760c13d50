"""What a model's passes need, learned from a few passes before any is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from analyze.errors import InputError, first_line, listed, out_of_memory
from analyze.gradients.device.arriving import Arriving
from analyze.gradients.model.attributes import Attributes
from analyze.gradients.model.graph import nodes_of_graph
from analyze.gradients.numbers import as_real, double

Run = Callable[[], Tensor]
Call = Callable[[nn.Module, torch.device, torch.dtype], Tensor]
SAME = 1e-5  # of an output's norm: rounding of float32
ALIKE = 1e-2  # where two precisions or devices are compared

HOOKED = (
    "hooks on parameters (Tensor.register_hook) are not called: the loss's own gradient is "
    "measured of {names}"
)
MERGED = (
    "measured as eval() leaves them, which changes the parameters (as LoRA does that merges): "
    "{names}; what was merged into them has no gradient of its own"
)


class Settled(NamedTuple):
    """What the passes of a model need."""

    differentiates: bool = False  # whether gradients are to be on in all of them
    left_out: tuple[str, ...] = ()  # frozen parameters that cannot require a gradient


class Tried(NamedTuple):
    """The output of a pass, or the error that it raised."""

    output: Tensor | None
    error: Exception | None = None


def tried(run: Run, gradients: bool) -> Tried:
    """A pass, with gradients on or off.

    Raises:
        RuntimeError: out of memory, which says nothing of the model.
    """
    try:
        with torch.set_grad_enabled(gradients):
            return Tried(run())
    except Exception as error:  # a model's forward may raise anything
        if out_of_memory(error):
            raise
        return Tried(None, error)


def set_to_eval(model: nn.Module, notes: list[str]) -> bool:
    """Put a model in eval mode, by way of training mode; ``notes`` says if parameters change.

    Returns:
        Whether to do so again before every pass: where modules do more than set a flag, unless they
        change parameters. Weights that are merged and taken apart again drift by rounding.
    """
    model.train()
    own_modes = any(
        type(m).train is not nn.Module.train or type(m).eval is not nn.Module.eval
        for m in model.modules()
    )
    before = [p.detach().clone() for p in model.parameters()] if own_modes else []
    model.eval()
    pairs = [*zip(model.parameters(), before, strict=own_modes)]
    same = Arriving([(new == old).all() for new, old in pairs]).read() if pairs else []
    names = (name for name, _ in model.named_parameters())
    merged = [name for name, is_same in zip(names, same, strict=own_modes) if not is_same]
    if merged:
        notes.append(MERGED.format(names=listed(merged)))
    return own_modes and not merged


def hooked_parameters(model: nn.Module) -> list[str]:
    """Notes of hooks that change parameters' gradients: what is measured is the loss's gradient."""
    names = [name for name, p in model.named_parameters() if p._backward_hooks]
    return [HOOKED.format(names=listed(names))] if names else []


def refuse_meta(model: nn.Module) -> None:
    """Raise where parameters or buffers are on the meta device: they have no values."""
    tensors = (*model.named_parameters(), *model.named_buffers())
    names = [name for name, tensor in tensors if tensor.is_meta]
    if names:
        raise InputError(
            "the model has parameters without values",
            found=f"{listed(names)} on the meta device",
            expected="parameters with the values of a checkpoint",
            fix="build the module on the CPU; or, where torch.func.functional_call needs its form "
            "alone, keep it out of the modules: self.form = [module]",
        )


def without_hooks(model: nn.Module) -> list[str]:
    """Notes of the parameters' hooks, which are removed: rules would not call them."""
    notes = hooked_parameters(model)
    for parameter in model.parameters():
        if parameter._backward_hooks:
            parameter._backward_hooks.clear()
    return notes


def unable_to_have_gradients(run: Run, model: nn.Module, frozen: Sequence[str]) -> list[str]:
    """The frozen parameters that must stay so for a pass to work.

    Forward passes write to such a parameter in place, or read it by ``numpy()``. ``run`` is a pass
    with gradients on, after which the model's parameters may be others, of the same names.
    """

    def let(wanted: bool, *names: str) -> None:
        for name in names:
            model.get_parameter(name).requires_grad_(wanted)

    let(False, *frozen)
    kept = []
    if frozen and tried(run, gradients=True).error is None:
        for name in frozen:
            let(True, name)
            if tried(run, gradients=True).error is not None:
                let(False, name)
                kept.append(name)
    let(True, *(name for name in frozen if name not in kept))
    return kept


def refuse_kept_graph(run: Run, output: Tensor, names: Mapping[int, str]) -> None:
    """Raise where a pass goes on with what an earlier one computed from the parameters.

    This is kept in a variable of a class or a file, say, where nothing sets it back: gradients end
    there. ``run`` is a pass with gradients on, ``output`` that of an earlier one, and ``names``
    maps ``id(parameter)`` to its name.
    """
    again = tried(run, gradients=True).output
    before = nodes_of_graph(output.grad_fn)
    after = nodes_of_graph(None if again is None else again.grad_fn)
    kept = [node for node in after if node in before and not hasattr(node, "variable")]
    if kept:
        leaves = (getattr(node, "variable", None) for top in kept for node in nodes_of_graph(top))
        below = {names[id(leaf)] for leaf in leaves if id(leaf) in names}
        raise InputError(
            "the model keeps a tensor that it computed from its parameters earlier",
            found=f"one that was computed from {listed(sorted(below)) or 'them'} in an earlier "
            "pass and has a graph: another checkpoint's weights would not reach it",
            expected="tensors computed from parameters in the forward pass",
            fix="compute it in forward, or in a property; keep it in an attribute of the module, "
            "not in a class, a global variable or functools.lru_cache",
        )


def refuse_unlike(original: nn.Module, call: Call, again: Tensor | None, replica: Tensor) -> None:
    """Raise where a copy computes something else than the model that it was made of.

    ``call`` is a pass of a model, on a device and in a precision; ``replica`` and ``again`` are
    what two passes of the copy gave. The original is left as it was.

    Cost: a pass of the original, and one more where it differs from the copy.
    """
    like = next((p for p in original.parameters() if p.is_floating_point()), None)
    if like is None or any(isinstance(module, LazyModuleMixin) for module in original.modules()):
        return  # a pass would change the classes of a lazy model
    if again is None or _differ(again, replica, SAME):
        return  # no output, or another one each time, is reported elsewhere
    same = like.dtype == replica.dtype and like.device == replica.device
    with _as_it_was(original):
        theirs = partial(tried, partial(call, original, like.device, like.dtype), gradients=False)
        output = theirs().output
        if output is None or not _differ(output, replica, SAME if same else ALIKE):
            return
        if _differ(output, theirs().output, SAME):
            return
    raise InputError(
        "a copy of the model computes something else than the model, and a copy is measured",
        found=f"another output of {type(original).__name__} for the same example",
        expected="a model whose copy.deepcopy computes the same",
        fix="let nothing depend on the id of a module or on a table outside of the modules: "
        "keep it in an attribute of the module that uses it",
    )


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """In eval mode in the block; then with modes, attributes, hooks, buffers and values again."""
    attributes = Attributes(model)
    values = [parameter.detach().clone() for parameter in model.parameters()]
    model.eval()
    try:
        yield
    finally:
        attributes.restore()
        for parameter, value in zip(model.parameters(), values, strict=True):
            if not torch.equal(parameter, value):
                parameter.data.copy_(value)


def _differ(a: Tensor | None, b: Tensor | None, share: float) -> bool:
    """Whether two outputs are further from each other than a share of their norm."""
    if a is None or b is None or a.shape != b.shape:
        return True
    a, b = (double(as_real(t.detach())).cpu() for t in (a, b))
    return bool((a - b).norm() > share * torch.maximum(a.norm(), b.norm()))


def needs_gradients(without: Tensor | None, with_gradients: Tensor) -> bool:
    """Whether a model gives its output with gradients on only, as one that takes forces does.

    ``without`` is what a pass without gradients gave; None where it failed.
    """
    return _differ(without, with_gradients, SAME)


def without_gradients(error: Exception) -> InputError:
    """The refusal of a model that runs only where no gradient is wanted."""
    return InputError(
        "the model has no backward pass",
        found=f"with gradients on, its forward pass fails: {first_line(error)}",
        expected="a forward pass that works as in training, with parameters that require gradients",
        fix="take numpy(), changes of parameters in place and inference mode out of forward",
    )


def output_without_graph(model: nn.Module) -> InputError:
    """The refusal of a model whose output autograd cannot follow back to any parameter."""
    return InputError(
        "the model's output has no gradient",
        found=f"{type(model).__name__}.forward, in eval mode, gives an output that requires none, "
        "though its parameters do",
        expected="an output that loss.backward() takes back to the parameters",
        fix="take torch.no_grad(), inference_mode, detach() and argmax() out of forward; "
        "torch.autograd.grad inside it needs create_graph=True in eval mode as well",
    )
