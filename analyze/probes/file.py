"""The frozen probe file: safetensors with named subsets in its metadata."""

from __future__ import annotations

import json
import shlex
import struct
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save

from analyze.errors import InputError, listed
from analyze.files.arrays import read_arrays
from analyze.files.permission import not_permitted
from analyze.files.present import is_file, is_folder
from analyze.files.whole import write_whole
from analyze.probes.probe_set import ProbeSet
from analyze.probes.subsets import Column

MOST_CODES = 1_000_000  # in a column whose labels have no names
REQUIRED = ("targets", "subset")


def read_probes(path: str | Path) -> ProbeSet:
    """The probe set in a file.

    Args:
        path: A safetensors file of ``inputs`` (or several ``inputs.NAME``), ``targets``,
            ``subset``, perhaps ``id`` and ``column.NAME``; ``subset_names`` in its metadata.

    Raises:
        InputError: the file is missing, unreadable, or not a probe file.

    Example:
        ``analyze.probes.read_probes("probes.safetensors").subset_names``
    """
    path = Path(path)
    arrays, metadata = _read(path)
    inputs = {k.removeprefix("inputs."): v for k, v in arrays.items() if k.startswith("inputs.")}
    missing = [name for name in REQUIRED if name not in arrays]
    missing += [] if inputs or "inputs" in arrays else ["inputs"]
    missing += [] if "subset_names" in metadata else ["the metadata subset_names"]
    if missing:
        raise _broken(path, f"{listed(missing)} missing; tensors: {listed(sorted(arrays))}")
    if inputs and "inputs" in arrays:
        raise _broken(path, f"inputs beside inputs.{listed(sorted(inputs))}")
    lists = {
        key: _json_list(path, metadata, key)
        for key in ("subset_names", "held_out", "mean", "std")
        if key in metadata
    }
    subset = _subset(path, arrays["subset"], lists["subset_names"])
    columns = {
        name.removeprefix("column."): _column(path, metadata, name, codes)
        for name, codes in arrays.items()
        if name.startswith("column.")
    }
    try:
        return ProbeSet(
            arrays.get("inputs", inputs), arrays["targets"], subset, arrays.get("id"),
            columns=columns, **lists,
        )  # fmt: skip
    except InputError as error:  # says what is wrong, but not in which file
        raise InputError(
            error.what, found=f"{error.found} in {path}", expected=error.expected, fix=error.fix
        ) from error


def write_probes(path: str | Path, probes: ProbeSet, **notes: str) -> None:
    """Freeze a probe set, whole or not at all: the same probes and notes give the same bytes.

    Args:
        path: Where the file is written; after an error an older file there is as it was.
        probes: The examples.
        notes: Further entries of the file's metadata.

    Raises:
        InputError: an input is complex128, which safetensors does not have; no permission, or the
            disk is full.

    Example:
        ``analyze.probes.write_probes("mine.safetensors", analyze.ProbeSet(inputs, targets))``
    """
    path = Path(path)
    arrays = {f"inputs.{k}" if k else "inputs": v for k, v in probes.inputs.items()}
    for name, values in arrays.items():
        if values.dtype == np.complex128:
            raise InputError(
                "a probe file cannot hold complex numbers of this precision",
                found=f"{name} of complex128",
                expected="complex64, the only complex numbers that safetensors has",
                fix="give the inputs as complex64: x.astype(numpy.complex64)",
            )
    arrays |= {"targets": probes.targets, "subset": probes.subset, "id": probes.id}
    metadata: dict[str, Any] = {
        "subset_names": json.dumps(probes.subset_names),
        "held_out": json.dumps(probes.held_out),
    }
    if probes.mean is not None and probes.std is not None:
        metadata |= {"mean": json.dumps(probes.mean), "std": json.dumps(probes.std)}
    for name, column in probes.columns.items():
        arrays[f"column.{name}"] = column.codes
        metadata[f"column_names.{name}"] = json.dumps(column.names)
    contiguous = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    try:
        write_whole(path, *_encoded(contiguous, metadata | notes))
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> InputError:
    """The error for a probe file that cannot be written."""
    return InputError(
        "the probe file cannot be written",
        found=f"{path}: {error.strerror or error}",
        expected="a file in a directory that exists, with write permission and enough space",
        fix="make room, or give a file in another directory",
    )


def _encoded(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> list[bytes | memoryview]:
    """The bytes of a safetensors file, with its metadata sorted: the library's order varies."""
    plain = memoryview(save(arrays))
    (length,) = struct.unpack("<Q", plain[:8])
    header = json.loads(bytes(plain[8 : 8 + length]))
    header = {"__metadata__": dict(sorted(metadata.items())), **header}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the values are aligned
    return [struct.pack("<Q", len(text)), text, plain[8 + length :]]


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors and the metadata of a safetensors file."""
    if not is_file(path):
        raise InputError(
            "the probe file is missing",
            found=f"{path}, which is a directory" if is_folder(path) else f"no file {path}",
            expected="a safetensors file of probes, as the run card or --probes names it",
            fix=f"{how_to_make(path)} makes one, for --probes FILE",
        )
    try:
        return read_arrays(path)
    except PermissionError as error:
        raise not_permitted(path) from error
    except (SafetensorError, OSError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise _broken(path, str(error)) from error


def how_to_make(path: Path = Path("FILE")) -> str:
    """The command that freezes probes, from the path where that is a spec of data."""
    file, _, function = str(path).rpartition(":")
    if file.endswith(".py") and function:
        return f"analyze probes build FILE --data {shlex.quote(str(path))}"
    specs = "data.npz, FILE.py:DATASET or torchvision:NAME?root=DIR"
    return f"analyze probes build FILE --data SPEC (SPEC is {specs})"


def _broken(path: Path, problem: str) -> InputError:
    return InputError(
        "this is not a probe file",
        found=f"{path}: {problem}",
        expected="safetensors with inputs, targets and subset, and subset_names in its metadata",
        fix=f"{how_to_make()}; or your own arrays, in Python: "
        "analyze.probes.write_probes(path, analyze.ProbeSet(inputs, targets, subset))",
    )


def _json_list(path: Path, metadata: dict[str, str], key: str) -> list[Any]:
    try:
        values = json.loads(metadata[key])
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, list) or not all(isinstance(v, str | int | float) for v in values):
        start = metadata[key][:200]
        raise _broken(path, f"the metadata {key} is not a JSON list of words or numbers: {start!r}")
    return values


def _subset(path: Path, codes: np.ndarray, names: list[Any]) -> list[Any]:
    """The name of each probe's subset."""
    integers = codes.ndim == 1 and codes.dtype.kind in "iu"
    if not integers or not np.isin(codes, np.arange(len(names))).all():
        raise _broken(path, f"subset codes that are not integers from 0 to {len(names) - 1}")
    return [names[code] for code in codes]


def _column(path: Path, metadata: dict[str, str], key: str, codes: np.ndarray) -> Column:
    """A column with the names of its codes; codes without names are called by their numbers."""
    names_key = f"column_names.{key.removeprefix('column.')}"
    if names_key in metadata:
        return Column(codes, tuple(map(str, _json_list(path, metadata, names_key))))
    highest = int(codes.max(initial=-1)) if codes.dtype.kind in "iu" else -1
    if highest >= MOST_CODES:
        raise _broken(path, f"{key} with the code {highest}")
    return Column(codes, tuple(map(str, range(highest + 1))))
