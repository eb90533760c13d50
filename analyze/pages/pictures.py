"""Pictures of single examples inside a page, sharp on screens with two pixels to one."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from PIL import Image

from analyze.figures.contact_sheet import images
from analyze.probes import ProbeSet

SIDE = 192  # pixels of the longer side at most: twice the 96 on the page
LONGEST = 240  # characters of a text
TEXT = "text"  # a column of the probe file with the text itself
NUMBERS = 24  # token ids that are shown of an example without a text


@dataclass(frozen=True)
class Picture:
    """What a reader sees of an example: an image as a data URI, or a text."""

    uri: Markup | None = None
    text: str = ""
    coarse: bool = False  # whether its pixels are larger than the screen's, and stay square


def pictures_of(probes: ProbeSet, rows: Sequence[int]) -> list[Picture]:
    """Some examples as the model gets them, before mean and standard deviation are taken off.

    Text is the column ``text``; without it token ids are numbers, and anything else has no picture.
    """
    if TEXT in probes.columns:
        column = probes.columns[TEXT]
        return [Picture(text=_cut(column.names[int(column.codes[row])])) for row in rows]
    found = images(probes, np.array(rows, dtype=np.int64))
    if found is not None:
        return [_image(values) for values in found]
    inputs = list(probes.inputs.values())
    if len(inputs) == 1 and inputs[0].ndim == 2 and inputs[0].dtype.kind in "iu":
        return [Picture(text=_numbers(inputs[0][row].tolist())) for row in rows]
    return [Picture() for _ in rows]


def _numbers(ids: list[int]) -> str:
    more = " …" if len(ids) > NUMBERS else ""
    return " ".join(map(str, ids[:NUMBERS])) + more


def _image(values: np.ndarray) -> Picture:
    """``[H, W]`` or ``[H, W, 3]`` between 0 and 1 as a PNG file; large ones are made smaller."""
    pixels = np.rint(255 * np.clip(values, 0.0, 1.0)).astype(np.uint8)
    image = Image.fromarray(pixels)
    longest = max(image.size)
    if longest > SIDE:
        factor = SIDE / longest
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(
        uri=Markup("data:image/png;base64,{}").format(encoded), coarse=longest < SIDE // 2
    )


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
