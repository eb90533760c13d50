"""Freezing a probe set from one's own data: sources, noise, subsets, choice, transforms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from PIL import Image
from safetensors.numpy import load_file, save_file

from analyze.errors import InputError
from analyze.probes import ProbeSet, read_probes, write_probes
from analyze.probes.facts import duplicates
from analyze.probes.freezing.data import examples_of
from analyze.probes.freezing.noise import labels_of
from analyze.probes.freezing.recipe import Recipe, build_probes
from analyze.probes.freezing.selection import choose
from analyze.probes.freezing.transforms import Transforms
from tests.conftest import assert_input_error, call, small_probes

COUNT = 40
SCALED = ["--mean", "0.5", "--std", "0.25"]


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Examples of four classes, some of whose labels were redrawn over all of them."""
    draw = np.random.default_rng(seed)
    true = np.arange(COUNT) % 4
    selected = draw.random(COUNT) < 0.6
    given = np.where(selected, draw.integers(0, 4, COUNT), true)
    x = draw.standard_normal((COUNT, 3)).astype(np.float32)
    return {"inputs": x, "targets": given, "true": true, "mask": selected}


@pytest.fixture
def data(tmp_path, monkeypatch) -> dict[str, np.ndarray]:
    """``data.npz`` with inputs and given labels, and the directory to work in."""
    monkeypatch.chdir(tmp_path)
    found = arrays()
    np.savez("data.npz", inputs=found["inputs"], targets=found["targets"])
    return found


def build(*options: str) -> ProbeSet:
    result = call("probes", "build", "out.safetensors", *options)
    assert result.exit_code == 0, result.stderr or result.exception
    assert result.stdout.endswith("Wrote out.safetensors\n")
    return read_probes(Path("out.safetensors"))


def subset_of(probes: ProbeSet) -> list[str]:
    return [probes.subset_names[code] for code in probes.subset]


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
    by_source = build("--data", "data.npz", "--subset-by", "source")
    assert subset_of(by_source) == ["a", "b"] * 20
    assert by_source.columns["noise"].names == ("clean", "corrupted")


def idx(path: Path, values: np.ndarray) -> None:
    shape = b"".join(int(n).to_bytes(4, "big") for n in values.shape)
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + shape + values.astype(np.uint8).tobytes())


def fashion_mnist(root: Path) -> dict[str, np.ndarray]:
    """Files of Fashion-MNIST's format with few images of noise, for torchvision to read."""
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    draw, found = np.random.default_rng(3), {}
    for part, count in (("train", 30), ("t10k", 20)):
        images = draw.integers(0, 256, (count, 28, 28))
        idx(folder / f"{part}-images-idx3-ubyte", images)
        idx(folder / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)
        found[part] = images
    return found


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


def folder_of_images(root: Path, sizes=((40, 30), (32, 50))) -> None:
    for k, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for j, size in enumerate(sizes):
            pixels = np.full((*size, 3), 40 * k + 10 * j, np.uint8)
            Image.fromarray(pixels).save(root / name / f"{j}.png")


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


# --- noise


def saved(values, name: str) -> str:
    """A file of these values, in the format of its name."""
    path = Path(name)
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".pt":
        torch.save(torch.as_tensor(values), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(np.asarray(values).tolist()))
    else:
        path.write_text("\n".join(map(str, np.asarray(values).tolist())))
    return name


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
    from tests.test_checkpoints import Calls

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
        result = call("probes", "build", "out.safetensors", "--data", "data.npz")
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
    alone = choose(["a"] * 20, None, 5, seed=0, balance=False)
    beside = choose(["a"] * 20 + ["b"] * 30, None, 5, seed=0, balance=False)
    assert set(alone) == {row for row in beside if row < 20}


def test_balance():
    classes = np.array([0] * 30 + [1] * 8 + [2] * 2)
    rows = choose(["a"] * 40, classes, 15, seed=0, balance=True)
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
    "scaled": (["--data", "data.npz", *SCALED], "contradict one another", "float32"),
    "mean alone": (["--data", "grey.npz", "--mean", "0.5"], "contradict one another", "--std"),
    "channels": (["--data", "grey.npz", "--mean", "0,0", "--std", "1,1"], "do not fit", "mean"),
    "two ways": (
        ["--data", "grey.npz", "--crop", "2", "--transform", "a.py:f"], "contradict", "beside"),
    "crop": (["--data", "grey.npz", "--crop", "2", *SCALED], "contradict", "arrays"),
    "iterable": (["--data", "mine.py:stream"], "no map-style data set", "len()"),
    "items": (["--data", "mine.py:words"], "no map-style data set", "str"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_frozen(data, case):
    np.savez("half.npz", inputs=data["inputs"])
    np.savez("odd.npz", inputs=data["inputs"], targets=data["targets"][1:])
    np.savez("grey.npz", inputs=np.zeros((4, 1, 6, 6), np.uint8), targets=np.arange(4))
    Path("mine.py").write_text("def stream(): return iter([1])\ndef words(): return ['a', 'b']\n")
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
