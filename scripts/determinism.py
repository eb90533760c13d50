"""Run one command many times, each in a fresh process: one plan, one set of bits in the results.

All runs of a number of threads are compared with the first of them: every variable and coordinate
of every group of the results, in type, shape and bytes, and every entry of the plan that the run
stored beside them, but not the order of the entries. Prints a line for each run. Exits with 1 where
any differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from analyze.errors import listed
from analyze.results.file import open_results
from analyze.runs.units.folder import Folder
from analyze.runs.units.places import folder_of

SAMPLE = Path("sample_checkpoints/half_noise")
RUNS, THREADS, CHECKPOINTS = 20, "1,2", ":1"
NAMED = 6  # of what differs
Digests = Mapping[str, str]  # of what was compared, by its name


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/determinism", description=__doc__)
    parser.add_argument("--run", type=Path, default=SAMPLE, help="the directory of checkpoints")
    parser.add_argument("--runs", type=int, default=RUNS, help="how many, for each --threads")
    parser.add_argument("--threads", default=THREADS, metavar="N,...", help="of the processor")
    parser.add_argument("--checkpoints", default=CHECKPOINTS, help="as analyze run takes them")
    parser.add_argument("--max-probes", type=int, help="as analyze run takes it")
    choice = parser.parse_args(words)
    options = ["--checkpoints", choice.checkpoints]
    options += [] if choice.max_probes is None else ["--max-probes", str(choice.max_probes)]
    command = [sys.executable, "-m", "analyze", "run", str(choice.run), *options]
    counts = [int(count) for count in choice.threads.split(",")]
    equal = [all_equal(command, threads, choice.runs) for threads in counts]
    print("All equal." if all(equal) else "RUNS DIFFER")
    return 0 if all(equal) else 1


def all_equal(command: Sequence[str], threads: int, runs: int) -> bool:
    """Run a command so many times and print what each gave; whether all gave the same."""
    first: Digests | None = None
    good = True
    for number in range(1, runs + 1):
        digests = fresh_run(command, threads)
        first = digests if first is None else first
        names = differing(first, digests)
        verdict = f"DIFFERS in {listed(names, NAMED)}" if names else "as the first"
        plan, results = (whole(digests, part) for part in ("plan", "results"))
        line = f"threads {threads}  run {number:2}  plan {plan}  results {results}"
        print(line if number == 1 else f"{line}  {verdict}", flush=True)
        good &= not names
    return good


def fresh_run(command: Sequence[str], threads: int) -> Digests:
    """The digests of what a command writes, run in a process of its own."""
    with TemporaryDirectory() as folder:
        output = Path(folder, "results.h5")
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        words = [*command, "--output", str(output)]
        subprocess.run(words, check=True, capture_output=True, env=environment)
        return digests_of(output)


def digests_of(output: Path) -> Digests:
    """The digest of each variable of the results, and of each entry of the stored plan."""
    tree = open_results(output)
    digests = {
        f"results{group.rstrip('/')}/{name}": _digest(_bytes(variable.values))
        for group in tree.groups
        for name, variable in tree[group].to_dataset().variables.items()
    }
    assert folder_of(output).is_dir(), "the run stored no plan"
    plan = Folder(output).plan() or {}
    entries = {key: json.dumps(value, sort_keys=True) for key, value in plan.items()}
    return digests | {f"plan/{key}": _digest(text.encode()) for key, text in entries.items()}


def differing(first: Digests, other: Digests) -> list[str]:
    """The names of what two runs do not have alike."""
    return sorted(n for n in first.keys() | other.keys() if first.get(n) != other.get(n))


def whole(digests: Digests, part: str) -> str:
    """One short digest of all that belongs to a part."""
    some = {name: digest for name, digest in digests.items() if name.startswith(f"{part}/")}
    return _digest(json.dumps(some, sort_keys=True).encode())


def _bytes(values: np.ndarray) -> bytes:
    """Type, shape and values; texts and times have no bytes of their own."""
    text = values.dtype.kind in "OUT"
    content = repr(values.tolist()).encode() if text else values.tobytes()
    return f"{values.dtype} {values.shape} ".encode() + content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


if __name__ == "__main__":
    sys.exit(main())
