"""Which labels are wrong, in the forms that label noise is kept in, and what does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from analyze.probes import read_probes
from tests.conftest import COUNT, assert_input_error, call
from tests.data_sources import SCALED, build, fashion_mnist, folder_of_images, saved, subset_of


def cifar_n(found) -> str:
    """The dictionary of numpy arrays that CIFAR-10N is."""
    torch.save({"clean_label": found["true"], "worse_label": found["targets"]}, "human.pt")
    return "cifar_n:human.pt?column=worse_label"


def by_labels(found):
    return found["targets"] != found["true"]


def by_mask(found):
    return found["mask"]


NOISE = {
    "true labels, npy": (lambda f: "true_labels:" + saved(f["true"], "t.npy"), by_labels),
    "true labels, json": (lambda f: "true_labels:" + saved(f["true"], "t.json"), by_labels),
    "mask, npy": (lambda f: "mask:" + saved(f["mask"], "m.npy"), by_mask),
    "mask, pt": (lambda f: "mask:" + saved(f["mask"], "m.pt"), by_mask),
    "mask, csv": (lambda f: "mask:" + saved(f["mask"].astype(int), "m.csv"), by_mask),
    "indices, txt": (lambda f: "indices:" + saved(np.flatnonzero(f["mask"]), "i.txt"), by_mask),
    "indices, json": (lambda f: "indices:" + saved(np.flatnonzero(f["mask"]), "i.json"), by_mask),
}


@pytest.mark.parametrize("case", NOISE)
def test_noise_in_the_forms_that_people_have(data, case):
    spec, expected = NOISE[case]
    probes = build("--data", "data.npz", "--noise", spec(data))
    wrong = expected(data)
    assert subset_of(probes) == ["corrupted" if w else "clean" for w in wrong]
    np.testing.assert_array_equal(probes.targets, data["targets"])


@pytest.mark.parametrize("case", ["json", "cifar-n"])
def test_noisy_labels_go_over_those_of_the_data(data, case):
    np.savez("data.npz", inputs=data["inputs"], targets=data["true"])
    noise = cifar_n(data) if case == "cifar-n" else (
        "noisy_labels:" + saved(data["targets"], "n.json")
    )  # fmt: skip
    probes = build("--data", "data.npz", "--noise", noise)
    np.testing.assert_array_equal(probes.targets, data["targets"])
    np.testing.assert_array_equal(probes.columns["true_class"].codes, data["true"])
    assert subset_of(probes) == ["corrupted" if w else "clean" for w in by_labels(data)]


def test_selected_is_not_corrupted(data):
    options = ["--noise", "true_labels:" + saved(data["true"], "t.npy"),
               "--noise", "mask:" + saved(data["mask"], "m.npy")]  # fmt: skip
    result = call("probes", "build", "out.safetensors", "--data", "data.npz", *options)
    unchanged = int((data["mask"] & ~by_labels(data)).sum())
    assert unchanged > 0
    fact = f"{unchanged} of {data['mask'].sum()} selected labels are unchanged; they count as clean"
    assert fact in result.stdout
    probes = read_probes(Path("out.safetensors"))
    assert subset_of(probes).count("corrupted") == by_labels(data).sum()


def test_three_states(data):
    mask = np.where(np.arange(COUNT) < 10, -1, data["mask"])
    probes = build("--data", "data.npz", "--noise", "mask:" + saved(mask, "m.npy"))
    assert subset_of(probes)[:10] == ["unknown"] * 10
    assert probes.subset_names == ("clean", "corrupted", "unknown")
    true = np.where(np.arange(COUNT) < 10, -1, data["true"])
    again = build("--data", "data.npz", "--noise", "true_labels:" + saved(true, "t.npy"))
    assert subset_of(again)[:10] == ["unknown"] * 10


def test_an_estimate_is_called_one(data):
    lines = ["is_label_issue,label_quality,given_label,predicted_label"]
    lines += [f"{bool(m)},0.5,{g},{t}" for m, g, t in
              zip(data["mask"], data["targets"], data["true"], strict=True)]  # fmt: skip
    Path("lab.csv").write_text("\n".join(lines))
    probes = build("--data", "data.npz", "--noise", "cleanlab:lab.csv")
    assert set(subset_of(probes)) == {"estimated_clean", "estimated_corrupted"}
    assert subset_of(probes).count("estimated_corrupted") == data["mask"].sum()


WRONG_NOISE = {
    "kind": ("symmetric:x.npy", "no kind of label noise", "true_labels:FILE"),
    "no file": ("mask:gone.npy", "a file for the probes is missing", "gone.npy"),
    "length": ("mask:short.npy", "does not fit the data", "[3]"),
    "values": ("mask:sevens.npy", "does not fit the data", "7"),
    "range": ("indices:far.json", "does not fit the data", "0 to 39"),
    "objects": ("mask:objects.npy", "cannot be read", "give its .pt twin"),
    "other order": ("cifar_n:tf.pt?column=worse_label", "does not fit the data", "TensorFlow"),
    "no column": ("cifar_n:tf.pt?column=other", "does not fit the data", "clean_label"),
    "column not said": ("cifar_n:tf.pt", "no ?column=", "?column= one of worse_label"),
    "other names": ("cifar_n:two.npz?column=a", "does not fit", "--noise noisy_labels:two.npz"),
    "short column": ("cifar_n:half.pt?column=worse_label", "does not fit the data", "[39]"),
    "negative": ("noisy_labels:negative.npy", "does not fit the data", "1 label such as -2"),
    "infinite": ("mask:infinite.npy", "does not fit the data", "float64"),
    "an index list": ("mask:far.json", "does not fit the data", "--noise indices:far.json"),
    "a mask": ("indices:ones.npy", "does not fit the data", "--noise mask:ones.npy"),
    "truth values": ("indices:truth.npy", "does not fit the data", "no indices"),
    "parts": ("indices:parts.npy", "does not fit the data", "no indices"),
    "words": ("indices:words.npy", "does not fit the data", "no indices"),
    "several": ("mask:two.npz", "does not fit the data", "--noise 'mask:two.npz?column=NAME'"),
    "issues": ("cleanlab:sevens.npy", "does not fit the data", "values 7"),
    "no such column": ("mask:@noisy", "no such column", "'noisy'"),
    "code": ("mask:evil.pt", "would run code", "asks for"),
    "ending": ("mask:m.xlsx", "cannot be read", ".xlsx"),
}


@pytest.mark.parametrize("case", WRONG_NOISE)
def test_noise_that_does_not_fit(data, case):
    from tests.hostile_files import Calls

    saved(np.zeros(3), "short.npy")
    saved(np.full(COUNT, 7), "sevens.npy")
    saved([99], "far.json")
    saved(np.ones(COUNT, int), "ones.npy")
    saved(np.arange(COUNT) < 2, "truth.npy")
    saved([1.5, 2.0], "parts.npy")
    np.save("words.npy", np.array(["a", "b"]))
    saved(np.where(np.arange(COUNT) == 3, -2, 1), "negative.npy")
    saved(np.where(np.arange(COUNT) == 3, np.inf, 1), "infinite.npy")
    np.savez("two.npz", a=data["mask"], b=data["mask"])
    torch.save({"clean_label": data["targets"], "worse_label": data["true"][1:]}, "half.pt")
    np.save("objects.npy", np.array([None] * COUNT), allow_pickle=True)
    torch.save({"clean_label": data["true"][::-1].copy(), "worse_label": data["true"]}, "tf.pt")
    torch.save(Calls(print, "code of a mask was run"), "evil.pt")
    Path("m.xlsx").write_text("")
    noise, what, found = WRONG_NOISE[case]
    result = call("probes", "build", "out.safetensors", "--data", "data.npz", "--noise", noise)
    assert_input_error(result, what, found)
    assert not Path("out.safetensors").exists()


def test_a_mask_that_contradicts_the_labels(data):
    mask = ~by_labels(data)
    options = ["--noise", "true_labels:" + saved(data["true"], "t.npy"),
               "--noise", "mask:" + saved(mask, "m.npy")]  # fmt: skip
    result = call("probes", "build", "out.safetensors", "--data", "data.npz", *options)
    assert_input_error(result, "contradict one another", str(by_labels(data).sum()))


CONTRADICTING = {
    "twice noisy": ("noisy_labels:n.npy", "noisy_labels:t.npy", "true labels"),
    "mask and indices": ("mask:m.npy", "indices:i.json", "selected labels"),
}


@pytest.mark.parametrize("case", CONTRADICTING)
def test_sources_that_contradict_one_another(data, case):
    saved(data["true"], "t.npy")
    saved((data["targets"] + 1) % 4, "n.npy")
    saved(data["mask"], "m.npy")
    saved(np.flatnonzero(~data["mask"]), "i.json")
    first, second, what = CONTRADICTING[case]
    options = ["--data", "data.npz", "--noise", first, "--noise", second]
    result = call("probes", "build", "out.safetensors", *options)
    assert_input_error(result, "sources of label noise contradict one another", what, second)


def test_true_labels_and_noisy_ones_may_come_from_two_files(data):
    np.savez("data.npz", inputs=data["inputs"], targets=data["true"])
    options = ["--noise", "true_labels:" + saved(data["true"], "t.npy"),
               "--noise", "noisy_labels:" + saved(data["targets"], "n.npy")]  # fmt: skip
    probes = build("--data", "data.npz", *options)
    assert subset_of(probes) == ["corrupted" if w else "clean" for w in by_labels(data)]


def test_labels_are_among_the_classes_of_the_data(data):
    fashion_mnist(Path("data"))
    labels = np.arange(30) % 10
    labels[4] = 10
    common = ["--data", "torchvision:FashionMNIST?root=data", *SCALED, "--noise"]
    for kind in ("noisy_labels", "true_labels"):
        result = call(
            "probes", "build", "a.safetensors", *common, kind + ":" + saved(labels, "n.npy")
        )
        assert_input_error(result, "1 label such as 10 in n.npy", "to 9, the data's classes")


def test_labels_that_agree_by_chance_are_told(data):
    draw = np.random.default_rng(0)
    true, other = draw.integers(0, 10, (2, 500))
    for given, told in ((other, True), (true, False), (np.where(other < 8, other, true), False)):
        np.savez("data.npz", inputs=np.zeros((500, 2), np.float32), targets=given, y_true=true)
        result = call("probes", "build", "out.safetensors", "--overwrite", "--data", "data.npz")
        assert result.exit_code == 0
        assert ("as by chance" in result.stdout) == told


@pytest.mark.parametrize("shape", [(COUNT, 1), (COUNT - 1,)])
def test_true_labels_of_the_data_are_one_for_each_example(data, shape):
    true = np.zeros(shape, int)
    np.savez("data.npz", inputs=data["inputs"], targets=data["targets"], y_true=true)
    result = call("probes", "build", "a.safetensors", "--data", "data.npz")
    assert_input_error(result, str(COUNT))


def test_targets_that_are_not_those_of_the_items(data):
    """An ImageFolder reads ``samples``: changing ``targets`` changes nothing."""
    folder_of_images(Path("images"), sizes=((8, 8), (8, 8)))
    Path("mine.py").write_text(
        "from torchvision.datasets import ImageFolder\n"
        "def build():\n  d = ImageFolder('images')\n  d.targets = [1, 1, 0, 0]\n  return d\n"
    )
    result = call("probes", "build", "a.safetensors", "--data", "mine.py:build", *SCALED)
    assert_input_error(result, "not those of its items", "`samples`, not `targets`")
