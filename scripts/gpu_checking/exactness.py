"""Every case of the tests, and whole models, against plain autograd of one example at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from torch import nn

import analyze
from analyze.errors import described
from analyze.gradients.device.devices import has_float64
from scripts.gpu_checking.check import Check, Finding
from tests import agreement, architectures, oracle
from tests.cases import CASES

BOUNDS = {"float64": 1e-9, "float32": 1e-2}
WHOLE = ["vision-transformer", "gpt2", "resnet18", "u-net", "lstm-classifier", "convnext",
         "swin-v2", "bert", "volumes", "mobilenet-v3-small"]  # fmt: skip
FEW = {"cases": 3, "models": 1}  # of a quick check


def cases(check: Check) -> Iterator[Finding]:
    """The worst error of each case; first all of them in float64, then in float32."""
    yield from _each(
        check, {case.name: partial(_of_case, case, check) for case in _some(CASES, "cases", check)}
    )


def models(check: Check) -> Iterator[Finding]:
    """The worst error of each of some whole models."""
    known = {a.name: a for a in architectures.ARCHITECTURES}
    names = _some(WHOLE, "models", check)
    yield from _each(check, {n: partial(_of_architecture, known[n], check) for n in names})


def _some(all_of_them: Sequence[Any], kind: str, check: Check) -> Sequence[Any]:
    return all_of_them[: FEW[kind]] if check.quick else all_of_them


def _each(check: Check, errors_of: dict[str, Callable[[str], float]]) -> Iterator[Finding]:
    """A summary for each precision, in which each function gives a worst error."""
    precisions = [p for p in BOUNDS if p != "float64" or has_float64(check.device)]
    for precision in precisions:
        errors: dict[str, Any] = {}
        for name, error_of in errors_of.items():
            if check.left < 0:
                break
            try:
                errors[name] = error_of(precision)
            except Exception as error:
                errors[name] = described(error)
        yield precision, summary(errors, len(errors_of), BOUNDS[precision])


def summary(errors: dict[str, Any], wanted: int, bound: float) -> dict[str, Any]:
    """How many were reached and agree; those that do not, and the worst that do."""
    numbers = {name: e for name, e in errors.items() if isinstance(e, float)}
    exact = {name: e for name, e in numbers.items() if e < bound}
    return {
        "wanted": wanted,
        "reached": len(errors),
        "exact": len(exact),
        "bound": bound,
        "worst": max(exact.values(), default=math.nan),
        "wrong": {name: e for name, e in errors.items() if name not in exact},
    }


def _of_case(case: Any, check: Check, precision: str) -> float:
    options = {"device": str(check.device), "precision": precision, "batch_size": 3}
    return _worst(*agreement.measured(case, **options))


def _of_architecture(architecture: Any, check: Check, precision: str) -> float:
    model, inputs, targets = architectures.settled(architecture)
    tree = analyze.measure(
        model, analyze.ProbeSet(inputs, targets), precision=precision, batch_norm="saved",
        folds=2, device=str(check.device),
    )  # fmt: skip
    cells = [oracle.fold_of(k, 2) for k in range(len(targets))]
    expected = oracle.statistics(
        model, inputs, targets, cells, 2, between=_forgetting, copied=False
    )
    return _worst(tree, expected)


def _forgetting(model: nn.Module) -> None:
    """Some models keep tensors made from parameters until they are trained again."""
    model.train().eval()


def _worst(tree: Any, expected: oracle.Statistics) -> float:
    """The largest relative error of a squared norm, or of an entry of a scaled Gram matrix."""
    parameters = tree["parameters"].to_dataset().isel(checkpoint=0)
    errors = [0.0]
    for name in set(expected.gram) - set(agreement.zero_to_rounding(tree)):
        found = parameters.sel(parameter=name)
        norms, gram = found["gradient_sqnorm"].values, found["gradient_gram"].values
        errors.append(oracle.relative_error(norms, expected.squared_norms[name]))
        errors.append(oracle.scaled_gram_error(gram, expected.gram[name]))
    return float(max(errors))
