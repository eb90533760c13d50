"""Small models for small images: what ``builtin:NAME`` builds."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

# What follows a convolution, by name. A group norm has four groups, or as many as divide evenly.
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "group": lambda channels: nn.GroupNorm(math.gcd(4, channels), channels),
    "none": lambda channels: nn.Identity(),
}


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a norm each, added to their input (He et al., 2015).

    ``bn1`` and ``bn2`` have these names whatever ``norm`` is, as in torchvision. Without a norm the
    convolutions have a bias.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, norm: str = "batch"
    ) -> None:
        super().__init__()
        layer, bias = _norm(norm), norm == "none"
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=bias)
        self.bn1 = layer(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=bias)
        self.bn2 = layer(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=bias), layer(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, out_channels, H / stride, W / stride]``."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return self.relu(out)


class SmallResNet(nn.Module):
    """An eight-layer ResNet, 78 thousand parameters at its default width.

    Args:
        num_classes: Length of the output.
        in_channels: 1 for grey images, 3 for colour.
        width: Channels of the first stage; the next two have twice and four times as many.
        norm: After each convolution: ``batch``, ``group`` (four groups) or ``none``.

    Raises:
        ValueError: another norm.
    """

    def __init__(
        self, num_classes: int = 10, in_channels: int = 1, width: int = 16, norm: str = "batch"
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=norm == "none")
        self.bn1 = _norm(norm)(width)
        self.relu = nn.ReLU(inplace=True)
        self.block1 = ResidualBlock(width, width, 1, norm)
        self.block2 = ResidualBlock(width, 2 * width, 2, norm)
        self.block3 = ResidualBlock(2 * width, 4 * width, 2, norm)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[N, in_channels, H, W]`` to logits ``[N, num_classes]``."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.block3(self.block2(self.block1(x)))
        return self.fc(self.pool(x).flatten(1))


class ConvolutionUnit(nn.Sequential):
    """A convolution that keeps the size of the image, batch norm and a ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class InceptionBlock(nn.Module):
    """Four branches side by side, concatenated (Szegedy et al., 2015).

    A 1x1 convolution; a 3x3 one; two 3x3 ones, which see as much as one of 5x5; and an average
    over 3x3. Each of the last three has a 1x1 convolution besides. A branch gives ``channels``.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.branch1 = ConvolutionUnit(in_channels, channels, 1)
        self.branch3 = nn.Sequential(
            ConvolutionUnit(in_channels, channels, 1), ConvolutionUnit(channels, channels, 3)
        )
        self.branch5 = nn.Sequential(
            ConvolutionUnit(in_channels, channels, 1),
            ConvolutionUnit(channels, channels, 3),
            ConvolutionUnit(channels, channels, 3),
        )
        self.branch_pool = nn.Sequential(
            nn.AvgPool2d(3, 1, padding=1), ConvolutionUnit(in_channels, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[N, in_channels, H, W]`` to ``[N, 4 * channels, H, W]``."""
        branches = (self.branch1, self.branch3, self.branch5, self.branch_pool)
        return torch.cat([branch(x) for branch in branches], 1)


class SmallInception(nn.Module):
    """A network of parallel branches with batch norm, 90 thousand parameters at its default width.

    Args:
        num_classes: Length of the output.
        in_channels: 1 for grey images, 3 for colour.
        width: Channels of the first convolution and of each branch of the first block; the branches
            of the other two have twice as many.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1, width: int = 16) -> None:
        super().__init__()
        self.stem = ConvolutionUnit(in_channels, width, 3)
        self.block1 = InceptionBlock(width, width)
        self.block2 = InceptionBlock(4 * width, 2 * width)
        self.block3 = InceptionBlock(8 * width, 2 * width)
        self.shrink = nn.MaxPool2d(3, 2, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[N, in_channels, H, W]`` to logits ``[N, num_classes]``."""
        x = self.block1(self.shrink(self.stem(x)))
        x = self.block3(self.block2(self.shrink(x)))
        return self.fc(self.pool(x).flatten(1))


class SmallMLP(nn.Module):
    """Two fully connected layers with a ReLU between them, for flattened images."""

    def __init__(self, num_classes: int = 10, in_features: int = 784, width: int = 128) -> None:
        super().__init__()
        self.hidden = nn.Linear(in_features, width)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[N, ...]`` with ``in_features`` values each, to logits ``[N, num_classes]``."""
        return self.fc(self.relu(self.hidden(x.flatten(1))))


def _norm(name: str) -> Callable[[int], nn.Module]:
    """The norm of a name."""
    if name not in NORMS:
        raise ValueError(f"norm={name!r} is none of {', '.join(NORMS)}")
    return NORMS[name]


BUILTIN: dict[str, Callable[..., nn.Module]] = {
    "small_inception": SmallInception,
    "small_mlp": SmallMLP,
    "small_resnet": SmallResNet,
}
