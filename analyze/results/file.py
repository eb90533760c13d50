"""The results file: netCDF-4 for xarray and plain h5py, written whole or not at all."""

from __future__ import annotations

import io
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import h5py
import numpy as np
import xarray as xr

from analyze.errors import InputError, listed
from analyze.files.hdf5 import StructureError, check_heaps, check_structure
from analyze.files.members import Members
from analyze.files.permission import barrier, not_permitted
from analyze.files.present import is_file, is_folder
from analyze.files.targets import UNITS, check_target
from analyze.files.whole import Content, write_whole
from analyze.results.display import Results
from analyze.results.provenance import provenance_faults
from analyze.results.schema import faults
from analyze.results.seal import DAMAGED, WHOLE, seal, seal_in
from analyze.results.tree import SCHEMA_VERSION
from analyze.statistics.derived import completed

LARGE = 1 << 16  # bytes from which a variable is compressed
Read = TypeVar("Read")
OF_A_COMPARISON = ("run", "network")  # names at the root of its file


def write_results(tree: xr.DataTree, path: Path) -> None:
    """Write a results tree with its seal, whole or not at all; the file is built in memory.

    Raises:
        InputError: the directory cannot be written to, or the disk is full.
    """
    content = file_content(tree)
    try:
        write_whole(path, *content)
    except OSError as error:
        raise _cannot_write(path, error) from error


def file_content(tree: xr.DataTree) -> Content:
    """The bytes of the file of a results tree, and its seal."""
    encoding = {
        group.path: {
            str(name): {"zlib": True, "complevel": 4, "shuffle": True} | _kept(variable)
            for name, variable in group.to_dataset(inherit=False).data_vars.items()
            if variable.nbytes >= LARGE
        }
        for group in tree.subtree
    }
    tree = _with_spaced(tree, as_coordinates=False)
    # In memory first: HDF5 does not survive a disk that fills up in the middle of a write.
    buffer = io.BytesIO()
    with Members(buffer, "w", track_order=True) as file:  # as netCDF wants it
        tree.to_netcdf(file, engine="h5netcdf", encoding=encoding, write_inherited_coords=True)
        for name, value in tree.attrs.items():
            if isinstance(value, int | np.integer):  # netCDF makes a list of it
                file.attrs[name] = np.int64(value)
    content = buffer.getbuffer()
    return content, seal(content)


def _with_spaced(tree: xr.DataTree, as_coordinates: bool) -> xr.DataTree:
    """A tree whose columns with white space in their names are coordinates, or are none.

    netCDF lists the names of coordinates in one text, parted by spaces: in a file such a column of
    the probes is a variable, which it would be in memory, too.
    """
    result = tree.copy()
    for name, dimension in (("parameters", "cell"), ("examples", "probe")):
        if name not in result.children:
            continue
        table = result.children[name].to_dataset(inherit=False)
        own = (v for v in table.variables if table[v].dims == (dimension,))
        spaced = [v for v in own if any(letter.isspace() for letter in str(v))]
        change = table.set_coords if as_coordinates else table.reset_coords
        if spaced:
            result.children[name].dataset = change(spaced)
    return result


def _kept(variable: xr.DataArray) -> dict[str, object]:
    """The part of a variable's own encoding that a new encoding would drop."""
    return {k: v for k, v in variable.encoding.items() if k in ("dtype", "_FillValue")}


def check_writable(path: str | Path) -> None:
    """Check before hours of work that results can be written to a path.

    A results file that is there is read only where its seal does not say that it is one.

    Raises:
        InputError: there is no directory, no permission, or a file that is no results file.
    """
    try:
        check_target(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    if Path(path).exists():
        _opened(Path(path), _check_results)


def open_results(path: str | Path) -> xr.DataTree:
    """The tree in a results file, read into memory; the file is closed again.

    Variables that a file of an older version lacks are derived from its sums.

    Args:
        path: A file that ``analyze run`` wrote.

    Returns:
        A tree with the groups ``/network``, ``/layers``, ``/parameters`` and perhaps ``/examples``.

    Raises:
        InputError: the file is missing, damaged, no results file, or written by a newer version.

    Example:
        ``analyze.open_results("half_noise.h5")["layers"]["m_coherence"]``
    """
    if not isinstance(path, str | os.PathLike):
        raise _no_results(path)
    return Results.of(completed(_opened(Path(path), _read)))


def tree_of(results: Any) -> xr.DataTree:
    """The tree of results, or of a comparison: as given, or of the file that a path names.

    Raises:
        InputError: a group of a tree, or something else; or as ``open_results``.
    """
    if not isinstance(results, xr.DataTree):
        return open_results(results)
    if results.parent is not None or "network" not in results.children:
        raise InputError(
            "this is a part of results",
            found=f"the group {results.path}"
            if results.parent is not None
            else f"a tree with {listed([str(name) for name in results.children]) or 'no groups'}",
            expected="the whole tree, with all of its groups",
            fix="results, in place of results['network']",
        )
    return results


def _no_results(given: object) -> InputError:
    """The refusal of what is neither a path nor a tree."""
    several = isinstance(given, list | tuple)
    opened = isinstance(given, xr.DataTree)
    return InputError(
        "this is a tree of results already" if opened else "these are no results",
        found=f"a value of type {type(given).__name__}",
        expected="the path of a file that analyze run wrote"
        if opened
        else "the tree of results, or the path of a file that analyze run wrote",
        fix="analyze.concat(trees) of one training, or analyze.compare(trees) of several"
        if several
        else 'analyze.open_results("half_noise.h5"), or what analyze.run returns',
    )


def _opened(path: Path, read: Callable[[Path, BinaryIO], Read]) -> Read:
    """What is made of a file that is opened once: another may take its name meanwhile."""
    if not is_file(path):
        raise _missing(path)
    try:
        with path.open("rb") as stream:
            return read(path, stream)
    except PermissionError as error:
        raise not_permitted(path) from error
    except OSError as error:
        raise _foreign(path, f"it cannot be read ({error.strerror or error})") from error


def has_group(path: Path, name: str) -> bool:
    """Whether a file is an HDF5 file that holds a group of its own by this name at its root."""
    try:
        with path.open("rb") as stream, h5py.File(stream, "r") as file:
            return isinstance(file.get(name, getlink=True), h5py.HardLink)
    except (OSError, RuntimeError):  # no HDF5 file, or damaged
        return False


def _check_results(path: Path, stream: BinaryIO) -> None:
    """That an open file holds results; with its seal it is as it was written."""
    if seal_in(stream) == WHOLE:
        _check_file(path, stream)
    else:
        _read(path, stream)


def _read(path: Path, stream: BinaryIO) -> xr.DataTree:
    """The tree in an open file, whose seal, structure and version are checked before."""
    # The seal first: nothing in a file with a damaged byte can be believed.
    if seal_in(stream) == DAMAGED:
        raise _foreign(path, "damaged: its bytes are not those that were written (SHA-256)")
    _check_file(path, stream)
    try:
        with (
            Members(stream, "r") as file,
            xr.open_datatree(file, engine="h5netcdf", phony_dims="access") as tree,
        ):
            loaded = _with_spaced(tree.load(), as_coordinates=True)
        problems = faults(loaded) or provenance_faults(loaded.attrs.get("provenance", "{}"))
    except Exception as error:  # h5netcdf may raise anything when it fails half way
        raise _foreign(path, f"damaged ({_message_of(error)})") from error
    if problems:
        raise _foreign(path, listed(problems, 3))
    return loaded


def _check_file(path: Path, stream: BinaryIO) -> None:
    """Check structure and version before the content, as a newer file may have another form."""
    try:
        check_heaps(stream)
        with h5py.File(stream, "r") as file:
            if all(isinstance(file.get(n, getlink=True), h5py.HardLink) for n in OF_A_COMPARISON):
                raise _comparison(path)
            check_structure(file, os.fstat(stream.fileno()).st_size)
            version = file.attrs.get("schema_version")
    except InputError:
        raise
    except StructureError as error:
        raise _foreign(path, str(error)) from error
    except Exception as error:  # the reader of a damaged file may raise anything
        raise _foreign(path, f"damaged, or of another kind ({_message_of(error)})") from error
    _check_version(path, version)


def _comparison(path: Path) -> InputError:
    return InputError(
        "this file is a comparison of runs, not the results of one",
        found=f"{path}, with an axis called run",
        expected="a file that analyze run wrote",
        fix=f"xarray.open_datatree({str(path)!r}) to read it, index.html beside it to look at it; "
        "or the results file of one of its runs",
    )


def _check_version(path: Path, version: Any) -> None:
    numbers = np.ravel(version)  # netCDF programs write a list of one
    if len(numbers) != 1 or numbers.dtype.kind not in "iu":
        text = "no schema_version" if version is None else f"schema_version {version!r}"
        raise _foreign(path, text[:80])
    if numbers[0] > SCHEMA_VERSION:
        raise InputError(
            "the results file is newer than this program",
            found=f"schema_version {numbers[0]} in {path}",
            expected=f"schema_version {SCHEMA_VERSION} or older",
            fix="pip install --upgrade gradient-coherence",
        )


def _message_of(error: Exception) -> str:
    """The message of HDF5; of other errors, which say nothing of the file, the class."""
    by_hdf5 = isinstance(error, OSError | KeyError | RuntimeError)
    lines = str(error).strip("'").splitlines()
    return lines[0] if by_hdf5 and lines else type(error).__name__


def _missing(path: Path) -> InputError:
    """The refusal of a name without a file; a directory may be a run's, or that of its units."""
    if is_folder(Path(f"{path}{UNITS}")):
        return InputError(
            "the run has not written its results yet",
            found=f"no file {path}, beside the units of its run in {path}{UNITS}",
            expected="a run that has ended, which writes its results then",
            fix=f"analyze status {shlex.quote(str(path))}; a run that was stopped goes on by the "
            "same analyze run",
        )
    folder = is_folder(path)
    beside = next(filter(is_file, (path.with_suffix(""), Path(f"{path.name}.h5"))), None)
    return InputError(
        "the results file is missing",
        found=f"{path}, which is a directory" if folder else f"no file {path}{barrier(path)}",
        expected="a file that analyze run wrote",
        fix=f"{beside} in its place, which is one"
        if folder and beside
        else "analyze run RUN --output FILE.h5",
    )


def _foreign(path: Path, problem: str) -> InputError:
    return InputError(
        "this is not a results file",
        found=f"{path}: {problem}",
        expected="netCDF-4 as analyze run writes it",
        fix="give another file; nothing was written to this one",
    )


def _cannot_write(path: str | Path, error: OSError) -> InputError:
    return InputError(
        "the output cannot be written",
        found=f"{path}: {error.strerror or error}",
        expected="a results file in a directory that exists, with write permission and space",
        fix="--output RESULTS.h5 in another directory",
    )
