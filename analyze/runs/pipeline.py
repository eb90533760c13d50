"""The main job: checkpoints + probes -> engine -> sufficient statistics -> results.

``measure`` does it for a model in memory. ``run`` does it for a directory: the job says what is to
be measured (``job``), the engine is proven on it (``preparation``), each checkpoint becomes a unit
(``replay``), and the units become the results (``collation``); again for each checkpoint that a
training adds (``following``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import xarray as xr
from torch import nn

from analyze.checkpoints.finding.watch import Watch
from analyze.checkpoints.fitting.filling import finish_lazy
from analyze.checkpoints.options import ReadingOptions
from analyze.errors import InputError, bad_choice
from analyze.files.links import real_path
from analyze.gradients.engine import Engine
from analyze.gradients.layers import parameter_rows
from analyze.gradients.losses import build_loss, position_counts
from analyze.gradients.measurement import Settings
from analyze.gradients.model.copying import copied
from analyze.gradients.step.conditions import threads_restored
from analyze.probes import ProbeSet
from analyze.results import file as store
from analyze.results import tree as results
from analyze.results.tree import OK, Row
from analyze.runs.collation import collate, without_rounding
from analyze.runs.following import first_job
from analyze.runs.following import follow as following
from analyze.runs.job import Job, Options, resolve
from analyze.runs.preparation import Prepared, prepare
from analyze.runs.progress import Progress, Silent
from analyze.runs.provenance import circumstances
from analyze.runs.replay import Outcome, replay
from analyze.runs.units.folder import Folder
from analyze.runs.units.interruption import interruptible
from analyze.runs.units.lock import locked
from analyze.statistics.warnings import warnings_of_the_run


def measure(
    model: nn.Module,
    probes: ProbeSet,
    *,
    loss: str = "cross_entropy",
    device: str = "auto",
    batch_size: int | str = "auto",
    folds: int = 10,
    precision: str = "float32",
    batch_norm: str = "recomputed",
) -> xr.DataTree:
    """M-coherence of a model in memory, per layer and subset.

    ``m_coherence(S) = |sum_{i in S} g_i|^2 / sum_{i in S} |g_i|^2`` over the gradients ``g_i`` of
    each example's own loss: 1 when they are orthogonal, |S| when they are equal.

    Args:
        model: Left as it was: mode, requires_grad, grads, buffers, device. A copy is measured, in
            eval mode; all its parameters count, frozen ones as well.
        probes: The examples.
        loss: A loss spec; an example's loss is the sum over its positions, never a mean.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:0`` or ``mps``.
        batch_size: Examples at a time.
        folds: Random blocks of each subset, for standard errors; 1 gives NaN for them.
        precision: ``float32`` or ``float64``; sums are accumulated in float64 in both.
        batch_norm: ``recomputed`` sets the statistics by one pass over the probes that are not
            held out; ``saved`` takes the model's own.

    Returns:
        The tree of a results file with one checkpoint, called ``model``.

    Raises:
        InputError: the model cannot take the probes, mixes examples, or cannot be measured
            exactly.

    Cost: a few plain forward and backward passes over the probes, and some over four of them in
    float64 for the proof. On several cores of a CPU what takes more than two seconds is shared
    among threads, to the same bits; after ``torch.set_num_threads(1)`` it is not.
    """
    settings = Settings(device, precision, batch_norm, batch_size, folds)
    settings.check()
    _check_type("model", model, nn.Module, "a torch.nn.Module")
    _check_type("probes", probes, ProbeSet, "analyze.ProbeSet(inputs, targets)")
    engine = Engine(probes, build_loss(loss), settings)
    engine.divide(model)
    engine.prepare([_copy(model)])
    measured = engine.measure(_copy(model))
    parameters = parameter_rows(model, engine.plan)
    row = Row("model", float("nan"), float("nan"), OK, without_rounding(measured, engine))
    provenance = {
        **circumstances(engine, loss, [measured]),
        "model": {"class": type(model).__name__},
        "warnings": [*engine.notes, *measured.notes],
    }
    return results.build_tree(
        [row], parameters, probes, engine.cells, provenance,
        examples=True, positions=position_counts(engine.loss, probes.targets),
    )  # fmt: skip


def run(
    run: str | Path,
    *,
    model: str | None = None,
    probes: str | Path | ProbeSet | None = None,
    loss: str | None = None,
    output: str | Path | None = None,
    device: str = "auto",
    batch_size: int | str = "auto",
    precision: str = "float32",
    batch_norm: str = "recomputed",
    folds: int = 10,
    cells: str | Sequence[str] = (),
    max_probes: int | None = None,
    layers: Sequence[str] = (),
    parameters: Sequence[str] = (),
    examples: str = "auto",
    checkpoints: str | None = None,
    on_error: str = "skip",
    restart: bool = False,
    follow: bool = False,
    patience: float | None = None,
    weights: str | None = None,
    weights_key: str | None = None,
    manifest: str | Path | None = None,
    step_regex: str | None = None,
    trust_pickle: bool = False,
    rename: Sequence[str] = (),
    ignore: Sequence[str] = (),
    progress: Progress | None = None,
) -> xr.DataTree:
    """Measure every checkpoint of a run and write the results file.

    Each checkpoint becomes a unit, a file in ``OUTPUT.units``; the results file is made of them
    at the end. The same call again keeps the units of checkpoints that have not changed.

    Args:
        run: The directory of checkpoints.
        model: A model spec; without it the run card's.
        probes: A probe file or probe set; without it the run card's.
        loss: A loss spec; without it the run card's, or ``cross_entropy``.
        output: Of the results file; without it the directory's name with ``.h5``, here.
        device: As for ``measure``, and so ``batch_size``, ``precision``, ``batch_norm``, ``folds``.
        batch_size: See above.
        precision: See above.
        batch_norm: See above.
        folds: See above.
        cells: Columns of the probe set (class, source), as names or joined by commas, by which
            gradients are summed as well: what can be told apart after the run.
        max_probes: Measure only this many probes, drawn by a hash of their ids.
        layers: Globs; only these layers are measured, and the network is their sum.
        parameters: Globs on names of parameters, likewise.
        examples: ``on`` keeps every example's squared norms, ``auto`` up to 256 MiB of them.
        checkpoints: A glob on names, or a slice such as ``::2``.
        on_error: ``skip`` leaves out a checkpoint that cannot be measured and says why in its
            ``status``; ``fail`` stops at it.
        restart: Throw away the units of an earlier run on this output.
        follow: Go on after that with each checkpoint that is new or has changed, and write the
            results again after each; ends by Ctrl-C. What is still being written is left for
            later; what the training deletes after it was measured stays.
        patience: With ``follow``: ends when nothing new came for so many minutes.
        weights: ``model`` for the trained weights, ``ema`` for their moving average; without it
            the trained ones where there are any.
        weights_key: Where in the files the weights are, as a dotted path, if scan does not know.
        manifest: A CSV file ``checkpoint,step,epoch,tokens`` that overrules every other rule.
        step_regex: With named groups ``step``, ``epoch`` or ``tokens``, searched in the names.
        trust_pickle: Open pickles that can run code: for files whose maker you trust.
        rename: ``OLD=NEW`` for names of tensors, with ``*`` for any part.
        ignore: Globs of buffers that may be missing, and of tensors that the model has no place
            for.
        progress: Told what happens.

    Returns:
        The tree that was written.

    Raises:
        InputError: nothing could be measured, another run writes to the output, its units are of
            another configuration, or the first problem with ``on_error="fail"``.
        Interrupted: Ctrl-C or SIGTERM; the finished units are kept.
    """
    columns = tuple(filter(None, cells.split(",")) if isinstance(cells, str) else cells)
    settings = Settings(
        device, precision, batch_norm, batch_size, folds,
        layers=tuple(layers), parameters=tuple(parameters), cells=columns,
    )  # fmt: skip
    listing = None if manifest is None else Path(manifest)
    reading = ReadingOptions(
        weights, listing, step_regex, trust_pickle, tuple(rename), tuple(ignore), weights_key
    )
    options = Options(
        model, probes, loss, checkpoints, max_probes, settings, examples, on_error, reading
    )
    options.check()
    target = Path(output) if output is not None else Path(f"{real_path(Path(run)).name}.h5")
    store.check_writable(target)
    _check_patience(follow, patience)
    progress = progress or Silent()
    watch = Watch(Path(run), None if patience is None else 60 * patience) if follow else None
    job = first_job(watch, options, progress) if watch else resolve(run, options)
    folder = Folder(target)
    with interruptible(folder), threads_restored(), locked(folder.lock) as supported:
        if not supported:
            progress.note(f"Warning: no locks beside {target}: run one command at a time on it")
        prepared = prepare(job, folder, restart, alone=follow)
        series: Iterable[tuple[Job, list[Outcome]]]
        if watch is None:
            series = [(job, replay(job, prepared, folder, progress))]
        else:
            series = following(job, prepared, watch, folder, progress)
        return _written(series, prepared, target, progress)


def _copy(model: nn.Module) -> nn.Module:
    """To be measured; lazy modules that have their weights are what their first pass makes them."""
    copy = copied(model)
    finish_lazy(copy)
    return copy


def _written(
    series: Iterable[tuple[Job, list[Outcome]]],
    prepared: Prepared,
    target: Path,
    progress: Progress,
) -> xr.DataTree:
    """Write the results of each job, in place of those before, and return the last."""
    said: set[str] = set()
    for job, outcomes in series:
        tree = collate(job, prepared, outcomes)
        for warning in warnings_of_the_run(tree):
            if warning not in said:
                progress.note(f"Warning: {warning}")
            said.add(warning)
        store.write_results(tree, target)
    if verified := json.loads(tree.attrs["provenance"])["verification"]["agreement"]:
        progress.note(f"Verified: {verified}")
    return tree


def _check_patience(follow: bool, patience: float | None) -> None:
    if patience is not None and not (follow and patience > 0):
        raise bad_choice("patience", patience, "a positive number of minutes, with --follow")


def _check_type(name: str, value: object, wanted: type, expected: str) -> None:
    if not isinstance(value, wanted):
        raise InputError(
            f"the {name} given is something else",
            found=f"{name} of type {type(value).__name__}",
            expected=expected,
            fix=f"analyze.measure(model, probes) with {expected}",
        )
