"""The user's list of checkpoints, ``checkpoint,step,epoch,tokens``, which overrules every rule."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from analyze.checkpoints.naming.numerals import number_in
from analyze.checkpoints.naming.training_position import TrainingPosition
from analyze.errors import InputError
from analyze.files.present import is_there
from analyze.files.whole import real_path

COLUMNS = ("checkpoint", "step", "epoch", "tokens")


def read_manifest(manifest: Path, root: Path) -> dict[Path, TrainingPosition]:
    """The checkpoints that a CSV file lists, by their paths relative to the run.

    Raises:
        InputError: no such file, columns or numbers that mean nothing, or a path that is missing or
            out of the run.
    """
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns, lines = list(reader.fieldnames or ()), list(reader)
    except OSError as error:
        reason = error.strerror or str(error)
        raise _broken(manifest, reason, "the manifest cannot be read") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise _broken(manifest, str(error)) from error
    if "checkpoint" not in columns or not set(columns) <= set(COLUMNS) or len(columns) < 2:
        raise _broken(manifest, f"the columns {', '.join(columns) or 'none'}")
    positions = dict(_line(manifest, k, line, root) for k, line in enumerate(lines, 2))
    if len(positions) != len(lines) or not lines:
        raise _broken(manifest, "a checkpoint twice" if lines else "no line below the header")
    return positions


def _line(
    manifest: Path, line_number: int, line: dict[str, str | None], root: Path
) -> tuple[Path, TrainingPosition]:
    """The path and the training position in a line of the manifest; cells may be empty."""
    place = f"line {line_number}"
    path = root / (line["checkpoint"] or "")
    if not is_there(path) or not real_path(path).is_relative_to(real_path(root)):
        raise _broken(manifest, f"{place}: no {line['checkpoint']!r} in {root}")
    numbers: dict[str, Any] = {}
    for column in COLUMNS[1:]:
        if text := (line.get(column) or "").strip():
            numbers[column] = _number(text)
            if not math.isfinite(numbers[column]):
                raise _broken(manifest, f"{place}: {column} {text!r}")
    return path, TrainingPosition(step_rule="manifest", **numbers)


def _number(text: str) -> float:
    """A number written as in names, ``10k``, or in Python, ``-1e-3``; NaN for anything else."""
    number = number_in(text)
    try:
        return float(text) if number is None else number
    except ValueError:
        return math.nan


def _broken(manifest: Path, found: str, what: str = "the manifest is not understood") -> InputError:
    return InputError(
        what,
        found=f"{manifest}: {found}",
        expected="CSV with a header checkpoint,step (and epoch, tokens where known); paths "
        "relative to the run",
        fix="checkpoint,step\n            epoch_1.pt,500\n            epoch_2.pt,1000",
    )
