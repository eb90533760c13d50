"""The layouts of checkpoints. A new one is a file beside this one, and a line in the table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from analyze.checkpoints.damage import as_text
from analyze.checkpoints.layouts import distributed, safetensors_file, sharded, torch_file
from analyze.checkpoints.layouts.layout import Layout, Opened, first_bytes
from analyze.errors import CheckpointError

# The first that fits is taken; a file that none recognises is left to the last one's reader.
LAYOUTS: tuple[Layout, ...] = (
    distributed.LAYOUT, sharded.LAYOUT, safetensors_file.LAYOUT, torch_file.LAYOUT,
)  # fmt: skip
ENDINGS = tuple(ending for layout in LAYOUTS for ending in layout.endings)


def open_checkpoint(path: Path, *, trust: bool = False) -> Opened:
    """Open a file or directory in its layout; with ``trust`` its pickles may run code.

    Raises:
        CheckpointError: it is damaged, a directory of no layout, or a pickle that would run code.
    """
    folder = path.is_dir()
    layout = directory_layout(f.name for f in path.iterdir()) if folder else _file_layout(path)
    if layout is None:
        raise CheckpointError(
            "the directory is no checkpoint",
            found=f"no file in {as_text(path)} that makes it one",
            expected="; or ".join(layout.on_disk for layout in LAYOUTS if layout.mark),
            fix="give the files in it, or leave it out: --checkpoints GLOB",
        )
    return layout.open(path, trust)


def directory_layout(files: Iterable[str]) -> Layout | None:
    """The layout of a directory with these files; None where it is no checkpoint itself."""
    names = list(files)
    return next((x for x in LAYOUTS if x.mark and any(map(x.mark.search, names))), None)


def _file_layout(path: Path) -> Layout:
    start = first_bytes(path)
    fitting = (
        layout for layout in LAYOUTS
        if path.name.endswith(layout.endings) or (layout.begins and layout.begins.match(start))
    )  # fmt: skip
    return next(fitting, LAYOUTS[-1])
