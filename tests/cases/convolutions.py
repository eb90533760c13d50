"""Convolutions, transposed ones among them, with every option."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from tests.cases.case import Case, Flat, images


def convolution(
    name: str, layer: Callable[[], nn.Module], size: tuple[int, ...], width: int, rule: str = "conv"
) -> Case:
    """A case with one convolution whose output has ``width`` numbers an example."""
    methods = {"body.0.weight": f"{rule}{len(size) - 1}d", "head.weight": "linear"}
    return Case(name, lambda: Flat(layer(), nn.Tanh(), width=width), images(*size), methods)


def transposed(
    name: str, layer: Callable[[], nn.Module], size: tuple[int, ...], width: int
) -> Case:
    """The same with a transposed one."""
    return convolution(name, layer, size, width, "conv_transpose")


CASES = [
    convolution("conv1d", lambda: nn.Conv1d(3, 4, 3), (3, 6), 16),
    convolution("conv2d", lambda: nn.Conv2d(3, 4, 3), (3, 6, 5), 48),
    convolution("conv3d", lambda: nn.Conv3d(2, 3, 2), (2, 3, 4, 3), 36),
    convolution("conv2d-stride", lambda: nn.Conv2d(3, 4, 3, stride=(2, 3)), (3, 8, 8), 24),
    convolution("conv2d-padding", lambda: nn.Conv2d(3, 4, 3, padding=(2, 1)), (3, 4, 4), 96),
    convolution("conv2d-dilation", lambda: nn.Conv2d(3, 4, 3, dilation=(1, 2)), (3, 5, 6), 24),
    convolution("conv2d-groups", lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1), (4, 4, 4), 96),
    convolution("conv2d-depthwise", lambda: nn.Conv2d(4, 4, 3, groups=4), (4, 5, 5), 36),
    convolution("conv2d-no-bias", lambda: nn.Conv2d(3, 4, 3, bias=False), (3, 5, 5), 36),
    convolution("conv2d-same-even", lambda: nn.Conv2d(3, 4, (4, 2), padding="same"), (3, 5, 5),
                100),
    convolution("conv2d-valid", lambda: nn.Conv2d(3, 4, 2, padding="valid"), (3, 3, 3), 16),
    convolution("conv2d-all-options", lambda: nn.Conv2d(
        4, 4, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(2, 1), groups=2), (4, 9, 5), 128),
    convolution("conv2d-circular", lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"),
                (3, 4, 4), 64),
    convolution("conv2d-one-position", lambda: nn.Conv2d(3, 4, 3), (3, 3, 3), 4),
    convolution("conv2d-groups-one-position", lambda: nn.Conv2d(8, 8, 1, groups=2), (8, 1, 1), 8),
    convolution("conv2d-many-channels", lambda: nn.Conv2d(16, 24, 3, padding=1), (16, 2, 2), 96),
    transposed("transposed-1d", lambda: nn.ConvTranspose1d(3, 4, 3), (3, 4), 24),
    transposed("transposed-2d", lambda: nn.ConvTranspose2d(3, 4, 3, stride=2), (3, 3, 2), 140),
    transposed("transposed-3d", lambda: nn.ConvTranspose3d(2, 3, 2), (2, 2, 2, 2), 81),
    transposed("transposed-all-options", lambda: nn.ConvTranspose2d(
        4, 6, (3, 2), stride=(2, 1), padding=(1, 0), output_padding=(1, 0), groups=2,
        dilation=(1, 2), bias=False), (4, 3, 3), 180),
    transposed("transposed-large-output-padding", lambda: nn.ConvTranspose2d(
        3, 4, 2, stride=1, output_padding=1, dilation=2), (3, 3, 3), 144),
]  # fmt: skip
