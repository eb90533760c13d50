"""Keywords of functions and options of commands, made from the fields of dataclasses.

The docstring of the class explains each keyword. A field that holds another dataclass stands for
the fields of it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter
from pathlib import PurePath
from textwrap import fill
from typing import Any, TypeVar, cast

from analyze.errors import bad_choice

Kind = TypeVar("Kind")
Function = TypeVar("Function", bound=Callable[..., Any])
ENTRY = re.compile(r"^    (\w+): (.+(?:\n {8}.+)*)", re.MULTILINE)  # of a section "Args:"
# What a type in the annotation of a field takes, and how a message calls it.
TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "text"), "int": ((int,), "a whole number"), "bool": ((bool,), "True or False"),
    "float": ((int, float), "a number"), "Path": ((PurePath,), "a path"),
    "None": ((type(None),), "None"),
}  # fmt: skip
PLACE = re.compile(r"^    \*\*\w+: .+", re.MULTILINE)  # where a docstring has the keywords


def keywords(kind: type, without: tuple[str, ...] = ()) -> dict[str, Parameter]:
    """The keywords that a dataclass stands for, by name."""
    flat = {
        f.name: Parameter(f.name, Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
        for f in fields(kind)
        if f.name not in (*_parts(kind), *without)
    }
    for part in _parts(kind).values():
        flat |= keywords(part, (*flat, *without))
    return flat


def explained(kind: type) -> dict[str, str]:
    """The explanation of each keyword, by name."""
    texts: dict[str, str] = {}
    for part in (*_parts(kind).values(), *reversed(kind.__mro__)):
        entries = ENTRY.findall(inspect.cleandoc(vars(part).get("__doc__") or ""))
        texts |= {name: " ".join(text.split()) for name, text in entries}
    return texts


def built(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """A dataclass from keywords; text for a field of several values is split at its commas.

    Raises:
        InputError: a value of another type than the field's.
    """
    known = keywords(kind)
    plural = {name for name, keyword in known.items() if keyword.default == ()}
    for name in values.keys() & known.keys():
        _check_type(name, values[name], known[name].annotation, name in plural)
    left = {name: several(v) if name in plural else v for name, v in values.items()}
    parts = {}
    for name, part in _parts(kind).items():
        outer = [f.name for f in fields(kind)]  # type: ignore[arg-type]
        inner = left.keys() & keywords(part, tuple(outer)).keys()
        parts[name] = part(**{key: left.pop(key) for key in inner})
    return kind(**left, **parts)


def _check_type(name: str, value: object, annotation: str, plural: bool) -> None:
    """Refuse a value of another type than the annotation says, as far as ``TYPES`` knows it."""
    if plural:
        words = isinstance(value, Iterable) and all(isinstance(each, str) for each in value)
        if not words:
            raise bad_choice(name, value, "text with commas between the values, or a list of texts")
        return
    wanted = annotation.split(" | ")
    if not all(word in TYPES for word in wanted):  # whoever uses the value looks at it
        return
    fits = isinstance(value, tuple(kind for word in wanted for kind in TYPES[word][0]))
    if not fits or (isinstance(value, bool) and "bool" not in wanted):
        raise bad_choice(name, value, " or ".join(TYPES[word][1] for word in wanted))


def taking(kind: type, without: tuple[str, ...] = ()) -> Callable[[Function], Function]:
    """Replace ``**options`` in a function's signature and docstring by the keywords it takes."""

    def decorate(function: Function) -> Function:
        known, texts = keywords(kind, without), explained(kind)
        signature = inspect.signature(function)
        named = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        signature = signature.replace(parameters=[*named, *known.values()])
        entries = [
            fill(f"    {name}: {texts.get(name, '')}", 100, subsequent_indent=" " * 8)
            for name in known
        ]
        text = inspect.cleandoc(function.__doc__ or "")
        function.__doc__ = PLACE.sub(lambda _: "\n".join(entries), text)

        @wraps(function)
        def checked(*args: Any, **options: Any) -> Any:
            try:
                signature.bind(*args, **options)
            except TypeError as error:  # a keyword that does not exist, under the function's name
                raise TypeError(f"{function.__name__}() {error}") from None
            return function(*args, **options)

        checked.__signature__ = signature  # type: ignore[attr-defined]
        return cast(Function, checked)

    return decorate


def _parts(kind: type) -> dict[str, Any]:
    """The dataclasses that fields hold, by the name of the field."""
    made: dict[str, Any] = {f.name: f.default_factory for f in fields(kind)}
    return {name: part for name, part in made.items() if is_dataclass(part)}


def several(value: Any) -> tuple[Any, ...]:
    """Values as a tuple; a text is split at its commas."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value)
