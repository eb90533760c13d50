"""The folder of a run's units beside its output: configuration, plan and units."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from analyze.errors import InputError
from analyze.units.configuration import differing, digest
from analyze.units.files import cannot_write, read_sealed, write_sealed
from analyze.units.unit import Unit, read_unit, write_unit
from analyze.whole_file import drop_parts

SUFFIX = ".units"


class Folder:
    """``OUT.h5.units``: what a run that is started again finds of its earlier self.

    Args:
        output: The results file.

    Raises:
        InputError: the folder cannot be made.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.path = output.with_name(output.name + SUFFIX)
        self.lock = self.path / "lock"
        self._configuration = ""
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def open(self, configuration: dict[str, object], *, restart: bool) -> None:
        """Take the folder as the same configuration left it; the lock must be held.

        Args:
            configuration: What the units depend on besides the checkpoint.
            restart: Throw away what is there.

        Raises:
            InputError: another configuration left it.
        """
        try:
            for left in self.path.iterdir():
                if left.suffix == ".part" or (restart and left != self.lock):
                    left.unlink()  # a part was left by a run that was killed
            drop_parts(self.output)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self._configuration = digest(configuration)
        before = self._read("configuration")
        if before is not None and (fields := differing(before, configuration)):
            raise InputError(
                "the output holds the units of another configuration",
                found=f"{self.path} differs in {'; '.join(fields)}",
                expected="the command that began it: one results file has one configuration",
                fix="--output ANOTHER.h5, or --restart to throw its units away",
            )
        self._write("configuration", configuration)

    def plan(self) -> dict[str, Any] | None:
        """The plan that the run began with; None where it is missing or damaged."""
        return self._read("plan")

    def keep_plan(self, state: dict[str, Any]) -> None:
        """Write the plan that the run began with."""
        self._write("plan", state)

    def extend_plan(self, algorithms: dict[str, str]) -> None:
        """Add the algorithms of kinds of calls that were met later."""
        plan = self.plan()
        if plan is None:
            return
        known = plan["algorithms"] | algorithms  # two workers may have met different ones
        if known != plan["algorithms"]:
            self.keep_plan(plan | {"algorithms": known})

    def read(self, checkpoint: str, sha256: str) -> Unit | None:
        """The unit of a checkpoint, where it is there and whole and the checkpoint the same."""
        return read_unit(self._unit(checkpoint), self._configuration, sha256)

    def units(self) -> list[Unit]:
        """All units of this configuration that are whole, whatever their checkpoints are now."""
        found = (read_unit(path, self._configuration) for path in sorted(self.path.glob("*.unit")))
        return [unit for unit in found if unit is not None]

    def write(self, checkpoint: str, unit: Unit) -> None:
        """Keep the unit of a checkpoint."""
        write_unit(self._unit(checkpoint), unit, self._configuration)

    def drop_units(self) -> None:
        """Throw all units away, as after a plan that is no longer proven."""
        for path in self.path.glob("*.unit"):
            path.unlink()

    def __len__(self) -> int:
        return len(list(self.path.glob("*.unit")))

    def _unit(self, checkpoint: str) -> Path:
        return self.path / f"{hashlib.sha256(checkpoint.encode()).hexdigest()[:32]}.unit"

    def _read(self, name: str) -> dict[str, Any] | None:
        content = read_sealed(self.path / name)
        return None if content is None else dict(json.loads(content))

    def _write(self, name: str, facts: dict[str, Any]) -> None:
        write_sealed(self.path / name, json.dumps(facts).encode())
