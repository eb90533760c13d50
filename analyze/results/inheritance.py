"""A group's own coordinate hides an index of its parent; xarray hides the parent's coordinate only.

``subset`` is an axis of the root and labels the probes of ``/examples``. xarray, up to 2026.9 at
least, hands the root's index down beside the other coordinate: such a group cannot be displayed as
HTML, nor be grouped by ``subset`` or selected by ``probe``. Stored as a data variable instead, the
labels would silently be the root's. ADR 42.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Hashable
from typing import Any

import xarray as xr

INDEXES = "_indexes"  # of a group: its own, then its parents'


def repair() -> None:
    """Let every tree in this process hide an index where it hides its coordinate."""
    if isinstance(vars(xr.DataTree).get(INDEXES), property):
        setattr(xr.DataTree, INDEXES, property(_indexes))


def _indexes(tree: Any) -> ChainMap[Hashable, Any]:
    """The indexes of a group, then those of its parents whose names it does not use itself."""
    own = tree._node_coord_variables
    above = (
        {name: index for name, index in parent._node_indexes.items() if name not in own}
        for parent in tree.parents
    )
    return ChainMap(tree._node_indexes, *above)
