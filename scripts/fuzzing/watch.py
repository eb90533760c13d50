"""What reading a file may not do: run, import, write, open elsewhere, change classes, fill memory.

An audit hook of Python notes events while it is armed; it cannot be taken off, so a process that
watches is a child of its own.
"""

from __future__ import annotations

import gc
import os
import re
import resource
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import is_
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[2]
RUNS = re.compile(
    r"exec|compile|import|code\.__new__|pickle\.find_class|os\.(exec|fork|posix_spawn"
    r"|spawn|system|startfile).*|pty\.spawn|subprocess\.Popen|socket\..*|urllib\.Request|ctypes\..*"
    r"|ftplib\..*|http\.client\..*|cpython\.run_.*|sys\.set.*|webbrowser\.open"
)
CHANGES = re.compile(
    r"os\.(remove|rename|mkdir|rmdir|chmod|chown|truncate|link|symlink|utime|setxattr)|shutil\..*"
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
LIBRARIES = tuple({sys.prefix, sys.base_prefix, str(ROOT), os.path.realpath(sys.prefix)})
SYSTEM = ("/proc/", "/sys/", "/dev/", "/usr/", "/etc/fonts/", "/etc/mime.types", "/etc/localtime")
SYNTAX = ("<unknown>", b"<unknown>")  # the file of what is only parsed
# Libraries that make code of templates and tables of fonts, or import others, at first use.
LAZY = ("jinja2.", "fontTools.", "xarray.")
WATCHED = (
    "analyze", "collections", "pathlib", "datetime", "argparse", "types", "torch.serialization",
    "torch.distributed.checkpoint.metadata", "torch.distributed.checkpoint.filesystem",
    "torch._utils", "torch._tensor", "torch.nn.parameter", "torch.storage", "numpy", "zipfile",
)  # fmt: skip
ABSENT = object()
COUNTERS = ("next_id", "__warningregistry__")  # of torch's hooks, of warnings that were given
MEMORY_TIMES, MEMORY_SPARE = 4, 500 << 20  # of the input, and bytes more


@dataclass
class Watch:
    """Notes of one input after the other."""

    folder: Path  # of the inputs: nothing else is opened
    armed: bool = False
    notes: list[str] = field(default_factory=list)

    def install(self) -> None:
        """Watch this process from now on."""
        self.program = Program()
        sys.addaudithook(self._heard)

    @contextmanager
    def over(self, size: int) -> Iterator[None]:
        """Watch what happens within; ``notes`` has it afterwards. ``size``: bytes of the input."""
        held = _reset_peak()
        self.notes, self.armed = [], True
        try:
            yield
        finally:
            self.armed = False
            peak = _peak() - held
            if peak > MEMORY_TIMES * size + MEMORY_SPARE:
                self.notes.append(f"memory: {peak >> 20} MiB for {size} bytes")
            self.peak = max(0, peak)
            self.notes += [f"changed: {name}" for name in self.program.changes()]

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        if event == "open":
            self._opened(*arguments)
        elif event == "compile" and arguments[1] in SYNTAX:
            pass  # numpy reads the header of an array as a literal, and runs nothing
        elif event in ("compile", "exec", "import") and _caller().startswith(LAZY):
            pass  # what the library makes of its own files
        elif RUNS.fullmatch(event):
            self.notes.append(f"ran: {event} {_brief(arguments)}")
        elif CHANGES.fullmatch(event):
            paths = [a for a in arguments[:2] if isinstance(a, str | bytes | os.PathLike)]
            if outside := [p for p in map(_absolute, paths) if not self._is_inside(p)]:
                self.notes.append(f"wrote: {event} {outside[0]}")

    def _opened(self, path: Any, mode: Any, flags: Any) -> None:
        if isinstance(path, int):
            return
        place = _absolute(path)
        if self._is_inside(place):
            return
        writes = any(c in str(mode or "") for c in "wax+") or (flags or 0) & WRITING
        if writes and place != os.devnull:
            self.notes.append(f"wrote: {place}")
        elif not place.startswith((*LIBRARIES, *SYSTEM)):
            self.notes.append(f"read: {place}")

    def _is_inside(self, place: str) -> bool:
        return place.startswith(
            (f"{self.folder}/", tempfile.gettempdir() + "/click")
        ) or place == str(self.folder)


def _caller() -> str:
    """The name of the module whose code is watched, without the machinery of imports."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("importlib."):
        frame = frame.f_back
    return "" if frame is None else str(frame.f_globals.get("__name__", ""))


def _absolute(path: Any) -> str:
    return os.path.normpath(os.path.join(os.getcwd(), os.fsdecode(path)))  # noqa: PTH109, PTH118


def _brief(arguments: tuple[Any, ...]) -> str:
    """The arguments of an event without addresses in memory."""
    words = [re.sub(r" at 0x\w+", "", repr(a)) for a in arguments[:2]]
    return " ".join(words)[:120]


class Program:
    """What files must not change: attributes of classes and modules, settings of the process."""

    def __init__(self) -> None:
        self._parts: dict[str, Mapping[str, Any]] = {}
        for name, module in list(sys.modules.items()):
            if module is not None and (name in WATCHED or name.startswith("analyze.")):
                self._parts[name] = vars(module)
                kinds = [value for value in vars(module).values() if isinstance(value, type)]
                self._parts |= {f"{k.__module__}.{k.__qualname__}": vars(k) for k in kinds}
        self._before = self._attributes(), _settings()

    def changes(self) -> list[str]:
        """The names of what changed since the last call."""
        (attributes, settings), self._before = self._before, (self._attributes(), _settings())
        now, set_now = self._before
        changed = [
            f"{part}.{name}"
            for part, values in now.items()
            if not _identical(values, attributes[part])
            for name in {**values, **attributes[part]}
            if name not in COUNTERS
            and values.get(name, ABSENT) is not attributes[part].get(name, ABSENT)
        ]
        return changed + [f"settings.{n}" for n in settings if settings[n] != set_now[n]]

    def _attributes(self) -> dict[str, dict[str, Any]]:
        """The values themselves: ``id`` would tell the audit hook of each, which takes longer."""
        return {name: dict(values) for name, values in self._parts.items()}


def _identical(values: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether no value was replaced, added or removed."""
    same_values = all(map(is_, values.values(), before.values()))
    return same_values and list(values) == list(before)


def _settings() -> dict[str, Any]:
    return {
        "environment": dict(os.environ), "path": list(sys.path),
        "type": torch.get_default_dtype(), "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(), "numpy": np.geterr(),
        "warnings": len(warnings.filters), "recursion": sys.getrecursionlimit(),
        "collected": gc.isenabled(),
    }  # fmt: skip


def _status(key: str) -> int:
    """A number of this process in bytes, as Linux has it; 0 elsewhere."""
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    match = re.search(rf"{key}:\s+(\d+) kB", text)
    return int(match[1]) << 10 if match else 0


def _reset_peak() -> int:
    """The memory that is held now, from which the peak is counted."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:  # not Linux: the peak of the whole process is known only
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def limit_memory(spare: int) -> None:
    """Let this process ask for so many bytes more, and not for all of the machine."""
    most = _status("VmSize") + spare
    if most > spare:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
