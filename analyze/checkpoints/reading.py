"""Read what a checkpoint holds, whatever its layout, by loaders that run no code from it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyze.checkpoints.damage import as_text
from analyze.checkpoints.layouts.marks import METADATA
from analyze.checkpoints.layouts.opened import Opened
from analyze.checkpoints.layouts.safetensors_file import open_safetensors
from analyze.checkpoints.layouts.sharded import index_in, open_sharded
from analyze.checkpoints.layouts.torch_file import open_torch
from analyze.checkpoints.naming.progress import Progress, progress_in
from analyze.checkpoints.options import Reading
from analyze.checkpoints.state import Part, Parts, parts_at, parts_of, places
from analyze.checkpoints.versions import StateDict
from analyze.errors import CheckpointError

PLAIN = Reading()
# What files begin with: the size of a header and the header; a zip or a pickle.
SAFETENSORS = re.compile(rb".{4}\x00{4}\{", re.DOTALL)
TORCH = re.compile(rb"PK\x03\x04|\x80[\x02-\x05](?!\x00)")


@dataclass(frozen=True)
class Content:
    """What a checkpoint says of itself, without the values of its tensors.

    Args:
        format: ``torch``, ``safetensors``, ``distributed``, ...
        weights: ``model`` or ``ema``: which weights ``names`` are.
        weights_key: Where they are; empty for the top level.
        names: Of the weights.
        both: Whether the other kind of weights is there as well.
        progress: How far training was.
        files: What the checkpoint is made of.
        elsewhere: Where other tensors are, and how many, if no weights were found.
    """

    format: str
    weights: str
    weights_key: str
    names: list[str]
    both: bool
    progress: Progress
    files: tuple[Path, ...]
    elsewhere: dict[str, int]

    @property
    def step(self) -> float | None:
        """Of the optimizer, as the checkpoint says; None where it does not."""
        return self.progress.step

    @property
    def epoch(self) -> float | None:
        """As the checkpoint says; None where it does not."""
        return self.progress.epoch


def read_content(path: Path, reading: Reading = PLAIN) -> Content:
    """Everything but the values of the tensors; files are mapped, not loaded.

    Raises:
        CheckpointError: the checkpoint is damaged, is a pickle that would run code, or has not the
            weights that were asked for.
    """
    opened = open_checkpoint(path, reading)
    parts = _parts(opened, path, reading)
    part, weights = parts.chosen(reading.weights, as_text(path))
    return Content(
        opened.format,
        weights,
        "" if part is None else part.key,
        [] if part is None else list(part.tensors),
        parts.model is not None and parts.ema is not None,
        progress_in(opened.state, path),
        opened.files,
        {} if part is not None else places(opened.state),
    )


def read_weights(path: Path, reading: Reading = PLAIN) -> StateDict:
    """The weight tensors of a checkpoint, on the CPU, by name, with what torch keeps beside them.

    Raises:
        CheckpointError: as ``read_content``.
    """
    opened = open_checkpoint(path, reading)
    part, _ = _parts(opened, path, reading).chosen(reading.weights, as_text(path))
    if part is None:
        return StateDict({}, {})
    return StateDict({**part.extra, **opened.load(part)}, part.versions)


def read_sample(path: Path, reading: Reading = PLAIN) -> dict[str, Any]:
    """The first, the middle and the last of the weight tensors by name.

    Raises:
        CheckpointError: as ``read_content``.
    """
    opened = open_checkpoint(path, reading)
    part, _ = _parts(opened, path, reading).chosen(reading.weights, as_text(path))
    names = sorted(part.tensors) if part is not None else []
    some = {names[k] for k in (0, len(names) // 2, -1)} if names else set()
    return {} if part is None else opened.load(Part(part.key, {n: part.tensors[n] for n in some}))


def _parts(opened: Opened, path: Path, reading: Reading) -> Parts:
    if reading.weights_key is None:
        return parts_of(opened.state)
    return parts_at(opened.state, reading.weights_key, reading.weights, as_text(path))


def open_checkpoint(path: Path, reading: Reading = PLAIN) -> Opened:
    """Open a file or directory in its layout.

    Raises:
        CheckpointError: it is damaged, or a pickle that would run code.
    """
    if path.is_dir():
        index = index_in(path)
        if index is not None and not (path / METADATA).is_file():
            return open_sharded(index, trust=reading.trust_pickle)
        # A fifth of the time that the program needs to start is the import of what it needs.
        from analyze.checkpoints.layouts.distributed import open_distributed

        return open_distributed(path)
    if not path.name.endswith(".safetensors") and not SAFETENSORS.match(_start(path)):
        return open_torch(path, trust=reading.trust_pickle)
    if TORCH.match(_start(path)):  # torch's own reader goes by the ending, too
        raise CheckpointError(
            "the checkpoint file has the ending of another kind",
            found=f"a file of torch.save at {as_text(path)}",
            expected="safetensors, as its name says",
            fix=f"name it as what it is: {as_text(path.with_suffix('.pt').name)}",
        )
    return open_safetensors(path)


def _start(path: Path) -> bytes:
    """The first bytes of a file; whoever opens it tells why it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(9)
    except OSError:
        return b""
