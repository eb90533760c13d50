"""Torch files, opened by a reader of plain values: nothing in them runs, unless trusted.

``plain_pickle`` builds plain values, records, and descriptions of tensors: torch is imported where
their values are read. After a refusal only ``--trust-pickle``
leads to Python's own reader.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from analyze.checkpoints.damage import as_text, damaged
from analyze.checkpoints.torch_files.plain_pickle import UnknownNameError
from analyze.checkpoints.torch_files.torch_archive import (
    COMPRESSION,
    TorchFile,
    open_file,
    unpacked_size,
)
from analyze.checkpoints.torch_objects import is_module
from analyze.errors import CheckpointError, InputError, RefusedError, listed


def dictionary_in(loaded: Any, path: Path) -> Mapping[str, Any]:
    """The dictionary in a torch file, or that of its module; a CheckpointError without one."""
    if is_module(loaded):
        loaded = loaded.state_dict()
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            "the checkpoint file holds no dictionary of tensors",
            found=f"{as_text(path)}: {type(loaded).__name__}",
            expected="a state_dict, or a dictionary with one",
            fix="save it with torch.save(model.state_dict(), path)",
        )
    return loaded


def load_values(path: Path) -> Any:
    """The content of a file of ``torch.save``, all of it read.

    Raises:
        CheckpointError: the file is damaged, or is a pickle that would run code.
    """
    from analyze.checkpoints.torch_files.made_tensors import read_values  # imports torch

    with _reported(path), path.open("rb") as file:
        return read_values(file)


def open_values(path: Path, *, trust: bool = False) -> TorchFile:
    """The content of a file of ``torch.save``, without the values of its tensors; no torch.

    Raises:
        CheckpointError: the file is damaged, or is a pickle that would run code without ``trust``.
    """
    try:
        with _reported(path):
            return open_file(path)
    except CheckpointError as error:
        if trust and isinstance(error.__cause__, UnknownNameError):
            return _trusted(path)
        raise


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Any error of the reader as one for the user; a damaged pickle or zip can raise any kind."""
    try:
        _refuse_compressed(path)
        yield
    except InputError:
        raise
    except UnknownNameError as error:
        raise RefusedError(
            "the checkpoint file is a pickle that would run code, so it was not opened",
            found=f"{as_text(path)} asks for {error}",
            expected="tensors and plain values, as torch.load(weights_only=True) reads them",
            fix="save the weights alone: torch.save(model.state_dict(), path), or safetensors; "
            "if you trust whoever made it: --trust-pickle",
        ) from error
    except Exception as error:
        raise damaged(path, error) from error


def values_read(opened: TorchFile, values: Mapping[str, Any]) -> dict[str, Any]:
    """Objects of a file with their tensors' values; a CheckpointError where the file changed."""
    if opened.trusted:
        return dict(values)
    from analyze.checkpoints.torch_files.made_tensors import values_of  # imports torch

    try:
        return values_of(opened, values)
    except (OSError, RuntimeError) as error:
        raise damaged(opened.path, error) from error


def _trusted(path: Path) -> TorchFile:
    """The content by torch's own reader, which runs code in the file."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=False)
        return TorchFile(path, content, (), trusted=True)
    except Exception as error:  # the code in a pickle can raise anything
        raise CheckpointError(
            "the trusted pickle cannot be opened",
            found=f"{as_text(path)}: {type(error).__name__}: {error}",
            expected="a pickle whose classes can be imported here",
            fix="install the package that saved it, or save the weights alone: "
            "torch.save(model.state_dict(), path)",
        ) from error


def _refuse_compressed(path: Path) -> None:
    """Refuse a zip that unpacks to more than the file has, or whose tensors are compressed."""
    size = path.stat().st_size
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        entries, claimed = archive.infolist(), unpacked_size(archive)
    _refuse_program(path, [entry.filename for entry in entries])
    if claimed > COMPRESSION * size:
        raise _compressed(
            "the checkpoint file unpacks to more than it holds, so it was not opened",
            f"{as_text(path)}: {size} bytes that unpack to {claimed}",
        )
    packed = [e.filename for e in entries if e.compress_type and "/data/" in e.filename]
    if packed:
        raise _compressed(
            "the tensors in the checkpoint file are compressed",
            f"{listed(packed, 3)} in {as_text(path)}",
        )


def _refuse_program(path: Path, names: list[str]) -> None:
    """Refuse an archive of TorchScript or torch.export, which is a program and no state_dict."""
    last = {name.rpartition("/")[2] for name in names}
    script = "constants.pkl" in last and any("/code/" in name for name in names)
    if not script and "archive_format" not in last:
        return
    kind, loaded = (
        ("TorchScript", f"torch.jit.load({as_text(path.name)!r})")
        if script
        else ("a program of torch.export", f"torch.export.load({as_text(path.name)!r})")
    )
    raise RefusedError(
        f"the file is {kind}, not the weights of a model",
        found=f"a program with its weights in {as_text(path)}",
        expected="a state_dict, and the model in Python: calls inside of a program cannot be seen",
        fix=f"if you trust it: torch.save({loaded}.state_dict(), 'weights.pt'), and move it away; "
        "or leave it out: --checkpoints GLOB",
    )


def _compressed(what: str, found: str) -> RefusedError:
    return RefusedError(
        what,
        found=found,
        expected="a zip archive without compression, as torch.save writes it",
        fix="save it again with torch.save(model.state_dict(), path), or zip -0",
    )
