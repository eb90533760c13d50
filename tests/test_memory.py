"""Out of memory: smaller batches, then sums in host memory, then a message; and proven again."""

from __future__ import annotations

import gc
import json
from contextlib import suppress

import numpy as np
import pytest
import torch

import analyze
from analyze.errors import out_of_memory
from analyze.gradients import planner
from analyze.gradients.data.loader import ProbeLoader
from analyze.gradients.device.memory import Held, Memory
from analyze.gradients.engine import Engine
from analyze.gradients.established import ESTABLISHED
from analyze.gradients.losses import build_loss
from analyze.gradients.measurement import Settings
from analyze.gradients.measurer import Measurer
from analyze.gradients.model.replica import Replica
from analyze.gradients.step import output
from analyze.gradients.step.output import losses_at
from analyze.gradients.sums.gram_matrices import gram_matrix
from analyze.gradients.threads import probe_batches
from analyze.models.building import build_model
from analyze.runs.provenance import circumstances
from analyze.specs.model import ModelSpec
from tests.agreement import with_probes
from tests.cases import NAMED
from tests.conftest import SPEC, small_probes, small_weights
from tests.nightly import of_every_run


def model() -> torch.nn.Module:
    built = build_model(ModelSpec.parse(SPEC))
    built.load_state_dict(small_weights(0))
    return built


def prepared() -> Engine:
    settings = Settings("cpu", batch_size=8, folds=2)
    engine = Engine(small_probes(60), build_loss("cross_entropy"), settings)
    engine.prepare([model()])
    return engine


@pytest.fixture
def room(monkeypatch):
    """Lets batches of more than so many examples run out of memory."""

    def limit(examples: int, error: Exception | None = None) -> list[int]:
        measure_batch, sizes = probe_batches.measure_batch, []

        def limited(replica, inputs, *arguments):
            sizes.append(len(inputs))
            if len(inputs) > examples:
                raise error or torch.OutOfMemoryError("CUDA out of memory")
            return measure_batch(replica, inputs, *arguments)

        monkeypatch.setattr(probe_batches, "measure_batch", limited)
        return sizes

    return limit


def measured(batch_size: int | str = 8, **options):
    return analyze.measure(
        model(), small_probes(60), device="cpu", batch_size=batch_size, folds=2, **options
    )


@pytest.mark.parametrize(
    "error",
    [None, MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")],
    ids=["CUDA", "Python", "CPU"],
)
def test_batches_are_halved_and_the_results_say_so(room, error):
    expected = measured(precision="float64")
    room(3, error)
    tree = measured(precision="float64")
    np.testing.assert_allclose(
        tree["parameters"]["gradient_gram"], expected["parameters"]["gradient_gram"], rtol=1e-9
    )
    said = json.loads(tree.attrs["provenance"])
    assert said["batch_size"] == 2
    assert said["warnings"] == [
        "out of memory: batches of 4 from then on", "out of memory: batches of 2 from then on"
    ]  # fmt: skip


@pytest.mark.parametrize("examples", [10, 20])
def test_the_automatic_batch_size_is_found_below_what_does_not_fit(room, examples):
    room(examples)
    said = json.loads(measured("auto").attrs["provenance"])
    assert 1 <= said["batch_size"] <= examples
    assert said["warnings"][-1].startswith("out of memory: batches of ")


def test_what_never_fits_is_refused_with_what_to_type(room):
    room(0)
    with pytest.raises(analyze.InputError) as caught:
        measured()
    assert caught.value.what == "the measurement does not fit into memory"
    assert "one example at a time on cpu; the sums of 6 cells take" in caught.value.found
    assert "--folds" in caught.value.fix


GIB = 1 << 30


def lowered(device: str, held: Held) -> list[tuple[int, bool]]:
    """Batch sizes and whether the sums are in host memory, until nothing is left to give up."""
    memory, seen = Memory(torch.device(device), batch_size=16), []
    with suppress(analyze.InputError):
        while True:
            memory, _ = memory.lowered(held)
            seen.append((memory.batch_size, memory.host_sums))
    return seen


def test_what_frees_more_is_given_up_first():
    """Of large sums nothing stays on the device while batches get small, small ones stay long."""
    halves = [(8, True), (4, True), (2, True), (1, True)]
    assert lowered("cuda", Held(GIB, 8 * GIB, 30, True)) == [(16, True), *halves]
    assert lowered("cuda", Held(GIB, 3 * GIB, 30, True)) == [
        (8, False), (4, False), (4, True), (2, True), (1, True)
    ]  # fmt: skip
    assert lowered("cuda", Held(GIB, 1, 30, True)) == [
        (8, False), (4, False), (2, False), (1, False), (1, True)
    ]  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_sums_stay_where_nothing_is_freed_by_moving_them(device):
    """On a CPU, and where memory ran out while none were held."""
    held = Held(GIB, 8 * GIB, 30, adding=device == "cpu")
    assert lowered(device, held) == [(8, False), (4, False), (2, False), (1, False)]


def test_the_place_of_the_sums_is_told():
    memory = Memory(torch.device("cuda"), batch_size=4)
    _, note = memory.lowered(Held(GIB, 30 * GIB, 30, True))
    assert note == "out of memory: the cells' sums (30 GiB) in host memory from then on"


def test_sums_in_host_memory_give_the_same_numbers():
    engine = prepared()
    on_device = engine.measure(model())
    engine.restore(engine.state() | {"host_sums": True})
    assert on_device.gram.tobytes() == engine.measure(model()).gram.tobytes()
    assert circumstances(engine, "cross_entropy")["cell_sums"] == "host memory"


def test_what_is_noted_at_a_model_comes_with_its_numbers(room):
    """The engine's state before is the value that it was; the one after has less memory."""
    engine = prepared()
    before, values = engine.current, engine.state()
    room(3)
    measurement = engine.measure(model())
    assert measurement.notes == (
        "out of memory: batches of 4 from then on", "out of memory: batches of 2 from then on"
    )  # fmt: skip
    assert (engine.notes, engine.batch_size) == (before.notes, 2)
    assert before.as_values().items() <= values.items()


def test_a_model_that_cannot_be_measured_leaves_the_engine_as_it_was():
    engine = prepared()
    before, broken = engine.current, model()
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(analyze.InputError, match="the loss is not finite"):
        engine.measure(broken)
    assert engine.current is before


def test_the_plan_is_proven_again_after_a_fallback(room, monkeypatch):
    engine = prepared()
    proofs, prove = [], planner.prove
    monkeypatch.setattr(
        planner, "prove", lambda *arguments: (proofs.append(None), prove(*arguments))[1]
    )
    engine.measure(model())
    assert not proofs
    room(3)
    engine.measure(model())
    assert len(proofs) == 1  # after the batch was halved


def test_what_a_second_proof_throws_over_is_measured_again(room, monkeypatch):
    """A fallback whose proof finds a method wrong: the numbers are by the method after that."""
    engine = prepared()
    name = next(iter(engine.plan.methods))
    proofs, prove = [], planner.prove

    def throws_over(*arguments):
        proofs.append(None)
        plan, proof = prove(*arguments)
        return plan.demoted({name}), proof

    monkeypatch.setattr(planner, "prove", throws_over)
    measured, observed = [], Measurer.observed
    monkeypatch.setattr(
        Measurer,
        "observed",
        lambda *arguments: measured.append(observed(*arguments)) or measured[-1],
    )
    room(3)
    engine.measure(model())
    assert len(proofs) == 1
    assert str(engine.plan.methods[name]) == "vmap(grad)"
    assert len(measured) == 2  # once before, once after


def test_a_pass_that_cannot_be_made_smaller_is_told(monkeypatch):
    def fails(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(planner, "prove", fails)
    with pytest.raises(analyze.InputError, match="the model does not fit into memory"):
        measured()


def test_losses_are_computed_in_smaller_parts(monkeypatch):
    replica = Replica(model(), torch.device("cpu"), torch.float32)
    loader, loss = ProbeLoader(small_probes(60)), build_loss("cross_entropy")
    expected = losses_at(replica, loader, np.arange(60), loss, 60)
    losses_of = output.losses_of

    def limited(replica, examples, loss):
        if len(examples.targets) > 10:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses_of(replica, examples, loss)

    monkeypatch.setattr(output, "losses_of", limited)
    found = losses_at(replica, loader, np.arange(60), loss, 60)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_other_errors_are_not_taken_for_it():
    assert not out_of_memory(RuntimeError("shapes do not fit"))
    assert not out_of_memory(ValueError("out of memory"))


def test_the_gram_matrix_of_sums_elsewhere():
    sums = torch.randn(3, 5, dtype=torch.float64)
    np.testing.assert_allclose(gram_matrix(sums, torch.device("cpu")), sums @ sums.T)


@pytest.mark.parametrize(
    "name",
    of_every_run(
        ["conv2d", "batch-norm-2d", "packed-gru", "custom-function"],
        {"packed-gru", "custom-function"},
    ),
)
def test_a_measurement_leaves_no_tensor_behind(name):
    """Neither its model nor a batch, also where only a search for garbage could end them."""
    before = tensors()
    analyze.measure(*with_probes(NAMED[name]), device="cpu", folds=2)
    ESTABLISHED.forget()
    assert tensors() <= before


def tensors() -> int:
    """How many tensors there are."""
    gc.collect()
    return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())
