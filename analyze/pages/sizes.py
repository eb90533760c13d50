"""The sizes that a page offers, at which what stands side by side is shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import xarray as xr

from analyze.statistics.sizes import ALPHA, shown_at, shown_size


def offered(tree: xr.DataTree, choices: Iterable[str | int]) -> list[dict[str, Any]]:
    """The sizes as data of ``scripts/sizes.js``, each once, that of the tree's figures first.

    Args:
        tree: Results, or a comparison.
        choices: Further sizes, as ``shown_at`` takes them.

    Returns:
        For each its ``name`` in titles, the ``quantity``, and ``size``: the number of examples,
        null for each subset's own m, and 0 for unbiased alpha.
    """
    sizes = [shown_size(tree), *(shown_size(shown_at(tree, choice)) for choice in choices)]
    return [
        {
            "name": words,
            "quantity": size.quantity,
            "size": 0 if size.choice == ALPHA else size.size,
        }
        for words, size in {size.words: size for size in sizes}.items()
    ]
