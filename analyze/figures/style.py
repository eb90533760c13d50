"""The style of all figures."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib.style

MARK = "gradient-coherence, by Matplotlib"  # in the metadata of every picture that we draw
STYLE_SHEET = Path(__file__).with_name("analyze.mplstyle")


def style() -> AbstractContextManager[None]:
    """A context in which new figures and axes have the style of this package."""
    return matplotlib.style.context(STYLE_SHEET)
