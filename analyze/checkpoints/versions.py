"""Data that torch keeps of a module beside its tensors: the version of its code, its extra state.

A state dict of ``module.state_dict()`` has an attribute ``_metadata``: by the path of each module
the version of the code that saved it. Modules convert older ones while they are loaded, so the
versions follow the tensors wherever names change. They come from a file: only numbers, texts and
dictionaries of such are taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analyze.checkpoints.torch_files.containers import containers_of
from analyze.checkpoints.torch_files.pickle_records import Stateful
from analyze.checkpoints.torch_files.plain_pickle import Name

EXTRA_STATE = "_extra_state"  # torch's own name, at the end of a module's path
PLAIN = (bool, int, float, str, bytes)
STAND_INS = (Stateful, Name)
MOST = 64  # entries for one module: one dictionary may be that of all of them

Versions = dict[str, dict[str, Any]]


class StateDict(dict[str, Any]):
    """Tensors and extra states by name, with the versions of the modules where torch has them."""

    def __init__(self, content: Mapping[str, Any], versions: Versions) -> None:
        super().__init__(content)
        self._metadata = versions


def versions_in(state: object) -> Versions:
    """The versions in a state dict, and nothing else that may stand there."""
    versions = getattr(state, "_metadata", None)
    known: dict[int, dict[str, Any]] = {}  # one entry may be that of any number of modules
    for entry in versions.values() if isinstance(versions, dict) else ():
        if isinstance(entry, dict) and id(entry) not in known:
            known[id(entry)] = _plain(entry)
    return {
        path: known[id(entry)]
        for path, entry in (versions.items() if isinstance(versions, dict) else ())
        if isinstance(path, str) and isinstance(entry, dict)
    }


def extra_states_in(state: Mapping[Any, Any]) -> dict[str, Any]:
    """The extra states of modules that are no tensors, without those that hold stand-ins."""
    states = {k: v for k, v in state.items() if isinstance(k, str) and is_extra_state(k)}
    foreign = containers_of(states.values(), STAND_INS)
    return {
        key: value for key, value in states.items()
        if id(value) not in foreign and not isinstance(value, STAND_INS)
    }  # fmt: skip


def is_extra_state(key: str) -> bool:
    """Whether a name in a state dict is that of a module's extra state."""
    return key.rpartition(".")[2] == EXTRA_STATE


def _plain(entry: Mapping[Any, Any], depth: int = 2) -> dict[str, Any]:
    """The numbers and texts of a module's entry, also one level below, as spectral norm has it."""
    plain: dict[str, Any] = {}
    for key, value in entry.items() if len(entry) <= MOST else ():
        if isinstance(key, str) and (value is None or type(value) in PLAIN):
            plain[key] = value
        elif isinstance(key, str) and isinstance(value, dict) and depth > 1:
            plain[key] = _plain(value, depth - 1)
    return plain
