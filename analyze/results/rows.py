"""The numbers of a results file as plain rows, for the terminal and for JSON."""

from __future__ import annotations

import csv
import errno
import io
import math
import shlex
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import SupportsFloat

import numpy as np
import xarray as xr

from analyze.errors import InputError, like, listed, printable
from analyze.files.targets import check_target
from analyze.files.whole import write_whole
from analyze.results.tree import OK
from analyze.statistics.identities import broken
from analyze.statistics.warnings import FLAGS, KINDS, kinds_of

FORMULA = ("=", "+", "-", "@", "|", "%", "\uff1d", "\uff0b", "\uff0d", "\uff20")
PER_TOKEN = "loss_per_token"  # only where the loss of a probe is a sum over positions
# Columns of a row, where the results have them: of coherence, and of the root group.
COHERENCE = (
    "m_coherence", "m_coherence_stderr", "m_coherence_lower", "m_coherence_upper", "null_lower",
    "null_upper", "z_score", "p_value_adjusted", "coherence_at_common_size", "alpha_unbiased",
    "norm_of_mean_gradient",
)  # fmt: skip
LOSSES = ("loss", PER_TOKEN, "accuracy")


def network_rows(results: xr.DataTree) -> list[dict[str, object]]:
    """M-coherence of the whole network, a row for each checkpoint and subset."""
    return _rows(results, results["network"].to_dataset(), {})


def layer_rows(results: xr.DataTree, checkpoint: str | None = None) -> list[dict[str, object]]:
    """M-coherence of every layer at the checkpoints that match a pattern.

    The default is the last checkpoint that was measured.
    """
    names = [str(name) for name in results.to_dataset()["checkpoint"].values]
    if checkpoint is None:
        left_out = skipped(results)
        measured = [name for name in names if name not in left_out]
        if not measured:
            raise InputError(
                "no checkpoint of the results was measured",
                found=f"{len(names)} that were skipped: {listed(list(left_out.values()), 3)}",
                expected="one at least, whose layers are shown",
                fix=f"analyze show OUT.h5, or --checkpoint {names[-1]!r}",
            )
        checkpoint = measured[-1]
    matching = matching_checkpoints(results, checkpoint, "leave --checkpoint out for the last one")
    layers = results["layers"].to_dataset().sel(checkpoint=matching)
    rows = []
    for layer in layers["layer"].values:
        table = layers.sel(layer=layer)
        labels = {
            "layer": str(layer),
            "layer_type": str(table["layer_type"].item()),
            "parameters": int(table["parameter_count"].item()),
        }
        rows += _rows(results, table, labels)
    return rows


def matching_checkpoints(
    results: xr.DataTree, pattern: str, fix: str = "leave --checkpoint out for all"
) -> list[str]:
    """The checkpoints of a name, or of a glob; an InputError where there is none."""
    names = [str(name) for name in results.to_dataset()["checkpoint"].values]
    exact = [name for name in names if name == pattern]
    matching = exact or [name for name in names if fnmatchcase(name, pattern)]
    if not matching:
        close = like(pattern, names)
        raise InputError(
            "no such checkpoint in the results",
            found=repr(pattern),
            expected=f"one of {listed(_nearest(pattern, names))}",
            fix=f"--checkpoint {shlex.quote(close[0])}" if close else fix,
        )
    return matching


def _nearest(name: str, known: list[str]) -> list[str]:
    """The known names, those like an unknown one first."""
    return list(dict.fromkeys([*like(name, known), *known]))


def verify_results(results: xr.DataTree, path: str) -> None:
    """Refuse results whose numbers contradict each other; see ``identities.broken``."""
    if identities := broken(results):
        raise InputError(
            "the results contradict themselves",
            found=f"{path}: {'; '.join(identities)}",
            expected="numbers as analyze run wrote them: a changed or damaged file shows here",
            fix="measure again: analyze run RUN --output RESULTS.h5",
        )


def select(
    rows: list[dict[str, object]], column: str, patterns: Sequence[str]
) -> list[dict[str, object]]:
    """The rows whose ``column`` matches any of the patterns; all rows without a pattern."""
    if not patterns:
        return rows
    names = list(dict.fromkeys(str(row[column]) for row in rows))
    for pattern in patterns:
        if pattern not in names and not any(fnmatchcase(name, pattern) for name in names):
            near = _nearest(pattern, names)
            raise InputError(
                f"no such {column} in the results",
                found=repr(pattern),
                expected=f"a name, or a pattern that matches some of {listed(near)}",
                fix=f"--{column} {shlex.quote(near[0])}",
            )
    kept = {n for n in names for pattern in patterns if n == pattern or fnmatchcase(n, pattern)}
    return [row for row in rows if str(row[column]) in kept]


def sort(rows: list[dict[str, object]], column: str) -> list[dict[str, object]]:
    """Rows sorted by a column: numbers from the largest, text by alphabet, None last."""
    columns = [name for name in rows[0] if name != "warnings"]
    if column not in columns:
        raise InputError(
            "there is no such column to sort by",
            found=repr(column),
            expected=f"one of {listed(_nearest(column, columns), limit=len(columns))}",
            fix=f"--sort {[*like(column, columns), 'm_coherence'][0]}",
        )
    known = [row for row in rows if row[column] is not None]
    if all(isinstance(row[column], int | float) for row in known):
        known.sort(key=lambda row: -float(str(row[column])))
    else:
        known.sort(key=lambda row: str(row[column]))
    return known + [row for row in rows if row[column] is None]


def as_csv(rows: list[dict[str, object]]) -> str:
    """Rows as comma-separated values with a header; missing values are empty.

    An apostrophe stands before a name that a spreadsheet would run as a formula.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        cells = {k: " ".join(v) if isinstance(v, list) else v for k, v in row.items()}
        writer.writerow({name: _no_formula(value) for name, value in cells.items()})
    return text.getvalue()


def write_csv(rows: list[dict[str, object]], path: Path) -> None:
    """Write rows as comma-separated values, whole or not at all, over no file of another kind.

    Raises:
        InputError: the file cannot be written, or is there and does not begin with these columns.
    """
    text = as_csv(rows)
    try:
        check_target(path)
        head = text.partition("\n")[0].encode()
        if path.exists() and path.read_bytes()[: len(head)] != head:
            raise FileExistsError(errno.EEXIST, "a file with other columns, or of another program")
        write_whole(path, text.encode(errors="replace"))
    except OSError as error:
        raise InputError(
            "the table cannot be written",
            found=f"{path}: {error.strerror or error}",
            expected="a new file, or an older table with the same columns",
            fix="--csv FILE.csv with another name",
        ) from error


def _no_formula(value: object) -> object:
    """A text that no spreadsheet runs as a formula, with unprintable characters escaped."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip()[:1] in FORMULA else text


def marks(row: dict[str, object]) -> str:
    """The letters of a row's warnings, to put at its value."""
    names = row["warnings"]
    assert isinstance(names, list)
    return "".join(kind.mark for kind in KINDS if kind.name in names)


def legend(rows: list[dict[str, object]]) -> list[str]:
    """The meanings of the warnings of some rows, a line for each kind."""
    shown = {name for row in rows if isinstance(names := row["warnings"], list) for name in names}
    return [f"{kind.mark or kind.name}: {kind.text}" for kind in KINDS if kind.name in shown]


def skipped(results: xr.DataTree) -> dict[str, str]:
    """The checkpoints that were not measured, with the reasons."""
    root = results.to_dataset()
    pairs = zip(root["checkpoint"].values, root["status"].values, strict=True)
    return {str(name): str(status) for name, status in pairs if status != OK}


def _rows(
    results: xr.DataTree, dataset: xr.Dataset, labels: dict[str, object]
) -> list[dict[str, object]]:
    """A row for each checkpoint and subset of a table, with the same labels in all."""
    names = {dim: dataset[dim].values for dim in ("checkpoint", "subset")}
    root = results.to_dataset().sel(names)
    shape = tuple(map(len, names.values()))

    def columns(table: xr.Dataset, *wanted: str) -> dict[str, np.ndarray]:
        """Arrays ``[checkpoint, subset]``: to select each row would take ten times as long."""
        sizes = dict(zip(names, shape, strict=True))
        there = {name: table.variables[name] for name in wanted if name in table.variables}
        return {name: column.set_dims(sizes).values for name, column in there.items()}

    values, losses = columns(dataset, *COHERENCE), columns(root, *LOSSES)
    facts = columns(root, "step", "epoch", "probe_count", "status")
    flags = columns(dataset, FLAGS).get(FLAGS, np.zeros(shape))
    rows: list[dict[str, object]] = []
    for at in np.ndindex(shape):
        rows.append(
            {
                "checkpoint": str(names["checkpoint"][at[0]]),
                "step": _number(facts["step"][at]),
                "epoch": _number(facts["epoch"][at]),
                **labels,
                "subset": str(names["subset"][at[1]]),
                "probes": int(facts["probe_count"][at]),
                **{name: _number(column[at]) for name, column in {**values, **losses}.items()},
                "status": str(facts["status"][at]),
                "warnings": [kind.name for kind in kinds_of(float(flags[at]))],
            }
        )
    return rows


def _number(value: SupportsFloat) -> float | None:
    """A float, or None for NaN and infinity, which JSON does not have."""
    number = float(value)
    return number if math.isfinite(number) else None
