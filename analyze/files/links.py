"""Where links lead."""

from __future__ import annotations

import os
from pathlib import Path


def real_path(path: Path) -> Path:
    """The path without links. Path.resolve raises on links in a circle before Python 3.13."""
    return Path(os.path.realpath(path))
