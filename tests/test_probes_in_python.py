"""Probes from data sets, loaders and pairs: what is taken, what is asked for, what is refused."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import analyze
from analyze.probes.freezing.recipe import Recipe, build_probes
from analyze.probes.in_python import probes_in_python

N = 30
X = torch.arange(N * 2).float().reshape(N, 2)
Y = torch.arange(N) % 3
DATA = TensorDataset(X, Y)
NOISY = np.arange(N) % 5 == 0


def same(probes: analyze.ProbeSet, rows) -> None:
    rows = np.asarray(rows)
    np.testing.assert_array_equal(probes.inputs[""], X.numpy()[rows])
    np.testing.assert_array_equal(probes.targets, Y.numpy()[rows])
    np.testing.assert_array_equal(probes.id, rows)


class Items(Dataset):
    """Items that a function makes of a position."""

    def __init__(self, item, count: int = N) -> None:
        self.item, self.count = item, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int):
        return self.item(row)


@pytest.mark.parametrize(
    "value",
    [(X, Y), [X, Y], (X.numpy(), Y.tolist()), DATA, [(x, int(y)) for x, y in DATA],
     DataLoader(DATA, 7), DataLoader(DATA, 7, shuffle=True), Items(lambda k: (X[k], Y[k])),
     DataLoader(DATA, 7, generator=torch.Generator(), shuffle=True), analyze.ProbeSet(X, Y)],
    ids=["pair", "list", "arrays", "dataset", "list of pairs", "loader", "shuffled", "own",
         "shuffled by a generator", "probe set"],
)  # fmt: skip
def test_all_examples_with_their_positions_as_ids(value):
    same(probes_in_python(value), range(N))


@pytest.mark.parametrize(
    ("loader", "rows"),
    [(DataLoader(DATA, 7, drop_last=True), range(28)),
     (DataLoader(DATA, 6, shuffle=True, drop_last=True), range(N)),
     (DataLoader(DATA, 4, sampler=SubsetRandomSampler([5, 9, 2])), [2, 5, 9]),
     (DataLoader(DATA, 4, sampler=[5, 9, 2]), [5, 9, 2]),
     (DataLoader(DATA, batch_sampler=[[3, 1], [2]]), [3, 1, 2]),
     (DataLoader(Subset(DATA, [8, 6, 4]), 2, shuffle=True), [8, 6, 4])],
    ids=["drop_last", "nothing dropped", "some in any order", "some in order", "batches", "subset"],
)  # fmt: skip
def test_the_examples_that_a_loader_gives(loader, rows):
    same(analyze.ProbeSet.from_dataset(loader), list(rows))


@pytest.mark.parametrize(
    ("loader", "message"),
    [(DataLoader(DATA, 7, shuffle=True, drop_last=True), "other examples each time"),
     (DataLoader(DATA, 7, sampler=RandomSampler(DATA, True)), "other examples each time"),
     (DataLoader(DATA, 7, sampler=RandomSampler(DATA, num_samples=29)), "other examples each"),
     (DataLoader(DATA, 7, sampler=WeightedRandomSampler([1.0] * N, N, False)), "other examples"),
     (DataLoader(DATA, 7, sampler=[1, 2, 1]), "example 1 2 times"),
     (DataLoader(DATA, batch_size=None), "batch_size=None")],
    ids=["shuffled and dropped", "replaced", "some", "weighted", "twice", "no batches"],
)  # fmt: skip
def test_a_loader_that_gives_no_fixed_examples_is_refused(loader, message):
    with pytest.raises(analyze.InputError, match=message):
        analyze.ProbeSet.from_dataset(loader)


def test_a_stream_is_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(DATA)

    for value in (Stream(), DataLoader(Stream())):
        with pytest.raises(analyze.InputError, match="read by their positions"):
            analyze.ProbeSet.from_dataset(value)


def test_random_numbers_of_the_training_stay_as_they_were():
    generator = torch.Generator()

    def draw():
        own = torch.rand(1, generator=generator).item()
        return random.random(), np.random.rand(), torch.rand(1).item(), own

    def state():
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        generator.manual_seed(0)

    def item(row):
        random.random(), np.random.rand(), torch.rand(1)
        return X[row], Y[row]

    state()
    expected = draw()
    state()
    analyze.ProbeSet.from_dataset(DataLoader(Items(item), 7, shuffle=True, generator=generator))
    assert draw() == expected


def test_noisy_makes_clean_and_corrupted_and_count_draws_from_each():
    probes = analyze.ProbeSet.from_dataset(DATA, noisy=NOISY, count=4, seed=1)
    assert probes.subset_names == ("clean", "corrupted")  # though the first one is corrupted
    assert len(probes) == 8
    same(probes, probes.id)
    names = np.array(probes.subset_names)[probes.subset]
    np.testing.assert_array_equal(names == "corrupted", NOISY[probes.id])
    other = analyze.ProbeSet.from_dataset(DATA, noisy=torch.tensor(NOISY), count=4, seed=2)
    assert set(other.id) != set(probes.id)


def test_the_draw_is_that_of_probes_build(tmp_path):
    np.savez(tmp_path / "data.npz", inputs=X, targets=Y)
    np.save(tmp_path / "mask.npy", NOISY.astype(int))
    recipe = Recipe(
        str(tmp_path / "data.npz"), [f"mask:{tmp_path / 'mask.npy'}"], per_subset=4, seed=3
    )
    built = build_probes(recipe).probes
    probes = analyze.ProbeSet.from_dataset(DATA, noisy=NOISY, count=4, seed=3)
    assert set(probes.id) == set(built.id)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"noisy": NOISY[:9]}, r"shape \[9\]"), ({"noisy": np.flatnonzero(NOISY)}, "int64"),
     ({"noisy": NOISY, "count": 7}, "6 examples in corrupted"), ({"count": 0}, "count=0")],
    ids=["short", "indices", "too many", "none"],
)  # fmt: skip
def test_refuses_what_cannot_be_drawn(changes, message):
    with pytest.raises(analyze.InputError, match=message):
        analyze.ProbeSet.from_dataset(DATA, **changes)


THIRD = TensorDataset(X, Y, torch.arange(N) + 100)
WORDS = Items(lambda k: {"a": X[k], "b": X[k] + 1, "labels": Y[k], "from": "uv"[k % 2]})


def test_what_a_third_part_is_is_asked_for():
    with pytest.raises(analyze.InputError, match="not clear what the parts") as caught:
        probes_in_python(THIRD)
    assert "3 parts: part 0 of type Tensor" in caught.value.found
    assert "parts=('inputs', 'targets', 'id')" in caught.value.fix
    probes = analyze.ProbeSet.from_dataset(THIRD, parts=("inputs", "targets", "id"))
    np.testing.assert_array_equal(probes.id, np.arange(N) + 100)
    same(analyze.ProbeSet.from_dataset(THIRD, parts=("inputs", "targets", None)), range(N))
    grouped = analyze.ProbeSet.from_dataset(THIRD, parts=("inputs", "targets", "column.place"))
    assert grouped.columns["place"].names[grouped.columns["place"].codes[4]] == "104"


def test_parts_of_dictionaries_are_said_by_their_keys():
    with pytest.raises(analyze.InputError) as caught:
        probes_in_python(WORDS)
    assert "'a': 'inputs.a'" in caught.value.fix
    assert "'labels': 'targets'" in caught.value.fix
    parts = {"a": "inputs.x", "b": "inputs.y", "labels": "targets", "from": "subset"}
    probes = analyze.ProbeSet.from_dataset(WORDS, parts=parts)
    np.testing.assert_array_equal(probes.inputs["x"] + 1, probes.inputs["y"])
    assert probes.subset_names == ("u", "v")
    keywords = Items(lambda k: ({"x": X[k], "y": X[k] + 1}, Y[k]))
    np.testing.assert_array_equal(probes_in_python(keywords).inputs["y"], X.numpy() + 1)


@pytest.mark.parametrize(
    "parts",
    [("inputs", "targets"), ("inputs", "targets", "weight"), ("inputs", None, None),
     ("inputs", "targets", "targets"), {"inputs": "inputs"}],
    ids=str,
)  # fmt: skip
def test_refuses_parts_that_are_not_those_of_the_items(parts):
    with pytest.raises(analyze.InputError, match="not clear what the parts"):
        analyze.ProbeSet.from_dataset(THIRD, parts=parts)


def test_a_collate_function_makes_one_batch_of_all():
    """It pads: all probes are as long as the longest."""
    lengths = Items(lambda k: (torch.ones(1 + k % 4), Y[k]), 10)

    def padded(items):
        inputs = torch.nn.utils.rnn.pad_sequence([x for x, _ in items], batch_first=True)
        return {"tokens": inputs, "labels": torch.stack([y for _, y in items])}

    loader = DataLoader(lengths, 3, collate_fn=padded)
    parts = {"tokens": "inputs.tokens", "labels": "targets"}
    probes = analyze.ProbeSet.from_dataset(loader, parts=parts)
    assert probes.inputs["tokens"].shape == (10, 4)
    assert probes.inputs["tokens"].sum(1).tolist() == [1 + k % 4 for k in range(10)]
    with pytest.raises(analyze.InputError, match="different shapes"):
        analyze.ProbeSet.from_dataset(lengths)


def test_data_that_change_are_refused():
    flipped = Items(lambda k: (X[k] if random.random() < 0.5 else -X[k], Y[k]))
    with pytest.raises(analyze.InputError, match="other values when it is asked again"):
        probes_in_python(flipped)


def test_pictures_are_refused():
    from PIL import Image

    with pytest.raises(analyze.InputError, match="pictures"):
        probes_in_python(Items(lambda _: (Image.new("RGB", (2, 2)), 0)))


@pytest.mark.parametrize(
    "value", [{"x": 1}, "probes.safetensors", X, 3, None, iter([])], ids=lambda v: type(v).__name__
)
def test_refuses_what_is_no_data(value):
    with pytest.raises(analyze.InputError, match="probes given are something else"):
        probes_in_python(value)


def test_masks_name_subsets():
    probes = analyze.ProbeSet(X, Y, {"corrupted": NOISY, "clean": torch.tensor(~NOISY)})
    names = np.array(probes.subset_names)[probes.subset]
    np.testing.assert_array_equal(names == "corrupted", NOISY)


@pytest.mark.parametrize(
    ("subset", "message"),
    [(NOISY, "does not say how its subsets are called"),
     (NOISY.tolist(), "does not say how its subsets are called"),
     ({"a": NOISY, "b": NOISY}, "example 0 is in 2 of 2"), ({"a": NOISY}, "example 1 is in 0 of 1"),
     ({"a": NOISY, "b": ~NOISY[:3]}, "masks a: bool"), ({}, "masks without a name")],
    ids=["mask", "list", "twice", "none", "short", "empty"],
)  # fmt: skip
def test_refuses_masks_that_do_not_name_subsets(subset, message):
    with pytest.raises(analyze.InputError, match=message):
        analyze.ProbeSet(X, Y, subset)


def test_measuring_a_data_set_is_measuring_its_arrays():
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 3)
    settings = {"device": "cpu", "folds": 2, "precision": "float64"}
    expected = analyze.measure(model, analyze.ProbeSet(X, Y), **settings)
    found = analyze.measure(
        model, DataLoader(DATA, 8, shuffle=True), loss=torch.nn.CrossEntropyLoss(), **settings
    )
    assert found["network"].to_dataset().equals(expected["network"].to_dataset())
    assert found["examples"].to_dataset().equals(expected["examples"].to_dataset())


def test_probes_that_are_there_several_times_are_told_with_the_numbers():
    twice = torch.cat([X, X[:2]]), torch.cat([Y, Y[:2]])  # 2 of 32
    once = torch.cat([X, X[:1]]), torch.cat([Y, Y[:1]])  # 1 of 31
    net = torch.nn.Linear(2, 3)
    for probes, told in ((twice, True), (once, False), ((X, Y), False), (twice, True)):
        warnings = analyze.measure(net, probes, folds=1).attrs["provenance"]
        assert ("2 of 32 probes have the inputs of an earlier one" in warnings) is told
