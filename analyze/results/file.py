"""The results file: netCDF-4 that xarray and plain h5py read, written whole or not at all."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
import xarray as xr

from analyze.errors import InputError, listed
from analyze.files.hdf5 import StructureError, check_structure
from analyze.files.whole import LONGEST, real_path, write_whole
from analyze.results.provenance import provenance_faults
from analyze.results.schema import faults
from analyze.results.seal import DAMAGED, seal, seal_in
from analyze.results.tree import SCHEMA_VERSION
from analyze.statistics.derived import completed

LARGE = 1 << 16  # bytes from which a variable is compressed


def write_results(tree: xr.DataTree, path: Path) -> None:
    """Write a results tree with its seal, whole or not at all.

    Raises:
        InputError: the directory cannot be written to, or the disk is full.

    Cost: the file once more in memory.
    """
    encoding = {
        group.path: {
            str(name): {"zlib": True, "complevel": 4, "shuffle": True} | _kept(variable)
            for name, variable in group.to_dataset(inherit=False).data_vars.items()
            if variable.nbytes >= LARGE
        }
        for group in tree.subtree
    }
    # In memory first: HDF5 does not survive a disk that is full in the middle of a write.
    buffer = io.BytesIO()
    tree.to_netcdf(buffer, engine="h5netcdf", encoding=encoding, write_inherited_coords=True)
    with h5py.File(buffer, "r+") as file:
        for name, value in tree.attrs.items():
            if isinstance(value, int | np.integer):  # netCDF makes a list of it
                file.attrs[name] = np.int64(value)
    content = buffer.getbuffer()
    try:
        write_whole(path, content, seal(content))
    except OSError as error:
        raise _cannot_write(path, error) from error


def _kept(variable: xr.DataArray) -> dict[str, object]:
    """The type of a variable in the file, which an encoding of ours would replace."""
    return {k: v for k, v in variable.encoding.items() if k in ("dtype", "_FillValue")}


def check_writable(path: Path) -> None:
    """Refuse an output before hours of work: no directory, or a file that is something else.

    Raises:
        InputError: saying which.
    """
    if not path.parent.is_dir() or path.is_dir():
        found = f"{path} is a directory" if path.is_dir() else f"no directory {path.parent}"
        raise InputError(
            "the output cannot be written",
            found=found,
            expected="the path of a results file in a directory that exists",
            fix="--output RESULTS.h5",
        )
    target = real_path(path) if path.is_symlink() else path
    if len(os.fsencode(target.name)) > LONGEST:
        raise _cannot_write(path, OSError(errno.ENAMETOOLONG, "File name too long"))
    if not os.access(target.parent, os.W_OK):
        raise _cannot_write(path, PermissionError(13, "Permission denied"))
    if path.exists():
        open_results(path)


def open_results(path: str | Path) -> xr.DataTree:
    """The results tree in a file, in memory; the file is closed again.

    What a file of an older version lacks is derived from its sums, see ``derived.completed``.

    Args:
        path: Of the file.

    Returns:
        A tree with the groups ``/network``, ``/layers``, ``/parameters`` and perhaps ``/examples``.

    Raises:
        InputError: missing, damaged, not a results file, or written by a newer version.

    Example:
        ``analyze.open_results("half_noise.h5")["layers"]["m_coherence"]``
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            "the results file is missing",
            found=f"no file {path}",
            expected="a file that analyze run wrote",
            fix="analyze run RUN --output FILE.h5",
        )
    try:
        with path.open("rb") as stream:  # one file for all, whatever takes its name meanwhile
            return completed(_read(path, stream))
    except OSError as error:
        raise _foreign(path, f"it cannot be read ({error.strerror or error})") from error


def _read(path: Path, stream: BinaryIO) -> xr.DataTree:
    """The tree in an open file, which is looked at before it is read."""
    # Before all else: of a file with a damaged byte nothing can be believed.
    if seal_in(stream) == DAMAGED:
        raise _foreign(path, "damaged: its bytes are not those that were written (SHA-256)")
    _check_file(path, stream)
    try:
        with xr.open_datatree(stream, engine="h5netcdf") as tree:
            loaded = tree.load()
        wrong = faults(loaded) or provenance_faults(loaded.attrs.get("provenance", "{}"))
    except Exception as error:  # h5netcdf raises anything when it fails half way
        raise _foreign(path, f"damaged ({_said(error)})") from error
    if wrong:
        raise _foreign(path, listed(wrong, 3))
    return loaded


def _check_file(path: Path, stream: BinaryIO) -> None:
    """Its structure, and its version before the content: a newer file may be of another form."""
    try:
        with h5py.File(stream, "r") as file:
            check_structure(file, os.fstat(stream.fileno()).st_size)
            version = file.attrs.get("schema_version")
    except StructureError as error:
        raise _foreign(path, str(error)) from error
    except Exception as error:  # a damaged file makes the reader raise anything
        raise _foreign(path, f"damaged, or of another kind ({_said(error)})") from error
    _check_version(path, version)


def _check_version(path: Path, version: Any) -> None:
    numbers = np.ravel(version)  # netCDF programs write a list of one
    if len(numbers) != 1 or numbers.dtype.kind not in "iu":
        raise _foreign(
            path, "no schema_version" if version is None else f"schema_version {version!r}"[:80]
        )
    if numbers[0] > SCHEMA_VERSION:
        raise InputError(
            "the results file is newer than this program",
            found=f"schema_version {numbers[0]} in {path}",
            expected=f"schema_version {SCHEMA_VERSION} or older",
            fix="pip install --upgrade gradient-coherence",
        )


def _said(error: Exception) -> str:
    """What HDF5 says; what a damaged file leads the readers' own code to says nothing."""
    by_hdf5 = isinstance(error, OSError | KeyError | RuntimeError)
    lines = str(error).strip("'").splitlines()
    return lines[0] if by_hdf5 and lines else type(error).__name__


def _foreign(path: Path, found: str) -> InputError:
    return InputError(
        "this is not a results file",
        found=f"{path}: {found}",
        expected="netCDF-4 as analyze run writes it",
        fix="give another file; nothing was written to this one",
    )


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(
        "the output cannot be written",
        found=f"{path}: {error.strerror or error}",
        expected="a directory with write permission and enough space",
        fix="--output RESULTS.h5 in another directory",
    )
