"""Bit for bit: the same arrays in two results."""

from __future__ import annotations

import xarray as xr


def assert_same_arrays(one: xr.DataTree, other: xr.DataTree) -> None:
    """Every variable and coordinate of every group, NaN included, in type and bits."""
    assert set(one.groups) == set(other.groups)
    for group in one.groups:
        left, right = one[group].to_dataset(), other[group].to_dataset()
        assert set(left.variables) == set(right.variables)
        for name in left.variables:
            a, b = left[name].values, right[name].values
            assert (a.dtype, a.shape) == (b.dtype, b.shape), (group, name)
            same = a.tolist() == b.tolist() if a.dtype.kind in "OUT" else a.tobytes() == b.tobytes()
            assert same, (group, name)
