"""``measure``: m-coherence of a model in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import xarray as xr
from torch import nn

from analyze.checkpoints.fitting.filling import finish_lazy
from analyze.errors import InputError
from analyze.gradients.engine import Engine
from analyze.gradients.layers import parameter_rows
from analyze.gradients.losses import loss_in_python, position_counts
from analyze.gradients.measurement import Settings
from analyze.gradients.model.copying import copied
from analyze.gradients.stages import MEASURING
from analyze.keywords import built
from analyze.probes import ProbeSet
from analyze.probes.directions import UPDATE
from analyze.probes.in_python import probes_in_python
from analyze.results import tree as results
from analyze.results.display import Results
from analyze.results.tree import OK, Row
from analyze.runs.collation import without_rounding
from analyze.runs.messages import place_of
from analyze.runs.progress import Progress
from analyze.runs.provenance import circumstances
from analyze.runs.stages import Stages


def measure(
    model: nn.Module,
    probes: ProbeSet | Any,
    *,
    loss: str | Callable[..., Any] = "cross_entropy",
    device: str = "auto",
    batch_size: int | str = "auto",
    folds: int = 10,
    precision: str = "float32",
    batch_norm: str = "recomputed",
    tune: bool = False,
    directions: Sequence[str] = (),
    step: float | None = None,
    epoch: float | None = None,
    progress: Progress | None = None,
) -> xr.DataTree:
    """M-coherence of a model in memory, per layer and subset.

    ``m_coherence(S) = |sum_{i in S} g_i|^2 / sum_{i in S} |g_i|^2`` over the gradients ``g_i`` of
    each example's own loss: 1 when they are orthogonal, |S| when they are equal.

    Args:
        model: Left as it was: mode, requires_grad, grads, buffers, device. A copy is measured, in
            eval mode; all its parameters count, frozen ones as well.
        probes: The examples: a probe set, a pair ``(inputs, targets)``, or a data set or
            ``DataLoader``, which are taken as by ``ProbeSet.from_dataset``.
        loss: A loss spec; a loss of torch, as a function or module with its options; or a function
            of one's own, ``FUNCTION(output, target) -> [N]``. An example's loss is its part of
            the sum that torch takes over a batch: the sum over its positions, never a mean.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:0``, ``mps`` or another
            accelerator of torch.
        batch_size: Examples at a time.
        folds: Random blocks of each subset, for standard errors; 1 gives NaN for them.
        precision: ``float32`` or ``float64``; sums are accumulated in float64 in both.
        batch_norm: ``recomputed`` sets the statistics by one pass over the probes that are not
            held out; ``saved`` takes the model's own, as plain autograd in eval mode does, whose
            numbers differ from the default's.
        tune: Time batch sizes and algorithms and take the fastest; else they follow from what is
            counted, without a clock, the same in every call.
        directions: What each example's gradient is multiplied with: ``clean``, a subset's name, and
            ``all`` for the sum of their probes' gradients, ``weights`` for the weights.
        step: The optimizer step at which the model is, for ``concat``.
        epoch: The epoch, likewise.
        progress: Shows what happens, as ``for_stderr()`` of ``analyze.runs.progress`` does; without
            it nothing is shown.

    Returns:
        The tree of a results file with one checkpoint, called ``model``, or after its step or
        epoch.

    Raises:
        InputError: the model cannot take the probes, mixes examples, or cannot be measured
            exactly.

    Example:
        ``analyze.measure(model, analyze.ProbeSet(inputs, targets))["layers"]["m_coherence"]``

    Cost: a few plain forward and backward passes over the probes, and some over three of them in
    float64 for the proof; over two where a model that looks the same was measured before in this
    process. On several cores of a CPU what takes more than two seconds is shared among threads, to
    the same bits; after ``torch.set_num_threads(1)`` it is not.
    """
    chosen = {
        "device": device, "batch_size": batch_size, "folds": folds, "precision": precision,
        "batch_norm": batch_norm, "tune": tune, "directions": directions,
    }  # fmt: skip
    settings = built(Settings, chosen)
    settings.check()
    if UPDATE in settings.directions:
        raise _no_update()
    _check_type("model", model, nn.Module, "a torch.nn.Module")
    place = {"step": _number("step", step), "epoch": _number("epoch", epoch)}
    name = next((f"{k}_{v:.12g}" for k, v in place.items() if not math.isnan(v)), "model")
    probes = probes_in_python(probes)
    loss_spec, loss_of_each = loss_in_python(loss)
    if progress is not None:
        imported = "`from analyze.runs.progress import for_stderr`"
        _check_type("progress", progress, Progress, f"progress=for_stderr(), after {imported}")
    with progress or Progress() as shown:
        stages = Stages(shown)

        def announce(stage: str) -> None:
            if stage == MEASURING:
                shown.start([name], engine.passes * len(probes))
                shown.checkpoint(name, place_of(engine))
            else:
                stages.begin(stage)

        engine = Engine(probes, loss_of_each, settings, announce)
        stages.expect(engine.stages(model))
        engine.divide(model)
        measured = engine.measure_alone(model, partial(_copy, model), shown.advance)
    parameters = parameter_rows(model, engine.plan)
    row = Row(name, place["step"], place["epoch"], OK, without_rounding(measured, engine))
    provenance = {
        **circumstances(engine, loss_spec, [measured]),
        "model": {"class": type(model).__name__},
        "warnings": [*engine.notes, *measured.notes],
    }
    tree = results.build_tree(
        [row], parameters, probes, engine.cells, provenance,
        examples=True, positions=position_counts(engine.loss, probes.targets),
        directions=settings.directions,
    )  # fmt: skip
    return Results.of(tree)


def _number(name: str, value: object) -> float:
    """A step or epoch; NaN where it is not known."""
    if value is None:
        return math.nan
    number = value.item() if hasattr(value, "item") else value  # of a counter that is a tensor
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise InputError(
            f"the {name} given is no number",
            found=f"{name}={value!r}",
            expected=f"the {name} at which the model is, or None",
            fix=f"analyze.measure(model, probes, {name}=100)",
        )
    return float(number)


def _no_update() -> InputError:
    return InputError(
        "a model in memory has no next checkpoint",
        found=f"the direction {UPDATE!r}",
        expected="names of subsets, all, and weights: analyze.measure has one model, and the "
        "update is the next checkpoint's weights minus these",
        fix=f'analyze.run(RUN, directions=["{UPDATE}"]) on a directory of checkpoints',
    )


def _copy(model: nn.Module) -> nn.Module:
    """A copy to measure, in which lazy modules with weights are as after their first pass."""
    copy = copied(model)
    finish_lazy(copy)
    return copy


def _check_type(name: str, value: object, wanted: type, expected: str) -> None:
    if not isinstance(value, wanted):
        raise InputError(
            f"the {name} given is something else",
            found=f"the class {value.__name__}, not an object of it"
            if isinstance(value, type)
            else f"{name} of type {type(value).__name__}",
            expected=expected,
            fix=f"analyze.measure({value.__name__}(...), probes)"
            if isinstance(value, type)
            else f"analyze.measure(model, probes) with {expected}",
        )
