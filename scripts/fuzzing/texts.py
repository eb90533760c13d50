"""Values of JSON, TOML and tables with parts replaced, removed, renamed, nested or made large."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

from scripts.fuzzing.chance import REALS, number, spoilt, word

DEEP = 30_000  # lists within lists
MANY = 20_000


def value(draw: Random, depth: int = 0) -> Any:
    """A value of JSON."""
    way = draw.randrange(10 if depth < 3 else 7)
    if way == 7:
        return [value(draw, depth + 1) for _ in range(draw.randrange(4))]
    if way == 8:
        return {word(draw): value(draw, depth + 1) for _ in range(draw.randrange(4))}
    if way == 9:
        return draw.choice(([0] * MANY, "a." * MANY, {str(k): k for k in range(MANY)}))
    scalars = (number, number, _real, word, word, word, _constant)
    return scalars[way](draw)


def _real(draw: Random) -> float:
    return draw.choice(REALS)


def _constant(draw: Random) -> bool | None:
    return draw.choice((None, True, False))


def changed(content: Any, draw: Random, keys: tuple[str, ...] = ()) -> Any:
    """A value with a few of its parts changed; new keys are words, or among ``keys``."""
    content = copy.deepcopy(content)
    for _ in range(1 + int(draw.expovariate(0.6))):
        places = list(_places(content))
        if not places:
            return value(draw)
        inside, key = draw.choice(places)
        _change(inside, key, draw, keys)
    return content


def _change(inside: Any, key: Any, draw: Random, keys: tuple[str, ...]) -> None:
    way = draw.randrange(7)
    if way == 0:
        del inside[key]
    elif way == 1 and isinstance(inside, dict):
        inside[word(draw)] = inside.pop(key)
    elif way == 2:
        other = draw.choice(keys) if keys and draw.random() < 0.7 else word(draw)
        inside[other if isinstance(inside, dict) else key] = value(draw)
    elif way == 3:
        inside[key] = [inside[key]] if draw.random() < 0.5 else {"a": inside[key]}
    elif way == 4 and isinstance(inside[key], int | float):
        inside[key] = number(draw)
    elif way == 5 and isinstance(inside[key], list):
        inside[key] = inside[key] * draw.choice((0, 2, 50))
    else:
        inside[key] = value(draw)


def _places(content: Any, depth: int = 0) -> Any:
    """Containers and keys at all depths."""
    if depth > 20 or not isinstance(content, dict | list):
        return
    for key in list(content) if isinstance(content, dict) else range(len(content)):
        yield content, key
        yield from _places(content[key], depth + 1)


def as_json(content: Any, draw: Random) -> bytes:
    """JSON; at times with broken bytes, a key twice, or lists that never end."""
    text = json.dumps(content)
    way = draw.random()
    if way < 0.05:
        return spoilt(text.encode(), draw)
    if way < 0.08:
        return (draw.choice(("[", '{"a":')) * DEEP).encode()
    if way < 0.11:
        return text.replace("{", '{"a": 1, "a": 2, ', 1).encode()
    if way < 0.14:
        return ("\ufeff" + text).encode(draw.choice(("utf-8", "utf-16", "utf-32")))
    return text.encode()


def changed_json(content: bytes, draw: Random, keys: tuple[str, ...] = ()) -> bytes:
    """The bytes of a JSON file, changed as a value where they are one."""
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):  # a corpus has broken ones too
        return spoilt(content, draw)
    return as_json(changed(parsed, draw, keys), draw)


def as_table(rows: list[list[Any]], draw: Random, delimiter: str = ",") -> bytes:
    """A table with cells, lines, separators and quotes spoilt."""
    rows = [[str(cell) for cell in row] for row in rows]
    for _ in range(draw.randrange(4)):
        row = draw.choice(rows)
        if row:
            row[draw.randrange(len(row))] = draw.choice((word(draw), str(number(draw)), '"', '""'))
    way = draw.randrange(8)
    if way == 0:
        draw.choice(rows).append(word(draw))
    elif way == 1:
        del rows[draw.randrange(len(rows))]
    elif way == 2:
        rows.append(draw.choice(rows or [[]]))
    elif way == 3:
        rows = [[*row, *(str(number(draw)) for _ in range(3000))] for row in rows]
    elif way == 4:
        rows = rows * 2000
    end = draw.choice(("\n", "\n", "\n", "\r\n", "\r", "\x0b", "\u2028", "\n\n"))
    text = end.join(draw.choice((delimiter, delimiter, ";", "\t")).join(row) for row in rows) + end
    content = text.encode("utf-8", "surrogatepass")
    return spoilt(content, draw) if draw.random() < 0.2 else content
