"""The files of the study: a small one for each training, from which the page is made."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from analyze.files.whole import write_whole
from scripts.studying.design import Training, trainings

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "docs" / "study"
DATA = FOLDER / "data"
BUILD = ROOT / "build" / "study"  # results files with all layers, for reports and comparisons
DROPPED_BITS = 10  # of the 23 of a float32: four digits are left, and half of the bytes


@dataclass(frozen=True)
class Measured:
    """One training with what its file holds."""

    training: Training
    table: xr.Dataset

    @property
    def facts(self) -> dict[str, Any]:
        """How it went and where."""
        return json.loads(self.table.attrs["facts"])

    @property
    def steps(self) -> np.ndarray:
        """The measured steps, ``[S]``."""
        return self.table["step"].values

    def values(
        self,
        variable: str = "m_coherence",
        *,
        place: str = "network",
        subset: str = "all",
        mode: str = "recomputed",
        size: str = "2m",
    ) -> np.ndarray:
        """A variable over the steps, ``[S]``; NaN where it was not measured."""
        table = self.table[variable]
        chosen = {"place": place, "subset": subset, "mode": mode, "size": size}
        return table.sel({k: v for k, v in chosen.items() if k in table.dims}).values.astype(float)


@dataclass(frozen=True)
class Study:
    """All trainings that are done, in the order of the design."""

    done: tuple[Measured, ...]

    def of(self, network: str = "residual", noise: int | None = None) -> list[Measured]:
        """Those of a network, and of one share of noise, by seed."""
        found = [m for m in self.done if m.training.network.name == network]
        return sorted(
            (m for m in found if noise in (None, m.training.noise)),
            key=lambda m: (m.training.noise, m.training.seed),
        )

    def noises(self, network: str = "residual") -> list[int]:
        """The shares of noise that are there, ascending."""
        return sorted({m.training.noise for m in self.of(network)})


def read(folder: Path = DATA) -> Study:
    """What is there."""
    return Study(tuple(_read(folder)))


def _read(folder: Path) -> Iterator[Measured]:
    for training in trainings():
        path = path_of(folder, training)
        if path.exists():
            yield Measured(training, xr.load_dataset(path, engine="scipy"))


def path_of(folder: Path, training: Training) -> Path:
    """The file of a training."""
    return folder / f"{training.name}.nc.gz"


def keep(taken: xr.Dataset, path: Path) -> None:
    """Write what was taken out of a training's results, to four digits, whole or not at all.

    Gzipped netCDF-3, a quarter of the bytes of an HDF5 file of so little.
    """
    content = taken.map(_to_four_digits, keep_attrs=True).to_netcdf(engine="scipy")
    write_whole(path, gzip.compress(content, mtime=0))


def _to_four_digits(values: xr.DataArray) -> xr.DataArray:
    """Float32 numbers with their last binary digits 0, rounded to the nearest."""
    bits = values.values.astype(np.float32).view(np.uint32)
    half, mask = (
        np.uint32(1 << (DROPPED_BITS - 1)),
        np.uint32(~((1 << DROPPED_BITS) - 1) & 0xFFFFFFFF),
    )
    kept = ((bits + half) & mask).view(np.float32)
    return values.copy(data=np.where(np.isnan(values.values), np.float32("nan"), kept))
