"""The algorithm of a call follows from shapes alone; what is known to be fast is chosen."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

import analyze
from analyze.gradients import tuning
from analyze.gradients.costs import choice
from analyze.gradients.costs.choice import ByClock, ByCost, summarised
from analyze.gradients.costs.costs import WORK, Costs
from analyze.gradients.costs.rates import NEAREST, kind_among
from analyze.gradients.costs.speeds import Speeds, known_speeds, speeds_of
from analyze.gradients.costs.work import CALLS, EVERYTHING, added, product, some
from analyze.gradients.data.batches import BatchShape
from analyze.gradients.data.segments import Segments
from analyze.gradients.device import float64, timing
from analyze.gradients.engine import Engine
from analyze.gradients.forms import Form, OuterProducts, ScatteredRows, Sum
from analyze.gradients.losses import CrossEntropy
from analyze.gradients.measurement import Settings
from analyze.gradients.step import batch
from scripts.costing.corpus import Shapes
from tests.agreement import with_probes
from tests.cases import CASES, CLASSES, Case
from tests.nightly import variants

ON = {kind: speeds for kind, speeds in known_speeds().items() if kind.startswith("AVX")}


@pytest.fixture(params=sorted(ON))
def processor(request, monkeypatch) -> str:
    """Costs are those of this kind of CPU, whatever the machine is."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: request.param)
    return request.param


def linear(examples: int, positions: int, inputs: int, outputs: int) -> OuterProducts:
    x, dy = (torch.empty(examples, positions, width) for width in (inputs, outputs))
    layouts = ((tuple(t.shape), t.stride()) for t in (x, dy))
    return Shapes("linear", *layouts, (outputs, inputs)).form(filled=False)


def convolution(
    examples: int, channels: tuple[int, int], side: int, kernel: int, groups: int = 1
) -> OuterProducts:
    inputs, outputs = channels
    x, dy = (torch.empty(examples, width, side, side) for width in channels)
    layouts = ((tuple(t.shape), t.stride()) for t in (x, dy))
    weight = (outputs, inputs // groups, kernel, kernel)
    options = ((1, 1), (kernel // 2, kernel // 2), (1, 1), groups)
    return Shapes("conv2d", *layouts, weight, options).form(filled=False)


def cheapest(form: Form, threads: int = 1, segments: int = 1) -> str:
    return Costs(BatchShape(form.count, segments, threads)).cheapest(form)


def every_form(base: type[Form] = Form) -> set[type[Form]]:
    """The kinds of forms of the package that are not there for others to be made of."""
    kinds = set()
    for kind in base.__subclasses__():
        if kind.__module__.startswith("analyze."):
            kinds |= every_form(kind) or {kind}
    return kinds


def test_every_kind_of_form_has_costs():
    assert every_form() == WORK.keys()


class Recording:
    """A choice that asks for the cost of every algorithm of every form, also the only one."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, str]] = set()

    def of(self, form: Form, segments: Segments) -> str:
        for algorithm in form.algorithms:
            seconds = Costs(BatchShape(form.count, len(segments), 1)).seconds(form, algorithm)
            assert seconds > 0
            assert math.isfinite(seconds)
            self.seen.add((type(form).__name__, algorithm))
        return form.algorithms[0]


def kinds_of(case: Case) -> set[str]:
    return {*case.methods.values(), *case.rules}


@pytest.mark.parametrize("case", variants(CASES, kinds_of))
def test_every_algorithm_of_every_case_has_a_cost(case, monkeypatch):
    """In float32, and in float64 where the plan is proven."""
    recording = Recording()
    monkeypatch.setattr(batch, "ByCost", lambda *arguments: recording)
    model, probes = with_probes(case)
    engine = Engine(probes, CrossEntropy(), Settings("cpu", batch_norm="saved", folds=2))
    engine.prepare([model])
    assert recording.seen or not engine.plan.by_rule


@pytest.mark.parametrize("kind", sorted(known_speeds()))
def test_every_kind_of_device_has_a_speed_for_all_that_takes_time(kind):
    speeds = known_speeds()[kind]
    assert speeds.seconds.keys() == set(EVERYTHING)
    assert all(0 <= seconds < 1e-3 for seconds in speeds.seconds.values())
    assert speeds.seconds[CALLS] > 0
    assert 0 <= speeds.gain <= 1


def test_a_device_that_is_not_known_costs_what_the_nearest_does():
    kinds = {"xpu": "cuda", "hpu:1": "cuda", "cuda:0": "cuda", "mps": "mps"}
    for name, kind in kinds.items():
        assert kind_among(known_speeds(), torch.device(name)) == kind
    assert kind_among(["other"], torch.device("cpu")) == NEAREST


@pytest.mark.parametrize("dear", [True, False])
def test_where_float64_is_dear_gram_matrices_take_what_other_products_take(dear, monkeypatch):
    """They are in float32 there; of no processor is there another kind."""
    monkeypatch.setattr(float64, "is_dear", lambda device: dear)
    of_gram, of_product = (
        speeds_of(torch.device("cuda")).of(product(kind, 32, 128, 768, 128), 1)
        for kind in ("Gram", "batched")
    )
    assert (of_gram == of_product) == dear
    assert speeds_of(torch.device("cpu")) in ON.values()


def test_work_adds_up_and_calls_are_in_turn_for_threads():
    work = added((some(calls=3), product("batched", 2, 3, 4, 5), some(calls=1, copied=7)))
    assert work["calls"] == 4
    assert work["batched multiply-adds"] == 2 * 3 * 4 * 5
    assert work["batched read"] == 2 * 4 * (3 + 5)
    assert work["batched written"] == 2 * 3 * 5
    speeds = Speeds(dict.fromkeys(EVERYTHING, 1.0), gain=1.0)
    shared = sum(work.values()) - 4
    assert speeds.of(work, 1) == pytest.approx(4 + shared)
    assert speeds.of(work, 2) == pytest.approx(4 + shared / 2)
    with pytest.raises(KeyError):
        speeds.of(some(calls=1) + type(work)({"magic": 1}), 1)


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize(
    ("form", "fast"),
    [
        pytest.param(lambda: linear(32, 1, 512, 512), {"gram"}, id="one position"),
        pytest.param(
            lambda: convolution(32, (512, 512), 2, 3), {"gram", "unfolded", "unfolded by oneDNN"},
            id="few positions",
        ),
        pytest.param(
            lambda: convolution(32, (64, 64), 32, 3), {"direct", "transposed", "singly",
            "singly by oneDNN", "alone", "grouped"}, id="many positions",
        ),
        pytest.param(
            lambda: convolution(32, (96, 96), 16, 3, groups=96), {"grouped", "correlated"},
            id="depthwise",
        ),
        pytest.param(
            lambda: convolution(32, (96, 96), 16, 5, groups=96), {"correlated"},
            id="depthwise, a large kernel",
        ),
    ],
)  # fmt: skip
def test_what_is_known_to_be_fast_is_chosen(form, fast, threads, processor):
    assert cheapest(form(), threads) in fast


@pytest.mark.parametrize(("positions", "fast"), [(4, "cross"), (2000, "direct")])
def test_a_tied_table_is_crossed_where_its_positions_are_few(positions, fast, processor):
    """A gradient of the whole table for each example, or the inner products of its positions."""
    rows, width = 64 if fast == "direct" else 5000, 32
    ids = torch.zeros(4, positions, dtype=torch.int64)
    table = ScatteredRows(ids, torch.empty(4, positions, width), rows)
    assert cheapest(Sum((table, linear(4, positions, width, rows)))) == fast


def test_of_equals_the_first_is_taken(monkeypatch):
    monkeypatch.setattr(Costs, "seconds", lambda costs, form, algorithm: 1.0)
    form = convolution(4, (8, 8), 4, 3)
    assert cheapest(form) == form.algorithms[0]


def test_the_batch_that_comes_first_changes_nothing():
    """The first may be the last of a cell, or of another thread; all are one kind of call."""
    chosen = []
    for examples, lengths in ((32, [32]), (1, [1]), (7, [3, 4]), (128, [1] * 128)):
        algorithms: dict[str, str] = {}
        by_cost = ByCost(algorithms, BatchShape(32, 2, 1))
        for form in (convolution(examples, (64, 64), 8, 3), linear(examples, 64, 192, 192)):
            by_cost.of(form, Segments(lengths))
        chosen.append(algorithms)
    assert len(chosen[0]) == 2
    assert all(algorithms == chosen[0] for algorithms in chosen)


def test_what_a_plan_has_is_taken_whatever_it_costs():
    form = convolution(4, (8, 8), 4, 3)
    slowest = max(form.algorithms, key=lambda a: Costs(BatchShape(4)).seconds(form, a))
    assert ByCost({form.key: slowest}).of(form, Segments([4])) == slowest


def test_calls_that_differ_in_what_they_cost_have_keys_of_their_own():
    """The same matrices, unfolded from more places by a stride."""
    plain = convolution(4, (8, 8), 4, 3)
    strided = Shapes(
        "conv2d", ((4, 8, 8, 8), (512, 64, 8, 1)), ((4, 8, 4, 4), (128, 16, 4, 1)), (8, 8, 3, 3),
        ((2, 2), (1, 1), (1, 1), 1),
    ).form(filled=False)  # fmt: skip
    assert plain.dims == strided.dims
    assert plain.key != strided.key


class Network(nn.Module):
    """Convolutions, a depthwise one, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.ReLU(),
            nn.Conv2d(16, 32, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1),
        )  # fmt: skip
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.convolutions(x).mean((2, 3)))


def prepared(**settings) -> Engine:
    torch.manual_seed(0)
    probes = analyze.ProbeSet(torch.randn(24, 3, 16, 16), torch.arange(24) % CLASSES)
    engine = Engine(probes, CrossEntropy(), Settings("cpu", **settings))
    engine.prepare([Network()])
    return engine


def test_no_clock_is_asked(monkeypatch):
    monkeypatch.setattr(timing, "once", lambda work, device: pytest.fail("timed"))
    engine = prepared()
    assert {key for key in engine.plan.algorithms if "oneDNN" in key}
    engine.measure(Network())


def test_tune_takes_what_the_clock_says(monkeypatch):
    """And keeps it."""
    picked = []

    def fastest(ways, device, budget=None, **others):
        assert budget is not None
        picked.append(max(ways))
        return picked[-1]

    monkeypatch.setattr(choice, "fastest", fastest)
    monkeypatch.setattr(tuning, "fastest", lambda sizes, *others: max(sizes))
    engine = prepared(tune=True)
    assert picked
    assert [*engine.plan.algorithms.values()][: len(picked)] == picked
    before = dict(engine.plan.algorithms)
    engine.measure(Network())
    assert engine.plan.algorithms == before


def test_a_form_that_is_made_of_others_is_timed_with_them(monkeypatch):
    def fastest(ways, device, **others):
        for way in ways.values():
            way()
        return min(ways)

    monkeypatch.setattr(choice, "fastest", fastest)
    ids, width = torch.zeros(2, 3, dtype=torch.int64), 4
    table = ScatteredRows(ids, torch.ones(2, 3, width), 5)
    chosen: dict[str, str] = {}
    both = Sum((table, linear(2, 3, width, 5)))
    summarised(ByClock(chosen), both, Segments([2]))
    assert set(chosen) == {both.key, both.uses[1].key}


FRESH = """
import json, torch
from tests.test_costs import prepared
print(json.dumps(prepared().state()["algorithms"]))
"""


@pytest.mark.nightly  # tests/test_same_plan.py has one such pair in every run
def test_fresh_processes_make_the_same_plan():
    """Whatever the order of sets, and while the other one keeps the processor busy."""
    environments = [{**os.environ, "PYTHONHASHSEED": str(seed)} for seed in (1, 2)]
    started = [
        subprocess.Popen([sys.executable, "-W", "ignore", "-c", FRESH], env=environment,
                         stdout=subprocess.PIPE, text=True)
        for environment in environments
    ]  # fmt: skip
    first, second = (json.loads(process.communicate(timeout=300)[0]) for process in started)
    assert first == second
    assert len(first) > 3
