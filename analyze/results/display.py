"""Trees that show a summary above what xarray shows of them, as text and as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Self

import numpy as np
import xarray as xr

from analyze.results.summary import HEAD, Course, Summary, lines, summary

WIDTH, HEIGHT, EDGE = 150, 28, 3  # of the chart of a course
LOWEST = 0.1  # m-coherence below which a chart shows no difference
LEGEND = "1, dashed: gradients are orthogonal on the whole; {}: all are equal. One scale for all."
STYLE = "border-collapse: separate; border-spacing: 0.8em 0; margin: 0.4em -0.8em"


class Results(xr.DataTree):
    """A results tree that says in short what was measured before it shows its groups.

    It is an ``xarray.DataTree`` in everything else. A part of it, and what was made of it, is shown
    by xarray alone.
    """

    __slots__ = ()

    @classmethod
    def of(cls, tree: xr.DataTree) -> Self:
        """The same groups and attributes; nothing is copied."""
        groups = {node.path: node.to_dataset(inherit=False) for node in tree.subtree}
        return cls.from_dict(groups, name=tree.name)

    def summary(self) -> Summary:
        """What it says in short.

        Raises:
            Exception: it is a part of results, or not in their form any more.
        """
        return summary(self)

    def __repr__(self) -> str:  # type: ignore[override]
        found, groups = self._summary_or_none(), repr(self._as_xarray())
        return groups if found is None else "\n".join([found.title, *lines(found), "", groups])

    def _repr_html_(self) -> str:
        with xr.set_options(display_expand_attrs=False):  # the provenance fills screens
            found, groups = self._summary_or_none(), self._as_xarray()._repr_html_()
        return groups if found is None else f"{summary_html(found)}{groups}"

    def _as_xarray(self) -> xr.DataTree:
        groups = {node.path: node.to_dataset(inherit=False) for node in self.subtree}
        return xr.DataTree.from_dict(groups, name=self.name)

    def _summary_or_none(self) -> Summary | None:
        if self.parent is not None or "provenance" not in self.attrs:
            return None
        try:
            return self.summary()
        except Exception:  # whatever a user has made of the tree: it is to be shown all the same
            return None


def summary_html(found: Summary) -> str:
    """A summary as HTML, with a small chart of each course; in the colours of where it stands."""
    bounds = _bounds(found.courses)
    columns = (found.size.quantity, "probes", *HEAD, "over training", "")
    head = "".join(f"<th>{text}</th>" for text in columns)
    rows = "".join(_row(one, bounds) for one in found.shown)
    legend = LEGEND.format(f"{found.size.size:,}" if found.size.size else "m")
    text = "".join(f"<div>{escape(line)}</div>" for line in found.below)
    return (
        f"<div><b>{escape(found.title)}</b><div>{legend}</div>"
        f'<table style="{STYLE}"><tr>{head}</tr>{rows}</table>{text}{_warnings(found)}</div>'
    ).replace("+-", "\N{PLUS-MINUS SIGN}")


def _row(one: Course, bounds: tuple[float, float]) -> str:
    points = [f"{p} <small>at {escape(p.where)}</small>" for p in one.points] or ["-"] * len(HEAD)
    texts = [escape(one.name), f"{one.probes:,}", *points, chart(one, bounds), one.chance]
    return f"<tr>{''.join(f'<td>{text}</td>' for text in texts)}</tr>"


def _warnings(found: Summary) -> str:
    if not found.warnings:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in found.warnings)
    return f"<details><summary>{found.warned}</summary><ul>{items}</ul></details>"


def chart(one: Course, bounds: tuple[float, float]) -> str:
    """A line over the checkpoints at equal distances, logarithmic; dashed at 1, a dot at the peak.

    ``bounds`` are the logarithms at its lower and upper edge. It is described by its points.
    """
    low, high = bounds
    step = (WIDTH - 2 * EDGE) / max(len(one.values) - 1, 1)

    def y(value: float) -> float:
        return HEIGHT - EDGE - (_log(value) - low) / (high - low) * (HEIGHT - 2 * EDGE)

    path, before = "", -2
    for k in np.flatnonzero(np.isfinite(one.values)):
        point = f"{EDGE + k * step:.1f},{y(one.values[k]):.1f}"
        path += f"L{point}" if k == before + 1 else f"M{point}h0"
        before = int(k)
    named = zip(HEAD, one.points, strict=False)
    described = "; ".join(f"{name} {p} at {p.where}" for name, p in named) or "no value"
    dots = "".join(
        f'<circle cx="{EDGE + p.place * step:.1f}" cy="{y(p.value):.1f}" r="2.2"/>'
        for p in one.points[1:2]
    )
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{escape(described)}">'
        f'<path d="M{EDGE},{y(1):.1f}H{WIDTH - EDGE}" stroke="currentColor" opacity="0.5" '
        'stroke-dasharray="3 3"/>'
        f'<path d="{path}" fill="none" stroke="currentColor" stroke-width="1.5" '
        'stroke-linecap="round"/>'
        f'<g fill="currentColor">{dots}</g></svg>'
    )


def _bounds(courses: Sequence[Course]) -> tuple[float, float]:
    """The logarithms between which all values lie, and 1."""
    logs = [_log(v) for one in courses for v in one.values[np.isfinite(one.values)]]
    low, high = min([0.0, *logs]), max([0.0, *logs])
    return low, max(high, low + 0.3)


def _log(value: float) -> float:
    return float(np.log10(max(value, LOWEST)))
