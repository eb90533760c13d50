"""Where float64 is dear, so that as little as can be is computed in it."""

from __future__ import annotations

from functools import cache

import torch

# Cards that do half as much in float64 as in float32, by what torch says of them. All others do a
# 32nd or a 64th, among them those of workstations and games, and the B300.
NVIDIA = {
    (6, 0): "P100",
    (7, 0): "V100",
    (8, 0): "A100",
    (9, 0): "H100, H200",
    (10, 0): "B100, B200",
}  # compute capability
AMD = {
    "gfx906": "MI50",
    "gfx908": "MI100",
    "gfx90a": "MI200",
    "gfx942": "MI300",
    "gfx950": "MI350",
}  # architecture
INTEL = "Data Center GPU Max"  # part of the name


@cache
def is_dear(device: torch.device) -> bool:
    """Whether a multiplication in float64 takes far longer there than one in float32.

    True of whatever is not known, and of what has no float64: float32 is then never the slower way.
    """
    if device.type == "cpu":
        return False
    if device.type == "cuda":
        return not _is_in_a_table(torch.cuda.get_device_properties(device))
    if device.type == "xpu":
        return INTEL not in torch.xpu.get_device_properties(device).name
    return True


def _is_in_a_table(card: object) -> bool:
    """Whether a card is one that is fast in float64; AMD's bear torch's name ``cuda``, too."""
    architecture = str(getattr(card, "gcnArchName", "")).partition(":")[0]
    if torch.version.hip is not None:
        return architecture in AMD
    return (getattr(card, "major", 0), getattr(card, "minor", 0)) in NVIDIA
