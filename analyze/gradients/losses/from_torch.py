"""Losses of torch, as functions and as modules: which loss of one example each stands for.

torch's losses reduce a batch. An example's loss here is its part of that: what it adds to the sum
that torch takes over the batch. What this sum is divided by (examples, positions that count, the
weights of the classes in the batch) is one number for all examples, and cancels in m-coherence.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from analyze.errors import InputError
from analyze.gradients.losses.user import UserLoss
from analyze.specs.spec import Scalar

MODULE = "torch.nn"  # the source of a spec, as in ``torch.nn:HuberLoss?delta=0.5``
# By name how the values that a loss gives with reduction="none" become one of each example: the
# mean over its elements, or the sum over its positions.
REDUCED = {
    "BCELoss": "mean", "HuberLoss": "mean", "L1Loss": "mean", "PoissonNLLLoss": "mean",
    "SmoothL1Loss": "mean", "SoftMarginLoss": "mean", "MultiLabelMarginLoss": "sum",
    "MultiLabelSoftMarginLoss": "sum", "MultiMarginLoss": "sum", "NLLLoss": "sum",
}  # fmt: skip
# Losses that the program computes itself, by the name of torch's module.
OWN = {
    "BCEWithLogitsLoss": "binary_cross_entropy_with_logits", "CrossEntropyLoss": "cross_entropy",
    "MSELoss": "mse",
}  # fmt: skip
FUNCTIONS: dict[Callable[..., Any], type[nn.Module]] = {
    F.binary_cross_entropy: nn.BCELoss, F.binary_cross_entropy_with_logits: nn.BCEWithLogitsLoss,
    F.cross_entropy: nn.CrossEntropyLoss, F.huber_loss: nn.HuberLoss, F.l1_loss: nn.L1Loss,
    F.mse_loss: nn.MSELoss, F.multi_margin_loss: nn.MultiMarginLoss,
    F.multilabel_margin_loss: nn.MultiLabelMarginLoss,
    F.multilabel_soft_margin_loss: nn.MultiLabelSoftMarginLoss, F.nll_loss: nn.NLLLoss,
    F.poisson_nll_loss: nn.PoissonNLLLoss, F.smooth_l1_loss: nn.SmoothL1Loss,
    F.soft_margin_loss: nn.SoftMarginLoss,
}  # fmt: skip


def spec_of(loss: object) -> str | None:
    """The spec of a loss of torch with its options; None for what is no loss of torch.

    Takes functions of ``torch.nn.functional``, with options bound by ``functools.partial``, and
    modules of ``torch.nn``. The weights of cross-entropy's classes become an option of the spec.

    Raises:
        InputError: a loss of torch, or an option of one, that has no meaning for one example.
    """
    module = _module_of(loss)
    if module is None:
        return None
    name = type(module).__name__
    if name not in (*OWN, *REDUCED):
        raise _refused(name, "a loss of torch that is not known here")
    options = _options(module)
    reduction = options.pop("reduction")
    if reduction == "sum" and (name in ("BCEWithLogitsLoss", "MSELoss") or _is_mean(name)):
        raise InputError(
            "the loss is a sum over elements, and here it is their mean",
            found=f'{name} with reduction="sum"',
            expected="the mean over an example's elements: coherence is the same for both, as a "
            "factor that all examples have cancels",
            fix=f'loss=torch.nn.{name}(reduction="mean")',
        )
    weight = options.pop("weight", None)
    if isinstance(weight, Tensor) and name == "CrossEntropyLoss":
        options["weight"] = ",".join(f"{value:.9g}" for value in weight.flatten().tolist())
    elif weight is not None:
        raise _refused(name, f"weight={_short(weight)}")
    default = _options(type(module)())
    kept = {k: v for k, v in options.items() if v != default.get(k)}
    unfit = [f"{k}={_short(v)}" for k, v in kept.items() if not isinstance(v, Scalar)]
    if unfit:
        raise _refused(name, ", ".join(unfit))
    spec = OWN.get(name, f"{MODULE}:{name}")
    return spec + ("?" + "&".join(f"{k}={v}" for k, v in kept.items()) if kept else "")


def named_loss(name: str, arguments: dict[str, Scalar], spec: str) -> UserLoss | None:
    """The loss of ``torch.nn`` by its name in a spec; None for one that is not in ``REDUCED``.

    Raises:
        InputError: an option that it does not take.
    """
    if name not in REDUCED:
        return None
    kind = getattr(nn, name)
    taken = set(inspect.signature(kind).parameters)
    taken -= {"size_average", "reduce", "reduction", "weight"}
    if unknown := arguments.keys() - taken:
        raise InputError(
            "the loss does not take these arguments",
            found=f"loss {spec!r}: {', '.join(sorted(unknown))}",
            expected=f"any of {', '.join(sorted(taken))}" if taken else f"{name} without arguments",
            fix=f"--loss {MODULE}:{name}",
        )
    return UserLoss(partial(_per_example, kind(**arguments, reduction="none"), name), {}, spec)


def _per_example(module: nn.Module, name: str, output: Tensor, target: Tensor) -> Tensor:
    """Losses ``[N]`` of a module that gives ``[N, ...]``."""
    if _is_mean(name) and output.shape != target.shape:  # torch would broadcast, with a warning
        raise ValueError("the targets must have the shape of the output")
    values: Tensor = module(output, target)
    rows = values.reshape(len(output), -1)
    return rows.mean(1) if _is_mean(name) else rows.sum(1)


def _is_mean(name: str) -> bool:
    return REDUCED.get(name) == "mean"


def _module_of(loss: object) -> nn.Module | None:
    """The module of torch that computes a loss, with its options; None for another."""
    options: dict[str, Any] = {}
    if isinstance(loss, partial) and not loss.args:
        options, loss = dict(loss.keywords), loss.func
    if isinstance(loss, _Loss) and type(loss).__module__ == _Loss.__module__:
        return loss
    kind = next((kind for function, kind in FUNCTIONS.items() if function is loss), loss)
    if isinstance(kind, type) and issubclass(kind, _Loss) and kind.__module__ == _Loss.__module__:
        try:
            return kind(**options)
        except TypeError as error:
            raise _refused(kind.__name__, str(error)) from error
    name = getattr(loss, "__name__", "")
    if getattr(loss, "__module__", None) == F.__name__ and name.endswith(("_loss", "_div")):
        raise _refused(name, "a loss of torch that is not known here")
    return None


def _options(module: nn.Module) -> dict[str, Any]:
    """The options of a module by name, ``reduction`` and tensors among them."""
    taken = inspect.signature(type(module)).parameters.keys() - {"size_average", "reduce"}
    return {name: getattr(module, name, None) for name in sorted(taken)}


def _short(value: object) -> str:
    return f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else repr(value)


def _refused(name: str, found: str) -> InputError:
    return InputError(
        "this loss of torch is not taken as it is",
        found=f"{name}: {found}",
        expected=f"one of {', '.join([*OWN, *REDUCED])} with options that mean one thing for each "
        "example; of weights those of cross-entropy's classes",
        fix='a function of your own, FUNCTION(output, target) -> [N], made with reduction="none"',
    )
