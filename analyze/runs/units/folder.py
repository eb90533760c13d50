"""The folder of a run's units beside its output: configuration, plan and units."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from analyze.errors import InputError
from analyze.files.whole import drop_parts, drop_parts_in, real_path
from analyze.runs.units.activity import ACTIVITY
from analyze.runs.units.configuration import IMPORTED, differing, digest
from analyze.runs.units.files import cannot_write, is_sealed_unit, read_sealed, write_sealed
from analyze.runs.units.lock import check_held
from analyze.runs.units.places import folder_of, unit_name
from analyze.runs.units.unit import Unit, read_unit, write_unit

UNIT = re.compile(r"[0-9a-f]{32}\.unit")
CHANGED = "code that the model or the loss imports has changed: all is measured again"
BEGUN = ("configuration", "plan")  # what a run writes before its first unit
OTHERS = (*BEGUN, ACTIVITY)


class Folder:
    """The folder ``OUT.h5.units``, from which a run that is started again goes on.

    Raises:
        InputError: the folder cannot be made.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.path = folder_of(output)
        self.lock = self.path / "lock"
        self._configuration = ""
        self.notes: list[str] = []  # warnings about what an earlier run left
        if self.path.is_symlink():
            raise InputError(
                "the folder of the run's units is a link",
                found=f"{self.path}, to {real_path(self.path)}",
                expected="a directory of the run's own: units are written and removed in it",
                fix="remove the link, or --output RESULTS.h5 in the directory where units may lie",
            )
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def open(self, configuration: dict[str, object], *, restart: bool) -> None:
        """Go on from what the same configuration left, or empty it; the lock must be held.

        What a run left that stopped before it had measured anything stands in nobody's way: a
        mistake in its command is mended by the next one.

        Raises:
            InputError: another configuration left it, with units or results.
        """
        drop_parts_in(self.path)
        drop_parts(self.output)
        if restart:
            self._throw_away()
        elif not (len(self) or self.output.exists()):
            self._remove([path for name in BEGUN if _is_own(path := self.path / name)])
        self._configuration = digest(configuration)
        before = self._read("configuration")
        if before is not None and (fields := differing(before, configuration)):
            raise InputError(
                "the output holds the units of another configuration",
                found=f"{self.path} differs in {'; '.join(fields)}",
                expected="the command that began it: one results file has one configuration",
                fix="--output ANOTHER.h5, or --restart to throw its units away",
            )
        if before is not None and before.get(IMPORTED) != configuration.get(IMPORTED):
            self.notes.append(CHANGED)
        self._write("configuration", configuration)

    def _throw_away(self) -> None:
        """Remove the files of an earlier run, and no others."""
        self._remove([path for path in self.path.iterdir() if _is_own(path)])

    def _remove(self, ours: list[Path]) -> None:
        removed = 0
        try:
            for path in ours:
                path.unlink()
                removed += 1
        except OSError as error:
            raise InputError(
                "what an earlier run has measured cannot be thrown away",
                found=f"{self.path}: {error.strerror or error}, "
                f"after {removed} of {len(ours)} files were removed",
                expected="a directory with write permission, as --restart needs it",
                fix="make it writable and run the same command again, or --output ANOTHER.h5",
            ) from error

    def plan(self) -> dict[str, Any] | None:
        """The plan that the run began with; None where it is missing or damaged."""
        return self._read("plan")

    def keep_plan(self, state: dict[str, Any]) -> None:
        """Write the plan that the run began with."""
        self._write("plan", state)

    def extend_plan(self, algorithms: dict[str, str]) -> None:
        """Add the algorithms for kinds of calls that came up later."""
        plan = self.plan()
        if plan is None:
            return
        known = plan["algorithms"] | algorithms  # two workers may have met different ones
        if known != plan["algorithms"]:
            self.keep_plan(plan | {"algorithms": known})

    def has(self, checkpoint: str) -> bool:
        """Whether there is the file of a checkpoint's unit, whatever is in it."""
        return self._unit(checkpoint).exists()

    def read(self, checkpoint: str, sha256: str) -> Unit | None:
        """The unit of a checkpoint; None without a whole unit of a checkpoint with this hash."""
        return read_unit(self._unit(checkpoint), self._configuration, sha256)

    def kept(self, checkpoint: str) -> Unit | None:
        """The unit of a checkpoint, whatever was in the checkpoint's files then."""
        return read_unit(self._unit(checkpoint), self._configuration)

    def units(self) -> list[Unit]:
        """All whole units of this configuration, also of checkpoints that are gone or changed."""
        units = (read_unit(path, self._configuration) for path in sorted(self.path.glob("*.unit")))
        return [unit for unit in units if unit is not None]

    def write(self, checkpoint: str, unit: Unit) -> None:
        """Write the unit of a checkpoint.

        Raises:
            InputError: it cannot be written, or another run has taken the folder's place.
        """
        self.check_held()
        write_unit(self._unit(checkpoint), unit, self._configuration)

    def check_held(self) -> None:
        """Check before writing that no other run has the lock, as ``lock.check_held`` does."""
        check_held(self.lock)

    def drop_units(self) -> None:
        """Remove all units.

        Raises:
            InputError: they cannot be removed.
        """
        self._remove([path for path in self.path.glob("*.unit") if _is_own(path)])

    def __len__(self) -> int:
        return sum(_is_own(path) for path in self.path.glob("*.unit"))

    def _unit(self, checkpoint: str) -> Path:
        return self.path / unit_name(checkpoint)

    def _read(self, name: str) -> dict[str, Any] | None:
        content = read_sealed(self.path / name)
        return None if content is None else dict(json.loads(content))

    def _write(self, name: str, facts: dict[str, Any]) -> None:
        write_sealed(self.path / name, json.dumps(facts).encode())


def _is_own(path: Path) -> bool:
    """Whether a run made this file, by its name and first bytes."""
    if path.is_symlink() or not path.is_file():
        return False
    if path.name in OTHERS:
        return read_sealed(path) is not None
    return UNIT.fullmatch(path.name) is not None and is_sealed_unit(path)
