"""Weights in several files with an index beside them, as Hugging Face saves large models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from analyze.checkpoints.damage import as_text, read_json
from analyze.checkpoints.layouts.layout import Layout, Opened
from analyze.checkpoints.layouts.safetensors_file import open_safetensors
from analyze.checkpoints.layouts.torch_file import open_torch
from analyze.checkpoints.state import Stored, Weights, tensors_in
from analyze.errors import CheckpointError, counted, listed
from analyze.files.present import is_file
from analyze.files.whole import real_path

if TYPE_CHECKING:
    from torch import Tensor

# Hugging Face's, diffusers', and whatever else has shards of a name of its own.
INDEX = re.compile(r"\.(?:safetensors|bin)\.index\.json$")
FIRST = (
    "model.safetensors.index.json", "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.safetensors.index.json", "diffusion_pytorch_model.bin.index.json",
)  # fmt: skip
SHARD = re.compile(r"-\d{5}-of-\d{5}\.(?:safetensors|bin)$")


def _index_in(folder: Path) -> Path:
    """The index in a directory; one of a usual name goes before others."""
    indices = sorted(p.name for p in folder.iterdir() if INDEX.search(p.name) and p.is_file())
    names = [name for name in FIRST if name in indices][:1] or indices
    if len(names) > 1:
        raise CheckpointError(
            "the directory has several checkpoints in shards",
            found=f"{listed(names, 3)} in {as_text(folder)}",
            expected="one index, or one of the usual name",
            fix=f"move all but one of them, with its shards, to a directory of its own, or "
            f"rename it {FIRST[0]}",
        )
    if not names:
        raise _broken(folder, "it is no file")
    return folder / names[0]


def open_sharded(folder: Path, trust: bool = False) -> Opened:
    """Open the index; shards are opened when their tensors are asked for.

    Raises:
        CheckpointError: there are several indices, the index is broken, names files elsewhere, or a
            shard is missing.
    """
    index = _index_in(folder)
    where = _weight_map(index)
    shards = {name: index.parent / name for name in sorted(set(where.values()))}
    missing = [name for name, path in shards.items() if not is_file(path)]
    if missing:
        raise CheckpointError(
            "parts of the checkpoint are missing",
            found=f"no {listed(missing, 3)} beside {as_text(index)}",
            expected=f"the {counted(len(shards), 'file')} that it names",
            fix="copy them too, or wait until the trainer has saved them all",
        )

    def load(weights: Weights) -> dict[str, Tensor]:
        names: dict[str, list[str]] = {shard: [] for shard in shards}
        for name in weights.tensors:
            names[where[name]].append(name)
        tensors: dict[str, Tensor] = {}
        for shard, path in shards.items():
            tensors |= _from_shard(path, names[shard], trust)
        return tensors

    state = {name: Stored(name) for name in where}
    files = (index, *shards.values())
    kind = "safetensors" if ".safetensors." in index.name else "torch"
    return Opened(f"{kind}, {len(shards)} shards", state, files, load)


def _weight_map(index: Path) -> dict[str, str]:
    """The file of each tensor; a name in the same directory, no path."""
    content = read_json(index)
    where = content.get("weight_map") if isinstance(content, dict) else None
    good = isinstance(where, dict) and where and all(isinstance(v, str) for v in where.values())
    if not isinstance(where, dict) or not good:
        raise _broken(index, "no weight_map from names to files")
    for shard in set(where.values()):
        path = index.parent / shard
        plain = shard and Path(shard).name == shard and "\\" not in shard and "\0" not in shard
        if not plain or real_path(path).parent != real_path(index.parent):
            raise _broken(index, f"the file {shard!r}")
    return where


def _shards_in(folder: Path) -> frozenset[str]:
    """The files that the index names; none where it is broken, which its reader reports."""
    try:
        return frozenset(_weight_map(_index_in(folder)).values())
    except CheckpointError:
        return frozenset()


def _from_shard(path: Path, names: list[str], trust: bool) -> dict[str, Tensor]:
    safe = path.name.endswith(".safetensors")
    opened = (open_safetensors if safe else open_torch)(path, trust)
    present = tensors_in(opened.state)
    if absent := [name for name in names if name not in present]:
        raise CheckpointError(
            "a part of the checkpoint has not what its index says",
            found=f"no {listed(absent, 3)} in {as_text(path)}",
            expected=f"its {counted(len(names), 'tensor')}",
            fix="copy or save the checkpoint again",
        )
    return opened.load(Weights("", {name: present[name] for name in names}))


def _broken(index: Path, found: str) -> CheckpointError:
    return CheckpointError(
        "the index of the checkpoint is not understood",
        found=f"{as_text(index)}: {found}",
        expected="JSON with a weight_map from tensors to files in the same directory",
        fix="copy or save the checkpoint again",
    )


LAYOUT = Layout(
    "shards",
    "a directory with `NAME.safetensors.index.json` or `NAME.bin.index.json` and its shards",
    open_sharded,
    mark=INDEX,
    parts=SHARD,
    listed=_shards_in,
)
