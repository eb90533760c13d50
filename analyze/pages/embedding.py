"""Data and scripts inside a page: names from files stay text, and bytes are reproducible."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

# The HTML parser ends or changes a script element at "</script" and "<!--" only; as escapes they
# are the same JSON. Older JavaScript takes U+2028 and U+2029 for ends of lines.
ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def data_element(data: Mapping[str, Any]) -> Markup:
    """The data of a page, as JSON in an element that no browser runs.

    Raises:
        ValueError: NaN or infinity, which JSON does not have; ``packed`` takes those.
    """
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    text = text.translate(ESCAPES)
    return Markup(f'<script type="application/json" id="data">{text}</script>')


def packed(values: np.ndarray, kind: str = "float32") -> dict[str, Any]:
    """An array of any shape as base64 in C order, for ``unpacked`` in ``scripts/arrays.js``.

    The kind is ``float32``, or ``uint8`` for whole numbers up to 255.
    """
    array = np.ascontiguousarray(values, dtype=np.dtype(kind).newbyteorder("<"))
    return {
        "kind": kind,
        "shape": list(array.shape),
        "base64": base64.b64encode(array.tobytes()).decode("ascii"),
    }


def packed_steps(values: np.ndarray) -> dict[str, Any]:
    """An array in two bytes a number: whole steps, where the largest magnitude has 32,767.

    Rounding changes values by half a step at most, 1/65,534 of the largest magnitude.
    """
    largest = float(np.nanmax(np.abs(values), initial=0.0))
    step = largest / 32767 or 1.0
    missing = np.iinfo(np.int16).min
    steps = np.where(np.isfinite(values), np.rint(np.nan_to_num(values) / step), missing)
    return {**packed(steps, "int16"), "step": step}


def script_element(text: str) -> Markup:
    """A script element; ValueError for text that would end it."""
    if "</script" in text.lower() or "<!--" in text:
        raise ValueError("the script would end its element")
    return Markup(f"<script>{text}</script>")


def script_hash(text: str) -> str:
    """The hash of a script for a content security policy."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
