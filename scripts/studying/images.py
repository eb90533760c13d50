"""Fashion-MNIST made smaller: the training images of a seed, its probes and held-out images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analyze.errors import InputError
from analyze.probes import ProbeSet
from scripts.studying.design import HELD_OUT, IMAGES, PROBES, SIDE, Training
from scripts.train_samples import TEST_ID_OFFSET, Images, read_fashion_mnist, redraw

FOLDERS = (Path("/usr/share/datasets/fashion-mnist"), Path("data/FashionMNIST/raw"))


@dataclass(frozen=True)
class Examples:
    """The training images of one training, its held-out images, and the labels as given."""

    training: Images
    given: np.ndarray
    held_out: Images
    mean: float
    std: float

    @property
    def probes(self) -> ProbeSet:
        """The first training images, whose order is random, and the held-out ones."""
        first = self.training.take(np.arange(PROBES))
        wrong = self.given[:PROBES] != first.labels
        subset = ["corrupted" if w else "clean" for w in wrong] + ["held_out"] * HELD_OUT
        return ProbeSet(
            np.concatenate([first.pixels, self.held_out.pixels]),
            np.concatenate([self.given[:PROBES], self.held_out.labels]),
            subset,
            np.concatenate([first.ids, self.held_out.ids]),
            held_out=["held_out"],
            mean=[self.mean],
            std=[self.std],
            subset_names=["clean", "corrupted", "held_out"],
        )


def folder_of(data: Path | None) -> Path:
    """Where the four files lie.

    Raises:
        InputError: nowhere.
    """
    folders = FOLDERS if data is None else (data,)
    for folder in folders:
        if any(folder.glob("train-images-idx3-ubyte*")):
            return folder
    raise InputError(
        "Fashion-MNIST is not there",
        found=f"no train-images-idx3-ubyte in {' or '.join(map(str, folders))}",
        expected="its four IDX files, as Debian's package or torchvision lays them down",
        fix="apt-get install dataset-fashion-mnist, or scripts/study --data DIR",
    )


def examples_of(training: Training, data: Path) -> Examples:
    """The examples of a training; of one seed all trainings have the same images."""
    generator = np.random.default_rng(training.seed)
    everything = smaller(read_fashion_mnist(data, "train", 0))
    images = everything.take(generator.permutation(len(everything.ids))[:IMAGES])
    test = smaller(read_fashion_mnist(data, "t10k", TEST_ID_OFFSET))
    held_out = test.take(np.sort(generator.permutation(len(test.ids))[:HELD_OUT]))
    given = redraw(images.labels, training.noise / 100, generator)
    mean, std = (round(float(f(images.pixels / 255)), 4) for f in (np.mean, np.std))
    return Examples(images, given, held_out, mean, std)


def smaller(images: Images) -> Images:
    """``[N, 1, SIDE, SIDE]``: each pixel the mean of 2 x 2, rounded."""
    blocks = images.pixels.reshape(-1, 1, SIDE, 2, SIDE, 2).astype(np.uint16)
    mean = (blocks.sum((3, 5)) + 2) // 4
    return Images(mean.astype(np.uint8), images.labels, images.ids)
