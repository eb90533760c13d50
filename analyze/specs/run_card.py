"""The run card, ``run.toml``: all that ``analyze run RUN`` needs to know of a run."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from analyze.errors import InputError, like
from analyze.files.permission import not_permitted
from analyze.files.present import is_file
from analyze.specs.card_patterns import MOST_REPEATS, why_slow

NAME = "run.toml"
LARGEST = 1 << 15  # bytes; the readers of TOML take time that grows with the square
LARGEST_NUMBER = 1e300  # of settings; Python does not print every digit of any number
TRAINING = "training"


@dataclass(frozen=True)
class RunCard:
    """The content of a run card, which is data; a key that it leaves out is None."""

    name: str | None = None  # the run's name, for titles
    model: str | None = None  # a model spec without code
    probes: str | None = None  # the probe file, relative to the card
    loss: str | None = None  # a loss spec
    checkpoints: str | None = None  # from here on as the options of these names
    weights: str | None = None
    weights_key: str | None = None
    step_regex: str | None = None
    max_probes: int | None = None
    rename: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    directions: tuple[str, ...] = ()
    # Settings of the training in the user's own words and numbers, for comparisons.
    training: dict[str, str | int | float | bool] = field(default_factory=dict)


KEYS = [field.name for field in fields(RunCard) if field.name != TRAINING]
LISTS = [field.name for field in fields(RunCard) if field.default == ()]
NUMBERS = ("max_probes",)
TEXTS = [key for key in KEYS if key not in (*LISTS, *NUMBERS)]
MOST_STARS = 3  # in a renaming
MOST_VALUES = 1000  # of a list


def read_run_card(run: Path) -> RunCard:
    """The card in a run's directory; an empty one when there is none.

    Raises:
        InputError: not TOML, or with a key or value that a card does not have.
    """
    path = run / NAME
    if not is_file(path):
        return RunCard()
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"more than {LARGEST >> 10} KiB")
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # as some editors write it
    except PermissionError as error:
        raise not_permitted(path) from error
    except (ValueError, RecursionError, OSError) as error:  # ValueError: no TOML, no UTF-8
        slash = (
            "in single quotes, backslashes stand for themselves: step_regex = 'it(?P<step>\\d+)'"
        )
        raise _broken(path, str(error), slash if "\\" in str(error) else "") from error
    table, training = content.get("run"), content.get(TRAINING, {})
    if not isinstance(table, dict) or set(content) - {"run", TRAINING}:
        raise _broken(path, f"the tables {sorted(content)}")
    for key, value in table.items():
        if key not in KEYS or not _fits(key, value):
            raise _broken(path, f"{key} = {value!r}", _meant(key, value))
    many = [rule for rule in table.get("rename", ()) if rule.count("*") > MOST_STARS]
    if many:
        raise InputError(
            "a renaming in the run card has too many stars",
            found=f"rename = [{many[0]!r}] in {path}",
            expected=f"at most {MOST_STARS}: a run card is data, and each multiplies the time",
            fix=f"rename = several rules, or if you trust it: --rename {many[0]!r}",
        )
    if why := why_slow(table.get("step_regex", "")):
        raise InputError(
            "the pattern for steps in the run card may take for ever",
            found=f"step_regex = {table['step_regex']!r} in {path}: {why}",
            expected=f"at most {MOST_REPEATS} repetitions of single characters: a run card is data",
            fix=r"step_regex = 'iter(?P<step>\d+)', or if you trust it: --step-regex",
        )
    if not isinstance(training, dict):
        raise _broken(path, f"{TRAINING} = {training!r}")
    for key, value in training.items():
        number = isinstance(value, int | float) and abs(value) < LARGEST_NUMBER
        if not isinstance(value, str) and not number:  # not NaN, which no page can hold
            shown = hex(value) if type(value) is int else repr(value)  # Python prints no long one
            raise _broken(path, f"{key} = {shown} in [{TRAINING}]")
    values: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in table.items()
    }
    return RunCard(**values, training=training)


def _fits(key: str, value: object) -> bool:
    """Whether a key of the card may have a value: a text, a list of texts, or a number."""
    if key in NUMBERS:
        return type(value) is int and 0 < value < LARGEST_NUMBER
    words = value if key in LISTS else [value]
    if not isinstance(words, list) or len(words) > MOST_VALUES:
        return False
    return all(isinstance(word, str) and "\0" not in word for word in words)


@contextmanager
def named_card(path: str) -> Iterator[None]:
    """Name the run card in the refusal of a value that stands there."""
    try:
        yield
    except InputError as error:
        raise InputError(
            error.what, found=f"{error.found}, in {path}", expected=error.expected, fix=error.fix
        ) from error


def _meant(key: str, value: object) -> str:
    """What may have been meant by a key and its value that a card does not have; empty: nothing."""
    if key in LISTS and isinstance(value, str):
        return f"{key} = [{_as_toml(value)}]"
    if key in NUMBERS and isinstance(value, str) and value.isdecimal():
        return f"{key} = {int(value)}"
    if key in KEYS:
        return ""
    if close := like(key.replace("-", "_"), KEYS):
        return f"{close[0]} = {_as_toml(value)}"
    return (
        f"settings of your own go below a line [{TRAINING}]; how to measure is said on the command "
        "line, as in --folds 5"
    )


def _as_toml(value: object) -> str:
    """A text, or a list of texts, as TOML has them; other values as Python writes them."""
    if isinstance(value, str):
        return f"'{value}'" if "\\" in value and "'" not in value else json.dumps(value)
    return f"[{', '.join(map(_as_toml, value))}]" if isinstance(value, list) else str(value)


def _broken(path: Path, found: str, fix: str = "") -> InputError:
    return InputError(
        "the run card is not understood",
        found=f"{path}: {found}",
        expected=f"a table [run] with any of {', '.join(TEXTS)} (strings), {', '.join(NUMBERS)} "
        f"(a number), {', '.join(LISTS)} (lists of strings); if you "
        f"like a table [{TRAINING}] with settings of your own: strings, finite numbers, "
        "true or false",
        fix=fix
        or '[run]\n            model = "torchvision:resnet18?num_classes=10"\n'
        '            probes = "../probes.safetensors"',
    )
