"""A directory of torch.distributed.checkpoint: ``.metadata`` and ``*.distcp``, read by one process.

The metadata is a pickle that torch itself would open without a check, and so are entries that are
no tensors. Here the metadata may name nothing but its own record types, and of the other entries
only numbers are read, by the reader of plain values.
"""

from __future__ import annotations

import collections
import io
import pathlib
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import filesystem, metadata
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner

from analyze.checkpoints.damage import as_text
from analyze.checkpoints.layouts.marks import METADATA
from analyze.checkpoints.layouts.opened import Opened
from analyze.checkpoints.pickles import load_torch
from analyze.checkpoints.state import Part, Stored
from analyze.errors import CheckpointError, InputError, RefusedError

LIGHTNING_META = "meta.pt"  # what Lightning keeps beside its shards: epoch, global_step
LARGEST_ENTRY = 1 << 16  # bytes of an entry that may be a number: a pickled one has about 1300

RECORDS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch.serialization", "_get_layout"): torch.serialization._get_layout,
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"): filesystem._StorageInfo,
    **{
        ("torch.distributed.checkpoint.metadata", record.__name__): record
        for record in (
            metadata.BytesStorageMetadata, metadata.ChunkStorageMetadata, metadata.Metadata,
            metadata.MetadataIndex, metadata.StorageMeta, metadata.TensorProperties,
            metadata.TensorStorageMetadata, metadata._MEM_FORMAT_ENCODING,
        )
    },
    **{
        (module, f"{flavour}Path"): getattr(pathlib, f"Pure{flavour}Path")
        for module in ("pathlib", "pathlib._local")
        for flavour in ("Posix", "Windows")
    },
}  # fmt: skip


def open_distributed(folder: Path) -> Opened:
    """The names in the metadata, nested as they were saved, with the numbers beside the tensors.

    Raises:
        CheckpointError: the metadata is damaged, asks for code or for files elsewhere, or claims
            more than the files hold.
    """
    files = [folder / METADATA, *sorted(folder.glob("*.distcp")), folder / LIGHTNING_META]
    if links := [path for path in files if path.is_symlink()]:
        raise _broken(links[0], "it is a link")
    reader = _Reader(folder)
    found = reader.read_metadata()
    try:
        state = _nested(found, folder)
    except Exception as error:  # records of another shape
        raise _broken(folder / METADATA, f"{type(error).__name__}: {error}") from error
    if (folder / LIGHTNING_META).is_file():
        state = dict(load_torch(folder / LIGHTNING_META)[0]) | state
    files = [path for path in files if path.is_file()]
    return Opened("distributed", state, tuple(files), _loader(reader, found))


def _nested(found: metadata.Metadata, folder: Path) -> dict[str, Any]:
    """The tensors and numbers of the metadata, nested as they were saved."""
    state: dict[str, Any] = {}
    paths = found.planner_data if isinstance(found.planner_data, Mapping) else {}
    for name, entry in found.state_dict_metadata.items():
        tensor = isinstance(entry, metadata.TensorStorageMetadata)
        value = Stored(name) if tensor else _number(folder, name, found.storage_data)
        if value is not None:
            _put(state, tuple(map(str, paths.get(name) or (name,))), value)
    return state


class _Reader(dcp.FileSystemReader):
    """Torch's reader, with a metadata pickle that can only name its own record types."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder

    def read_metadata(self, *args: Any, **kwargs: Any) -> metadata.Metadata:
        """The metadata, checked.

        Raises:
            CheckpointError: see ``open_distributed``.
        """
        found = _unpickled(self.folder / METADATA)
        _check(found, self.folder)
        if not isinstance(found.storage_meta, metadata.StorageMeta):
            found.storage_meta = metadata.StorageMeta()
        found.storage_meta.load_id = self.load_id
        return found


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """A record type; anything else is refused by name."""
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) not in RECORDS:
            raise _UnknownNameError(f"{module}.{name}")
        return RECORDS[module, name]


class _UnknownNameError(Exception):
    """The name that a pickle asked for."""


def _unpickled(path: Path) -> metadata.Metadata:
    try:
        found = _Unpickler(io.BytesIO(path.read_bytes())).load()
    except _UnknownNameError as refused:
        raise RefusedError(
            "the metadata of the checkpoint is a pickle that would run code, so it was not opened",
            found=f"{as_text(path)} asks for {refused}",
            expected="the records of torch.distributed.checkpoint",
            fix="save it again, or convert it where you trust it: "
            "torch.distributed.checkpoint.format_utils.dcp_to_torch_save(DIR, FILE.pt)",
        ) from refused
    except Exception as error:  # a damaged pickle can raise anything
        raise _broken(path, f"{type(error).__name__}: {error}") from error
    if not isinstance(found, metadata.Metadata):
        raise _broken(path, type(found).__name__)
    return found


def _check(found: metadata.Metadata, folder: Path) -> None:
    """Every file is one of the directory's own, and tensors are no larger than the files."""
    path, held = folder / METADATA, 0
    try:
        files = {info.relative_path for info in found.storage_data.values()}
        sizes = [
            entry.size.numel() * entry.properties.dtype.itemsize
            for entry in found.state_dict_metadata.values()
            if isinstance(entry, metadata.TensorStorageMetadata)
        ]
        for name in files:
            if Path(name).name != name or (folder / name).is_symlink():
                raise _broken(path, f"the file {name!r}")
            held += (folder / name).stat().st_size
    except InputError:
        raise
    except Exception as error:  # records of another shape, missing files
        raise _broken(path, f"{type(error).__name__}: {error}") from error
    if min(sizes, default=0) < 0 or sum(sizes) > held:
        raise _broken(path, f"tensors of {sum(sizes)} bytes in files of {held}")


def _loader(reader: _Reader, found: metadata.Metadata) -> Callable[[Part], dict[str, Tensor]]:
    def load(part: Part) -> dict[str, Tensor]:
        stored = {n: s.key for n, s in part.tensors.items() if isinstance(s, Stored)}
        wanted: dict[str, Any] = {}
        try:
            for key in stored.values():
                entry = found.state_dict_metadata[key]
                assert isinstance(entry, metadata.TensorStorageMetadata)
                wanted[key] = torch.empty(entry.size, dtype=entry.properties.dtype)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that there is one process only
                dcp.load(
                    wanted, storage_reader=reader,
                    planner=DefaultLoadPlanner(flatten_state_dict=False), no_dist=True,
                )  # fmt: skip
        except InputError:
            raise
        except BaseException as error:  # torch's CheckpointException is no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise _broken(reader.folder, f"{type(error).__name__}: {error}") from error
        return {name: wanted[key] for name, key in stored.items()}

    return load


def _number(folder: Path, name: str, where: Mapping[Any, Any]) -> int | float | None:
    """An entry that is no tensor, where it is a number: a step, an epoch."""
    info = next((i for index, i in where.items() if index.fqn == name), None)
    if info is None or not 0 < info.length <= LARGEST_ENTRY or info.transform_descriptors:
        return None
    with (folder / info.relative_path).open("rb") as file:
        file.seek(info.offset)
        content = io.BytesIO(file.read(info.length))
    try:
        value = torch.load(content, map_location="cpu", weights_only=True)
    except Exception:  # something else than a plain value; it is not needed
        return None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _put(state: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    """Set a value in nested dictionaries."""
    for key in path[:-1]:
        inner = state.setdefault(key, {})
        if not isinstance(inner, dict):
            return  # a name that is also the beginning of another
        state = inner
    state[path[-1]] = value


def _broken(path: Path, found: str) -> CheckpointError:
    return CheckpointError(
        "the distributed checkpoint cannot be read",
        found=f"{as_text(path)}: {found.splitlines()[0] if found else ''}",
        expected="a complete directory of torch.distributed.checkpoint",
        fix="copy or save it again, or leave it out: --checkpoints GLOB",
    )
