"""The names of a checkpoint's tensors turned into those of the model."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from typing import TypeVar

from analyze.checkpoints.state import COUNTERS

# What torch's wrappers put between the names of modules, anywhere: compile, FSDP, checkpointing.
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
DATA_PARALLEL = "module"  # DDP's; a model may have a module of that name itself
DEEPEST = 64  # modules inside one another whose versions are followed
T = TypeVar("T")


def prefixes_of(weights: Iterable[str], own: Collection[str]) -> tuple[list[str], int]:
    """The prefixes whose removal makes most names those of the model, and how many.

    None, where that does as well as any.
    """
    longest = max(map(len, own), default=0)
    found = {"": 0}
    for key in weights:
        found[""] += key in own
        place = max(0, len(key) - longest - 1)  # a prefix that is shorter leaves too much
        while (place := key.find(".", place) + 1) > 0:
            if key[place:] in own:
                found[key[:place]] = found.get(key[:place], 0) + 1
    most = max(found.values())
    best = sorted(prefix for prefix in found if found[prefix] == most)
    return ([""] if "" in best else best), most


def stripped(weights: Mapping[str, T], own: Mapping[str, object], prefix: str) -> dict[str, T]:
    """The tensors without the prefix; a name that would hide another one keeps it."""
    found = {}
    for key, tensor in weights.items():
        short = key.removeprefix(prefix)
        if short in own or short not in COUNTERS:
            found[key if short in weights else short] = tensor
    return found


def unwrapped(weights: Mapping[str, T], own: Iterable[str]) -> dict[str, T]:
    """Names without the wrappers inside them, where that makes them names of the model.

    A model that is wrapped itself is matched by its names without wrappers.
    """
    plain: dict[str, list[str]] = {}
    for name in own:
        plain.setdefault(_without(name, WRAPPERS), []).append(name)

    def matched(key: str) -> str:
        for wrappers in (WRAPPERS, (*WRAPPERS, DATA_PARALLEL)):
            if len(names := plain.get(_without(key, wrappers), [])) == 1:
                return names[0]
        return key

    known = {name for names in plain.values() for name in names}
    return _renamed(weights, lambda key: key if key in known else matched(key))


def renamed(
    weights: Mapping[str, T], rules: Iterable[str], own: Container[str] = ()
) -> dict[str, T]:
    """Names by the user's rules ``OLD=NEW``: with ``*`` for any part, or the path of a module.

    Those in ``own`` are right already.
    """
    compiled = [_compiled(rule) for rule in rules]

    def apply(key: str) -> str:
        for pattern, new in compiled if key not in own else ():
            if match := pattern.fullmatch(key):
                groups = iter(match.groups())
                return "".join(next(groups) if part == "*" else part for part in new)
        return key

    return _renamed(weights, apply)


def colliding(weights: Iterable[str], rules: Iterable[str]) -> tuple[str, str] | None:
    """A name that the user's rules change into one that another tensor has, and that name."""
    names = list(weights)
    others = {key: key for key in names}
    for old, new in ((key, next(iter(renamed({key: key}, rules)))) for key in names):
        if old != new and new in others and next(iter(renamed({new: new}, rules))) == new:
            return old, new
    return None


def carried(versions: Mapping[str, T], names: Mapping[str, str]) -> dict[str, T]:
    """The versions by the new paths of the modules.

    Args:
        versions: By the paths in the file.
        names: Of tensors, new to old.
    """
    found: dict[str, T] = {}
    for new, old in names.items() if versions else ():
        for new_path, old_path in _modules(new, old):
            if old_path in versions:
                found.setdefault(new_path, versions[old_path])
    return found


def any_matches(name: str, globs: Iterable[str]) -> bool:
    """Whether a name is meant by one of the user's globs."""
    return any(fnmatch.fnmatchcase(name, glob) for glob in globs)


def _modules(new: str, old: str) -> list[tuple[str, str]]:
    """The paths of the modules around a tensor, new and old, as far up as they correspond."""
    ours, theirs = new.split(".")[:-1], old.split(".")[:-1]
    found = [(".".join(ours), ".".join(theirs))]
    while theirs and len(found) < DEEPEST:
        if ours and ours[-1] == theirs[-1]:
            ours = ours[:-1]
        elif theirs[-1] not in (*WRAPPERS, DATA_PARALLEL):
            break
        theirs = theirs[:-1]
        found.append((".".join(ours), ".".join(theirs)))
    return found


def _compiled(rule: str) -> tuple[re.Pattern[str], list[str]]:
    old, _, new = rule.partition("=")
    if "*" in old:
        return re.compile(re.escape(old).replace(r"\*", "(.*)")), re.split(r"(\*)", new)
    return re.compile(rf"{re.escape(old)}((?:\..*)?)"), [new, "*"]


def _renamed(weights: Mapping[str, T], rename: Callable[[str], str]) -> dict[str, T]:
    """All names changed, but for those that would then hide one another."""
    new = {key: rename(key) for key in weights}
    taken: dict[str, int] = {}
    for name in new.values():
        taken[name] = taken.get(name, 0) + 1
    return {key if taken[new[key]] > 1 else new[key]: t for key, t in weights.items()}


def _without(name: str, wrappers: tuple[str, ...]) -> str:
    return ".".join(part for part in name.split(".") if part not in wrappers)
