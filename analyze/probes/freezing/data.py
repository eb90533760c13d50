"""Examples from torchvision, an image folder, arrays, a Hugging Face data set, or code.

Each source gives its labels at once, and inputs only for the chosen rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from analyze.errors import InputError, counted, first_line, like, listed, unknown
from analyze.probes.freezing.tables import as_array
from analyze.probes.freezing.values import named
from analyze.specs.spec import Spec
from analyze.specs.user_code import blamed, installed, load_function

FORMS = (
    "torchvision:NAME?root=DIR, folder:DIR, huggingface:DIR, FILE.npz, FILE.pt, FILE.safetensors, "
    "FILE.py:FUNCTION or package.module:FUNCTION"
)
INPUTS, TARGETS = ("inputs", "x", "images"), ("targets", "y", "labels", "label")
TRUE, IDS = ("true_targets", "y_true", "true_labels"), ("id", "ids")
ARRAYS = (".npz", ".pt", ".pth", ".safetensors")
PROGRAMS = {"EPS"}  # formats of pictures that another program reads, by running what is in them
NO_MAP = "the data are no map-style data set with labels"
PAIRS = "an object with len() whose items are pairs (input, target)"
TRAINER = ("labels", "label")  # keys of the target in items that a Trainer takes
RETURN_PAIRS = "return such a data set, as torch.utils.data.Dataset, from FILE.py:FUNCTION"


class PictureError(InputError):
    """A picture cannot be read; the others can be frozen without it."""


@dataclass(frozen=True)
class Examples:
    """A data set whose inputs are read later."""

    source: str  # its spec
    targets: np.ndarray  # [N, ...], the labels that the data have, right or wrong
    items: Callable[[np.ndarray], list[Any]]  # rows to images, arrays, or dictionaries of arrays
    class_names: tuple[str, ...] = ()
    true: np.ndarray | None = None  # [N], the true labels
    ids: np.ndarray | None = None  # [N]
    columns: dict[str, np.ndarray] = field(default_factory=dict)  # further labels, [N] each
    files: tuple[str, ...] = ()  # the path of each example of an image folder
    true_name: str = ""  # what the data call the true labels

    def __len__(self) -> int:
        return len(self.targets)


def examples_of(text: str) -> Examples:
    """The data set that a spec names; nothing is downloaded."""
    spec = Spec.parse(text)
    source, _, name = spec.name.partition(":")
    if source == "torchvision" and name:
        return _map_style(text, _torchvision(name, spec))
    if source == "folder" and name:
        return _map_style(text, _image_folder(Path(name), spec))
    if source == "huggingface" and name:
        return _hugging_face(text, Path(name), spec)
    if Path(spec.name).suffix.lower() in ARRAYS:
        return _arrays(text, Path(spec.name))
    source, _, name = spec.name.rpartition(":")
    if not source or not name:
        raise InputError(
            "this is not a spec of data",
            found=repr(text),
            expected=f"one of {FORMS}",
            fix="--data 'torchvision:CIFAR10?root=data'",
        )
    function = load_function(source, name, "data")
    return _map_style(text, _called(text, lambda: function(**spec.arguments)))


def _torchvision(name: str, spec: Spec) -> Any:
    from torchvision import datasets

    kind = getattr(datasets, name, None)
    if name not in datasets.__all__ or not isinstance(kind, type):
        close = like(name, datasets.__all__)
        fix = f"--data 'torchvision:{close[0] if close else 'CIFAR10'}?root=data'"
        raise unknown("unknown torchvision data set", repr(name), sorted(datasets.__all__), fix)
    if spec.arguments.get("download"):
        raise InputError(
            "the data would be downloaded",
            found=f"download={spec.arguments['download']}",
            expected="data that are on this machine: nothing is downloaded",
            fix=f'python -c "from torchvision.datasets import {name}; '
            f"{name}('data', download=True)\"",
        )
    return _called(f"torchvision:{name}", lambda: kind(**{"root": "data", **spec.arguments}))


def _image_folder(folder: Path, spec: Spec) -> Any:
    from torchvision.datasets import ImageFolder

    arguments = {"loader": _picture, **spec.arguments}
    return _called(f"folder:{folder}", lambda: ImageFolder(str(folder), **arguments))


def _picture(path: str) -> Any:
    """The picture in a file; a pipe is not waited for, and PostScript not run by Ghostscript."""
    from PIL import Image

    if not Path(path).is_file():
        raise ValueError("it is no file")
    Image.init()
    with Path(path).open("rb") as file:
        return Image.open(file, formats=sorted(Image.OPEN.keys() - PROGRAMS)).convert("RGB")


def _called(text: str, build: Callable[[], Any]) -> Any:
    """The data set that ``build`` opens, or a refusal that names the spec."""
    fix = "change the part after the ? of --data, such as root=DIR"
    if text.startswith(("folder:", "huggingface:")):
        fix = f"--data {text.partition(':')[0]}:DIR with the directory where the data are"
    with blamed(
        "the data set cannot be opened",
        found=repr(text),
        expected="a data set on this machine, with the arguments it takes",
        fix=fix,
    ):
        return build()


def _map_style(text: str, dataset: Any) -> Examples:
    """A data set of ``(input, target)`` pairs with a length."""
    with blamed(NO_MAP, found=repr(text), expected=PAIRS, fix=RETURN_PAIRS):
        count, first = len(dataset), _first_item(dataset, text)
        if (key := _key_of_target(first)) is not None:
            dataset = _Pairs(dataset, key)
            first = dataset[0]
    if not isinstance(first, tuple | list) or len(first) != 2:
        kind, fix = f"type {type(first).__name__}", RETURN_PAIRS
        if isinstance(first, dict):  # as a Trainer takes them
            kind += f" with {listed([str(key) for key in first])}"
            fix += (
                "; its __getitem__ takes the two from the dictionary: item[KEY], item[KEY]; or it "
                "gives arrays and one of labels and label, as a Trainer takes them"
            )
        elif isinstance(first, tuple | list):  # with an index or a weight, mostly
            kind += f" of {counted(len(first), 'part')}: "
            kind += listed([type(part).__name__ for part in first])
            fix += "; its __getitem__ leaves the others out: return item[0], item[1]"
        elif isinstance(dataset, tuple | list) and len({len(part) for part in dataset}) == 1:
            kind = f"type {type(first).__name__}, in a {type(dataset).__name__} of {count}"
            fix = "return torch.utils.data.TensorDataset(inputs, targets) from FILE.py:FUNCTION"
        raise InputError(NO_MAP, found=f"{text!r}: items of {kind}", expected=PAIRS, fix=fix)
    targets = _targets_of(dataset, count)

    def items(rows: np.ndarray) -> list[Any]:
        inputs = []
        for row in rows:
            item, target = _item(dataset, int(row), text)
            if not np.array_equal(np.asarray(target), targets[row]):
                raise InputError(
                    "the labels of the data set are not those of its items",
                    found=f"targets[{row}] is {targets[row]}, item {row} has {target}",
                    expected="the same label: an ImageFolder reads `samples`, not `targets`",
                    fix="change the labels where the items come from, or pass them with "
                    "--noise noisy_labels:FILE",
                )
            inputs.append(item)
        return inputs

    names = getattr(dataset, "classes", ())
    words = tuple(map(str, names)) if isinstance(names, Sequence) else ()
    return Examples(text, targets, items, words, files=_files_of(dataset, count))


def _key_of_target(item: Any) -> str | None:
    """The key of the target in an item as a Trainer takes it: arrays by the names of arguments."""
    if not isinstance(item, Mapping):
        return None
    keys = [key for key in TRAINER if key in item]
    arrays = all(isinstance(k, str) and as_array(v).dtype.kind in "iufb" for k, v in item.items())
    return keys[0] if len(keys) == 1 and len(item) > 1 and arrays else None


class _Pairs:
    """A data set of dictionaries as one of pairs; a single input is no dictionary."""

    def __init__(self, dataset: Any, key: str) -> None:
        self._dataset, self._key = dataset, key

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, row: int) -> tuple[Any, np.ndarray]:
        item = self._dataset[row]
        inputs = {key: as_array(value) for key, value in item.items()}
        target = inputs.pop(self._key)
        return (inputs if len(inputs) > 1 else next(iter(inputs.values()))), target


def _files_of(dataset: Any, count: int) -> tuple[str, ...]:
    """The paths of an ImageFolder's examples in order; empty for other data sets."""
    samples = getattr(dataset, "samples", None)
    if not isinstance(samples, list) or len(samples) != count:
        return ()
    paths = [sample[0] for sample in samples if isinstance(sample, tuple) and sample]
    return tuple(paths) if all(isinstance(p, str) for p in paths) and len(paths) == count else ()


def _first_item(dataset: Any, text: str) -> Any:
    """The first example; of a folder of pictures a pair, as it has only such."""
    try:
        return _item(dataset, 0, text)
    except PictureError:  # it is told where it is chosen
        return None, None


def _item(dataset: Any, row: int, text: str) -> Any:
    """An example; the refusal of a picture that cannot be read or is too large names its file."""
    samples = getattr(dataset, "samples", None)
    if not isinstance(samples, list) or not 0 <= row < len(samples):
        return dataset[row]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*decompression bomb")
            return dataset[row]
    except Exception as error:  # the reader of pictures may raise anything
        raise _unreadable(f"{samples[row][0]}, of {text!r}", error) from error


def _unreadable(place: str, error: Exception) -> PictureError:
    return PictureError(
        "a picture cannot be read",
        found=f"{place}: {first_line(error)}",
        expected="whole pictures of ordinary size",
        fix="mend or remove that file, and build the probes again, or --on-error skip",
    )


def _targets_of(dataset: Any, count: int) -> np.ndarray:
    """All labels, from a list that the data set has, else from every item."""
    for name in ("targets", "labels", "_labels"):
        values = getattr(dataset, name, None)
        if values is not None and hasattr(values, "__len__") and len(values) == count:
            targets = np.asarray(values)
            if targets.dtype.kind in "iufb":
                return targets
    return np.stack([np.asarray(dataset[k][1]) for k in range(count)])


def _arrays(text: str, path: Path) -> Examples:
    """The data set in a file of arrays; arrays with other names are further labels."""
    arrays = {name: as_array(value) for name, value in named(path).items()}
    if single := sorted(name for name, values in arrays.items() if values.ndim == 0):
        raise InputError(
            "an array of the file is a single value",
            found=f"{listed(single)} in {path}",
            expected="one entry for each example",
            fix="save arrays alone: numpy.savez(path, inputs=..., targets=...)",
        )
    sizes = {name: len(values) for name, values in arrays.items()}
    for names in (INPUTS, TARGETS):
        if len(present := [n for n in names if n in arrays]) > 1:
            raise InputError(
                "the file has two arrays for one",
                found=f"{path}: {' and '.join(present)}",
                expected=f"one of {' or '.join(names)}",
                fix="save the one that is meant: numpy.savez(path, inputs=..., targets=...)",
            )
    true_name = next((name for name in TRUE if name in arrays), "")
    x, y, true, ids = (
        next((arrays.pop(n) for n in names if n in arrays), None)
        for names in (INPUTS, TARGETS, TRUE, IDS)
    )
    if x is None or y is None:
        raise InputError(
            "the file has no inputs or no targets",
            found=f"{path}: {listed(sorted(sizes))}",
            expected=f"arrays called {' or '.join(INPUTS)} and {' or '.join(TARGETS)}",
            fix="numpy.savez(path, inputs=..., targets=...)",
        )
    if len(set(sizes.values())) > 1:
        raise InputError(
            "the arrays of the file are of different lengths",
            found=", ".join(f"{n} {size}" for n, size in sizes.items()) + f" in {path}",
            expected="one entry for each example",
            fix="save arrays of equal length",
        )
    return Examples(text, y, lambda rows: list(x[rows]), (), true, ids, arrays, true_name=true_name)


def _hugging_face(text: str, folder: Path, spec: Spec) -> Examples:
    """A data set of ``save_to_disk``: ``?split=train&input=image&target=label``."""
    datasets = installed("datasets", f"data {text!r}", "reads")
    dataset = _called(text, lambda: datasets.load_from_disk(str(folder)))
    split = spec.words.get("split")
    if isinstance(dataset, dict):
        if split not in dataset:
            raise _choose(text, "split", split, list(dataset))
        dataset = dataset[split]
    names = dataset.column_names
    wanted = spec.words.get("input", next((n for n in names if n in INPUTS), "image"))
    target = spec.words.get("target", next((n for n in names if n in TARGETS), "label"))
    inputs = wanted.split(",")
    for key, name in [*(("input", n) for n in inputs), ("target", target)]:
        if name not in names:
            raise _choose(text, key, name, names)

    def items(rows: np.ndarray) -> list[Any]:
        records = [_record(dataset, int(row), text) for row in rows]
        if len(inputs) == 1:
            values = [record[inputs[0]] for record in records]
            return [np.asarray(v) if isinstance(v, list) else v for v in values]
        return [{n: np.asarray(record[n]) for n in inputs} for record in records]

    labels = {n for n, value in dataset[0].items() if isinstance(value, bool | int | str)}
    columns = {n: np.asarray(dataset[n]) for n in names if n in labels - {*inputs, target}}
    classes = getattr(dataset.features[target], "names", ())
    targets = np.asarray(dataset[target])
    return Examples(text, targets, items, tuple(classes or ()), columns=columns)


def _record(dataset: Any, row: int, text: str) -> Any:
    """A record of a Hugging Face data set, whose pictures are read with it."""
    from PIL import EpsImagePlugin

    program = EpsImagePlugin.gs_binary
    EpsImagePlugin.gs_binary = False  # PostScript would be run by Ghostscript
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*decompression bomb")
            return dataset[row]
    except Exception as error:  # the reader of pictures may raise anything
        raise _unreadable(f"row {row} of {text!r}", error) from error
    finally:
        EpsImagePlugin.gs_binary = program


def _choose(text: str, key: str, wanted: object, known: list[str]) -> InputError:
    """The refusal of a split or column that the data set does not have."""
    usual = {"input": INPUTS, "target": TARGETS}.get(key, ())
    likely = next((name for name in known if name in usual), known[0])
    fix = f"--data '{text.partition('?')[0]}?{key}={likely}'"
    return unknown(f"the data set has no such {key}", f"{key} {wanted!r} of {text!r}", known, fix)
