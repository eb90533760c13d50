"""What each example is compared with: the rest of its class, or of a subset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from analyze.errors import InputError, listed
from analyze.probes.directions import OWN as MOVEMENTS
from analyze.probes.subsets import ALL
from analyze.rankings.labels import GIVEN, Labels
from analyze.statistics import alignment as plain
from analyze.statistics.labelled_examples import direction_names
from analyze.statistics.regrouping import (
    direction_members,
    example_table,
    held_out,
    parts_of,
    probe_members,
)


@dataclass(frozen=True)
class Reference:
    """The directions that make up what an example is compared with.

    For a subset their sum, the same for all; for a column each example's own label's.
    """

    name: str
    directions: tuple[str, ...]
    member: np.ndarray  # [N], whether the example is part of what it is compared with
    own: np.ndarray | None = None  # [N], of a column: the number of the example's direction or -1


@dataclass(frozen=True)
class Pull:
    """How each example pulls at each checkpoint in one group of layers, ``[T, N]``."""

    squares: np.ndarray  # |g_i|^2
    others: np.ndarray  # g_i . (S - g_i): help to the others
    cosine: np.ndarray  # with the sum of the others


def references(results: xr.DataTree, labels: Labels) -> list[str]:
    """What examples can be compared with without knowing which labels are wrong.

    First the default: the given class where every class is a direction, else ``all``, else
    held-out subsets, other subsets, and columns.
    """
    measured = direction_names(results)
    subsets = [str(name) for name in results.to_dataset()["subset"].values if name != ALL]
    columns = list(dict.fromkeys(n.partition("=")[0] for n in measured if "=" in n))
    held = held_out(results)
    order = [*(c for c in GIVEN if c in columns), ALL, *held,
             *(s for s in subsets if s not in held), *columns]  # fmt: skip
    allowed = [name for name in dict.fromkeys(order) if name not in labels.telling]
    return [name for name in allowed if _reference(results, name) is not None]


def reference(results: xr.DataTree, name: str) -> Reference:
    """The reference of a name: a subset, ``all``, ``COLUMN=LABEL``, or a column.

    Raises:
        InputError: the run did not measure the directions for it.
    """
    found = _reference(results, name)
    if found is None:
        raise _not_measured(results, name)
    return found


def _not_measured(results: xr.DataTree, name: str) -> InputError:
    """The refusal of a name; the fix measures it where the probes have it, else another one."""
    known = direction_names(results)
    possible = [n for n in known if n not in MOVEMENTS]
    subsets = results.to_dataset()["subset"].values.astype(str)
    fix = f"--against {possible[0]}" if possible else "analyze run RUN --directions all"
    if name in subsets:
        fix = f"analyze run RUN --directions {','.join([*known, name])} --output OUT.h5"
    return InputError(
        "the run has no such direction to compare examples with",
        found=f"--against {name}; directions: {listed(known)}",
        expected="a subset, all, COLUMN=LABEL, or a column all of whose labels are directions",
        fix=fix,
    )


def _reference(results: xr.DataTree, name: str) -> Reference | None:
    members = direction_members(results)
    table = example_table(results)
    if name in members and members[name].any():
        return Reference(name, (name,), members[name])
    subsets = probe_members(results)
    if name in subsets["subset"].values:
        wanted = subsets.sel(subset=name).values
        parts = parts_of(wanted, members) if wanted.any() else []
        return Reference(name, tuple(parts), wanted) if parts else None
    if name in table.coords and table[name].dims == ("probe",):
        labels = table[name].values.astype(str)
        directions = [f"{name}={label}" for label in dict.fromkeys(labels.tolist())]
        if all(d in members for d in directions):
            own = np.array([directions.index(f"{name}={label}") for label in labels])
            return Reference(name, tuple(directions), np.ones(len(labels), dtype=bool), own)
    return None


def pull(group: xr.Dataset, compared: Reference) -> Pull:
    """The pull of every example in one group of layers.

    ``group`` has ``alignment(checkpoint, direction, probe)``, ``gradient_sqnorm`` and
    ``direction_norm``, as ``grouped_examples`` gives them.
    """
    chosen = group.sel(direction=list(compared.directions))
    along = chosen["alignment"].transpose("checkpoint", "direction", "probe").values
    squares = group["gradient_sqnorm"].transpose("checkpoint", "probe").values
    norms = chosen["direction_norm"].transpose("checkpoint", "direction").values
    if compared.own is not None:
        a = np.take_along_axis(along, compared.own[None, None, :], axis=1)[:, 0]
        norm = norms[:, compared.own]
    elif len(compared.directions) == 1:
        a, norm = along[:, 0], norms
    else:  # |S|^2 is the sum of its own examples' alignments
        a = along.sum(1)
        norm = np.sqrt(np.maximum(a[:, compared.member].sum(1), 0.0))[:, None]
    others = plain.leave_one_out(a, squares, compared.member)
    return Pull(squares, others, plain.cosine_with_others(a, squares, norm, compared.member))
