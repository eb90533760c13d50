"""One input read under watch, and what came of it."""

from __future__ import annotations

import hashlib
import os
import re
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import analyze
from analyze.errors import InputError
from scripts.fuzzing.kind import LONGEST, WRITTEN, Case, Kind, write_case
from scripts.fuzzing.watch import Watch

SECRET = "f3a91c-this-file-is-nobody-s-f3a91c"  # in a file beside the inputs, which none may show
UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
PACKAGE = str(Path(analyze.__file__).parent)


@dataclass
class Trial:
    """What came of an input: nothing but ``accepted`` or ``refused`` where all is well."""

    kind: str
    index: int
    outcome: str = ""
    finds: list[str] = field(default_factory=list)
    seconds: float = 0.0  # of processor time
    memory: int = 0  # bytes, the most that were held beyond those before
    size: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For another process."""
        return asdict(self)


def draw_of(seed: int, kind: str, index: int) -> Random:
    """The draw of one input, the same whatever else is run."""
    return Random(f"{seed} {kind} {index}")


def tried(kind: Kind, index: int, case: Case, folder: Path, watch: Watch) -> Trial:
    """Read an input in an empty folder, which is the working directory meanwhile."""
    trial = Trial(kind.name, index, size=sum(map(len, case.values())))
    try:
        write_case(case, folder)
    except (OSError, ValueError):  # a name that the file system does not take
        trial.outcome = "not written"
        return trial
    before = _hashes(folder)
    os.chdir(folder)
    started = time.process_time()
    with watch.over(trial.size):
        text = _read(kind, folder, trial)
    trial.seconds, trial.memory = time.process_time() - started, watch.peak
    trial.finds += watch.notes
    if Path.cwd() != folder:
        trial.finds.append("changed: the working directory")
    os.chdir(folder.parent)
    if _hashes(folder) != before:
        trial.finds.append("wrote: files of the input were changed")
    if left := [p.name for p in (folder / WRITTEN).rglob("*.part")]:
        trial.finds.append(f"left behind: {len(left)} parts of files")
    trial.finds += _in_text(text)
    return trial


def _read(kind: Kind, folder: Path, trial: Trial) -> str:
    """What reading shows; an error that is not for the user is a find."""
    try:
        text = kind.read(folder)
        trial.outcome = "refused" if text.startswith("Error: ") else "accepted"
        return text
    except InputError as error:
        trial.outcome = "refused"
        if len(str(error)) > LONGEST:
            trial.finds.append("shown: a message longer than a screen")
        return f"Error: {error}"
    except BaseException as error:
        trial.outcome = "broken"
        trial.finds.append(f"traceback: {_place(error)}")
        return ""


def _in_text(text: str) -> list[str]:
    finds = []
    if SECRET in text:
        finds.append("shown: a file that is not the input's")
    if match := UNPRINTABLE.search(text.replace("\r\n", "\n")):
        finds.append(f"shown: a character that does harm, {match[0]!r}")
    return finds


def _place(error: BaseException) -> str:
    """The class of an error, and the last line of the program's own that it went through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if f.filename.startswith(PACKAGE)] or frames[-1:]
    where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno} {ours[-1].name}" if ours else "?"
    return f"{type(error).__name__} at {where}: {str(error)[:100]!r}"


def _hashes(folder: Path) -> dict[str, str]:
    """The content of all files but the written ones."""
    found = {}
    for place, folders, names in os.walk(folder):
        if Path(place) == folder:
            folders[:] = [name for name in folders if name != WRITTEN]
        for name in names:
            path = Path(place, name)
            try:
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError:
                found[str(path)] = "unreadable"
    return found
