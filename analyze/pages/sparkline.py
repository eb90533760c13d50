"""A small line over training, as an SVG element that needs no script."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

WIDTH, HEIGHT, EDGE = 96, 26, 2


def sparkline(places: np.ndarray, values: np.ndarray, colour: str) -> Markup:
    """Values between -1 and 1 over training, with a rule at 0; gaps where there is none.

    Checkpoints stand at equal distances in the order of their places: a line this small has no
    axis to read off. It is described by its first and its last value.
    """
    order = np.argsort(places, kind="stable")
    known = [(k, float(values[i])) for k, i in enumerate(order) if np.isfinite(values[i])]
    if not known:
        return Markup("")
    step = (WIDTH - 2 * EDGE) / max(len(order) - 1, 1)
    largest = max(abs(v) for _, v in known) or 1.0
    middle = HEIGHT / 2

    def point(k: int, value: float) -> str:
        return f"{EDGE + k * step:.1f},{middle - value / largest * (middle - EDGE):.1f}"

    path, before = "", -2
    for k, value in known:
        path += ("L" if k == before + 1 else "M") + point(k, value)
        before = k
    x, y = point(*known[-1]).split(",")
    described = f"cosine with the others from {known[0][1]:+.2f} to {known[-1][1]:+.2f}"
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" role="img" aria-label="{}">'
        '<path d="M{},{}H{}" stroke="var(--rule)"/>'
        '<path d="{}" fill="none" stroke="var(--c-{}, {})" stroke-width="1.6"/>'
        '<circle cx="{}" cy="{}" r="2" fill="var(--c-{}, {})"/></svg>'
    ).format(WIDTH, HEIGHT, described, EDGE, middle, WIDTH - EDGE, path, colour[1:], colour,
             x, y, colour[1:], colour)  # fmt: skip
