"""A draw of examples from a subset, by a seed."""

from __future__ import annotations

import zlib

import numpy as np


def drawn(rows: np.ndarray, subset: str, seed: int) -> np.ndarray:
    """The rows of a subset in a random order, which does not depend on the other subsets."""
    generator = np.random.default_rng([seed, zlib.crc32(subset.encode("utf-8"))])
    return generator.permutation(rows)
