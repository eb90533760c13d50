"""Data and scripts inside a page: names from files cannot leave their place, bytes repeat."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

# Inside a script element only "</script" and "<!--" mean something to the parser of HTML; as
# escapes they are the same JSON. U+2028 and U+2029 are lines' ends to older JavaScript.
ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


DASHES = (None, "7,3", "2,3", "9,3,2,3")  # of lines that share a colour


def data_element(data: Mapping[str, Any]) -> Markup:
    """The data of a page, as JSON in an element that no browser runs.

    Raises:
        ValueError: a number that JSON has no word for (NaN, infinity); ``packed`` takes those.
    """
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    text = text.translate(ESCAPES)
    return Markup(f'<script type="application/json" id="data">{text}</script>')


def packed(values: np.ndarray, kind: str = "float32") -> dict[str, Any]:
    """An array of any shape as base64, which ``unpacked`` in ``scripts/arrays.js`` reads.

    Args:
        values: Numbers, NaN where there is none; in C order on the page.
        kind: ``float32``; ``uint8`` for whole numbers up to 255.
    """
    array = np.ascontiguousarray(values, dtype=np.dtype(kind).newbyteorder("<"))
    return {
        "kind": kind,
        "shape": list(array.shape),
        "base64": base64.b64encode(array.tobytes()).decode("ascii"),
    }


def packed_steps(values: np.ndarray) -> dict[str, Any]:
    """An array in two bytes a number: whole steps, of which the largest value has 32,767.

    What is read back is off by at most half a step, 1/65,534 of the largest magnitude.
    """
    largest = float(np.nanmax(np.abs(values), initial=0.0))
    step = largest / 32767 or 1.0
    missing = np.iinfo(np.int16).min
    steps = np.where(np.isfinite(values), np.rint(np.nan_to_num(values) / step), missing)
    return {**packed(steps, "int16"), "step": step}


def script_element(text: str) -> Markup:
    """A script of ours or of a library.

    Raises:
        ValueError: it has what would end the element.
    """
    if "</script" in text.lower() or "<!--" in text:
        raise ValueError("the script would end its element")
    return Markup(f"<script>{text}</script>")


def script_hash(text: str) -> str:
    """What a content security policy calls a script by."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
