"""Find the checkpoints of a run and put them in order."""

from __future__ import annotations

import fnmatch
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from analyze.checkpoints.naming import epoch_in_name, natural_key, step_in_name
from analyze.checkpoints.reading import Content, read_content, shown
from analyze.errors import CheckpointError, InputError, listed

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".pth.tar")
# What trainers leave beside the weights, and files that are still being written.
NOT_WEIGHTS = re.compile(
    r"^(optimizer|optim|scheduler|scaler|rng_state|training_args|random_states|tmp)|\.(part|tmp)$",
    re.IGNORECASE,
)
SLICE = re.compile(r"^(-?\d*):(-?\d*)(?::(-?\d*))?$")


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint of a run, before its tensors are read.

    Args:
        name: Path relative to the run, with forward slashes; unique.
        path: Where the file is.
        step: Of the optimizer; NaN where unknown.
        epoch: NaN where unknown.
        step_rule: How the step was found.
        format: ``safetensors`` or ``torch``.
        weights_key: Where in the file the weights are; empty for the top level.
        prefix: What all names of its tensors begin with, as wrappers leave it.
        tensors: Number of weight tensors.
        problem: Why it cannot be read; None when it can.
    """

    name: str
    path: Path
    step: float
    epoch: float
    step_rule: str
    format: str
    weights_key: str
    prefix: str
    tensors: int
    problem: CheckpointError | None = None


def find_checkpoints(run: Path, exclude: Iterable[Path] = ()) -> list[Checkpoint]:
    """The checkpoints below a run's directory, in order of step, then epoch, then name.

    Args:
        run: A directory, or one checkpoint file.
        exclude: Files that are something else: the probe file.

    Raises:
        InputError: there is no such directory, or no checkpoint in it.
    """
    if not run.exists():
        raise InputError(
            "the run is missing",
            found=f"no directory {run}",
            expected="a directory of checkpoints",
            fix="give the directory that your trainer saved to: analyze scan RUN",
        )
    left_out = {path.resolve() for path in exclude}
    root = run if run.is_dir() else run.parent
    files = [p for p in (run.rglob("*") if run.is_dir() else [run]) if p.is_file()]
    candidates = [p for p in files if _may_hold_weights(p) and p.resolve() not in left_out]
    found = [c for p in candidates if (c := _examine(p, root)) is not None]
    if not found:
        raise InputError(
            "no checkpoints in the run",
            found=f"{len(files)} files below {run}{_kinds(files)}, none of them a checkpoint",
            expected=f"files ending in {', '.join(SUFFIXES)} that hold weights",
            fix="give the directory that your trainer saved to: analyze scan RUN",
        )
    return sorted(found, key=_order(found))


def select(checkpoints: list[Checkpoint], selection: str) -> list[Checkpoint]:
    """Those that a glob on the names, or a Python slice such as ``::2`` or ``-3:``, picks.

    Raises:
        InputError: nothing is left.
    """
    if match := SLICE.match(selection):
        start, stop, step = (int(g) if g else None for g in match.groups())
        picked = checkpoints[start:stop:step] if step != 0 else []
    else:
        picked = [c for c in checkpoints if fnmatch.fnmatch(c.name, selection)]
    if not picked:
        raise InputError(
            "the selection leaves no checkpoint",
            found=f"--checkpoints {selection!r} of {len(checkpoints)} checkpoints",
            expected=f"a glob or slice that matches names like {checkpoints[0].name}",
            fix="--checkpoints '*', or --checkpoints ::2",
        )
    return picked


def _kinds(files: list[Path]) -> str:
    """`` (8 .distcp, 1 .json)``: what is there instead of checkpoints."""
    kinds = Counter(path.suffix or "without ending" for path in files)
    return f" ({listed([f'{n} {kind}' for kind, n in kinds.most_common()], 4)})" if kinds else ""


def _may_hold_weights(path: Path) -> bool:
    return path.name.endswith(SUFFIXES) and not NOT_WEIGHTS.search(path.name)


def _examine(path: Path, root: Path) -> Checkpoint | None:
    """What a file holds; None when it is no checkpoint (a probe file, no tensors)."""
    name = shown(path.relative_to(root).as_posix())
    step, step_rule = step_in_name(name)
    epoch, _ = epoch_in_name(name)
    try:
        content = read_content(path)
    except CheckpointError as problem:
        return Checkpoint(
            name, path, _known(step), _known(epoch), step_rule, "unknown", "", "", 0, problem
        )
    if not content.names or _is_probe_file(content):
        return None
    if content.step is not None:
        step, step_rule = content.step, f"content {content.step_key}"
    if content.epoch is not None:
        epoch = content.epoch
    return Checkpoint(
        name, path, _known(step), _known(epoch), step_rule or "none",
        content.format, content.weights_key, common_prefix(content.names), len(content.names),
    )  # fmt: skip


def common_prefix(names: list[str]) -> str:
    """The dotted prefix that all names share, such as ``module.`` or ``model._orig_mod.``."""
    parts = [name.split(".")[:-1] for name in names]
    shared = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return "".join(f"{part}." for part in shared)


def _is_probe_file(content: Content) -> bool:
    return {"targets", "subset"} <= set(content.names)


def _order(found: list[Checkpoint]) -> Callable[[Checkpoint], tuple[object, ...]]:
    """By step where all have one, else by epoch where all have one, else by name.

    What cannot be read may have neither; it stands first then, so that it is seen.
    """
    readable = [c for c in found if c.problem is None]
    if not any(math.isnan(c.step) for c in readable):
        return lambda c: (0.0 if math.isnan(c.step) else c.step, natural_key(c.name))
    if not any(math.isnan(c.epoch) for c in readable):
        return lambda c: (0.0 if math.isnan(c.epoch) else c.epoch, natural_key(c.name))
    return lambda c: natural_key(c.name)


def _known(value: float | None) -> float:
    return float("nan") if value is None else float(value)
