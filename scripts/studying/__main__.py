"""Train and measure what is not there yet, then draw the figures and write docs/study.md.

Each training is kept as a file when it is done, so that the same command goes on after a stop.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from analyze.errors import InputError, bad_choice
from scripts.studying import figures, page, quick, shipped
from scripts.studying.design import QUICK, Training, trainings
from scripts.studying.images import folder_of
from scripts.studying.running import measure
from scripts.studying.store import BUILD, DATA, Study, read


def main() -> int:
    """Measure, compare and write; 1 where ``--quick`` finds other numbers, 3 after an error."""
    parser = argparse.ArgumentParser(prog="scripts/study", description=__doc__)
    parser.add_argument("--data", type=Path, metavar="DIR", help="the IDX files of Fashion-MNIST")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, of one core each")
    way = parser.add_mutually_exclusive_group()
    again = "three trainings anew, beside the page, which stays as it is"
    way.add_argument("--quick", action="store_true", help=again)
    way.add_argument("--only", nargs="+", metavar="NAME", help="only these trainings")
    way.add_argument("--page", action="store_true", help="figures and page of what is there")
    arguments = parser.parse_args()
    try:
        return _done(arguments)
    except InputError as error:
        print(error, file=sys.stderr)
        return 3


def _done(arguments: argparse.Namespace) -> int:
    if arguments.quick:
        folder = BUILD / "quick"
        measure(QUICK, folder_of(arguments.data), arguments.jobs, folder)
        lines, good = quick.compared(read(), read(folder))
        print(*lines, sep="\n")
        return 0 if good else 1
    if not arguments.page:
        wanted = trainings() if arguments.only is None else _named(arguments.only)
        measure(wanted, folder_of(arguments.data), arguments.jobs, DATA)
    study = read()
    _check_enough(study)
    figures.draw_all(study)
    page.PAGE.write_text(page.written(study), encoding="utf-8")
    print(f"{page.PAGE} tells of {len(study.done)} trainings")
    print(shipped.written_pages())
    return 0


def _check_enough(study: Study) -> None:
    """Figures and page compare real, noisy and random labels.

    Raises:
        InputError: one of them is not there.
    """
    missing = [t.name for t in QUICK if t not in {m.training for m in study.done}]
    if missing:
        raise InputError(
            "the page needs three trainings of the first seed",
            found=f"no file of {', '.join(missing)} in {DATA}",
            expected="those that scripts/study makes first",
            fix=f"scripts/study --only {' '.join(missing)}",
        )


def _named(names: list[str]) -> list[Training]:
    """Trainings by their names.

    Raises:
        InputError: there is none of a name.
    """
    known = {training.name: training for training in trainings()}
    for name in names:
        if name not in known:
            raise bad_choice("--only", name, f"names such as {next(iter(known))}")
    return [known[name] for name in names]


if __name__ == "__main__":
    sys.exit(main())
