"""``scripts/costs``: measure the algorithms on this CPU, fit their speeds, say what they choose."""

from __future__ import annotations

import argparse
import json
import statistics
from importlib import resources
from pathlib import Path

import torch

from analyze.gradients.costs.speeds import Speeds
from scripts.costing.fitting import FITTED, fitted_gain, fitted_seconds, regrets, spread
from scripts.costing.times import Times, corpus, measure

GAIN = 0.75  # of several threads where they were not timed: that of forward passes
SPEEDS = Path(str(resources.files("analyze.gradients.costs").joinpath("speeds.json")))


def main() -> None:
    """Parse and do what is asked."""
    parser = argparse.ArgumentParser(prog="scripts/costs", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("measure", help="time all calls; goes on where a file is there")
    one.add_argument("times", type=Path, help="a file for the times, outside of the project")
    one.add_argument("--threads", type=int, default=1)
    other = commands.add_parser("fit", help="speeds from times, and the regret of their choices")
    other.add_argument("times", type=Path, help="times by one thread")
    other.add_argument("--several", type=Path, help="times by several threads, for their gain")
    other.add_argument("--write", metavar="SOURCE", help="write speeds.json; where they are from")
    given = parser.parse_args()
    torch.manual_seed(0)
    if given.command == "measure":
        times = Times.read(given.times) if given.times.exists() else corpus(given.threads)
        measure(times, given.times)
    else:
        fit(Times.read(given.times), given.several, given.write)


def fit(times: Times, several: Path | None, source: str | None) -> None:
    """Fit the speeds of one kind, print the regret, and write them if ``source`` says whence."""
    seconds = fitted_seconds(times)
    others = None if several is None else Times.read(several)
    gain = GAIN if others is None else fitted_gain(others, seconds)
    speeds = Speeds(seconds, gain)
    for each in filter(None, (times, others)):
        show(each, speeds)
    if source is not None:
        table = json.loads(SPEEDS.read_text("utf-8"))
        table[times.kind] = {"source": source, "seconds": seconds, "gain": gain}
        SPEEDS.write_text(json.dumps(table, indent=1) + "\n", "utf-8")


def show(times: Times, speeds: Speeds) -> None:
    """Print what the choices cost beyond the best, by model, and how far predictions are off."""
    print(f"{times.kind}, {times.threads} threads, {len(times.measured)} calls")
    by_model = regrets(times, speeds)
    for name, regret in by_model.items():
        print(f"  {name:28} {regret:.3f}{'' if name in FITTED else '  not fitted to'}")
    judged = [regret for name, regret in by_model.items() if name not in FITTED]
    for which, some in (("all", [*by_model.values()]), ("not fitted to", judged)):
        print(f"  {which}: median {statistics.median(some):.3f}, at most {max(some):.3f}")
    for algorithm, off in sorted(spread(times, speeds).items()):
        print(f"    {algorithm:20} predicted within a factor of {off:.2f} for half of the calls")


if __name__ == "__main__":
    main()
