"""Times of every algorithm for the calls of the corpus, kept in a file as they come."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from analyze.gradients.forms import OuterProducts
from scripts.costing.corpus import MODELS, Shapes

ROUNDS = 2  # after the first two runs
HOPELESS = 3.0  # times the best, beyond which there are no more runs
SAVED_EVERY = 20  # calls


@dataclass
class Timed:
    """One call: how often models make it, and the seconds of each algorithm."""

    shapes: Shapes
    models: Counter[str]
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class Times:
    """What was measured on one kind of device with so many threads."""

    kind: str
    threads: int
    calls: list[Timed]

    @classmethod
    def read(cls, path: Path) -> Times:
        """What ``write`` wrote."""
        values = json.loads(path.read_text("utf-8"))
        calls = [
            Timed(Shapes.parse(call["shapes"]), Counter(call["models"]), call["seconds"])
            for call in values["calls"]
        ]
        return cls(values["kind"], values["threads"], calls)

    def write(self, path: Path) -> None:
        """Write all to a file as JSON."""
        calls = [
            {"shapes": c.shapes.as_values(), "models": c.models, "seconds": c.seconds}
            for c in self.calls
        ]
        values: dict[str, Any] = {"kind": self.kind, "threads": self.threads, "calls": calls}
        path.write_text(json.dumps(values), "utf-8")

    @property
    def measured(self) -> list[Timed]:
        """The calls that have times."""
        return [call for call in self.calls if call.seconds]


def corpus(threads: int) -> Times:
    """All calls of all models, each once, in an order that mixes them, without times."""
    models: dict[Shapes, Counter[str]] = {}
    for model in MODELS:
        for shapes in model.calls():
            models.setdefault(shapes, Counter())[model.name] += 1
        print(f"{model.name}: {sum(c[model.name] for c in models.values())} calls", flush=True)
    calls = [Timed(shapes, counted) for shapes, counted in models.items()]
    random.Random(0).shuffle(calls)
    return Times(torch.backends.cpu.get_cpu_capability(), threads, calls)


def measure(times: Times, path: Path) -> None:
    """Time what has no times yet, and keep what was measured in the file.

    By one thread it is the time of the processor, which other programs hardly disturb; by several
    the clock's.
    """
    torch.set_num_threads(times.threads)
    clock = time.thread_time if times.threads == 1 else time.perf_counter
    waiting = [call for call in times.calls if not call.seconds]
    for number, call in enumerate(waiting, start=1):
        with torch.no_grad():
            call.seconds = _seconds(call.shapes.form(filled=True), clock)
        if number % SAVED_EVERY == 0 or number == len(waiting):
            times.write(path)
            print(f"{number} of {len(waiting)}", flush=True)


def _seconds(form: OuterProducts, clock: Callable[[], float]) -> dict[str, float]:
    """The least of some runs of each algorithm."""

    def once(algorithm: str) -> float:
        start = clock()
        form.summarise(algorithm)
        return clock() - start

    best = {name: min(once(name), once(name)) for name in form.algorithms}
    bound = HOPELESS * min(best.values())
    for _ in range(ROUNDS):
        for name in [n for n, seconds in best.items() if seconds < bound]:
            best[name] = min(best[name], once(name))
    return best
