"""The commands that write, each with what it leaves undisturbed and over something older."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from safetensors.numpy import load

import analyze
from analyze.checkpoints.finding import watch
from analyze.comparison import compare, page
from analyze.figures import contact_sheet
from analyze.pages import writing
from analyze.probes import ProbeSet
from analyze.probes.freezing.recipe import Recipe, freeze
from analyze.probes.freezing.transforms import Transforms
from analyze.reports import page as reports
from analyze.runs.units.files import read_sealed
from tests.conftest import make_run, small_weights
from tests.crash import assert_same_arrays

COMING = ("step_150.pt", "step_200.pt")  # while the run is watched


@dataclass
class Command:
    """A command that writes into a folder.

    Args:
        name: On the command line.
        share: Of all kills.
        call: Writes into the folder.
        begin: What lies in the folder before anything is written.
        older: A folder that an older call has left, or None where there is none.
        meanwhile: Folders that the call leaves for a while, on its way.
        prepared: Replaces what is slow and writes nothing, while trials go on.
    """

    name: str
    share: float
    call: Callable[[Path], object]
    begin: Path | None = None
    older: Path | None = None
    meanwhile: tuple[Path, ...] = ()
    prepared: Callable[[], ExitStack] = field(default=ExitStack)


def commands(place: Path, chosen: Collection[str] = ()) -> Iterator[Command]:
    """All commands that write, or the chosen ones; their inputs are made in a place."""
    for stage, names in STAGES.items():
        wanted = [name for name in names if not chosen or name in chosen]
        if wanted:
            folder = place / stage.__name__
            folder.mkdir()
            yield from (command for command in stage(folder) if command.name in wanted)


def runs(place: Path) -> Iterator[Command]:
    """``analyze run`` in one process, and with workers."""
    tiny = make_run(place)
    first = measured(tiny.path, place / "first")
    begin = place / "begin"
    (begin / "out.h5.units").mkdir(parents=True)
    for name in ("plan", "configuration"):  # algorithms are chosen by timing: the same for all
        shutil.copy(first / "out.h5.units" / name, begin / "out.h5.units" / name)
    older = Path(shutil.copytree(begin, place / "older"))
    measured(tiny.path, older, checkpoints=":2")
    for name, threads in (("run", 1), ("run with workers", 2)):
        call = functools.partial(measured, tiny.path, threads=threads)
        yield Command(name, 0.08, call, begin, older)


def measured(
    run: Path,
    folder: Path,
    threads: int = 1,
    checkpoints: str | None = None,
    follow: bool = False,
) -> Path:
    """Call ``analyze run``."""
    folder.mkdir(exist_ok=True)
    torch.set_num_threads(threads)
    output = folder / "out.h5"
    analyze.run(run, output=output, device="cpu", folds=2, checkpoints=checkpoints, follow=follow)
    return folder


def watches(place: Path) -> Iterator[Command]:
    """``analyze run --follow``, of a run in the folder to which checkpoints come meanwhile."""
    later = place / "later"
    later.mkdir()
    for seed, name in enumerate(COMING, start=3):
        torch.save(small_weights(seed), later / name)
    stages = []
    for count in range(1 + len(COMING)):
        stage = place / f"with {count}"
        stage.mkdir()
        tiny = make_run(stage)
        for name in COMING[:count]:
            os.link(later / name, tiny.path / name)
        stages.append(measured(tiny.path, stage))
    begin = place / "begin"
    begin.mkdir()
    make_run(begin)
    call = functools.partial(followed, later)
    yield Command("run --follow", 0.08, call, begin, stages[0], tuple(stages))


def followed(later: Path, folder: Path) -> None:
    """Watch the run in a folder, to which those of the later checkpoints come that it lacks."""
    run = folder / "run"
    missing = [name for name in COMING if not (run / name).exists()]
    to_come = iter([step for name in missing for step in (name, None, None)])

    def pause(_: float) -> None:
        name = next(to_come, "")
        if name == "":
            raise KeyboardInterrupt
        if name is not None:
            os.link(later / name, run / name)  # whole at once, whenever this process is killed

    with mock.patch.object(watch, "sleep", pause):
        measured(run, folder, follow=True)


def pages(place: Path) -> Iterator[Command]:
    """``analyze report`` and ``analyze compare``."""
    tiny = make_run(place)
    first = measured(tiny.path, place / "first") / "out.h5"
    second = measured(tiny.path, place / "second", checkpoints=":2") / "out.h5"

    def reported(folder: Path, results: Path = first) -> None:
        analyze.report(results, output=folder / "pages")

    def compared(folder: Path, b: Path = second) -> None:
        page.check_output(folder / "pages")
        page.write_comparison(compare({"a": first, "b": b}), folder / "pages")

    calls: tuple[tuple[str, Callable[..., object], Path, Any, str], ...] = (
        ("report", reported, second, reports, "run_figures"),
        ("compare", compared, first, page, "comparison_figures"),
    )
    for name, call, other, module, draws in calls:
        older = place / f"older {name}"
        older.mkdir()
        call(older, other)
        prepared = functools.partial(drawn_before, module, draws)
        yield Command(name, 0.24, call, None, older, prepared=prepared)


def drawn_before(module: Any, draws: str) -> ExitStack:
    """Draws figures and page once, before the fork: most of the time, and no file is written."""
    stack = ExitStack()
    names = {draws: getattr(module, draws), "render_page": module.render_page}
    once: dict[str, Any] = {}

    def kept(name: str) -> Callable[..., Any]:
        def made(*arguments: Any) -> Any:
            if name not in once:
                once[name] = names[name](*arguments)
            return once[name]

        return made

    for name in names:
        stack.enter_context(mock.patch.object(module, name, kept(name)))
    render = functools.cache(writing.rendered)
    stack.enter_context(mock.patch.object(writing, "rendered", render))
    return stack


def probes(place: Path) -> Iterator[Command]:
    """``analyze probes build`` and ``show``."""
    draw = np.random.default_rng(0)
    data = place / "data.npz"
    images = draw.integers(0, 255, (1_000, 1, 32, 32), np.uint8)
    np.savez(data, inputs=images, targets=np.arange(len(images)) % 3)

    def built(folder: Path, per_subset: int | None = None) -> None:
        scaled = Transforms(mean=(0.5,), std=(0.5,))
        recipe = Recipe(str(data), per_subset=per_subset, transforms=scaled)
        freeze(recipe, folder / "probes.safetensors", overwrite=True)

    def shown(folder: Path, count: int = 6) -> None:
        shown = ProbeSet(images[:count], np.arange(count) % 3)
        contact_sheet.write_sheet(shown, folder / "sheet.png")

    for name, call, share in (("probes build", built, 0.18), ("probes show", shown, 0.1)):
        older = place / f"older {name}"
        older.mkdir()
        call(older, 3)
        yield Command(name, share, call, None, older)


STAGES: dict[Callable[[Path], Iterator[Command]], tuple[str, ...]] = {
    runs: ("run", "run with workers"),
    watches: ("run --follow",),
    pages: ("report", "compare"),
    probes: ("probes build", "probes show"),
}


def same(path: Path, other: Path) -> bool:
    """Whether two files hold the same: results and units their arrays, others every byte."""
    if path.name == "out.h5":
        try:
            assert_same_arrays(analyze.open_results(path), analyze.open_results(other))
        except AssertionError:
            return False
        return True
    if path.parent.name == "out.h5.units":
        return _same_unit(path, other)
    return path.read_bytes() == other.read_bytes()


def _same_unit(path: Path, other: Path) -> bool:
    """Whether both are whole, and have the same arrays; what was verified varies."""
    contents = [read_sealed(p) for p in (path, other)]
    if contents[0] is None or contents[1] is None or path.suffix != ".unit":
        return contents[0] is not None and path.suffix != ".unit"
    one, two = (load(content) for content in contents if content is not None)
    names = (one.keys() | two.keys()) - {"facts"}
    return all(n in one and n in two and one[n].tobytes() == two[n].tobytes() for n in names)
