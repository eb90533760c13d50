"""Steps, epochs and tokens in the names of checkpoints, and the natural order of names.

A number counts where the name, in the light of the others in its series, has one reading only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from analyze.checkpoints.naming.numerals import WORDS, ascii_digits, number_in
from analyze.checkpoints.naming.path_numbers import (
    BLANK,
    CHECKPOINT_N,
    FAIRSEQ_RULE,
    FOLDER_RULE,
    LAST_INTEGER_RULE,
    Number,
    PathNumbers,
    numbers_in,
    progress_spans,
)
from analyze.checkpoints.naming.training_position import TrainingPosition
from analyze.errors import InputError

# A number by one of these rules may be an epoch: timm's checkpoint-12, torchvision's model_12.
WEAK_RULES = (CHECKPOINT_N, LAST_INTEGER_RULE, FOLDER_RULE)
MAY_BE_A_HASH = 10**6  # from here on; git's short ones have seven digits
LONGEST_NAME = 512  # characters at the end of a path in which a pattern is looked for
ROUND = 8  # what the steps of a series have in common, if they are no hashes
# The rest of a number that was cut off: the k of 10k.
CUT = re.compile(r"(?<=[0-9])(?:(?:,[0-9]{3}|\.[0-9]+)*[kKmMB]|[eE]\+?[0-9]+)(?![A-Za-z0-9])")
# Of a file alone, only these words are known to be no part of the number after them.
_NEUTRAL = (
    "model|net|network|weights?|checkpoint|ckpt|chkpt|cp|state(?:[_-]?dict)?|params?|snapshot|save"
    "|saved|policy|agent"
)
# Letters after a number that are no word of a trainer: the b of 1b.pt, but not the x of 256x256.
UNIT_OR_VARIANT = re.compile(rf"#(?!{WORDS}(?![A-Za-z]))([A-Za-z]+)(?![A-Za-z#])")
NEUTRAL = re.compile(rf"(?:(?:{_NEUTRAL})[_\-. =]?)*(#|{BLANK})(?:[_-]?[#{BLANK}])*", re.IGNORECASE)


def read_names(names: Sequence[str]) -> dict[str, TrainingPosition]:
    """The training positions in the names of one run, each in the light of the others.

    The numbers of names that are alike stand in columns. A column that never changes is part of
    the names: the 18 of ``resnet18_5``. If two columns change, could be the step and differ, there
    is none, and ``doubt`` names both.
    """
    paths = {name: numbers_in(name) for name in names}
    epochs = _settled({name: path.epochs for name, path in paths.items()})
    steps = _settled({name: path.steps for name, path in paths.items()})
    rest = {name: path for name, path in paths.items() if name not in steps}
    steps |= _settled({name: path.checkpoints for name, path in rest.items()})
    rest = {n: path for n, path in rest.items() if n not in steps and n not in epochs}
    steps |= _unlabelled(rest)
    nothing = _Settled(None, "", "")
    named = {}
    for name, path in paths.items():
        step, epoch = steps.get(name, nothing), epochs.get(name, nothing)
        if path.steps and path.steps[0].rule == FAIRSEQ_RULE and step.rule != FAIRSEQ_RULE:
            epoch = nothing
        named[name] = TrainingPosition(
            step.value, step.rule, epoch.value, epoch.rule, tokens=path.tokens,
            doubt=step.doubt or epoch.doubt, order=path.time,
        )  # fmt: skip
    return _without_settings(_within_epochs(named))


def position_by_pattern(name: str, pattern: str | None) -> TrainingPosition | None:
    """The step, epoch and tokens that the user's regular expression finds in a name.

    Raises:
        InputError: the expression finds no number, or a part of one.
    """
    name = name[-LONGEST_NAME:]
    match = None if pattern is None else re.search(pattern, name)
    if match is None:
        return None
    numbers: dict[str, Any] = {}
    for group, text in match.groupdict().items():
        if text is None:
            continue
        number = number_in(text.removeprefix("-"))
        if number is None:
            raise InputError(
                "the pattern for steps finds no number",
                found=f"{group} {text!r} in {name}, by {pattern!r}",
                expected="a number such as 500, 10k or 1e4",
                fix=r"--step-regex 'iter(?P<step>\d+)', or --manifest FILE.csv",
            )
        more = CUT.match(name, match.end(group))
        if more and match.end(group) == match.end():  # else the pattern says what follows
            raise InputError(
                "the pattern for steps cuts a number off",
                found=f"{group} {text!r} of {text + more[0]!r} in {name}, by {pattern!r}",
                expected="all of a number: 10k, 1.5M, 1e4",
                fix=r"--step-regex 'iter(?P<step>[\d.]+[kM]?)', or --manifest FILE.csv",
            )
        numbers[group] = -number if text.startswith("-") else number
    return TrainingPosition(step_rule="--step-regex", **numbers) if numbers else None


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts ``epoch_9`` before ``epoch_10``."""
    parts = (ascii_digits(part) for part in re.split(r"(\d+)", name) if part)
    return tuple(
        (0, len(digits := part.lstrip("0")), digits) if part.isdecimal() else (1, 0, part.lower())
        for part in parts
    )


@dataclass(frozen=True)
class _Settled:
    """The number that was decided on, or the reason why there is none."""

    value: float | None
    rule: str
    doubt: str


def _settled(numbers: Mapping[str, list[Number]]) -> dict[str, _Settled]:
    """The number of each name that has any, decided for all names alike at once."""
    result = {}
    places = {name: tuple(n.place for n in row) for name, row in numbers.items() if row}
    for names in alike(places):
        columns = [_as_one(c) for c in zip(*(numbers[name] for name in names), strict=True)]
        changing = [c for c in columns if _changes(c)] or columns
        for k, name in enumerate(names):
            result[name] = _agreed([column[k] for column in changing])
    return result


def alike(keys: Mapping[str, object]) -> list[list[str]]:
    """Groups of names with equal keys."""
    groups: dict[object, list[str]] = {}
    for name, key in keys.items():
        groups.setdefault(key, []).append(name)
    return list(groups.values())


def _changes(column: Iterable[Number]) -> bool:
    return len({_written(number) for number in column}) > 1


def _written(number: Number) -> object:
    return number.text if number.value is None else number.value


def _as_one(column: Sequence[Number]) -> list[Number]:
    """A column read in one way: thousands set apart by underscores or not, decimals or parts."""
    possible = [n for n in column if n.grouped is not None]
    if any(n.sure for n in possible):
        return [n if n.grouped is None else replace(n, value=n.grouped, doubt="", rule=_plain(n))
                for n in column]  # fmt: skip
    if possible and not any(n.followed and n.grouped is None for n in column):
        return [n if n.grouped is None else
                replace(n, value=None, doubt=f"{n.text} is {n.grouped:.0f} or two numbers")
                for n in column]  # fmt: skip
    places = [n.text.partition(".")[2] for n in column]
    if len(set(map(len, places)) - {0}) > 1 and any(p.endswith("0") and len(p) > 1 for p in places):
        return [replace(n, value=None, doubt=f"{n.text} has a fraction, or a part after its point")
                for n in column]  # fmt: skip
    return list(column)


def _plain(number: Number) -> str:
    return CHECKPOINT_N if number.rule == FAIRSEQ_RULE else number.rule


def _agreed(numbers: Sequence[Number]) -> _Settled:
    """The value of several readings, or a doubt that names them where they differ."""
    if doubts := [number.doubt for number in numbers if number.doubt]:
        return _Settled(None, "", doubts[0])
    if len({number.value for number in numbers}) > 1:
        both = [f"{n.value:.15g} by {n.rule}" for n in numbers]
        return _Settled(None, "", " or ".join(dict.fromkeys(both)))
    return _Settled(numbers[0].value, numbers[0].rule, "")


def _unlabelled(paths: Mapping[str, PathNumbers]) -> dict[str, _Settled]:
    """Steps without a label: the only number that changes from name to name."""
    result = _in_several_units(paths)
    keys = {name: (path.shape, *(n.place for n in path.integers)) for name, path in paths.items()
            if path.integers and name not in result}  # fmt: skip
    for names in alike(keys):
        columns = [_as_one(c) for c in zip(*(paths[n].integers for n in names), strict=True)]
        if all(map(_is_metric, columns)):
            continue
        changing = [c for c in columns if _changes(c) and not _is_metric(c)]
        by_file = [c for c in changing if not c[0].folder and _changes_in_a_folder(names, c)]
        changing = by_file or changing
        if not changing:
            changing = [c for c in columns if not _is_metric(c)]
            known = bool(NEUTRAL.fullmatch(paths[names[0]].shape)) or columns[-1][0].folder
            changing = changing if known and len(changing) == 1 else []
        for k, name in enumerate(names):
            result[name] = _agreed([c[k] for c in changing]) if changing else _not_alone(columns, k)
        if changing and (why := _no_step(changing[0], [paths[name].time for name in names])):
            result |= {
                name: _Settled(None, "", f"{number.text} {why}")
                for name, number in zip(names, changing[0], strict=True)
            }
    return result


def _in_several_units(paths: Mapping[str, PathNumbers]) -> dict[str, _Settled]:
    """Names that differ in letters joined to a number, ``90min`` and ``2h``, which have no step.

    The same letters in all names change no order; without any a number is what it says.
    """
    joined = {name: UNIT_OR_VARIANT.findall(path.shape) for name, path in paths.items()}
    shapes = {name: UNIT_OR_VARIANT.sub("#", path.shape) for name, path in paths.items()}
    result: dict[str, _Settled] = {}
    for names in alike(shapes):
        if len({tuple(joined[name]) for name in names}) > 1:
            result |= {
                name: _Settled(None, "", f"{joined[name][-1]} after a number may be a unit")
                for name in names if joined[name] and paths[name].integers
            }  # fmt: skip
    return result


def _is_metric(column: Iterable[Number]) -> bool:
    return any(number.doubt.endswith("not whole") for number in column)


def _changes_in_a_folder(names: Sequence[str], column: Sequence[Number]) -> bool:
    """Whether a number differs between files of one folder."""
    seen: dict[str, object] = {}
    folders = [str(PurePosixPath(name).parent) for name in names]
    return any(
        seen.setdefault(folder, _written(number)) != _written(number)
        for folder, number in zip(folders, column, strict=True)
    )


def _not_alone(columns: Sequence[Sequence[Number]], k: int) -> _Settled:
    texts = " or ".join(dict.fromkeys(column[k].text for column in columns))
    return _Settled(None, "", f"{texts} may be a part of the name")


def _no_step(column: Sequence[Number], times: Sequence[float | None]) -> str:
    """Why numbers without a label are no steps: hashes, or not in order of the times."""
    values = [n.value for n in column if n.value is not None]
    if len(values) > 1 and max(values) >= MAY_BE_A_HASH and math.gcd(*map(int, values)) < ROUND:
        return "may be a hash"
    known = [(t, n.value) for t, n in zip(times, column, strict=True)
             if t is not None and n.value is not None]  # fmt: skip
    in_time = [value for _, value in sorted(known)]
    return "is not in the order of the times beside it" if in_time != sorted(in_time) else ""


def _within_epochs(named: dict[str, TrainingPosition]) -> dict[str, TrainingPosition]:
    """Positions in which steps that begin again in every epoch only order the checkpoints."""
    both = {n: (x.step, x.epoch) for n, x in named.items()
            if x.step is not None and x.epoch is not None}  # fmt: skip
    return named | {
        name: replace(
            named[name], step=None, step_rule="", order=named[name].step,
            doubt=f"step {named[name].step:.15g} is counted anew in every epoch",
        )
        for names in counted_anew(both) for name in names
    }  # fmt: skip


def counted_anew(
    numbers: Mapping[str, tuple[float, float]], constant: bool = False
) -> Iterator[list[str]]:
    """The names of each folder whose steps do not rise with the epochs.

    Values of ``numbers`` are step and epoch; with ``constant`` a step that never changes counts.
    """
    for names in alike({name: _folders_of(name) for name in numbers}):
        pairs = sorted(numbers[name] for name in names)
        epochs = [epoch for _, epoch in pairs]
        same = constant and pairs[0][0] == pairs[-1][0] and len(set(epochs)) > 1
        if same or epochs != sorted(epochs):
            yield names


def _folders_of(name: str) -> tuple[str, ...]:
    """The folders of a file without the numbers of steps and epochs: epoch_1 is as epoch_2."""
    return tuple(_unnumbered(part) for part in PurePosixPath(name).parts[:-1])


def _unnumbered(part: str) -> str:
    for start, stop in sorted(progress_spans(part), reverse=True):
        part = part[:start] + part[stop:]
    return part


def _without_settings(named: dict[str, TrainingPosition]) -> dict[str, TrainingPosition]:
    """Positions without a step that is the same in all names while the epoch changes: a setting."""
    stepped = {name: x for name, x in named.items() if x.step is not None}
    epochs = {x.epoch for x in stepped.values()}
    if len({x.step for x in stepped.values()}) != 1 or len(epochs) < 2 or None in epochs:
        return named
    return named | {n: replace(x, step=None, step_rule="") for n, x in stepped.items()}
