"""A safetensors file; the library checks its offsets and the size of its header.

Values are read, not mapped: a file that its trainer writes anew while it is mapped would end the
program.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from safetensors import safe_open

from analyze.checkpoints.damage import as_text, damaged
from analyze.checkpoints.layouts.layout import Layout, Opened, first_bytes
from analyze.checkpoints.state import Stored, Weights
from analyze.checkpoints.torch_files.torch_archive import ChangedError, state_of
from analyze.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

TORCH = re.compile(rb"PK\x03\x04|\x80[\x02-\x05](?!\x00)")  # how a zip or a pickle begins


def open_safetensors(path: Path, trust: bool = False) -> Opened:
    """Open a file; its tensors are read when they are asked for.

    Raises:
        CheckpointError: the file is damaged, or a file of torch by another name.
    """
    if TORCH.match(first_bytes(path)):  # torch's own reader goes by the ending, too
        raise CheckpointError(
            "the checkpoint file has the ending of another kind",
            found=f"a file of torch.save at {as_text(path)}",
            expected="safetensors, as its name says",
            fix=f"name it as what it is: {as_text(path.with_suffix('.pt').name)}",
        )
    with _file(path, "numpy") as (file, _):  # without torch
        names = list(file.keys())

    def load(weights: Weights) -> dict[str, Tensor]:
        with _file(path, "pt") as (file, raw):
            begin, header = _header(raw)
            return {
                name: _tensor(file, raw, begin, header[stored.key], stored.key)
                for name, stored in weights.tensors.items()
                if isinstance(stored, Stored)
            }

    return Opened("safetensors", {name: Stored(name) for name in names}, (path,), load)


def _header(raw: BinaryIO) -> tuple[int, Mapping[str, Any]]:
    """The place of the first value, and the header; the library has checked the same bytes."""
    raw.seek(0)
    (size,) = struct.unpack("<Q", raw.read(8))
    return 8 + size, json.loads(raw.read(size))


def _tensor(file: Any, raw: BinaryIO, begin: int, entry: Mapping[str, Any], key: str) -> Tensor:
    """A tensor, read by the library where torch stores its type otherwise."""
    import torch
    from safetensors.torch import _TYPES as TYPES

    from analyze.checkpoints.torch_files.made_tensors import read_storage

    dtype, (start, end) = TYPES.get(entry["dtype"]), entry["data_offsets"]
    shape = entry["shape"]
    if dtype is None or dtype.itemsize * torch.Size(shape).numel() != end - start:
        return file.get_tensor(key)
    storage = read_storage(raw, begin + start, end - start)
    return torch.empty(0, dtype=dtype).set_(storage).view(shape)


@contextmanager
def _file(path: Path, framework: str) -> Iterator[tuple[Any, BinaryIO]]:
    """The library's view of a file, and the same file itself."""
    try:
        with path.open("rb") as raw, safe_open(path, framework, "cpu") as file:
            before = state_of(raw)
            with path.open("rb") as again:
                if state_of(again) != before:
                    raise ChangedError("it was changed while it was read")
            yield file, raw
    except Exception as error:  # the reader raises its own type, OSError and more
        raise damaged(path, error) from error


LAYOUT = Layout(
    "safetensors",
    "a file of safetensors: `*.safetensors`",
    open_safetensors,
    endings=(".safetensors",),
    begins=re.compile(rb".{4}\x00{4}\{", re.DOTALL),  # the size of the header, and the header
)
