"""Data sets as people have them, and the probe sets built from them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from analyze.probes import ProbeSet, read_probes
from tests.conftest import call

SCALED = ["--mean", "0.5", "--std", "0.25"]


def build(*options: str) -> ProbeSet:
    result = call("probes", "build", "out.safetensors", "--overwrite", *options)
    assert result.exit_code == 0, result.stderr or result.exception
    assert result.stdout.endswith("Wrote out.safetensors\n")
    return read_probes(Path("out.safetensors"))


def subset_of(probes: ProbeSet) -> list[str]:
    return [probes.subset_names[code] for code in probes.subset]


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


def folder_of_images(root: Path, sizes=((40, 30), (32, 50))) -> None:
    for k, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for j, size in enumerate(sizes):
            pixels = np.full((*size, 3), 40 * k + 10 * j, np.uint8)
            Image.fromarray(pixels).save(root / name / f"{j}.png")
