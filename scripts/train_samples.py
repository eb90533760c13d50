#!/usr/bin/env python3
"""Train the three sample runs of sample_checkpoints/ from a seed.

Usage: python scripts/train_samples.py --data DIR [--output sample_checkpoints] [--only RUN]

DIR holds the four IDX files of Fashion-MNIST (Debian's package dataset-fashion-mnist installs
them; so does torchvision, under FashionMNIST/raw). One thread is used, so that a machine with
the same torch version repeats the runs; each takes four to six minutes on one core.
"""

from __future__ import annotations

import argparse
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from analyze.models.builtin import SmallResNet
from analyze.probes import ProbeSet, write_probes
from analyze.probes.subsets import Column

SEED = 2020
TRAINING_IMAGES = 4000
PROBES_PER_HALF = 1000  # clean and corrupted probes of half_noise
HELD_OUT = 500
EPOCHS = 40
BATCH_SIZE = 125
STEPS_PER_EPOCH = TRAINING_IMAGES // BATCH_SIZE
LEARNING_RATE = 0.05
MOMENTUM = 0.9
SAVED_STEPS = (0, 4, 8, 16, 32, 64, 128, 256, 448, 640, 960, EPOCHS * STEPS_PER_EPOCH)
TEST_ID_OFFSET = 60_000  # ids of the test images follow those of the 60,000 training images
CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


@dataclass(frozen=True)
class Images:
    """Grey images ``[N, 1, 28, 28]`` (uint8), their true labels ``[N]`` and their ids ``[N]``."""

    pixels: np.ndarray
    labels: np.ndarray
    ids: np.ndarray

    def take(self, rows: np.ndarray) -> Images:
        """The images at ``rows``, in that order."""
        return Images(self.pixels[rows], self.labels[rows], self.ids[rows])


def read_idx(path: Path) -> np.ndarray:
    """The array in an IDX file, gzipped or not."""
    packed = path.with_name(path.name + ".gz")
    data = gzip.decompress(packed.read_bytes()) if packed.exists() else path.read_bytes()
    shape = [int.from_bytes(data[4 + 4 * k : 8 + 4 * k], "big") for k in range(data[3])]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def read_fashion_mnist(folder: Path, part: str, id_offset: int) -> Images:
    """One part of the data set: ``train`` or ``t10k``."""
    pixels = read_idx(folder / f"{part}-images-idx3-ubyte")
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte").astype(np.int64)
    return Images(pixels[:, None], labels, id_offset + np.arange(len(labels)))


def redraw(labels: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """A ``share`` of the labels redrawn uniformly over all classes: a tenth of those stay true."""
    selected = generator.permutation(len(labels))[: round(share * len(labels))]
    given = labels.copy()
    given[selected] = generator.integers(0, len(CLASSES), len(selected))
    return given


def train(
    images: Images, given: np.ndarray, mean: float, std: float, generator: np.random.Generator
) -> dict[int, dict[str, torch.Tensor]]:
    """SGD with momentum and a linearly falling rate; the weights at each of ``SAVED_STEPS``."""
    torch.manual_seed(SEED)
    model = SmallResNet()
    x = (torch.from_numpy(images.pixels).float() / 255 - mean) / std
    y = torch.from_numpy(given)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
    total = EPOCHS * STEPS_PER_EPOCH
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / total)
    saved = {}
    for step in range(total + 1):
        if step in SAVED_STEPS:
            saved[step] = {k: v.detach().clone() for k, v in model.state_dict().items()}
        if step == total:
            break
        if step % STEPS_PER_EPOCH == 0:
            order = torch.from_numpy(generator.permutation(TRAINING_IMAGES))
        rows = order[step % STEPS_PER_EPOCH * BATCH_SIZE :][:BATCH_SIZE]
        optimizer.zero_grad()
        loss = cross_entropy(model(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % STEPS_PER_EPOCH == STEPS_PER_EPOCH - 1:
            print(
                f"  epoch {step // STEPS_PER_EPOCH + 1:3d}  last batch loss {loss:.4f}", flush=True
            )
    model.eval()
    with torch.no_grad():
        accuracy = (model(x).argmax(1) == y).float().mean().item()
    print(f"  training accuracy {accuracy:.4f}", flush=True)
    return saved


def save_plain_safetensors(folder: Path, saved: dict[int, dict[str, torch.Tensor]]) -> None:
    """``step_00064.safetensors``: the tensors and nothing else."""
    for step, weights in saved.items():
        save_file(weights, folder / f"step_{step:05d}.safetensors")


def save_torch_dictionary(folder: Path, saved: dict[int, dict[str, torch.Tensor]]) -> None:
    """``checkpoint_00064.pt``: ``torch.save`` of the weights with their epoch and step."""
    for step, weights in saved.items():
        content = {"model": weights, "epoch": step // STEPS_PER_EPOCH, "step": step}
        torch.save(content, folder / f"checkpoint_{step:05d}.pt")


def save_lightning_layout(folder: Path, saved: dict[int, dict[str, torch.Tensor]]) -> None:
    """``checkpoints/epoch=2-step=64.ckpt``, as Lightning lays it out with ``save_weights_only``."""
    (folder / "checkpoints").mkdir(exist_ok=True)
    for step, weights in saved.items():
        epoch = step // STEPS_PER_EPOCH
        content = {
            "epoch": epoch,
            "global_step": step,
            "pytorch-lightning_version": "2.5.0",
            "state_dict": {f"model.{name}": tensor for name, tensor in weights.items()},
        }
        torch.save(content, folder / "checkpoints" / f"epoch={epoch}-step={step}.ckpt")


def freeze_probes(
    path: Path, probes: Images, given: np.ndarray, held_out: Images, mean: float, std: float
) -> None:
    """The frozen probe file of a run; the test images come last, with their true labels."""
    corrupted = given != probes.labels
    subset = ["corrupted" if wrong else "clean" for wrong in corrupted]
    true_class = np.concatenate([probes.labels, held_out.labels])
    frozen = ProbeSet(
        np.concatenate([probes.pixels, held_out.pixels]),
        np.concatenate([given, held_out.labels]),
        subset + ["held_out"] * len(held_out.ids),
        np.concatenate([probes.ids, held_out.ids]),
        held_out=["held_out"],
        columns={"true_class": Column(true_class, CLASSES)},
        mean=[mean],
        std=[std],
        subset_names=["clean", "corrupted", "held_out"],
    )
    write_probes(path, frozen, source="Fashion-MNIST, (c) 2017 Zalando SE, MIT licence")


def write_run_card(folder: Path, name: str, share: float) -> None:
    """``run.toml``, so that ``analyze run`` needs nothing else."""
    (folder / "run.toml").write_text(
        f"""[run]
name = "{name.replace("_", " ")}"
model = "builtin:small_resnet?num_classes=10"
probes = "../{name}_probes.safetensors"
loss = "cross_entropy"

[training]
labels_redrawn = {share}
optimizer = "SGD, learning rate falling linearly to 0"
learning_rate = {LEARNING_RATE}
momentum = {MOMENTUM}
batch_size = {BATCH_SIZE}
epochs = {EPOCHS}
images = {TRAINING_IMAGES}
seed = {SEED}
"""
    )


RUNS = {
    "real_labels": (0.0, save_plain_safetensors),
    "half_noise": (0.5, save_torch_dictionary),
    "random_labels": (1.0, save_lightning_layout),
}


def choose_probes(true: np.ndarray, given: np.ndarray, seed: int) -> np.ndarray:
    """Rows of the training images: as many clean as corrupted under ``given``, in row order."""
    generator = np.random.default_rng(seed)
    halves = [np.flatnonzero(given == true), np.flatnonzero(given != true)]
    return np.sort(
        np.concatenate([generator.permutation(half)[:PROBES_PER_HALF] for half in halves])
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("sample_checkpoints"))
    parser.add_argument("--only", choices=RUNS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    everything = read_fashion_mnist(arguments.data, "train", 0)
    rows = np.sort(np.random.default_rng(SEED).permutation(len(everything.ids))[:TRAINING_IMAGES])
    training = everything.take(rows)
    test = read_fashion_mnist(arguments.data, "t10k", TEST_ID_OFFSET)
    test_rows = np.random.default_rng(SEED + 1).permutation(len(test.ids))[:HELD_OUT]
    held_out = test.take(np.sort(test_rows))
    mean, std = (float(f(training.pixels / 255)) for f in (np.mean, np.std))
    mean, std = round(mean, 4), round(std, 4)

    given = {
        name: redraw(training.labels, share, np.random.default_rng(SEED + 2))
        for name, (share, _) in RUNS.items()
    }
    probe_rows = choose_probes(training.labels, given["half_noise"], SEED + 3)
    for name, (share, save) in RUNS.items():
        if arguments.only not in (None, name):
            continue
        folder = arguments.output / name
        folder.mkdir(parents=True, exist_ok=True)
        wrong = (given[name] != training.labels).sum()
        print(f"{name}: {wrong} of {TRAINING_IMAGES} training labels are wrong", flush=True)
        write_run_card(folder, name, share)
        freeze_probes(
            arguments.output / f"{name}_probes.safetensors",
            training.take(probe_rows), given[name][probe_rows], held_out, mean, std,
        )  # fmt: skip
        save(folder, train(training, given[name], mean, std, np.random.default_rng(SEED + 4)))


if __name__ == "__main__":
    main()
