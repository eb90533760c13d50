"""Where float64 is dear, so that as little as can be is computed in it."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from analyze.gradients.device.devices import is_cpu

# Cards that do half or a quarter as much in float64 as in float32. All others do a 32nd or a 64th:
# those of games and workstations, most for inference, and the B300.
NVIDIA = {  # by compute capability
    (6, 0): "P100", (7, 0): "V100", (8, 0): "A100", (9, 0): "H100, H200", (10, 0): "B100, B200",
}  # fmt: skip
AMD = {  # by architecture
    "gfx906": "MI50", "gfx908": "MI100", "gfx90a": "MI200", "gfx942": "MI300", "gfx950": "MI350",
}  # fmt: skip
INTEL = "Data Center GPU Max"  # part of the name


@cache
def is_dear(device: torch.device) -> bool:
    """Whether a multiplication in float64 takes far longer there than one in float32.

    So it is taken to be of whatever is not known, and of what has no float64 at all.
    """
    if is_cpu(device):
        return False
    told = getattr(torch.get_device_module(device), "get_device_properties", None)
    return told is None or not is_fast(told(device))


def is_fast(card: Any) -> bool:
    """Whether a card, by what its backend tells of it, is one of those in the tables.

    AMD's have a compute capability, too, which means something else.
    """
    if torch.version.hip is not None:
        return str(card.gcnArchName).partition(":")[0] in AMD
    capability = getattr(card, "major", None), getattr(card, "minor", None)
    return capability in NVIDIA or INTEL in getattr(card, "name", "")
