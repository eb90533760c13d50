"""Probes as a training has them in memory: a probe set, a pair, a data set, a loader; no torch."""

from __future__ import annotations

from typing import Any

from analyze.errors import InputError
from analyze.probes.loaders import has_rows, is_loader
from analyze.probes.probe_set import ProbeSet

FORMS = (
    "an analyze.ProbeSet, a pair (inputs, targets), a data set with len() whose items are pairs, "
    "or a torch.utils.data.DataLoader"
)


def probes_in_python(value: Any) -> ProbeSet:
    """The probe set that Python gives, or means by a pair, a data set or a loader.

    Raises:
        InputError: it is none of these, or its parts are not clear.
    """
    if isinstance(value, ProbeSet):
        return value
    if _is_pair(value):
        return ProbeSet(*value)
    if is_loader(value) or has_rows(value):
        return ProbeSet.from_dataset(value)
    raise InputError(
        "the probes given are something else",
        found=f"probes of type {type(value).__name__}",
        expected=FORMS,
        fix=f"analyze.probes.read_probes({value!r})"
        if isinstance(value, str)
        else "analyze.measure(model, analyze.ProbeSet(inputs, targets))",
    )


def _is_pair(value: Any) -> bool:
    """Whether it is ``(inputs, targets)``, and not a list of two examples."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        return False
    return isinstance(value, tuple) or not any(isinstance(v, tuple | list) for v in value)
