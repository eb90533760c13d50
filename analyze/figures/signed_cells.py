"""Tables of ratios or differences, layer by checkpoint; what is not significant is hatched."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize, SymLogNorm
from matplotlib.ticker import FixedLocator

from analyze.figures.cells import add_colourbar, hatch_cells, set_cells

COLOURS = "PuOr_r"
SMALLEST = np.log(2.0)  # the smallest end of a scale of ratios
FACTORS = (1, 2, 3, 5, 10, 20, 50, 100, 300, 1000, 3000, 10_000)
TICKS = 4  # on either side


def draw_signed(ax: Axes, table: np.ndarray, significant: np.ndarray, norm: Normalize) -> QuadMesh:
    """Draw a table ``[layer, checkpoint]``: colour where significant, hatched paper where not.

    Cells without a value are grey; ``norm`` is symmetric about 0. Returns the mesh of the
    significant cells, for ``add_signed_bar``.
    """
    known = np.isfinite(table)
    mesh = ax.pcolormesh(
        np.ma.masked_where(~known | ~significant, table), cmap=COLOURS, norm=norm, rasterized=True,
        antialiased=False, zorder=1,
    )  # fmt: skip
    set_cells(ax, table)
    hatch_cells(ax, known & ~significant)
    return mesh


def ratio_scale(*tables: np.ndarray) -> Normalize:
    """A common scale for tables of logarithms of ratios."""
    limit = max(float(np.nanmax(np.abs(table), initial=SMALLEST)) for table in tables)
    return Normalize(-limit, limit)


def difference_scale(*tables: np.ndarray) -> Normalize:
    """A scale for differences in examples: linear up to 1, then logarithmic."""
    limit = max(float(np.nanmax(np.abs(table), initial=2.0)) for table in tables)
    return SymLogNorm(1.0, vmin=-limit, vmax=limit, base=10)


def add_signed_bar(mesh: QuadMesh, ax: Axes, label: str, *, ratios: bool) -> None:
    """Add the colour bar on the right; logarithms of ratios are written as factors."""
    limit = float(mesh.get_clim()[1] or 1.0)
    reach = np.exp(limit) if ratios else limit
    ticks = _spaced([f for f in FACTORS if f <= reach and (ratios or f in (1, 10, 100, 1000))])
    places = [np.log(f) if ratios else float(f) for f in ticks]
    locator = FixedLocator([*(-p for p in places[::-1]), 0.0, *places])
    text = _factor if ratios else _signed
    add_colourbar(mesh, ax, f"{label}\nhatched: not significant", locator, text)


def _spaced(factors: list[int]) -> list[int]:
    """At most ``TICKS`` factors, with the largest; without 1, which is the middle of ratios."""
    factors = [f for f in factors if f > 1] or factors
    every = max(1, -(-len(factors) // TICKS))
    return factors[::-1][::every][::-1]


def _factor(logarithm: float, _: int) -> str:
    if abs(logarithm) < 1e-9:
        return "1"
    value = f"{np.exp(abs(logarithm)):,.3g}"
    return value if logarithm > 0 else f"1/{value}"


def _signed(value: float, _: int) -> str:
    return f"{value:+,.6g}".replace("-", "\N{MINUS SIGN}") if value else "0"
