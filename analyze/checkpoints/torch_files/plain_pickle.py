"""Pickles read as data: an interpreter of the opcodes that builds plain values and nothing else.

Python's own reader hands out classes and functions, calls them, and sets attributes of whatever it
is told to. Here a name in a pickle is a ``Name``: a word, with what stands for a call of it. State
is set on records of this reader's own; all other objects are numbers, texts, bytes, lists,
dictionaries, tuples and sets. Work and memory are bounded by the length of the pickle.
"""

from __future__ import annotations

import struct
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

from analyze.checkpoints.torch_files.pickle_records import Placeholder, Record, Stateful

# Bytes of memory that a pickle may take: so many times its length, and more; 100,000 tensors take
# 170 MB. Few bytes can make a tensor of half a thousand, by names and numbers that are remembered.
TIMES, MEMORY_SPARE = 4, 450_000_000
OF_A_VALUE, OF_A_CONTAINER, OF_A_SET, OF_A_CALL = 48, 64, 216, 300
OF_AN_ITEM = 96  # of what is given to a call, which may make an ordered dictionary of it
LARGEST_KEY = 1 << 60  # larger integers can be chosen so that a dictionary of them never ends
LONGEST_NAME = 500  # characters of a class with its module; a few bytes can ask for it again
SHORT = 64  # values in what is given to a call, which are not counted
SPARE = 100_000  # values that calls may look through, beyond twice the length of the pickle
SIZED = (str, bytes, list, tuple, dict, OrderedDict, set, frozenset)


class UnknownNameError(Exception):
    """The name that a pickle asked for, where it holds no data."""


@dataclass(eq=False, slots=True)
class Name:
    """A class or function in a pickle: its name, and our builder in place of a call."""

    name: str
    build: Callable[..., Any] | None = None


@dataclass
class Machine:
    """Reads one pickle after the other from a file."""

    file: BinaryIO  # at the beginning of the next pickle
    find: Callable[[str], Any]  # the ``Name``, or the plain value, that a name stands for
    persistent: Callable[[Any], Any] | None = None  # the value that a saved identity stands for

    def load(self) -> Any:
        """The next value.

        Raises:
            UnknownNameError: it asks for a name that holds no data.
            Exception: any kind, where the pickle is damaged.
        """
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks beneath the marks
        self._memo: dict[int, Any] = {}
        self._paid = self._looked_through = 0
        self._begin = self.file.tell()
        while (code := self.take(1)) != b".":
            OPERATIONS[code](self)
        return self._stack.pop()

    def take(self, count: int) -> bytes:
        """The next bytes; a count that the file does not hold is damage, before it is asked for."""
        if count > 1 << 16:
            place = self.file.tell()
            left = self.file.seek(0, 2) - place
            self.file.seek(place)
            if count > left:
                raise EOFError
        content = self.file.read(count)
        if len(content) != count:
            raise EOFError
        return content

    def line(self, encoding: str = "utf-8") -> str:
        """The text up to the end of the line."""
        line = self.file.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return line[:-1].decode(encoding)

    def number(self, form: str) -> Any:
        """A number of a fixed length, as ``struct`` describes it."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    # --- operations

    def push(self, value: Any) -> None:
        self._pay(OF_A_VALUE)
        self._stack.append(value)

    def pop(self) -> Any:
        return self._stack.pop()

    def new(self, container: Any) -> None:
        """Push a new container."""
        self._pay(OF_A_SET if type(container) in (set, frozenset) else OF_A_CONTAINER)
        self._stack.append(container)

    def mark(self) -> None:
        self._pay(OF_A_CONTAINER)
        self._below.append(self._stack)
        self._stack = []

    def _pay(self, size: int) -> None:
        """Count so many bytes of memory more, up to what a pickle of this length may take."""
        self._paid += size
        if self._paid <= MEMORY_SPARE:
            return
        if self._paid > MEMORY_SPARE + TIMES * (self.file.tell() - self._begin):
            raise ValueError("too many objects for its length")

    def _count_values(self, values: tuple[Any, ...]) -> None:
        """Count what a call looks through and may copy: any number of calls can be given it."""
        self._look_through(len(values))  # before that is done here
        lengths = [(type(value), len(value)) for value in values if type(value) in SIZED]
        size = sum(length for _, length in lengths)
        self._pay(sum(n if kind in (str, bytes) else n * OF_AN_ITEM for kind, n in lengths))
        self._look_through(size)

    def _look_through(self, size: int) -> None:
        """Count so many values more that are looked at."""
        if size > SHORT:
            self._looked_through += size
            if self._looked_through > 2 * (self.file.tell() - self._begin) + SPARE:
                raise ValueError("more is given to calls than the pickle holds")

    def since_mark(self) -> list[Any]:
        self._paid -= OF_A_CONTAINER
        items, self._stack = self._stack, self._below.pop()
        return items

    def tuple_of(self, count: int) -> None:
        if len(self._stack) < count:
            raise IndexError
        items = self._stack[-count:]
        del self._stack[-count:]
        self.new(tuple(items))

    def append(self, items: list[Any]) -> None:
        into = self._stack[-1]
        if type(into) is Placeholder:
            into = into.members
        if type(into) is set:
            into.update(map(self.key, items))
        elif type(into) is list:
            into.extend(items)
        else:
            raise TypeError(f"items of {type(into).__name__}")

    def fill(self, items: list[Any]) -> None:
        into = self._stack[-1]
        if type(into) is Placeholder:
            into = into.entries
        if type(into) not in (dict, OrderedDict) or len(items) % 2:
            raise TypeError(f"entries of {type(into).__name__}")
        for place in range(0, len(items), 2):
            into[self.key(items[place])] = items[place + 1]

    def key(self, value: Any) -> Any:
        """A value as a key; what is made of it is paid."""
        key = as_key(value)
        self._pay(OF_A_VALUE if key is value else OF_A_CALL)
        return key

    def global_name(self, module: str, name: str) -> None:
        if len(module) + len(name) > LONGEST_NAME:
            raise ValueError("a name that is too long")
        self._pay(OF_A_CALL + len(module) + len(name))
        module, name = NAME_MAPPING.get((module, name), (module, name))  # of Python 2
        self._stack.append(self.find(f"{IMPORT_MAPPING.get(module, module)}.{name}"))

    def call(self, arguments: Any) -> None:
        called = self._stack.pop()
        if type(called) is not Name or called.build is None or type(arguments) is not tuple:
            raise TypeError("a call of what is no function")
        self._count_values(arguments)
        self._pay(OF_A_CALL)
        self._stack.append(called.build(*arguments))

    def is_placeholder(self) -> bool:
        """Whether a call makes the placeholder of an object of a class that is not known."""
        made = getattr(self._stack[-1], "build", None)
        return isinstance(made, partial) and made.func is Placeholder

    def build(self) -> None:
        """Give a state to a record of ours, or versions to a state_dict; others take none."""
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(target, Stateful):
            self._count_values(state if type(state) is tuple else ())
            target.take(state)
        elif type(target) is OrderedDict:
            versions = state.get("_metadata") if isinstance(state, dict) else None
            if isinstance(versions, dict):
                target._metadata = versions  # type: ignore[attr-defined]
        else:
            raise TypeError(f"a state for {type(target).__name__}")

    def remember(self, place: int) -> None:
        if not 0 <= place < LARGEST_KEY:
            raise ValueError("a place of no value")
        self._pay(OF_A_VALUE)
        self._memo[place] = self._stack[-1]

    def recall(self, place: int) -> None:
        self._stack.append(self._memo[place])

    def resolve(self, identity: Any) -> None:
        if self.persistent is None:
            raise TypeError("an identity that nobody gave")
        self._stack.append(self.persistent(identity))


def as_key(value: Any) -> Any:
    """A value as a key of a dictionary or a member of a set.

    Equal hashes of tuples, frozen sets and complex numbers are easily made, and a few tuples in one
    another can take for ever to be hashed or compared. They become records: nobody asks for them.
    """
    if type(value) in (tuple, frozenset, complex):
        return Record("key", value)
    if type(value) is int and abs(value) >= LARGEST_KEY:
        raise ValueError("a key that is too large")
    if type(value) in (list, dict, OrderedDict, set):
        raise TypeError("a key that is a container")
    return value


def _text(content: bytes) -> str | bytes:
    """A string of Python 2, which may have been bytes."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content


def _integer(text: str) -> int | bool:
    return {"00": False, "01": True}[text] if text in ("00", "01") else int(text)


def _long(content: bytes) -> int:
    return int.from_bytes(content, "little", signed=True)


def _quoted(m: Machine) -> None:
    text = m.line()
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "\"'":
        raise ValueError("a string without quotes")
    m.push(text[1:-1].encode().decode("unicode_escape"))


def _stack_global(m: Machine) -> None:
    name, module = m.pop(), m.pop()
    if type(name) is not str or type(module) is not str:
        raise TypeError("a name that is no text")
    m.global_name(module, name)


def _new_with_keywords(m: Machine) -> None:
    keywords, arguments = m.pop(), m.pop()
    if keywords and not (type(arguments) is tuple and m.is_placeholder()):
        raise TypeError("keyword arguments")
    m.call((*arguments, keywords) if keywords else arguments)


def _called_from_mark(m: Machine) -> None:
    first, *arguments = m.since_mark()
    m.push(first)
    m.call(tuple(arguments))


def _instance(m: Machine) -> None:
    module, name = m.line(), m.line()
    arguments = tuple(m.since_mark())
    m.global_name(module, name)
    m.call(arguments)


def _fill_one(m: Machine) -> None:
    value, key = m.pop(), m.pop()
    m.fill([key, value])


def _pop(m: Machine) -> None:
    if m._stack:
        m.pop()
    else:
        m.since_mark()


def _filled(m: Machine) -> None:
    items = m.since_mark()
    m.new({})
    m.fill(items)


def _protocol(m: Machine) -> None:
    if m.take(1)[0] > 5:
        raise ValueError("a protocol of the future")


OPERATIONS: dict[bytes, Callable[[Machine], Any]] = {
    b"\x80": _protocol,
    b"\x95": lambda m: m.number("<Q"),  # the length of a frame, which only speeds reading
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"I": lambda m: m.push(_integer(m.line())),
    b"L": lambda m: m.push(int(m.line().rstrip("L"))),
    b"F": lambda m: m.push(float(m.line())),
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"\x8a": lambda m: m.push(_long(m.take(m.number("<B")))),
    b"\x8b": lambda m: m.push(_long(m.take(m.number("<I")))),
    b"G": lambda m: m.push(m.number(">d")),
    b"S": _quoted,
    b"V": lambda m: m.push(m.line("raw_unicode_escape")),
    b"U": lambda m: m.push(_text(m.take(m.number("<B")))),
    b"T": lambda m: m.push(_text(m.take(m.number("<I")))),
    b"\x8c": lambda m: m.push(m.take(m.number("<B")).decode("utf-8", "surrogatepass")),
    b"X": lambda m: m.push(m.take(m.number("<I")).decode("utf-8", "surrogatepass")),
    b"\x8d": lambda m: m.push(m.take(m.number("<Q")).decode("utf-8", "surrogatepass")),
    b"C": lambda m: m.push(m.take(m.number("<B"))),
    b"B": lambda m: m.push(m.take(m.number("<I"))),
    b"\x8e": lambda m: m.push(m.take(m.number("<Q"))),
    b"\x96": lambda m: m.push(m.take(m.number("<Q"))),
    b"]": lambda m: m.new([]),
    b"}": lambda m: m.new({}),
    b")": lambda m: m.push(()),
    b"\x8f": lambda m: m.new(set()),
    b"(": Machine.mark,
    b"l": lambda m: m.new(m.since_mark()),
    b"d": _filled,
    b"t": lambda m: m.new(tuple(m.since_mark())),
    b"\x91": lambda m: m.new(frozenset(map(m.key, m.since_mark()))),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"a": lambda m: m.append([m.pop()]),
    b"e": lambda m: m.append(m.since_mark()),
    b"\x90": lambda m: m.append(m.since_mark()),
    b"s": _fill_one,
    b"u": lambda m: m.fill(m.since_mark()),
    b"0": _pop,
    b"1": lambda m: m.since_mark(),
    b"2": lambda m: m.push(m._stack[-1]),
    b"p": lambda m: m.remember(int(m.line())),
    b"q": lambda m: m.remember(m.number("<B")),
    b"r": lambda m: m.remember(m.number("<I")),
    b"\x94": lambda m: m.remember(len(m._memo)),
    b"g": lambda m: m.recall(int(m.line())),
    b"h": lambda m: m.recall(m.number("<B")),
    b"j": lambda m: m.recall(m.number("<I")),
    b"c": lambda m: m.global_name(m.line(), m.line()),
    b"\x93": _stack_global,
    b"i": _instance,
    b"o": _called_from_mark,
    b"R": lambda m: m.call(m.pop()),
    b"\x81": lambda m: m.call(m.pop()),
    b"\x92": _new_with_keywords,
    b"b": Machine.build,
    b"P": lambda m: m.resolve(m.line()),
    b"Q": lambda m: m.resolve(m.pop()),
}  # fmt: skip
