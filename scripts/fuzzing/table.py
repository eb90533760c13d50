"""All kinds of inputs. A new one is a file with ``KINDS`` and a line here."""

from __future__ import annotations

from scripts.fuzzing import array_inputs, name_inputs, results_inputs, text_inputs, torch_inputs
from scripts.fuzzing.kind import Kind

KINDS: tuple[Kind, ...] = (
    *torch_inputs.KINDS, *array_inputs.KINDS, *results_inputs.KINDS, *text_inputs.KINDS,
    *name_inputs.KINDS,
)  # fmt: skip
