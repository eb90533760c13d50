"""The user's list of checkpoints, ``checkpoint,step,epoch,tokens``, which overrules every rule."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from analyze.errors import InputError
from analyze.files.links import real_path

COLUMNS = ("checkpoint", "step", "epoch", "tokens")


@dataclass(frozen=True)
class Entry:
    """One line; None where its cell is empty."""

    path: Path
    step: float | None
    epoch: float | None
    tokens: float | None


def read_manifest(manifest: Path, root: Path) -> list[Entry]:
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
    entries = [_entry(manifest, k, line, root) for k, line in enumerate(lines, 2)]
    if len({e.path for e in entries}) != len(entries) or not entries:
        raise _broken(manifest, "a checkpoint twice" if entries else "no line below the header")
    return entries


def _entry(manifest: Path, line_number: int, line: dict[str, str | None], root: Path) -> Entry:
    place = f"line {line_number}"
    path = root / (line["checkpoint"] or "")
    if not path.exists() or not real_path(path).is_relative_to(real_path(root)):
        raise _broken(manifest, f"{place}: no {line['checkpoint']!r} in {root}")
    numbers = {}
    for column in COLUMNS[1:]:
        text = (line.get(column) or "").strip()
        try:
            numbers[column] = float(text) if text else None
        except ValueError:
            numbers[column] = math.nan
        value = numbers[column]
        if value is not None and not math.isfinite(value):
            raise _broken(manifest, f"{place}: {column} {text!r}")
    return Entry(path, numbers["step"], numbers["epoch"], numbers["tokens"])


def _broken(manifest: Path, found: str, what: str = "the manifest is not understood") -> InputError:
    return InputError(
        what,
        found=f"{manifest}: {found}",
        expected="CSV with a header checkpoint,step (and epoch, tokens where known); paths "
        "relative to the run",
        fix="checkpoint,step\n            epoch_1.pt,500\n            epoch_2.pt,1000",
    )
