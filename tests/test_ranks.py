"""Runs on several ranks: the numbers of one process, and an end to whatever goes wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import analyze
from analyze.gradients.data.share import Share
from analyze.gradients.ranks import exchange
from analyze.gradients.step.failures import MethodFailedError
from analyze.gradients.threads import probe_batches
from analyze.probes import write_probes
from analyze.runs.ranks import follower, joining
from analyze.runs.ranks.dealing import dealt
from analyze.runs.ranks.launch import launched as launch_of
from analyze.statistics.regrouping import provenance
from tests.conftest import NAMES, SPEC, TinyRun, assert_three_facts, make_run, small_weights
from tests.crash import assert_same_arrays
from tests.nightly import variants
from tests.ranks import Ended, free_port, launched

SAMPLE = Path(__file__).parent.parent / "sample_checkpoints" / "half_noise"
BOUNDS = {"float32": 1e-6, "float64": 1e-12}
SOON = {"ANALYZE_RANK_TIMEOUT": "5"}
ABSENT = ("cuda:7", "tpu", "CPU", "")
TRANSFORMER = '''
import torch
from torch import nn

class Tied(nn.Module):
    """One block of a transformer, whose output uses the table of its embedding."""
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.place = nn.Parameter(torch.zeros(6, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight
    def forward(self, ids):
        return self.head(self.block(self.embed(ids) + self.place)).transpose(1, 2)
'''
ROUTED = """
import torch
from torch import nn

class Routed(nn.Module):
    '''Calls another layer where an input stands out.'''
    def __init__(self):
        super().__init__()
        self.first, self.more, self.head = nn.Linear(12, 5), nn.Linear(5, 5), nn.Linear(5, 3)
    def forward(self, x):
        h = torch.tanh(self.first(x))
        far = x[:, 0] > 50
        if far.any():
            h = torch.where(far[:, None], torch.tanh(self.more(h)), h)
        return self.head(h)
"""


# --- how work is shared


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
@pytest.mark.parametrize("sizes", [[], [4], [4, 4, 4, 4, 1], [1, 100, 1], list(range(1, 30))])
def test_shares_of_all_ranks_are_all_things_in_their_order(ranks, sizes):
    things = list(range(len(sizes)))
    shares = [Share(rank, ranks).of(things, sizes) for rank in range(ranks)]
    assert [thing for share in shares for thing in share] == things
    loads = [sum(sizes[k] for k in share) for share in shares]
    assert max(loads) <= sum(sizes) / ranks + max(sizes, default=0)


@pytest.mark.parametrize(
    ("checkpoints", "ranks", "batches", "whole", "divided"),
    [
        (6, 3, 9, 6, 0),  # two turns
        (7, 3, 9, 6, 1),  # and one that is left
        (1, 4, 9, 0, 1),
        (3, 4, 9, 0, 3),  # 3 * (1/4 + 0.05) turns are less than one
        (3, 4, 2, 3, 0),  # two ranks would have no batch
        (1, 2, 1, 1, 0),  # one batch cannot be divided
        (0, 2, 9, 0, 0),
    ],
)
def test_checkpoints_are_divided_where_they_cannot_occupy_all_ranks(
    checkpoints, ranks, batches, whole, divided
):
    dealing = dealt(checkpoints, ranks, batches)
    assert (dealing.whole, dealing.divided) == (whole, divided)
    assert ("divided among" in str(dealing)) == (divided > 0)
    assert dealing.turns <= -(-checkpoints // ranks)


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("values", [1, 2, 5, 1000, 4097])
def test_columns_of_all_turns_are_all_columns_once(monkeypatch, ranks, values):
    monkeypatch.setattr(exchange, "AT_ONCE", 4096)
    held = tuple(range(k, k + 3) for k in range(ranks))
    sums = exchange.Exchange(ranks + 2, held, {"w": values}, torch.float32)
    slices = [part for turn in sums.columns(values) for part in turn]
    assert (slices[0].start, slices[-1].stop) == (0, values)
    assert all(one.stop == other.start for one, other in pairwise(slices))
    assert max(part.stop - part.start for part in slices) <= min(sums.width, values)


def test_what_torchrun_says_of_a_rank():
    said = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert launch_of(said) is None  # of another program than torchrun
    launch = launch_of(said | {"TORCHELASTIC_RUN_ID": "x", "ANALYZE_RANK_TIMEOUT": "7.5"})
    assert launch is not None
    assert (launch.rank, launch.ranks, launch.leads, launch.time_limit) == (3, 8, False, 7.5)
    assert launch_of(said | {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "1"}) is None


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "nan", "inf"])
def test_a_time_limit_that_is_none(text):
    said = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    with pytest.raises(analyze.InputError) as raised:
        launch_of(said | {"TORCHELASTIC_RUN_ID": "x", "ANALYZE_RANK_TIMEOUT": text})
    assert_three_facts(str(raised.value))


# --- the numbers of one process


def on_ranks(
    run: TinyRun, count: int, *options: str, output: str = "ranks.h5", **launch
) -> list[Ended]:
    """``analyze run`` as the ranks of a launch, into a file beside the run."""
    arguments = ["run", str(run.path), "--folds", "2", "--device", "cpu"]
    arguments += ["--output", str(run.path.parent / output), *options]
    return launched(count, arguments, run.path.parent, **launch)


def results(run: TinyRun, name: str = "ranks.h5"):
    return analyze.open_results(run.path.parent / name)


def assert_done(ended: list[Ended]) -> None:
    """All ranks ended well, and none but the leading one said anything."""
    assert [rank.code for rank in ended] == [0] * len(ended), ended
    assert [rank.printed for rank in ended[1:]] == [""] * (len(ended) - 1)


def assert_agree(one, other, bound: float, of_examples: float = 1e-15) -> None:
    """Gram matrices within a bound; numbers of single examples within another, or rounding."""
    for name in ("loss", "accuracy"):
        np.testing.assert_array_equal(one[name], other[name])
    for group, name in (("parameters", "gradient_sqnorm"), ("examples", "gradient_sqnorm")):
        np.testing.assert_allclose(one[group][name], other[group][name], rtol=of_examples)
    grams = [tree["parameters"]["gradient_gram"].values for tree in (one, other)]
    scale = np.sqrt(np.einsum("kpcc->kpc", grams[0]))
    scale = scale[..., None] * scale[..., None, :]
    apart = np.abs(grams[0] - grams[1]) / np.where(scale > 0, scale, 1.0)
    assert np.nanmax(apart) <= bound
    for group in ("network", "layers"):
        m = [tree[group]["m_coherence"].values for tree in (one, other)]
        np.testing.assert_allclose(*m, rtol=10 * bound, atol=10 * bound)


@pytest.fixture(scope="session")
def alone(tmp_path_factory) -> xr.DataTree:
    """The results of the tiny run by one process, in batches of four."""
    run = make_run(tmp_path_factory.mktemp("alone"))
    assert run.run("--batch-size", "4").exit_code == 0
    return analyze.open_results(run.output)


def test_whole_checkpoints_have_the_bits_of_one_process(tiny, alone):
    assert_done(on_ranks(tiny, 3, "--batch-size", "4"))
    tree = results(tiny)
    assert_same_arrays(tree, alone)
    assert provenance(tree)["ranks"]["world_size"] == 3
    assert provenance(tree)["ranks"]["backend"] == "gloo"
    assert not any("ranks" in record for record in provenance(tree)["checkpoints"])


@pytest.mark.parametrize(
    ("ranks", "precision", "size"),
    [
        pytest.param(2, "float64", 4, marks=pytest.mark.nightly),
        (3, "float32", 5),
        pytest.param(3, "float64", 9, marks=pytest.mark.nightly),  # two batches of 24 probes
    ],
)
def test_a_divided_checkpoint_has_the_numbers_of_one_process(
    tiny, ranks, precision, size, monkeypatch
):
    monkeypatch.setattr(exchange, "AT_ONCE", 200)  # bytes: several turns for a parameter
    only(tiny, NAMES[0])
    options = ["--precision", precision, "--batch-size", str(size)]
    assert tiny.run(*options).exit_code == 0
    ended = on_ranks(tiny, ranks, *options)
    assert_done(ended)
    assert "1 checkpoint divided among" in ended[0].printed
    tree = results(tiny)
    assert_agree(analyze.open_results(tiny.output), tree, BOUNDS[precision])
    assert [record["ranks"] for record in provenance(tree)["checkpoints"]] == [ranks]
    before, after = provenance(analyze.open_results(tiny.output)), provenance(tree)
    assert before["verification"] == after["verification"]
    assert before["plan"] == after["plan"]


def with_model(run: TinyRun, text: str, name: str) -> list[str]:
    """The options for a model in a file of one's own."""
    path = run.path.parent / "model.py"
    path.write_text(text)
    return ["--model", f"{path}:{name}"]


def checkpoints_of(run: TinyRun, model: torch.nn.Module, names: list[str]) -> None:
    """Replace the run's checkpoints by some of a model, with other weights each."""
    for name in NAMES:
        (run.path / name).unlink()
    for seed, name in enumerate(names):
        torch.manual_seed(seed)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, 0.0, 0.3)
        torch.save(model.state_dict(), run.path / name)


def made(text: str, name: str) -> torch.nn.Module:
    space: dict[str, object] = {}
    exec(text, space)
    return space[name]()


def test_a_transformer_with_tied_weights_whole_and_divided(tiny):
    """Three checkpoints on two ranks: two are whole, the third is divided."""
    checkpoints_of(tiny, made(TRANSFORMER, "Tied"), NAMES)
    draw = np.random.default_rng(0)
    ids = draw.integers(0, 11, (20, 6))
    probes = analyze.ProbeSet(ids, np.roll(ids, -1, 1), ["a", "b", "b", "a"] * 5)
    write_probes(tiny.probes, probes)
    options = [*with_model(tiny, TRANSFORMER, "Tied"), "--batch-size", "3"]
    assert tiny.run(*options, "--output", str(tiny.output)).exit_code == 0
    assert_done(on_ranks(tiny, 2, *options))
    tree = results(tiny)
    assert_agree(analyze.open_results(tiny.output), tree, BOUNDS["float32"])
    assert ["ranks" in r for r in provenance(tree)["checkpoints"]] == [False, False, True]


def test_a_sample_with_batch_norm_divided(tmp_path):
    options = ["--max-probes", "96", "--checkpoints", "*128*", "--batch-size", "16", "--folds", "2"]
    run = TinyRun(SAMPLE, SAMPLE)
    target = TinyRun(tmp_path / "run", tmp_path)
    arguments = ["run", str(run.path), "--device", "cpu", *options, "--output"]
    analyze.run(
        SAMPLE, output=target.output, max_probes=96, checkpoints="*128*", batch_size=16, folds=2,
        device="cpu",
    )  # fmt: skip
    ended = launched(2, [*arguments, str(tmp_path / "ranks.h5")], tmp_path)
    assert_done(ended)
    one, other = analyze.open_results(target.output), results(target)
    assert_agree(one, other, BOUNDS["float32"])
    for name in ("loss_saved", "loss_recomputed"):
        np.testing.assert_array_equal(one[name], other[name])


def test_another_number_of_ranks_goes_on_from_the_units(tiny, alone):
    """Two of three checkpoints by two ranks, the third by one process: the bits of one process."""
    kept = (tiny.path / NAMES[2]).read_bytes()
    (tiny.path / NAMES[2]).unlink()
    assert_done(on_ranks(tiny, 2, "--batch-size", "4"))
    (tiny.path / NAMES[2]).write_bytes(kept)
    ranks = tiny.path.parent / "ranks.h5"
    assert tiny.run("--batch-size", "4", "--output", str(ranks)).exit_code == 0
    assert_same_arrays(results(tiny), alone)


def test_along_directions_checkpoints_are_whole(tiny):
    """Also where there are fewer than ranks; the last one has no update."""
    only(tiny, *NAMES[1:])
    options = ["--batch-size", "4", "--directions", "clean,update"]
    assert tiny.run(*options).exit_code == 0
    assert_done(on_ranks(tiny, 3, *options))
    assert_same_arrays(results(tiny), analyze.open_results(tiny.output))


def test_check_says_how_checkpoints_are_dealt_out(tiny):
    """All three are read; the leading rank needs no other one for it."""
    ended = launched(2, ["check", str(tiny.path), "--device", "cpu", "--json"], tiny.path.parent)
    assert_done(ended)
    report = json.loads(ended[0].printed.splitlines()[-1])["report"]
    assert (report["ranks"], report["workers"]) == (2, 1)
    assert report["dealing"].startswith("3 checkpoints whole") or "divided" in report["dealing"]


# --- what changes the way is decided for all


def only(run: TinyRun, *names: str) -> None:
    """Leave these checkpoints."""
    for name in NAMES:
        if name not in names:
            (run.path / name).unlink()


def on_rank_1(patch):
    """Something that goes wrong on rank 1 alone, before its command."""
    return lambda rank: patch() if rank == 1 else None


def failing_batches(error: Exception, larger_than: int) -> None:
    """Batches of more examples than that fail."""
    measure = probe_batches.measure_batch

    def failing(replica, inputs, *rest):
        if len(inputs) > larger_than:
            raise error
        return measure(replica, inputs, *rest)

    probe_batches.measure_batch = failing


def test_memory_that_runs_out_on_one_rank_makes_batches_smaller_on_all(tiny):
    only(tiny, NAMES[0])
    assert tiny.run("--batch-size", "2").exit_code == 0
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    ended = on_ranks(
        tiny, 2, "--batch-size", "4", before=on_rank_1(lambda: failing_batches(error, 2))
    )
    assert_done(ended)
    assert "out of memory: batches of 2 from then on" in ended[0].printed
    assert_agree(analyze.open_results(tiny.output), results(tiny), BOUNDS["float32"])


def test_a_method_that_fails_on_one_rank_gives_way_on_all(tiny, rules_may_fail):
    only(tiny, NAMES[0])
    options = ["--batch-size", "4", "--precision", "float64"]
    assert tiny.run(*options).exit_code == 0

    def fail_once() -> None:
        measure = probe_batches.measure_batch

        def failing(*arguments):
            probe_batches.measure_batch = measure
            raise MethodFailedError({"fc.weight"}, "a rule was broken on purpose")

        probe_batches.measure_batch = failing

    ended = on_ranks(tiny, 3, *options, before=on_rank_1(fail_once))
    assert_done(ended)
    assert "a rule was broken on purpose" in ended[0].printed
    tree = results(tiny)
    methods = dict(
        zip(
            tree["parameters"]["parameter"].values, tree["parameters"]["method"].values, strict=True
        )
    )
    assert methods == {
        "hidden.weight": "linear", "hidden.bias": "linear", "fc.weight": "vmap(grad)",
        "fc.bias": "linear",
    }  # fmt: skip
    assert_agree(analyze.open_results(tiny.output), tree, 1e-12, of_examples=1e-12)


def test_calls_that_only_one_rank_sees_are_learnt_by_all(tiny):
    checkpoints_of(tiny, made(ROUTED, "Routed"), NAMES[:1])
    draw = np.random.default_rng(0)
    x = draw.standard_normal((24, 12)).astype(np.float32)
    x[17:20, 0] = 100.0  # among the examples of rank 1 alone
    write_probes(tiny.probes, analyze.ProbeSet(x, draw.integers(0, 3, 24), ["a"] * 12 + ["b"] * 12))
    options = [*with_model(tiny, ROUTED, "Routed"), "--batch-size", "4"]
    assert tiny.run(*options).exit_code == 0
    assert_done(on_ranks(tiny, 2, *options))
    assert_agree(analyze.open_results(tiny.output), results(tiny), BOUNDS["float32"])


def test_a_checkpoint_that_one_rank_refuses_is_skipped_by_all(tiny):
    """One has no numbers among the examples of rank 1, one is damaged, one is read otherwise."""
    weights = small_weights(0)
    weights["fc.bias"][:] = float("nan")
    torch.save(weights, tiny.path / NAMES[1])
    hashed: list[str] = []

    def another_file() -> None:
        take_over = follower.Follower._take_over

        def other(self, checkpoint, state):
            hashed.append(checkpoint.name)
            return "other" if checkpoint.name == NAMES[2] else take_over(self, checkpoint, state)

        follower.Follower._take_over = other

    ended = on_ranks(tiny, 4, "--batch-size", "2", before=on_rank_1(another_file))
    assert [rank.code for rank in ended] == [4, 0, 0, 0]
    assert "the ranks of the launch do not read the same checkpoint" in ended[0].printed
    status = results(tiny)["status"].values.tolist()
    assert status[0] == "ok"
    assert "finite" in status[1]
    assert "do not read the same checkpoint" in status[2]


# --- what ends a launch


def assert_told(ended: Ended, *facts: str) -> None:
    """A message with its three facts, and no traceback."""
    assert ended.code == 3, ended
    assert "Traceback" not in ended.printed
    assert_three_facts(ended.printed)
    for fact in facts:
        assert fact in ended.printed


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(NAMES[:1], id="divided"),
        pytest.param(NAMES[:2], id="whole", marks=pytest.mark.nightly),
    ],
)
def test_a_rank_that_hangs_is_told_of(tiny, names):
    only(tiny, *names)

    def hang() -> None:
        probe_batches.measure_batch = lambda *arguments: time.sleep(1000)

    ended = on_ranks(tiny, 2, "--batch-size", "4", before=on_rank_1(hang), environment=SOON)
    assert_told(ended[0], "gives no sign", "rank 1 of 2", "nothing for 5 s", names[0])


def test_a_rank_that_hangs_in_the_exchange_is_told_of(tiny):
    only(tiny, NAMES[0])

    def hang() -> None:
        exchange.Exchanging.products = lambda self: time.sleep(1000)

    ended = on_ranks(tiny, 2, "--batch-size", "4", before=on_rank_1(hang), environment=SOON)
    assert_told(ended[0], "could not be exchanged", "within 5 s")


def test_a_leading_rank_that_stands_still_is_left(tiny):
    def stop_the_first(processes: list[int]) -> None:
        until_printed(tiny, "[1/3]")
        os.kill(processes[0], signal.SIGSTOP)

    ended = on_ranks(tiny, 2, environment=SOON, while_running=stop_the_first)
    assert ended[1].code == 3
    assert ended[1].printed == "Error: rank 1 ends: nothing for 5 s of rank 0, which leads\n"


def until(there: Callable[[], bool]) -> None:
    for _ in range(3000):
        if there():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def until_printed(run: TinyRun, text: str) -> None:
    """Wait for the leading rank to print some text."""
    path = run.path.parent / "rank0.txt"
    until(lambda: path.exists() and text in path.read_text())


def units_of(run: TinyRun) -> dict[str, int]:
    """The units beside ``ranks.h5``, and when they were written."""
    return {p.name: p.stat().st_mtime_ns for p in run.path.parent.glob("ranks.h5.units/*.unit")}


def test_a_rank_that_is_killed_ends_the_launch_which_goes_on_from_the_units(tiny, alone):
    """Rank 0 has measured the first checkpoint when rank 1 is killed, which has the second."""

    def slow() -> None:
        probe_batches.measure_batch = lambda *arguments: time.sleep(1000)

    def kill_the_second(processes: list[int]) -> None:
        until(lambda: len(units_of(tiny)) == 1)
        os.kill(processes[1], signal.SIGKILL)

    ended = on_ranks(
        tiny, 2, "--batch-size", "4", before=on_rank_1(slow), while_running=kill_the_second
    )
    assert ended[1].code == -signal.SIGKILL
    assert_told(ended[0], "has ended early", "rank 1 of 2")
    units = units_of(tiny)
    assert_done(on_ranks(tiny, 2, "--batch-size", "4"))
    assert len(units_of(tiny)) == 3
    assert units_of(tiny).items() > units.items()
    assert_agree(alone, results(tiny), BOUNDS["float32"])


def test_ctrl_c_keeps_the_units_and_ends_all_ranks(tiny):
    def slow() -> None:
        measure = probe_batches.measure_batch

        def slowly(*arguments):
            time.sleep(0.5)
            return measure(*arguments)

        probe_batches.measure_batch = slowly

    def interrupt(processes: list[int]) -> None:
        until_printed(tiny, "[1/3]")
        for process in processes:  # as a terminal does
            os.kill(process, signal.SIGINT)

    ended = on_ranks(
        tiny, 2, "--batch-size", "2", before=lambda rank: slow(), while_running=interrupt
    )
    assert ended[0].code == 130
    assert "The same command again goes on from there." in ended[0].printed
    assert (ended[1].code, ended[1].printed) == (0, "")


@pytest.mark.parametrize(
    ("module", "function", "fact", "facts"),
    [
        (joining, "versions", {"torch": "1.0"}, ("other versions", "here and 1.0 on")),
        (follower, "configuration_of", {"probes": "ab" * 32},
         ("would measure something else", "now abababababab there (rank 1 of 2")),
    ],
    ids=["versions", "probes"],
)  # fmt: skip
def test_a_rank_that_would_measure_something_else_is_refused(tiny, module, function, fact, facts):
    as_it_is = getattr(module, function)

    def patch() -> None:
        setattr(module, function, lambda *arguments: as_it_is(*arguments) | fact)

    ended = on_ranks(tiny, 2, before=on_rank_1(patch))
    assert_told(ended[0], *facts)
    assert ended[1].code == 0


def test_a_mistake_of_the_user_is_told_once(tiny):
    ended = on_ranks(tiny, 2, "--checkpoints", "nothing*")
    assert_told(ended[0])
    assert (ended[1].code, ended[1].printed) == (0, "")


@pytest.mark.parametrize(
    ("command", "device"),
    variants(list(product(["run", "check"], ABSENT)), lambda command, device: [command]),
)
def test_a_device_that_is_not_there_is_refused(tiny, command, device):
    arguments = [command, str(tiny.path), "--device", device]
    ended = launched(2, arguments, tiny.path.parent)
    for rank in ended if command == "run" else ended[:1]:  # one checks for all
        assert rank.code == 3
        assert "there is no such device" in rank.printed or "GPU" in rank.printed


MORTAL = """
import os, signal
from pathlib import Path
from analyze.models.building import build_model
from analyze.specs.model import ModelSpec

def make():
    died = Path(__file__).with_name("died")
    if os.environ["RANK"] == "1" and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return build_model(ModelSpec.parse("SPEC"))
"""


@pytest.mark.nightly  # a rank that is killed, and a launch after it, are in every run above
def test_torchrun_starts_ranks_again_and_nothing_is_left_but_the_results(tiny):
    """By torchrun itself; rank 1 is killed the first time."""
    only(tiny, NAMES[0])
    left = tiny.path.parent / "left"
    left.mkdir()
    here = Path(analyze.__file__).parent.parent
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(left)}
    environment["PYTHONPATH"] = str(here)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
        "--max-restarts", "1", "--master-port", str(free_port()), "-m", "analyze", "run",
        str(tiny.path), *with_model(tiny, MORTAL.replace("SPEC", SPEC), "make"),
        "--device", "cpu", "--batch-size", "4", "--output", str(tiny.output),
    ]  # fmt: skip
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tiny.path.parent / "died").exists()
    assert "1 checkpoint divided among 2 ranks" in done.stderr
    tree = analyze.open_results(tiny.output)
    assert json.loads(tree.attrs["provenance"])["ranks"]["world_size"] == 2
    assert not [path for path in left.rglob("*") if path.is_file() and path.stat().st_size]
    assert re.search(r"^Wrote ", done.stdout, re.MULTILINE)
