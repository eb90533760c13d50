"""``init``: a starter of the run card, from what is recognised in a directory of checkpoints."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Unpack

from analyze.checkpoints.checkpoint import Checkpoint
from analyze.checkpoints.damage import read_json
from analyze.checkpoints.naming.training_position import TRAINER_STATE
from analyze.checkpoints.options import FindingKeywords, ReadingOptions
from analyze.checkpoints.reading import read_weights
from analyze.checkpoints.scan import scan
from analyze.checkpoints.torch_objects import is_tensor
from analyze.errors import InputError, counted, printable
from analyze.files.present import is_file, is_folder
from analyze.files.whole import real_path
from analyze.keywords import built, taking
from analyze.models.configs import config_of
from analyze.models.recognition import specs_that_fit
from analyze.probes import ProbeSet, read_probes
from analyze.specs.run_card import NAME

OF_THE_USER = ("manifest", "trust_pickle", "rename", "ignore")  # no part of what is found
PROBES = "probes.safetensors"
AUTO = "transformers:auto"
PLAIN, SHIFTED = "cross_entropy", "cross_entropy?shift=1"
IGNORED = -100  # as a target, does not count


@taking(ReadingOptions, without=OF_THE_USER)
def init(run: str | Path, **options: Unpack[FindingKeywords]) -> Path:
    """Write a starter of the run card, ``RUN/run.toml``, from what is recognised there.

    Layout and steps of the checkpoints are told in comments; a model is named whose tensors have
    their names and shapes, and a probe file that lies there or is still to be made.

    Args:
        run: The directory of checkpoints.
        **options: See ``ReadingOptions``; what is given stands in the card.

    Returns:
        The path of the card.

    Raises:
        InputError: there is a card already, no checkpoint, or it cannot be written.

    Example:
        ``analyze.init("runs/new").read_text()``

    Cost: as ``scan``; one checkpoint is read, and up to 30 models are built without values.
    """
    run, chosen = Path(run), built(ReadingOptions, options)
    path = run / NAME
    if not is_folder(run):
        raise _no_folder(run)
    if path.exists() or path.is_symlink():
        raise _in_the_way(path)
    scanned = scan(run, **options)
    good = [c for c in scanned.checkpoints if c.problem is None]
    if not good:
        raise next(c.problem for c in scanned.checkpoints if c.problem is not None)
    config, probes = _config(good, run), _probes(run)
    lines = [
        "# Written by analyze init; all keys are in docs/run-card.md.",
        f"# {_series(good)}",
        "[run]",
        f"name = {_text(run.resolve().name)}",
        *_model(good[0], chosen, config),
        _probes_line(run, probes),
        _loss(config, good, None if probes is None else probes[1]),
        *(f"{name} = {_text(str(value))}" for name, value in options.items() if value),
        "",
        "# [training]  # settings of your own, by which runs are told apart",
        "# learning_rate = 0.1",
    ]
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    except OSError as error:
        raise _in_the_way(path, error.strerror or str(error)) from error
    return path


def _no_folder(run: Path) -> InputError:
    is_there = is_file(run)
    return InputError(
        "there is no directory to write a run card in",
        found=f"{run}, which is a file" if is_there else f"no directory {run}",
        expected="the directory of the checkpoints of a run",
        fix=f"analyze init {shlex.quote(str(run.parent))}"
        if is_there
        else "analyze init RUN with the path of the directory, from here",
    )


def _in_the_way(path: Path, why: str = "which is there already") -> InputError:
    return InputError(
        "the run card cannot be written",
        found=f"{path}, {why}",
        expected="a directory that can be written to, without a run card: none is overwritten",
        fix=f"change {path} by hand, or move it away",
    )


def _series(checkpoints: list[Checkpoint]) -> str:
    """The checkpoints in words."""
    parts = [counted(len(checkpoints), "checkpoint"), f"format {checkpoints[0].format}"]
    for word in ("step", "epoch"):
        known = [getattr(c, word) for c in checkpoints if not math.isnan(getattr(c, word))]
        if known:
            parts.append(f"{word}s {min(known):g} to {max(known):g}")
    if len(parts) == 2:
        parts.append("no steps known: step_regex = 'iter(?P<step>\\d+)' finds them in names")
    if key := checkpoints[0].weights_key:
        parts.append(f"weights at {key}")
    return printable("; ".join(parts))


def _config(checkpoints: list[Checkpoint], run: Path) -> Path | None:
    """The config.json from which transformers:auto builds the model, if it is the same for all."""
    try:
        return config_of(checkpoints, run, AUTO)
    except InputError:
        return None


def _loss(config: Path | None, checkpoints: list[Checkpoint], probes: ProbeSet | None) -> str:
    """The line of the loss; whether a causal language model's labels are the inputs is said.

    The probes say it where they are there already; else a Trainer's labels are.
    """
    architectures = "" if config is None else str(read_json(config).get("architectures"))
    if not re.search("LMHead|CausalLM", architectures):
        return f'loss = "{PLAIN}"  # as in training'
    of_trainer = any((c.path.parent / TRAINER_STATE).is_file() for c in checkpoints)
    if of_trainer if probes is None else _targets_are_inputs(probes):
        why = "the labels are the inputs" + (", as a Trainer takes them" if of_trainer else "")
        return f'loss = "{SHIFTED}"  # {why}; "{PLAIN}" where they are the tokens that follow'
    return f'loss = "{PLAIN}"  # the targets are the tokens that follow; "{SHIFTED}" for the inputs'


def _targets_are_inputs(probes: ProbeSet) -> bool:
    """Whether all targets that count are the tokens at their own positions."""
    counted = probes.targets != IGNORED
    return any(
        tokens.shape == probes.targets.shape and bool((tokens == probes.targets)[counted].all())
        for tokens in probes.inputs.values()
    )


def _model(checkpoint: Checkpoint, reading: ReadingOptions, config: Path | None) -> list[str]:
    """The line of the model, with others that fit as comments."""
    if config is not None:
        return [f'model = "{AUTO}"  # by the config.json of the checkpoints']
    weights = read_weights(checkpoint.path, reading)
    whole = {name: tuple(value.shape) for name, value in weights.items() if is_tensor(value)}
    shapes = {name.removeprefix(checkpoint.prefix): shape for name, shape in whole.items()}
    fitting = specs_that_fit(shapes)
    if not fitting and whole != shapes:  # the prefix may be a part of the model
        fitting = specs_that_fit(whole)
    first, *others = [*fitting, ""]
    if not first:
        return [
            f'# model = "timm:NAME"  # no model of the program or torchvision has these '
            f"{len(shapes)} tensors;",
            "# for one of your own: --model FILE.py:FACTORY, as a card names no code",
        ]
    line = f"model = {_text(first)}  # it has the names and shapes of all {len(shapes)} tensors"
    return [line, *(f"# model = {_text(other)}  # fits as well" for other in others if other)]


def _probes(run: Path) -> tuple[str, ProbeSet] | None:
    """A probe file in the directory, beside it or here, by its path from there; its content."""
    run = real_path(run)
    for folder in dict.fromkeys((run, run.parent, Path.cwd())):
        for path in sorted(folder.glob("*probes*.safetensors")):
            with suppress(InputError):
                return Path(os.path.relpath(path, run)).as_posix(), read_probes(path)
    return None


def _probes_line(run: Path, probes: tuple[str, ProbeSet] | None) -> str:
    """The line of the probes: a file that is there, or the command that makes one."""
    if probes is not None:
        return f"probes = {_text(probes[0])}"
    file = printable(shlex.quote(str(run / PROBES)))
    build = f"analyze probes build {file} --data SPEC --per-subset 500"
    return f'probes = "{PROBES}"  # still to be made, beside this card: {build}'


def _text(value: str) -> str:
    """A text of TOML, which has the escapes of JSON."""
    return json.dumps(value)
