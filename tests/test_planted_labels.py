"""A run of the test's own, 5 % of whose labels are swapped: the ranking finds them as it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import analyze
from analyze.models.building import build_model
from analyze.probes import write_probes
from analyze.probes.subsets import Column
from analyze.specs.model import ModelSpec
from analyze.statistics.regrouping import direction_members

COUNT, CLASSES, SWAPPED = 400, 3, 20
SPEC = f"builtin:small_mlp?in_features=12&width=16&num_classes={CLASSES}"
STEPS = (0, 5, 20, 80)


def the_data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs around a centre of each class, true classes, and given ones with some swapped."""
    random = np.random.default_rng(0)
    true = np.arange(COUNT) % CLASSES
    centres = 2.0 * random.normal(size=(CLASSES, 12))
    inputs = (centres[true] + random.normal(size=(COUNT, 12))).astype(np.float32)
    given = true.copy()
    rows = random.choice(COUNT, SWAPPED, replace=False)
    given[rows] = (true[rows] + 1) % CLASSES
    return inputs, true, given


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The checkpoints of a training of the wrong labels, and a probe file with both classes."""
    folder = tmp_path_factory.mktemp("planted")
    inputs, true, given = the_data()
    names = tuple(f"kind {k}" for k in range(CLASSES))
    columns = {"class": Column(given, names), "true_class": Column(true, names)}
    write_probes(folder / "probes.safetensors", analyze.ProbeSet(inputs, given, columns=columns))
    torch.manual_seed(1)
    model = build_model(ModelSpec.parse(SPEC)).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x, y = torch.from_numpy(inputs), torch.from_numpy(given)
    checkpoints = folder / "run"
    checkpoints.mkdir()
    for step in range(max(STEPS) + 1):
        if step in STEPS:
            torch.save(model.state_dict(), checkpoints / f"step_{step}.pt")
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return folder


@pytest.fixture(scope="module")
def results(run):
    classes = [f"class=kind {k}" for k in range(CLASSES)]
    analyze.run(
        run / "run", model=SPEC, probes=run / "probes.safetensors", output=run / "out.h5",
        device="cpu", folds=2, cells=["class"], directions=["all", "update", *classes],
    )  # fmt: skip
    return run / "out.h5"


def share_in_order(scores: np.ndarray, wrong: np.ndarray) -> float:
    """The area under the curve by its definition: pairs in order, ties half."""
    gap = scores[wrong][:, None] - scores[~wrong][None, :]
    return float(((gap > 0) + 0.5 * (gap == 0)).mean())


@pytest.mark.parametrize("against", ["class", "all"])
def test_swapped_labels_are_found_as_well_as_the_table_says(results, against):
    _, true, given = the_data()
    wrong = given != true
    ranking = analyze.examples(results, against=against)
    scores = np.array([row["score"] for row in sorted(ranking.rows, key=lambda r: r["probe"])])
    signal = "suspicion" if against == "class" else "suspicion, against all"
    table = {(r["signal"], r["layer"], r["checkpoint"]): r
             for r in analyze.examples(results, signals=True).signals}  # fmt: skip
    said = table[signal, "whole network", "all"]
    assert said["auroc"] == pytest.approx(share_in_order(scores, wrong))
    assert said["auroc_lower"] < said["auroc"] < said["auroc_upper"]
    if against == "class":  # whose rest is no better guide than that: fitted examples pull little
        return
    assert said["auroc"] > 0.9
    first = [row["probe"] for row in ranking.rows[:SWAPPED]]
    assert wrong[first].mean() > 0.5  # of the first twenty; by chance 0.05


def test_today_s_signals_are_those_of_the_model(run, results):
    """Loss, margin and gradient norm beside plain autograd, one example at a time."""
    inputs, true, given = the_data()
    table = {(r["signal"], r["layer"], r["checkpoint"]): r["auroc"]
             for r in analyze.examples(results, signals=True).signals}  # fmt: skip
    model = build_model(ModelSpec.parse(SPEC)).eval()
    model.load_state_dict(torch.load(run / "run" / "step_20.pt", weights_only=True))
    norms, losses, margins = [], [], []
    for x, y in zip(torch.from_numpy(inputs), given.tolist(), strict=True):
        model.zero_grad()
        output = model(x[None])
        loss = torch.nn.functional.cross_entropy(output, torch.tensor([y]))
        loss.backward()
        norms.append(sum(p.grad.square().sum().item() for p in model.parameters()))
        losses.append(loss.item())
        others = output[0, torch.arange(CLASSES) != y]
        margins.append((output[0, y] - others.max()).item())
    expected = {
        ("loss", "output"): losses, ("margin, reversed", "output"): [-m for m in margins],
        ("gradient norm (GraNd)", "whole network"): norms,
    }  # fmt: skip
    for (signal, layer), values in expected.items():
        area = share_in_order(np.array(values), given != true)
        assert table[signal, layer, "step_20.pt"] == pytest.approx(area, abs=1e-3)


def test_every_direction_is_the_sum_of_the_examples_that_count_as_its_own(results):
    """Σ over its own examples of g·S is |S|², in every layer at every checkpoint."""
    tree = analyze.open_results(results)
    group = tree["examples"].to_dataset(inherit=False)
    members = direction_members(tree)
    assert {name for name, rows in members.items() if not rows.any()} == {"update"}
    for name, rows in members.items():
        if name == "update":
            continue
        own = group.sel(direction=name)
        total = own["alignment"].values[..., rows].astype(float).sum(-1)
        norm = own["direction_norm"].values
        scale = np.sqrt(group["gradient_sqnorm"].values[..., rows]).astype(float).sum(-1) * norm
        np.testing.assert_allclose(total / scale, norm**2 / scale, atol=1e-6)


def test_the_gradient_of_the_output_s_bias_is_el2n(run):
    """As ``scripts/signals`` takes it."""
    inputs, _, given = the_data()
    tree = analyze.run(
        run / "run", model=SPEC, probes=run / "probes.safetensors", output=run / "bias.h5",
        device="cpu", folds=1, parameters=[last_bias()], examples="on", checkpoints="step_20.pt",
    )  # fmt: skip
    norms = tree["examples"].to_dataset(inherit=False)["gradient_sqnorm"].values[0].sum(0)
    model = build_model(ModelSpec.parse(SPEC)).eval()
    model.load_state_dict(torch.load(run / "run" / "step_20.pt", weights_only=True))
    with torch.no_grad():
        chance = model(torch.from_numpy(inputs)).softmax(1).numpy()
    gap = chance - np.eye(CLASSES)[given]
    np.testing.assert_allclose(np.sqrt(norms), np.linalg.norm(gap, axis=1), rtol=1e-4, atol=1e-6)


def last_bias() -> str:
    return [n for n, _ in build_model(ModelSpec.parse(SPEC)).named_parameters()][-1]
