"""Which model specs fit the names and shapes of a checkpoint's tensors."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from analyze.errors import InputError
from analyze.models.building import built_without_values, counts_of_torchvision
from analyze.models.builtin import BUILTIN, NORMS
from analyze.specs.model import ModelSpec

Shapes = Mapping[str, tuple[int, ...]]
COUNTERS = "num_batches_tracked"  # older files do not have them
STATISTICS = ("running_mean", "running_var", COUNTERS)
CLASSES = 1000  # of the models whose values torchvision counts
FACTOR = 2  # between counts: GoogLeNet's is without the heads that it has in training


def specs_that_fit(tensors: Shapes) -> list[str]:
    """Specs of models whose tensors have just these names and shapes.

    The program's own small models are tried, and if none of them fits those of torchvision that
    take images to classes, each without memory for its values.

    Cost: up to 4 s, where 30 models of torchvision are built.
    """
    guess = _sizes(tensors)
    found = [text for text in dict.fromkeys(_builtin(guess)) if _fits(text, tensors)]
    return found or _torchvision(guess, tensors)


def _sizes(tensors: Shapes) -> dict[str, int]:
    """Arguments of models as the first and last tensors tell them."""
    images = [shape for shape in tensors.values() if len(shape) == 4]
    tables = [shape for shape in tensors.values() if len(shape) == 2]
    guess: dict[str, int] = {}
    if last := _last(tensors):
        guess |= {"num_classes": last[0]}
    if tables:
        guess |= {"in_features": tables[0][1], "width": tables[0][0]}
    if images:
        guess |= {"in_channels": images[0][1], "width": images[0][0]}
    return guess


def _last(tensors: Shapes) -> tuple[int, ...]:
    """The shape of the weights that give the classes: of a convolution where no layer is linear."""
    for axes in (2, 4):
        if found := [shape for shape in tensors.values() if len(shape) == axes]:
            return found[-1]
    return ()


def _builtin(guess: Mapping[str, int]) -> Iterator[str]:
    for name, factory in BUILTIN.items():
        taken = inspect.signature(factory).parameters
        arguments: dict[str, Any] = {k: v for k, v in guess.items() if k in taken}
        without_width = {k: v for k, v in arguments.items() if k != "width"}
        for sizes in (arguments, without_width):
            for norm in NORMS if "norm" in taken else (None,):
                chosen = {
                    k: v for k, v in {**sizes, "norm": norm}.items()
                    if v is not None and (k == "num_classes" or v != taken[k].default)
                }  # fmt: skip
                yield _spec(f"builtin:{name}", chosen)


def _torchvision(guess: Mapping[str, int], tensors: Shapes) -> list[str]:
    """The models of torchvision with these tensors; those of about as many values are built.

    How many values each has with 1,000 classes is said beside its weights. Models with the same
    tensors have as many, so after the first that fits only those can fit as well.
    """
    arguments = {k: v for k, v in guess.items() if k == "num_classes"}
    size = sum(math.prod(s) for name, s in tensors.items() if not name.endswith(STATISTICS))
    if last := _last(tensors):
        size += (CLASSES - last[0]) * (math.prod(last[1:]) + 1)
    far = {name: _distance(size, counts) for name, counts in counts_of_torchvision().items()}
    found: list[str] = []
    nearest = math.inf
    for name in sorted((n for n in far if far[n] <= math.log(FACTOR)), key=far.__getitem__):
        if far[name] > nearest:
            break
        if _fits(text := _spec(f"torchvision:{name}", arguments), tensors):
            found.append(text)
            nearest = far[name]
    return found


def _distance(size: int, counts: Collection[int]) -> float:
    """The logarithm of how many times larger one is than the other; 0 where it is not known."""
    return min((abs(math.log(max(size, 1) / count)) for count in counts), default=0.0)


def _spec(name: str, arguments: Mapping[str, Any]) -> str:
    return name + ("?" + "&".join(f"{k}={v}" for k, v in arguments.items()) if arguments else "")


def _fits(text: str, tensors: Shapes) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of models that say how they are built
            state = built_without_values(ModelSpec.parse(text)).state_dict()
    except InputError:
        return False
    wanted = {name: tuple(value.shape) for name, value in state.items()}
    return _counted(wanted) == _counted(tensors)


def _counted(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape in shapes.items() if not name.endswith(COUNTERS)}
