"""Freezing a probe set from one's own data: sources, noise, subsets, choice, transforms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from safetensors.numpy import load_file, save_file

from analyze.errors import InputError
from analyze.probes import ProbeSet, write_probes
from analyze.probes.facts import duplicates
from analyze.probes.file import read_probes
from analyze.probes.freezing.data import examples_of
from analyze.probes.freezing.noise import labels_of
from analyze.probes.freezing.recipe import Recipe, build_probes, choose
from analyze.probes.freezing.transforms import Transforms
from tests.conftest import COUNT, assert_input_error, call, small_probes
from tests.data_sources import SCALED, build, fashion_mnist, folder_of_images, saved, subset_of

# --- sources


def as_pt(found) -> str:
    torch.save({k: torch.from_numpy(found[v]) for k, v in (("x", "inputs"), ("y", "targets"))},
               "data.pt")  # fmt: skip
    return "data.pt"


def as_safetensors(found) -> str:
    save_file({"inputs": found["inputs"], "labels": found["targets"]}, "data.safetensors")
    return "data.safetensors"


def as_code(found) -> str:
    Path("mine.py").write_text(
        "import numpy as np\nfrom torch.utils.data import TensorDataset\nimport torch\n"
        "def training(name='data.npz'):\n  f = np.load(name)\n"
        "  return TensorDataset(*(torch.from_numpy(f[k]) for k in ('inputs', 'targets')))\n"
    )
    return "mine.py:training?name=data.npz"


SOURCES = {"npz": lambda _: "data.npz", "pt": as_pt, "safetensors": as_safetensors, "code": as_code}


@pytest.mark.parametrize("case", SOURCES)
def test_arrays_are_frozen_as_they_are(data, case):
    probes = build("--data", SOURCES[case](data))
    np.testing.assert_array_equal(probes.inputs[""], data["inputs"])
    np.testing.assert_array_equal(probes.targets, data["targets"])
    np.testing.assert_array_equal(probes.id, np.arange(COUNT))
    assert probes.subset_names == ("probes",)
    np.testing.assert_array_equal(probes.columns["class"].codes, data["targets"])


def test_an_array_file_may_bring_everything(data):
    np.savez("data.npz", x=data["inputs"], y=data["targets"], y_true=data["true"],
             id=np.arange(COUNT) + 100, source=np.array(["a", "b"] * 20))  # fmt: skip
    probes = build("--data", "data.npz")
    wrong = data["targets"] != data["true"]
    assert subset_of(probes) == ["corrupted" if w else "clean" for w in wrong]
    assert probes.subset_names == ("clean", "corrupted")
    np.testing.assert_array_equal(probes.id, np.arange(COUNT) + 100)
    assert probes.columns["source"].names == ("a", "b")
    named = build("--data", "data.npz", "--noise", "true_labels:@y_true")  # said once more
    assert subset_of(named) == subset_of(probes)
    by_source = build("--data", "data.npz", "--subset-by", "source")
    assert subset_of(by_source) == ["a", "b"] * 20
    assert by_source.columns["noise"].names == ("clean", "corrupted")


def test_torchvision(data):
    images = fashion_mnist(Path("data"))
    probes = build(
        "--data", "torchvision:FashionMNIST?root=data&train=true", "--per-subset", "10",
        "--balance", "--held-out", "torchvision:FashionMNIST?root=data&train=false", *SCALED,
    )  # fmt: skip
    assert probes.subset_names == ("probes", "held_out")
    assert probes.held_out == ("held_out",)
    training, held = probes.id[:10], probes.id[10:] - 30
    expected = [images["train"][training], images["t10k"][held]]
    np.testing.assert_array_equal(probes.inputs[""][:, 0], np.concatenate(expected))
    assert probes.inputs[""].dtype == np.uint8
    for half in (probes.targets[:10], probes.targets[10:]):
        assert sorted(half) == list(range(10))
    assert (probes.mean, probes.std) == ((0.5,), (0.25,))
    assert probes.columns["class"].names[9] == "Ankle boot"


def test_an_image_folder_with_evaluation_transforms(data):
    folder_of_images(Path("images"))
    options = ["--resize", "24", "--crop", "20", "--mean", "0.5,0.4,0.3", "--std", "1,1,1"]
    probes = build("--data", "folder:images", *options)
    assert probes.inputs[""].shape == (4, 3, 20, 20)
    np.testing.assert_array_equal(probes.inputs[""][:, 0, 0, 0], [0, 10, 40, 50])
    assert probes.columns["class"].names == ("cat", "dog")
    refused = call("probes", "build", "a.safetensors", "--data", "folder:images", *SCALED)
    assert_input_error(refused, "inputs are of different shapes", "--resize 256 --crop 224")
    options = ["--data", "folder:images", "--resize", "24", "--crop", "25", *SCALED]
    refused = call("probes", "build", "a.safetensors", *options)
    assert_input_error(refused, "contradict", "--crop 25 of images [32, 24]", "black")


def test_examples_held_out_are_of_the_same_shape(data):
    np.savez("wide.npz", inputs=np.ones((4, 9), np.float32), targets=np.arange(4))
    options = ["--data", "data.npz", "--held-out", "wide.npz"]
    refused = call("probes", "build", "a.safetensors", *options)
    assert_input_error(refused, "held out are of another kind", "'inputs': [9]", "'inputs': [3]")


def test_a_transform_of_ones_own(data):
    folder_of_images(Path("images"))
    Path("t.py").write_text(
        "from torchvision.transforms import v2\nimport torch\n"
        "transform = v2.Compose([v2.Resize((8, 8)), v2.PILToTensor(),"
        " v2.ToDtype(torch.float32, scale=True)])\n"
    )
    probes = build("--data", "folder:images", "--transform", "t.py:transform")
    assert probes.inputs[""].shape == (4, 3, 8, 8)
    np.testing.assert_allclose(probes.inputs[""][3, 0], 50 / 255, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_a_hugging_face_data_set(data):
    datasets = pytest.importorskip("datasets")
    table = {
        "input_ids": [[k, k + 1] for k in range(COUNT)], "attention_mask": [[1, 1]] * COUNT,
        "label": data["targets"].tolist(), "clean": data["true"].tolist(),
        "source": ["web", "book"] * 20,
    }  # fmt: skip
    datasets.DatasetDict({"train": datasets.Dataset.from_dict(table)}).save_to_disk("saved")
    spec = "huggingface:saved?split=train&input=input_ids,attention_mask"
    probes = build("--data", spec, "--noise", "true_labels:@clean", "--subset-by", "source")
    assert set(probes.subset_names) == {"book", "web"}
    np.testing.assert_array_equal(probes.inputs["input_ids"], table["input_ids"])
    assert "noise" in probes.columns
    refused = call("probes", "build", "a.safetensors", "--data", "huggingface:saved")
    assert_input_error(refused, "no such split", "train")
    spec = "huggingface:saved?split=train&input=input_ids&target=gone"
    refused = call("probes", "build", "a.safetensors", "--data", spec)
    assert_input_error(refused, "no such target", "?target=label")


@pytest.mark.parametrize("key", ["labels", "label"])
@pytest.mark.parametrize("further", ["", "'attention_mask': torch.ones(2), "])
def test_items_as_a_trainer_takes_them(data, key, further):
    Path("mine.py").write_text(
        f"import torch\ndef item(k): return {{'input_ids': [k, k + 1], {further}"
        f"'{key}': torch.tensor([k, 7])}}\ndef items(): return [item(k) for k in range({COUNT})]\n"
    )
    probes = build("--data", "mine.py:items")
    inputs = probes.inputs
    if not further:
        (only,) = inputs.values()
        inputs = {"input_ids": only, "attention_mask": None}
    assert sorted(inputs) == ["attention_mask", "input_ids"]
    np.testing.assert_array_equal(inputs["input_ids"], [[k, k + 1] for k in range(COUNT)])
    np.testing.assert_array_equal(probes.targets, [[k, 7] for k in range(COUNT)])


# --- choice


def test_as_many_of_each_subset_from_a_seed(data):
    noise = ["--noise", "mask:" + saved(data["mask"], "m.npy"), "--per-subset", "6"]
    first = build("--data", "data.npz", *noise)
    assert [subset_of(first).count(s) for s in first.subset_names] == [6, 6]
    again = build("--data", "data.npz", *noise)
    np.testing.assert_array_equal(first.id, again.id)
    other = build("--data", "data.npz", *noise, "--seed", "1")
    assert set(other.id) != set(first.id)
    np.testing.assert_array_equal(first.targets, data["targets"][first.id])
    np.testing.assert_array_equal(first.inputs[""], data["inputs"][first.id])


def test_a_choice_in_one_subset_does_not_hang_on_the_others():
    alone = choose(Recipe("", per_subset=5), ["a"] * 20, None)
    beside = choose(Recipe("", per_subset=5), ["a"] * 20 + ["b"] * 30, None)
    assert set(alone) == {row for row in beside if row < 20}


def test_balance():
    classes = np.array([0] * 30 + [1] * 8 + [2] * 2)
    rows = choose(Recipe("", per_subset=15, balance=True), ["a"] * 40, classes)
    assert [int((classes[rows] == c).sum()) for c in range(3)] == [7, 6, 2]
    assert len(rows) == 15


def test_too_few_are_told(data):
    result = call("probes", "build", "a.safetensors", "--data", "data.npz", "--per-subset", "50")
    assert "fewer than 50 in probes 40: m-coherence grows with their number" in result.stdout


def test_ids_pair_the_same_examples_across_probe_sets(data):
    whole = build("--data", "data.npz")
    part = build("--data", "data.npz", "--per-subset", "7", "--seed", "3")
    rows = [list(whole.id).index(i) for i in part.id]
    np.testing.assert_array_equal(whole.inputs[""][rows], part.inputs[""])


# --- what is refused


WRONG = {
    "no spec": (["--data", "cifar"], "not a spec of data", "torchvision:NAME"),
    "no data set": (["--data", "torchvision:CIFAR11"], "unknown torchvision data set", "CIFAR11"),
    "download": (
        ["--data", "torchvision:CIFAR10?download=true"], "would be downloaded", "download=True"),
    "not there": (["--data", "torchvision:CIFAR10?root=gone"], "cannot be opened", "root=DIR"),
    "no folder": (["--data", "folder:gone"], "cannot be opened", "--data folder:DIR"),
    "no file": (["--data", "gone.npz"], "a file for the probes is missing", "gone.npz"),
    "no targets": (["--data", "half.npz"], "no inputs or no targets", "half.npz"),
    "lengths": (["--data", "odd.npz"], "different lengths", "targets 39"),
    "column": (["--data", "data.npz", "--subset-by", "size"], "no such column", "class"),
    "unscaled": (["--data", "grey.npz"], "how the images are scaled is not known", "--mean 0"),
    "scaled": (["--data", "data.npz", *SCALED], "leave --mean and --std out", "float32"),
    "of 255": (["--data", "grey.npz", "--mean", "127.5", "--std", "51"], "after division by 255",
               "--mean 0.5 --std 0.2"),
    "two of targets": (["--data", "two.npz"], "two arrays for one", "targets and labels"),
    "two of inputs": (["--data", "both.npz"], "two arrays for one", "inputs and x"),
    "mean alone": (["--data", "grey.npz", "--mean", "0.5"], "contradict one another", "--std"),
    "channels": (["--data", "grey.npz", "--mean", "0,0", "--std", "1,1"], "do not fit", "mean"),
    "two ways": (
        ["--data", "grey.npz", "--crop", "2", "--transform", "a.py:f"], "contradict", "beside"),
    "crop": (["--data", "grey.npz", "--crop", "2", *SCALED], "leave --resize", "arrays"),
    "iterable": (["--data", "mine.py:stream"], "no map-style data set", "len()"),
    "items": (["--data", "mine.py:words"], "no map-style data set", "str"),
    "dictionaries": (["--data", "mine.py:records"], "dict with text, labels", "as a Trainer takes"),
    "other keys": (["--data", "mine.py:pictures"], "dict with x, y", "item[KEY], item[KEY]"),
    "triples": (["--data", "mine.py:triples"], "tuple of 3 parts: list, int, str",
                "return item[0], item[1]"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_frozen(data, case):
    np.savez("half.npz", inputs=data["inputs"])
    np.savez("odd.npz", inputs=data["inputs"], targets=data["targets"][1:])
    np.savez("two.npz", inputs=data["inputs"], targets=data["targets"], labels=data["targets"])
    np.savez("both.npz", inputs=data["inputs"], x=data["inputs"], targets=data["targets"])
    np.savez("grey.npz", inputs=np.zeros((4, 1, 6, 6), np.uint8), targets=np.arange(4))
    Path("mine.py").write_text(
        "def stream(): return iter([1])\ndef words(): return ['a', 'b']\n"
        "def records(): return [{'text': 'a word', 'labels': 1}]\n"
        "def pictures(): return [{'x': [1], 'y': 1}]\ndef triples(): return [([1], 1, 'id')]\n"
    )
    options, what, found = WRONG[case]
    result = call("probes", "build", "out.safetensors", *options)
    assert_input_error(result, what, found)
    assert not list(Path().glob("out.safetensors*"))


def test_a_file_that_is_no_probe_file_is_left_alone(data):
    Path("notes.safetensors").write_text("a year of work")
    result = call("probes", "build", "notes.safetensors", "--data", "data.npz")
    assert_input_error(result, "this is not a probe file")
    assert Path("notes.safetensors").read_text() == "a year of work"
    for wrong in ("gone/out.safetensors", "out.h5"):
        result = call("probes", "build", wrong, "--data", "data.npz")
        assert_input_error(result, "the probe file cannot be written", wrong)


def test_a_probe_file_is_replaced_only_where_that_is_said(data):
    command = ("probes", "build", "out.safetensors", "--data", "data.npz")
    build("--data", "data.npz", "--seed", "1")
    before = Path("out.safetensors").read_bytes()
    refused = call(*command, "--seed", "2", "--per-subset", "3")
    assert_input_error(refused, "such a file already", "out.safetensors", "--overwrite")
    assert Path("out.safetensors").read_bytes() == before
    assert call(*command, "--per-subset", "3", "--overwrite").exit_code == 0
    assert len(read_probes(Path("out.safetensors"))) == 3
    Path("out.safetensors").write_text("a year of work")
    assert_input_error(call(*command, "--overwrite"), "this is not a probe file")


def test_wrong_numbers_are_wrong_usage(data):
    result = call("probes", "build", "a.safetensors", "--data", "data.npz", "--mean", "grey")
    assert (result.exit_code, "'grey' are no numbers" in result.stderr) == (2, True)


def test_the_recipe_stays_with_the_file(data):
    from safetensors import safe_open

    build("--data", "data.npz", "--noise", "mask:" + saved(data["mask"], "m.npy"), "--seed", "4")
    with safe_open("out.safetensors", framework="np") as file:
        notes = file.metadata()
    assert (notes["data"], notes["noise"], notes["seed"]) == ("data.npz", "mask:m.npy", "4")


def test_in_python(data):
    built = build_probes(Recipe("data.npz", per_subset=5, transforms=Transforms()))
    assert len(built.probes) == 5
    labels = labels_of(examples_of("data.npz"), [])
    assert not labels.known
    with pytest.raises(InputError):
        build_probes(Recipe("data.npz", held_out="gone.npz"))


# --- show


def test_duplicates():
    x = np.array([[1.0], [2.0], [1.0], [1.0], [3.0]])
    assert duplicates(ProbeSet(x, [0, 1, 0, 2, 1])) == (2, 1)
    assert duplicates(small_probes()) == (0, 0)
    wide = np.random.default_rng(0).normal(size=(6, 1000))
    wide[4], wide[5] = wide[1], wide[2]
    for place in range(1000):  # one number of many tells probes apart, wherever it is
        wide[5, place] += 1
        assert duplicates(ProbeSet({"a": wide, "b": np.arange(6) % 3}, np.zeros(6, int))) == (1, 0)
        wide[5, place] -= 1


def test_show_prints_and_draws(data):
    draw = np.random.default_rng(0)
    images = draw.integers(0, 255, (12, 3, 8, 8)).astype(np.uint8)
    probes = ProbeSet(images, np.arange(12) % 3, ["clean", "corrupted", "held_out"] * 4,
                      mean=[0.5], std=[0.5])  # fmt: skip
    write_probes(Path("images.safetensors"), probes)
    result = call("probes", "show", "images.safetensors")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "Wrote images.png")
    assert imread("images.png").shape[2] in (3, 4)
    rows = json.loads(call("probes", "show", "images.safetensors", "--json").stdout)
    assert [r["subset"] for r in rows["subsets"]] == ["clean", "corrupted", "held_out"]
    assert [r["held_out"] for r in rows["subsets"]] == [False, False, True]
    assert rows["facts"]["probes"] == 12
    result = call("probes", "show", "images.safetensors", "--sheet", "gone/a.png")
    assert result.exit_code == 3


def test_the_sheet_has_a_row_of_images_for_each_subset(data):
    from analyze.figures.contact_sheet import draw as draw_sheet
    from analyze.probes.subsets import Column

    images = np.stack([np.full((1, 4, 4), 20 * k, np.uint8) for k in range(6)])
    true = Column(np.array([0, 1, 0, 1, 0, 1]), ("cat", "dog"))
    probes = ProbeSet(images, [0, 1, 1, 1, 0, 0], ["clean", "corrupted"] * 3, columns={
        "true_class": true}, mean=[0], std=[1])  # fmt: skip
    axes = draw_sheet(probes).axes
    drawn = [a for a in axes if a.images]
    assert len(drawn) == 6
    assert [float(a.images[0].get_array()[0, 0]) for a in drawn] == pytest.approx(
        np.array([0, 40, 80, 20, 60, 100]) / 255
    )
    assert [a.texts[0].get_text() for a in drawn] == [
        "cat", "dog\n(cat)", "cat", "dog", "dog", "cat\n(dog)",
    ]  # fmt: skip


def test_inputs_that_are_no_images_have_no_sheet(data):
    write_probes(Path("words.safetensors"), small_probes())
    result = call("probes", "show", "words.safetensors")
    assert (result.exit_code, "no images" in result.stderr) == (0, True)
    assert not list(Path().glob("*.png"))
    refused = call("probes", "show", "words.safetensors", "--sheet", "a.png")
    assert refused.exit_code == 3


def test_a_frozen_set_is_measured(data, tiny):
    frozen = Path("out.safetensors")
    draw = np.random.default_rng(0)
    np.savez("own.npz", inputs=draw.standard_normal((24, 12)).astype(np.float32),
             targets=np.arange(24) % 3, true_targets=np.arange(24) % 2)  # fmt: skip
    build("--data", "own.npz", "--per-subset", "8")
    assert set(load_file(frozen)) >= {"inputs", "targets", "subset", "id", "column.noise"}
    assert tiny.run("--probes", str(frozen)).exit_code == 0
