"""The results file: netCDF-4 that xarray and plain h5py read, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import xarray as xr

from analyze.errors import InputError
from analyze.results import SCHEMA_VERSION

LARGE = 1 << 16  # bytes from which a variable is compressed


def write_results(tree: xr.DataTree, path: Path) -> None:
    """Write a results tree, to a temporary file that takes its place once it is complete.

    Raises:
        InputError: the directory cannot be written to, or the disk is full.
    """
    encoding = {
        group.path: {
            str(name): {"zlib": True, "complevel": 4, "shuffle": True}
            for name, variable in group.to_dataset(inherit=False).data_vars.items()
            if variable.nbytes >= LARGE
        }
        for group in tree.subtree
    }
    try:
        descriptor, temporary = tempfile.mkstemp(suffix=".part", prefix=path.name, dir=path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error
    os.close(descriptor)
    try:
        tree.to_netcdf(temporary, engine="h5netcdf", encoding=encoding, write_inherited_coords=True)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())  # mkstemp lets only the owner read
        Path(temporary).replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        Path(temporary).unlink(missing_ok=True)


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
    if not os.access(path.parent, os.W_OK):
        raise _cannot_write(path, PermissionError(13, "Permission denied"))
    if path.exists():
        open_results(path)


def open_results(path: str | Path) -> xr.DataTree:
    """The results tree in a file, in memory; the file is closed again.

    Raises:
        InputError: missing, not a results file, or written by a newer version.
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
        with xr.open_datatree(path, engine="h5netcdf") as tree:
            loaded = tree.load()
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise _foreign(path, str(error).splitlines()[0]) from error
    version = loaded.attrs.get("schema_version")
    if version is None or not {"network", "layers", "parameters"} <= set(loaded.children):
        raise _foreign(path, "no schema_version, or groups missing")
    if int(version) > SCHEMA_VERSION:
        raise InputError(
            "the results file is newer than this program",
            found=f"schema_version {version} in {path}",
            expected=f"schema_version {SCHEMA_VERSION} or older",
            fix="pip install --upgrade gradient-coherence",
        )
    return loaded


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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
