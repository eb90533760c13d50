"""The hash of a checkpoint, as the results keep it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path


def sha256(path: Path) -> str:
    """Hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_all(files: Sequence[Path]) -> str:
    """Hash of one file; of several, the hash of the list that ``sha256sum`` prints of them."""
    if len(files) == 1:
        return sha256(files[0])
    lines = [f"{sha256(path)}  {path.name}\n" for path in files]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
