"""Checks of a probe set; each raises an InputError that says what is wrong and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analyze.errors import InputError, listed
from analyze.probes.subsets import ALL, HELD_OUT, Column

REAL, COMPLEX = "fiub", "c"  # kinds of dtypes, as numpy has them
LONGEST = {"c": 16}  # bytes of a number that torch has, by kind; 8 for all others


def array(name: str, values: Any, kinds: str = REAL) -> np.ndarray:
    """Values as an array that torch takes: numbers, contiguous, writable, in native byte order."""
    try:
        rows = plain(values)
    except (TypeError, ValueError) as error:
        raise _no_numbers(name, str(error)) from error
    longer = rows.dtype.itemsize > LONGEST.get(rows.dtype.kind, 8)
    if rows.ndim == 0 or rows.dtype.kind not in kinds or longer:
        raise _no_numbers(name, f"{rows.dtype} of shape {list(rows.shape)}")
    return np.require(rows, rows.dtype.newbyteorder("="), ["C", "W"])


def plain(values: Any) -> np.ndarray:
    """Values as an array of numpy, of whatever kind."""
    if hasattr(values, "detach"):  # a tensor, on any device, with or without a graph
        values = values.detach().cpu()
        values = values.float() if "bfloat16" in str(values.dtype) else values
        values = values.resolve_conj().resolve_neg().numpy()
    return np.asarray(values)


def integers_as_int64(values: np.ndarray) -> np.ndarray:
    """Integers of any type as int64; floats as they are."""
    return values if values.dtype.kind == "f" else values.astype(np.int64)


def names_of(subset: Any) -> list[str]:
    """The name of each probe's subset, as it stands or from a mask for each name."""
    if isinstance(subset, Mapping):
        return _named_by_masks({str(name): plain(mask) for name, mask in subset.items()})
    values = subset.tolist() if hasattr(subset, "tolist") else subset
    if isinstance(values, str):
        raise _inconsistent(f"the one word {values!r} as subset")
    values = list(values)
    if values and all(isinstance(value, bool | np.bool_) for value in values):
        raise InputError(
            "a mask does not say how its subsets are called",
            found=f"subset of {len(values)} truth values, {sum(map(bool, values))} of them True",
            expected="a name for each example, or a mask for each name",
            fix='subset={"corrupted": mask, "clean": ~mask}, or the other way round',
        )
    return [str(name) for name in values]


def _named_by_masks(masks: Mapping[str, np.ndarray]) -> list[str]:
    """The name of each example's subset, from masks of which one is true for each example."""
    shapes = {mask.shape for mask in masks.values()}
    if len(shapes) != 1 or any(m.dtype.kind != "b" or m.ndim != 1 for m in masks.values()):
        kinds = [f"{name}: {mask.dtype} {list(mask.shape)}" for name, mask in masks.items()]
        raise _inconsistent(f"masks {listed(kinds) or 'without a name'} as subset")
    table = np.stack([*masks.values()])  # [S, N]
    wrong = np.flatnonzero(table.sum(0) != 1)
    if len(wrong):
        raise InputError(
            "the masks do not part the examples",
            found=f"example {wrong[0]} is in {int(table[:, wrong[0]].sum())} of "
            f"{len(masks)} subsets ({len(wrong)} such examples)",
            expected="each example in one subset",
            fix='subset={"corrupted": mask, "clean": ~mask}',
        )
    names = [*masks]
    return [names[code] for code in table.argmax(0)]


def ids(values: Any) -> np.ndarray:
    """The ids of the probes as int64 ``[N]``."""
    labels = array("id", values)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise InputError(
            "the ids of the probes are no integers",
            found=f"id as {labels.dtype} of shape {list(labels.shape)}",
            expected="one integer per example: it decides the fold and pairs examples across runs",
            fix="give each probe an integer id, or none at all",
        )
    return labels.astype(np.int64)


def lengths(
    count: int,
    inputs: Mapping[str, np.ndarray],
    subset: list[str],
    ids: np.ndarray,
    columns: Mapping[str, Column],
) -> None:
    """Check that inputs, subsets, ids and columns go with the targets, and codes with names."""
    sizes = {f"inputs.{k}" if k else "inputs": len(v) for k, v in inputs.items()}
    sizes |= {"subset": len(subset), "id": len(ids)}
    sizes |= {f"column.{k}": len(c.codes) for k, c in columns.items()}
    wrong = [f"{n} {name}" for name, n in sizes.items() if n != count]
    if wrong or count == 0 or not inputs:
        raise _inconsistent(f"{count} targets beside {', '.join(wrong) or 'no inputs'}")
    for name, column in columns.items():
        codes = column.codes
        if codes.ndim != 1 or codes.dtype.kind not in "iu":
            raise _inconsistent(f"column.{name}, whose codes are no integers, one for each probe,")
        if codes.min() < 0 or codes.max() >= len(column.names):
            raise _inconsistent(
                f"column.{name} with codes {codes.min()} to {codes.max()} for {len(column.names)} "
                "names"
            )


def unique(ids: np.ndarray) -> None:
    """Check that no id stands for two probes."""
    values, counts = np.unique(ids, return_counts=True)
    if len(values) != len(ids):
        raise InputError(
            "the ids of the probes are not unique",
            found=f"id {values[counts > 1][0]} stands for {counts.max()} probes",
            expected="one id per example: it decides the fold and pairs examples across runs",
            fix="give each probe its own id, or none at all",
        )


def finite(inputs: Mapping[str, np.ndarray]) -> None:
    """Check that no input has NaN or infinity."""
    for name, values in inputs.items():
        if values.dtype.kind in "fc" and not np.isfinite(values).all():
            bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(1))
            raise InputError(
                "the probe inputs are not finite",
                found=f"NaN or infinity in {name or 'inputs'}, probe {bad[0]} "
                f"({len(bad)} such probes)",
                expected="finite numbers",
                fix="leave these examples out when the probe set is built",
            )


def subsets(names: Sequence[str], held_out: Sequence[str]) -> None:
    """Check that names are distinct, printable and not ``all``, those held out among them.

    ``held_out`` itself may be named where no example is held out.
    """
    words = all(isinstance(n, str) and n.isprintable() and n not in ("", ALL) for n in names)
    if not words or len(set(names)) != len(names):
        raise InputError(
            "a subset has a name that it cannot have",
            found=f"subsets {listed([repr(n) for n in names])}",
            expected=f"different words other than {ALL!r}, which means the union of those not "
            "held out",
            fix="rename the subset",
        )
    if unknown := [repr(n) for n in held_out if n not in (*names, HELD_OUT)]:
        raise InputError(
            "a subset that is held out does not exist",
            found=f"held_out {listed(unknown)}",
            expected=f"some of the subsets {listed([repr(n) for n in names])}",
            fix="give held_out the names that subset has",
        )


def scaling(
    mean: Sequence[float] | None, std: Sequence[float] | None, inputs: Mapping[str, np.ndarray]
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Mean and deviation as numbers: one of each, or one for every channel of uint8 images."""
    if mean is None and std is None:
        return None, None
    try:
        means = tuple(float(value) for value in (() if mean is None else mean))
        stds = tuple(float(value) for value in (() if std is None else std))
    except (TypeError, ValueError):
        means = stds = ()
    channels = {v.shape[1] for v in inputs.values() if v.dtype == np.uint8 and v.ndim > 1}
    fits = len(means) == 1 or channels <= {len(means)}
    if (
        not (fits and len(means) == len(stds) > 0 and min(stds) > 0)
        or not np.isfinite([*means, *stds]).all()
    ):
        raise InputError(
            "mean and std do not fit the images",
            found=f"mean {mean}, std {std}, images with {listed(list(map(str, channels)))} "
            "channels",
            expected="as many numbers in each as the images have channels, std above 0",
            fix="give both per channel, as they apply after division by 255",
        )
    if max(*means, *stds) > 1:  # some libraries give them for pixels up to 255
        scaled = (",".join(f"{v / 255:.6g}" for v in values) for values in (means, stds))
        raise InputError(
            "mean and std are not those of images from 0 to 1",
            found=f"mean {means}, std {stds}",
            expected="at most 1: they apply after division by 255",
            fix="--mean {} --std {}, which is the same after the division".format(*scaled),
        )
    return means, stds


def _no_numbers(name: str, problem: str) -> InputError:
    return InputError(
        "the probes are no arrays of numbers",
        found=f"{name}: {' '.join(problem.split())}",
        expected="tensors or arrays [N, ...] of floats, integers or booleans, inputs of complex "
        "numbers, too; one row per probe",
        fix="build the probe set from such arrays",
    )


def _inconsistent(problem: str) -> InputError:
    return InputError(
        "the probe set is inconsistent",
        found=problem,
        expected="one target, subset and id for each input, and at least one probe",
        fix="build the probe set from arrays of equal length",
    )
