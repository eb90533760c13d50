"""Inputs as the model sees them at evaluation: images resized, cropped and kept as uint8."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from analyze.errors import InputError
from analyze.probes.freezing.tables import as_array
from analyze.specs.user_code import blamed, load_function


@dataclass(frozen=True)
class Transforms:
    """The transforms of inputs at evaluation; augmentation has no place here."""

    resize: int | None = None  # shorter side of an image in pixels, bilinear with antialiasing
    crop: int | None = None  # side of the square in the middle
    mean: tuple[float, ...] | None = None  # per channel, after division by 255
    std: tuple[float, ...] | None = None
    function: str | None = None  # FILE.py:FUNCTION in place of all others: input to tensor or array

    def __post_init__(self) -> None:
        others = (self.resize, self.crop, self.mean, self.std)
        if (self.mean is None) != (self.std is None):
            raise _contradiction("only one of --mean and --std", "both")
        if self.function is not None and any(v is not None for v in others):
            raise _contradiction("--transform beside --resize, --crop, --mean or --std", "one way")


def frozen(items: list[Any], transforms: Transforms) -> dict[str, np.ndarray]:
    """Transformed inputs ``[N, ...]`` by name; an input passed by position has an empty name."""
    function = _function(transforms)
    values = [function(item) for item in items]
    if isinstance(values[0], dict):
        return {name: _stacked([v[name] for v in values], name) for name in values[0]}
    stacked = _stacked(values, "")
    if stacked.dtype == np.uint8 and transforms.mean is None:
        raise InputError(
            "how the images are scaled is not known",
            found=f"uint8 images {list(stacked.shape[1:])}, no --mean and --std",
            expected="the numbers of your evaluation transform, transforms.Normalize(mean, std)",
            fix="--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225, or --mean 0 --std 1 for "
            "transforms.ToTensor() alone",
        )
    if stacked.dtype != np.uint8 and transforms.mean is not None:
        raise _contradiction(
            f"--mean and --std for inputs of {stacked.dtype}",
            "uint8 images: others are as frozen",
            "leave --mean and --std out if the model sees these numbers, or freeze uint8 images",
        )
    return {"": stacked}


def _function(transforms: Transforms) -> Callable[[Any], Any]:
    """The function from one input, as the data have it, to what is frozen."""
    if transforms.function is None:
        return lambda item: _image(item, transforms)
    source, _, name = transforms.function.rpartition(":")
    if not source or not name:
        raise _contradiction(repr(transforms.function), "FILE.py:FUNCTION")
    function = load_function(source, name, "transform")

    def apply(item: Any) -> np.ndarray:
        with blamed(
            "the transform fails",
            found=str(transforms.function),
            expected="a function of one input, as the data set gives it, to a tensor",
            fix="mend the function given with --transform",
        ):
            return as_array(function(item))

    return apply


def _image(item: Any, transforms: Transforms) -> Any:
    """An image as uint8 ``[C, H, W]``; other inputs as arrays."""
    if isinstance(item, dict):
        return {name: as_array(value) for name, value in item.items()}
    if not hasattr(item, "convert"):
        if transforms.resize is not None or transforms.crop is not None:
            raise _contradiction(
                "--resize or --crop for arrays", "images, or --transform",
                "leave --resize and --crop out, or --transform FILE.py:FUNCTION",
            )  # fmt: skip
        return as_array(item)
    from torchvision.transforms import functional as images

    image = item if item.mode == "L" else item.convert("RGB")
    if transforms.resize is not None:
        image = images.resize(image, transforms.resize)
    if transforms.crop is not None:
        if transforms.crop > min(image.size):
            raise _contradiction(
                f"--crop {transforms.crop} of images {list(reversed(image.size))}",
                "no more than the shorter side: beyond it there would be black",
            )
        image = images.center_crop(image, transforms.crop)
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def _stacked(values: list[np.ndarray], name: str) -> np.ndarray:
    shapes = sorted({value.shape for value in values})
    if len(shapes) > 1:
        raise InputError(
            "the inputs are of different shapes",
            found=f"{len(shapes)} shapes of {name or 'inputs'}, {list(shapes[0])} to "
            f"{list(shapes[-1])}",
            expected="one shape: a batch is one array",
            fix="--resize 256 --crop 224 for images, or --transform FILE.py:FUNCTION",
        )
    return np.stack(values)


def _contradiction(problem: str, expected: str, fix: str = "") -> InputError:
    return InputError(
        "the transforms of the inputs contradict one another",
        found=problem,
        expected=expected,
        fix=fix or "--resize N --crop N --mean M --std S, or --transform FILE.py:FUNCTION",
    )
