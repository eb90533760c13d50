"""Files made to do harm: pickles that call, archives and metadata that lie."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path

import torch

WEIGHTS = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}


class Calls:
    """A pickle of this calls a function when it is opened."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def archive(path: Path, content: dict[str, bytes], compression=zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in content.items():
            file.writestr(name, data)
    return path


def distributed(folder: Path, change) -> Path:
    """A checkpoint whose metadata were changed."""
    import torch.distributed.checkpoint as dcp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"model": WEIGHTS}, checkpoint_id=folder)
        metadata = dcp.FileSystemReader(folder).read_metadata()
    changed = change(metadata)
    content = metadata if changed is None else changed
    (folder / ".metadata").write_bytes(pickle.dumps(content))
    return folder
