"""The job of a run: run card and options resolved to checkpoints, model, loss and probes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from analyze.checkpoints.checkpoint import Checkpoint, sha256
from analyze.checkpoints.finding.discovery import find
from analyze.checkpoints.finding.one_run import several_runs
from analyze.checkpoints.finding.series import remarks, select
from analyze.errors import InputError, listed
from analyze.files.present import is_folder
from analyze.gradients.losses import LOSSES, Loss, build_loss, spec_in_python
from analyze.models.configs import config_of
from analyze.probes import Cells, ProbeSet, read_probes
from analyze.probes.cells import check_columns, mixed
from analyze.probes.directions import UPDATE, directions_of
from analyze.probes.file import how_to_make
from analyze.probes.in_python import probes_in_python
from analyze.probes.subsets import ALL
from analyze.runs.options import Options
from analyze.specs.model import FORMS, ModelSpec
from analyze.specs.run_card import NAME, read_run_card
from analyze.specs.spec import Spec
from analyze.statistics.regrouping import parts_of


@dataclass(frozen=True)
class Job:
    """A run with everything that is needed to measure it."""

    run: Path
    name: str
    model: ModelSpec
    loss_spec: str
    loss: Loss
    probes: ProbeSet
    probes_source: dict[str, str]
    checkpoints: list[Checkpoint]
    warnings: list[str]
    options: Options
    training: dict[str, Any]

    def __getstate__(self) -> dict[str, Any]:
        """Plain data for another process: a loss may be the user's code, and is built anew."""
        options = replace(self.options, model=None, probes=None, loss=None)
        return {**self.__dict__, "loss": None, "options": options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A job in another process.

        Raises:
            InputError: it has no such loss.
        """
        self.__dict__.update(state, loss=build_loss(state["loss_spec"]))


def resolve(run: str | Path, options: Options) -> Job:
    """A job from a run card and options: finds the checkpoints and reads the probes.

    Raises:
        InputError: something is missing, the checkpoints are of several runs, or the card names
            what a card may not.
        NoCheckpointsError: there is no checkpoint.
    """
    run = Path(run)
    folder = run if is_folder(run) else run.parent
    card = read_run_card(folder)
    card_path = str(folder / NAME)
    options = options.with_card(card, card_path)
    probe_path = None if card.probes is None else folder / card.probes
    if isinstance(options.probes, str | Path):
        probe_path = Path(options.probes)
    exclude = [] if probe_path is None else [probe_path]
    checkpoints, warnings = _checkpoints(run, exclude, options)
    model = _model(options, card.model, card_path)
    if model.needs_config:
        model = replace(model, config=config_of(checkpoints, folder, model.text))
    loss_spec = _loss(options, card.loss, card_path)
    if not isinstance(options.probes, str | Path | None):
        probes, source = probes_in_python(options.probes), {"path": "in memory"}
    elif probe_path is None:
        option = f"--probes FILE, which {how_to_make()} makes"
        raise _missing("probes", card_path, "the probe file", option)
    else:
        probes = read_probes(probe_path)
        source = {"path": str(probe_path), "sha256": sha256(probe_path)}
    if options.max_probes is not None and options.max_probes < len(probes):
        rows = np.argsort(mixed(probes.id), kind="stable")[: options.max_probes]
        probes = probes.take(np.sort(rows))
    check_columns(probes, options.settings.cells)
    _check_directions(probes, checkpoints, options)
    name = card.name or run.resolve().name
    loss = build_loss(loss_spec)
    return Job(
        run, name, model, loss_spec, loss, probes, source, checkpoints, warnings, options,
        card.training,
    )  # fmt: skip


def _check_directions(probes: ProbeSet, checkpoints: list[Checkpoint], options: Options) -> None:
    """Refuse directions that the probes or checkpoints do not have."""
    settings = options.settings
    directions_of(settings.directions, probes, Cells.of(probes, settings.folds, settings.cells))
    if UPDATE in settings.directions and len(checkpoints) < 2 and not options.more_may_come:
        raise InputError(
            "there is no update to compare gradients with",
            found=f"--directions {','.join(settings.directions)} and the only checkpoint "
            f"{checkpoints[0].name}",
            expected="two checkpoints or more: the update is the next one's weights minus these",
            fix="leave update out of --directions, or choose more --checkpoints",
        )


def advice(job: Job) -> list[str]:
    """What the user may want to ask for before the measurement, as afterwards it is too late."""
    settings, probes = job.options.settings, job.probes
    cells = Cells.of(probes, settings.folds, settings.cells)
    found, filled = directions_of(settings.directions, probes, cells), cells.counts > 0
    sums = {d.name: d.cells & filled for d in found if d.cells is not None}
    held_out = [k for k, name in enumerate(probes.subset_names) if name in probes.held_out]
    training = filled & ~np.isin(cells.subset, held_out)
    if not sums or set(sums) & set(probes.held_out) or parts_of(training, sums):
        return []
    return [
        "analyze examples compares with the sum of all training probes, which these directions do "
        f"not add up to ({listed(list(sums))}): --directions "
        f"{','.join([*settings.directions, ALL])} has it as well"
    ]


def look_again(job: Job) -> Job:
    """The job with the checkpoints that are there now.

    Raises:
        InputError: they are of several runs.
        NoCheckpointsError: no checkpoint is left.
    """
    path = job.probes_source["path"]
    checkpoints, warnings = _checkpoints(job.run, [Path(path)], job.options)
    return replace(job, checkpoints=checkpoints, warnings=warnings)


def _checkpoints(
    run: Path, exclude: list[Path], options: Options
) -> tuple[list[Checkpoint], list[str]]:
    """The checkpoints that the user chose, all of one run, and warnings about them."""
    found = find(run, exclude, options.reading).checkpoints
    chosen = found if options.checkpoints is None else select(found, options.checkpoints)
    mixed_runs = several_runs(chosen)
    if mixed_runs is not None and options.reading.manifest is None:
        raise mixed_runs
    return chosen, remarks(found, chosen)


def _model(options: Options, from_card: str | None, card_path: str) -> ModelSpec:
    if isinstance(options.model, nn.Module):
        return ModelSpec.of_module(options.model)
    if options.model is not None:
        if not isinstance(options.model, str):
            raise _no_model(options.model)
        return ModelSpec.parse(options.model)
    if from_card is None:
        raise _missing("model", card_path, FORMS, "--model SPEC")
    spec = ModelSpec.parse(from_card)
    spec.refuse_code(card_path)
    return spec


def _loss(options: Options, from_card: str | None, card_path: str) -> str:
    if options.loss is not None:
        return spec_in_python(options.loss)
    spec = from_card or "cross_entropy"
    if Spec.parse(spec).name not in LOSSES:
        raise InputError(
            "the run card names a loss that is not one of the program's own",
            found=f"loss = {spec!r} in {card_path}",
            expected=f"one of {', '.join(LOSSES)}: a run card is data",
            fix="--loss cross_entropy",
        )
    return spec


def _no_model(model: object) -> InputError:
    return InputError(
        "the model given is something else",
        found=f"the class {model.__name__}, not a model of it"
        if isinstance(model, type)
        else f"a model of type {type(model).__name__}",
        expected=f"a torch.nn.Module, or a spec: {FORMS}",
        fix="analyze.run(RUN, model=net) with the module itself, of which copies are measured",
    )


def _missing(key: str, card_path: str, what: str, option: str) -> InputError:
    there = "has none" if Path(card_path).is_file() else "does not exist"
    return InputError(
        f"the {key} of the run {'are' if key.endswith('s') else 'is'} not known",
        found=f"no {option.partition(' ')[0]}, and the run card {card_path} {there}",
        expected=f"{what}, from the run card or the command line",
        fix=f'{option}, or a run card with [run] and {key} = "..."',
    )
