"""Read spoilt files of every kind, and say what reading did besides.

Each input is drawn of ``--seed``, its kind and its number,
made of honest files and of earlier finds,
and read in a process of its own folder. A find is: code that runs, a module that is imported,
a file
that is opened or written elsewhere, a class or setting that changes, an error that is no message, a
message longer than a screen, a character that a terminal obeys,
more memory than 4 times the input and
500 MB, 10 s of processor time, a process that dies.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import importlib
import os
import pkgutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from random import Random

import torch
from rich.cells import cell_len

import analyze
from scripts.fuzzing.children import run_all
from scripts.fuzzing.kind import Case, Kind, read_case, write_case
from scripts.fuzzing.table import KINDS
from scripts.fuzzing.trial import Trial, draw_of

CORPUS = Path(__file__).parents[2] / "tests" / "fuzz_corpus"
INPUTS = 10_000
# Of names in archives, and of texts in pickles and tables: modules that Python loads at first use.
CODECS = ("cp437", "unicode_escape", "raw_unicode_escape", "utf-16", "utf-32", "utf-8-sig", "idna")
FIRST_OF_CORPUS = -1  # numbers below zero are the corpus itself

LIBRARIES = (
    "timm",
    "torchvision.models",
    "xarray.namedarray._array_api",
    "rich.table",
    "difflib",
)  # loaded where a model is named


def corpus_of(kind: Kind, place: Path = CORPUS) -> list[Case]:
    """The inputs of a kind that were finds."""
    folder = place / kind.name
    return [read_case(case) for case in sorted(folder.iterdir())] if folder.is_dir() else []


def made(seeds: dict[str, list[Case]], seed: int, kind: Kind, index: int) -> Case:
    """One input; those with numbers below zero are what the others are made of."""
    cases = seeds[kind.name]
    if index < 0:
        return cases[-index - 1]
    return kind.make(draw_of(seed, kind.name, index), cases)


def tasks_of(
    kinds: list[Kind], seeds: dict[str, list[Case]], inputs: int, begin: int
) -> list[tuple[Kind, int]]:
    """The inputs of all kinds in their shares, first those that the others are made of.

    The others are mixed, so that a run that ends by the clock has some of each kind.
    """
    whole = sum(kind.share for kind in kinds)
    first, mixed = [], []
    for kind in kinds:
        first += [(kind, FIRST_OF_CORPUS - k) for k in range(len(seeds[kind.name]))]
        count = max(1, round(inputs * kind.share / whole))
        mixed += [(kind, begin + k) for k in range(count)]
    Random(0).shuffle(mixed)
    return first + mixed


def warm_up(kinds: list[Kind], seeds: dict[str, list[Case]]) -> None:
    """Read the honest inputs once, so that what is imported at first use is."""
    for name in CODECS:
        codecs.lookup(name)
    cell_len("\N{COLLISION SYMBOL}")  # which loads a table of widths
    own = [module.name for module in pkgutil.walk_packages(analyze.__path__, "analyze.")]
    for name in (*LIBRARIES, *own):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for kind in kinds:
        for case in seeds[kind.name]:
            with tempfile.TemporaryDirectory() as folder:
                write_case(case, Path(folder))
                os.chdir(folder)
                try:
                    kind.read(Path(folder))
                except Exception as error:  # a find of earlier
                    print(f"{kind.name}: {error}".splitlines()[0], file=sys.stderr)
                os.chdir("/")


def until(trials: Generator[Trial, None, None], end: float) -> Iterator[Trial]:
    """Trials up to a time; the processes that make them are ended."""
    for trial in trials:
        yield trial
        if time.monotonic() > end:
            break
    trials.close()


def table(trials: dict[str, list[Trial]]) -> str:
    """Counts, finds, times and memory of each kind."""
    lines = ["| kind | inputs | read | refused | finds | hangs | slowest, s | most memory, MiB |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    total = [trial for each in trials.values() for trial in each]
    for name, each in [*trials.items(), ("all", total)]:
        outcomes = [t.outcome for t in each]
        hangs = sum(find.startswith("hang") for t in each for find in t.finds)
        cells = [
            name, len(each), outcomes.count("accepted"), outcomes.count("refused"),
            sum(bool(t.finds) for t in each), hangs, f"{max(t.seconds for t in each):.1f}",
            max(t.memory for t in each) >> 20,
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--inputs", type=int, default=INPUTS, help="how many of all kinds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=[kind.name for kind in KINDS])
    parser.add_argument("--index", type=int, help="one input of --only, by its number")
    parser.add_argument("--begin", type=int, default=0, help="the number of the first input")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="the end before that")
    parser.add_argument("--keep", type=Path, help="a folder for the files of inputs with finds")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep = None if arguments.keep is None else arguments.keep.absolute()
    kinds = [kind for kind in KINDS if not arguments.only or kind.name in arguments.only]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        seeds = {kind.name: [*kind.seeds(), *corpus_of(kind)] for kind in kinds}
        os.chdir("/")
    warm_up(kinds, seeds)
    tasks = tasks_of(kinds, seeds, arguments.inputs, arguments.begin)
    if arguments.index is not None:
        tasks = [(kind, arguments.index) for kind in kinds]
    make = partial(made, seeds, arguments.seed)
    trials: dict[str, list[Trial]] = defaultdict(list)
    seen: dict[str, int] = {}
    for trial in until(run_all(tasks, make, arguments.jobs), started + 60 * arguments.minutes):
        trials[trial.kind].append(trial)
        for find in trial.finds:
            seen[f"{trial.kind}: {find}"] = seen.get(f"{trial.kind}: {find}", 0) + 1
            if seen[f"{trial.kind}: {find}"] == 1:
                again = f"--seed {arguments.seed} --only {trial.kind} --index {trial.index}"
                print(f"{trial.kind}: {find}\n    {again}", flush=True)
            if keep is not None:
                kind = next(kind for kind in kinds if kind.name == trial.kind)
                write_case(make(kind, trial.index), keep / f"{trial.kind}_{trial.index}")
    print(table(trials))
    print(f"{len(seen)} different finds in {time.monotonic() - started:.0f} s")
    sys.exit(1 if seen else 0)


if __name__ == "__main__":
    main()
