"""From the names of a checkpoint's tensors to those of the model."""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TypeVar

from analyze.checkpoints.state import COUNTERS

# What torch's wrappers put between the names of modules, anywhere: compile, FSDP, checkpointing.
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
DATA_PARALLEL = "module"  # DDP's; a model may have a module of that name itself
DEEPEST = 64  # modules inside one another whose versions are followed
T = TypeVar("T")


def prefixes_of(weights: Iterable[str], wanted: Collection[str]) -> tuple[list[str], int]:
    """The prefixes whose removal gives most names of the model, and how many; "" where it ties."""
    longest = max(map(len, wanted), default=0)
    counts = {"": 0}
    for key in weights:
        counts[""] += key in wanted
        place = max(0, len(key) - longest - 1)  # a prefix that is shorter leaves too much
        while (place := key.find(".", place) + 1) > 0:
            if key[place:] in wanted:
                counts[key[:place]] = counts.get(key[:place], 0) + 1
    most = max(counts.values())
    best = sorted(prefix for prefix, count in counts.items() if count == most)
    return ([""] if "" in best else best), most


def stripped(weights: Mapping[str, T], wanted: Mapping[str, object], prefix: str) -> dict[str, T]:
    """The tensors without the prefix; a name that would hide another one keeps it."""
    short = {key: key.removeprefix(prefix) for key in weights}
    return {
        key if short[key] in weights else short[key]: tensor
        for key, tensor in weights.items()
        if short[key] in wanted or short[key] not in COUNTERS
    }


def unwrapped(weights: Mapping[str, T], wanted: Collection[str]) -> dict[str, T]:
    """Names without the wrappers inside them, where that makes them names of the model.

    A model that is wrapped itself is matched by its names without wrappers.
    """
    plain: dict[str, list[str]] = {}
    for name in wanted:
        plain.setdefault(_without(name, WRAPPERS), []).append(name)

    def matched(key: str) -> str:
        for wrappers in (WRAPPERS, (*WRAPPERS, DATA_PARALLEL)):
            names = plain.get(_without(key, wrappers), [])
            if len(names) == 1 and key not in wanted:
                return names[0]
        return key

    return _renamed(weights, matched)


def renamed(
    weights: Mapping[str, T], rules: Iterable[str], wanted: Container[str] = ()
) -> dict[str, T]:
    """The tensors by the user's rules ``OLD=NEW``, globs or paths; ``wanted`` names stay."""
    compiled = [_compiled(rule) for rule in rules]

    def apply(key: str) -> str:
        for pattern, new in compiled if key not in wanted else ():
            if match := pattern.fullmatch(key):
                groups = iter(match.groups())
                return "".join(next(groups) if part == "*" else part for part in new)
        return key

    return _renamed(weights, apply)


@lru_cache(maxsize=8)  # the checkpoints of a run have the same names
def unused_rules(names: tuple[str, ...], rules: tuple[str, ...]) -> frozenset[str]:
    """The user's renamings that change no name, with or without a prefix."""
    below = {key for name in names for key in _without_prefixes(name)} if rules else set()
    return frozenset(r for r in rules if not any(_compiled(r)[0].fullmatch(key) for key in below))


def _without_prefixes(name: str) -> Iterator[str]:
    """The name, and its rest below each of its modules."""
    parts = name.split(".")
    for k in range(min(len(parts), DEEPEST)):
        yield ".".join(parts[k:])


def colliding(weights: Iterable[str], rules: Iterable[str]) -> tuple[str, str] | None:
    """A name that the user's rules change into another tensor's name, and the latter."""
    new_names = {key: next(iter(renamed({key: key}, rules))) for key in weights}
    pairs = ((old, new) for old, new in new_names.items() if old != new)
    return next(((old, new) for old, new in pairs if new_names.get(new) == new), None)


def carried(versions: Mapping[str, T], names: Mapping[str, str]) -> dict[str, T]:
    """The versions by the new paths of the modules; ``names`` leads from new to old tensors."""
    carried_on: dict[str, T] = {}
    for new, old in names.items() if versions else ():
        for new_path, old_path in _modules(new, old):
            if old_path in versions:
                carried_on.setdefault(new_path, versions[old_path])
    return carried_on


def any_matches(name: str, globs: Iterable[str]) -> bool:
    """Whether one of the globs matches a name."""
    return any(fnmatch.fnmatchcase(name, glob) for glob in globs)


def _modules(new: str, old: str) -> list[tuple[str, str]]:
    """The paths of the modules around a tensor, new and old, as far up as they correspond."""
    ours, theirs = new.split(".")[:-1], old.split(".")[:-1]
    paths = [(".".join(ours), ".".join(theirs))]
    while theirs and len(paths) < DEEPEST:
        if ours and ours[-1] == theirs[-1]:
            ours = ours[:-1]
        elif theirs[-1] not in (*WRAPPERS, DATA_PARALLEL):
            break
        theirs = theirs[:-1]
        paths.append((".".join(ours), ".".join(theirs)))
    return paths


def _compiled(rule: str) -> tuple[re.Pattern[str], list[str]]:
    old, _, new = rule.partition("=")
    if "*" in old:
        return re.compile(re.escape(old).replace(r"\*", "(.*)")), re.split(r"(\*)", new)
    return re.compile(rf"{re.escape(old)}((?:\..*)?)"), [new, "*"]


def _renamed(weights: Mapping[str, T], rename: Callable[[str], str]) -> dict[str, T]:
    """The tensors by new names, but for those that would then hide one another."""
    new = {key: rename(key) for key in weights}
    taken = Counter(new.values())
    return {key if taken[new[key]] > 1 else new[key]: t for key, t in weights.items()}


def _without(name: str, wrappers: tuple[str, ...]) -> str:
    return ".".join(part for part in name.split(".") if part not in wrappers)
