"""The files and directories of a run that may be checkpoints, by their names alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from analyze.checkpoints.checkpoint import LeftOut
from analyze.checkpoints.damage import as_text
from analyze.checkpoints.layouts.foreign import why_no_folder, why_no_weights
from analyze.checkpoints.layouts.table import directory_layout
from analyze.files.present import is_file, is_folder, is_there
from analyze.files.walking import is_too_long, walk
from analyze.files.whole import real_path


@dataclass(frozen=True)
class Tree:
    """The files and directories of a run that may be checkpoints, and those that are none."""

    root: Path  # names are relative to it
    candidates: list[Path]  # files, and directories that are one checkpoint
    left_out: list[LeftOut]

    def name(self, path: Path) -> str:
        """A path relative to the run, as text that every file and terminal takes."""
        return name_of(path, self.root)


def name_of(path: Path, root: Path) -> str:
    """A path relative to the run; the run itself goes by its own name."""
    relative = path.relative_to(root).as_posix()
    return as_text(real_path(path).name if relative == "." else relative)


def look_through(run: Path, exclude: Iterable[Path] = ()) -> Tree:
    """Every file below a directory, or the one file; links are not followed out of the run."""
    if not is_folder(run):
        return Tree(run.parent, [run], [])
    tree = Tree(run, [], [])
    excluded = {real_path(path) for path in exclude}
    names = {path.name for path in excluded}
    entries = list(_entries(run))
    inside = {real_path(path) for path, why in entries if not (why or path.is_symlink())}
    for path, by_name in entries:
        named = not by_name or path.name in names  # the real path of any other costs, on a disk
        is_probes = named and real_path(path) in excluded
        why = "the probe file" if is_probes else _why_no_link(path, run, inside)
        if why := why or by_name:
            tree.left_out.append(LeftOut(tree.name(path), why))
        else:
            tree.candidates.append(path)
    return tree


def _entries(run: Path) -> Iterator[tuple[Path, str]]:
    """Files, and directories that are one checkpoint, with the reason why a name is of none."""
    closed: list[Path] = []
    for folder, folders, files in walk(run, closed):
        folders[:] = [f for f in folders if not f.startswith(".")]
        for name in [f for f in folders if is_too_long(folder / f)]:
            yield folder / name, "a directory whose path is too long to open what is in it"
        for name in [f for f in folders if (folder / f).is_symlink()]:
            yield folder / name, "a link to a directory"
        if folder != run and (why := why_no_folder(folder.name, files, folders)):
            yield folder, why
            folders.clear()
            continue
        layout = directory_layout(files)
        if layout is not None:
            whole = not layout.last or layout.last in files
            why = "" if whole else f"still being written: no {layout.last}, which comes last"
            yield folder, why
            if layout.parts is None:
                folders.clear()
                continue
        parts = set() if layout is None else layout.parts_among(folder, files)
        for name in files:
            part = f"a part of the checkpoint in {layout.name}" if layout and name in parts else ""
            yield folder / name, part or why_no_weights(name)
    for folder in closed:
        yield folder, "a directory that may not be read"


def _why_no_link(path: Path, root: Path, inside: set[Path]) -> str:
    """Why a link, or a socket or the like, is left alone; empty for files and directories.

    A link into the run to a candidate adds nothing. A link to a file that is no candidate, as in
    the cache of Hugging Face, is the checkpoint.
    """
    if not path.is_symlink():
        return "" if is_file(path) or is_folder(path) else "no file"
    place = real_path(path)
    if not place.is_relative_to(real_path(root)):
        return f"a link out of the run's directory, to {as_text(place)}"
    if not is_there(place):
        return "a link to nothing"
    if is_file(place) and inside.isdisjoint((place, *place.parents)):
        return ""
    return f"a link to {name_of(place, real_path(root))}"
