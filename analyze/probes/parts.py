"""What the parts of an example are: said by the user, or input and target of a pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analyze.errors import InputError, counted, listed

Parts = Sequence[str | None] | Mapping[str, str | None]
PAIR: Parts = ("inputs", "targets")
ROLES = "inputs, inputs.NAME (passed by keyword), targets, id, subset, column.NAME, or None"
TARGETS = ("labels", "label", "targets", "target")  # likely keys, for a message


def roles_of(item: Any, parts: Parts | None, what: str) -> dict[str, Any]:
    """The key of an item's part by its role, ``inputs`` and ``targets`` at least.

    Raises:
        InputError: the parts are not said, or not those of the item.
    """
    keys = list(item) if isinstance(item, Mapping) else None
    if keys is None and not isinstance(item, tuple | list):
        raise unclear(f"{what} is a {type(item).__name__}", "pairs (input, target)")
    if parts is None:
        if keys is not None or len(item) != 2:
            raise _unsaid(what, item)
        parts = PAIR
    if isinstance(parts, Mapping) != (keys is not None) or (
        set(parts) != set(keys) if keys is not None else len(parts) != len(item)
    ):
        raise _unsaid(what, item)
    pairs = parts.items() if isinstance(parts, Mapping) else enumerate(parts)
    roles = [(role, key) for key, role in pairs if role is not None]
    known = ("inputs", "targets", "id", "subset")
    wrong = [
        str(role) for role, _ in roles
        if role not in known and not str(role).startswith(("inputs.", "column."))
    ]  # fmt: skip
    names = [role for role, _ in roles]
    if wrong or len(set(names)) != len(names):
        raise unclear(f"parts called {listed(list(map(repr, wrong or names)))}", f"any of {ROLES}")
    if "targets" not in names or not any(name.startswith("inputs") for name in names):
        raise unclear(f"parts {listed(list(map(repr, names)))}", "inputs and targets among them")
    return dict(roles)


def _unsaid(what: str, item: Any) -> InputError:
    """The refusal of an item whose parts the user has to name, with a likely way to do it."""
    said: Any
    if isinstance(item, Mapping):
        keys, values = [str(key) for key in item], [*item.values()]
        target = next((k for k in TARGETS if k in keys), keys[-1] if keys else "")
        said = {k: "targets" if k == target else f"inputs.{k}" for k in keys}
    else:
        keys, values = [f"part {k}" for k in range(len(item))], [*item]
        said = ("inputs", "targets", "id", *[None] * len(keys))[: len(keys)]
    kinds = [f"{k} of type {type(v).__name__}" for k, v in zip(keys, values, strict=True)]
    return InputError(
        "it is not clear what the parts of an example are",
        found=f"{what} has {counted(len(keys), 'part')}: {listed(kinds)}",
        expected=f"what each of them is, by parts=: {ROLES}, which leaves it out",
        fix=f"if so it is: analyze.ProbeSet.from_dataset(dataset, parts={said})",
    )


def unclear(found: str, expected: str) -> InputError:
    """The error for parts that are not understood."""
    return InputError(
        "it is not clear what the parts of an example are",
        found=found,
        expected=expected,
        fix='analyze.ProbeSet.from_dataset(dataset, parts=("inputs", "targets"))',
    )
