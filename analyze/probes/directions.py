"""Directions that each example's gradient is multiplied with, by the names that a user gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analyze.errors import InputError, choices
from analyze.probes.cells import Cells
from analyze.probes.probe_set import ProbeSet
from analyze.probes.subsets import ALL

UPDATE = "update"  # the weights of the next checkpoint minus these
WEIGHTS = "weights"  # the weights themselves
OWN = (UPDATE, WEIGHTS)  # those that are no sums of gradients
LABEL = "="  # between a column of the cells and its label


@dataclass(frozen=True)
class Direction:
    """A direction in the space of the weights."""

    name: str
    cells: np.ndarray | None = None  # [C], whose gradients it is the sum of; None for ``OWN``


def directions_of(names: Sequence[str], probes: ProbeSet, cells: Cells) -> tuple[Direction, ...]:
    """The directions of these names.

    ``SUBSET`` is the sum of its probes' gradients, ``all`` that of the probes that are not held
    out, ``COLUMN=LABEL`` that of the probes with a label, for a column that the cells are split by.

    Raises:
        InputError: a name that is not known, is given twice, means two things, or has no probes.
    """
    members = _members(probes, cells)
    counts = cells.counts
    found = []
    for name in names:
        if problem := _problem(name, names, members, counts, probes):
            raise InputError(
                "there is no such direction",
                found=problem,
                expected=f"each once, of {choices([*members, *OWN])}",
                fix=_fix(name, members, probes),
            )
        found.append(Direction(name, members.get(name)))
    return tuple(found)


def _members(probes: ProbeSet, cells: Cells) -> dict[str, np.ndarray]:
    """The cells of each sum that there is a name for."""
    codes = {name: k for k, name in enumerate(probes.subset_names)}
    held_out = [codes[name] for name in probes.held_out]
    members = {name: cells.subset == code for name, code in codes.items()}
    members[ALL] = ~np.isin(cells.subset, held_out)
    for column, labels in cells.columns.items():
        for label in probes.columns[column].names:
            members.setdefault(f"{column}{LABEL}{label}", labels == label)
    return members


def _problem(
    name: str,
    names: Sequence[str],
    members: dict[str, np.ndarray],
    counts: np.ndarray,
    probes: ProbeSet,
) -> str:
    """What is wrong with a name; empty where nothing is."""
    if not isinstance(name, str):
        return f"{name!r}, which is no text"
    if list(names).count(name) > 1:
        return f"{name!r} more than once in {','.join(map(str, names))}"
    if name in OWN:
        also = name in probes.subset_names
        return f"{name!r}, which is also the name of a subset" if also else ""
    if name not in members:
        column = name.partition(LABEL)[0]
        apart = LABEL in name and column in probes.columns
        coarse = f", as the cells are not split by {column!r}" if apart else ""
        return f"{name!r}{coarse}"
    return "" if counts[members[name]].any() else f"{name!r}, which has no probes"


def _fix(name: str, members: dict[str, np.ndarray], probes: ProbeSet) -> str:
    column = str(name).partition(LABEL)[0]
    if name not in members and LABEL in str(name) and column in probes.columns:
        return f"--cells {column} --directions {name}"
    if name in OWN and name in probes.subset_names:
        return f"freeze the probes with another name for the subset {name!r}"
    return f"--directions {ALL}, or leave it out"
