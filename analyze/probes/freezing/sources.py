"""Where a statement on the labels comes from, ``KIND:FILE?option=value``, and its refusal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from analyze.errors import InputError
from analyze.specs.spec import Scalar, Spec

BY = ("id", "position", "order")


@dataclass(frozen=True)
class Source:
    """A file of label noise, or with ``@NAME`` a column of the data set.

    Args:
        kind: What it says of the labels.
        place: The file or ``@NAME``.
        options: ``column``, ``id``, ``by`` and ``corrupted``, as far as they are given.
    """

    kind: str
    place: str
    options: dict[str, Scalar]

    @classmethod
    def parse(cls, text: str) -> Source:
        """Read ``KIND:PLACE?option=value``."""
        spec = Spec.parse(text)
        kind, _, place = spec.name.partition(":")
        return cls(kind, place, spec.arguments)

    @property
    def column(self) -> str | None:
        """The column of the table that is meant."""
        return str(self.options["column"]) if "column" in self.options else None

    @property
    def by(self) -> str | None:
        """What the rows of the table are taken by; an unknown way is refused."""
        by = self.options.get("by")
        if by not in (None, *BY):
            raise self.wrong(f"?by={by}", f"one of {', '.join(BY)}", "by=id")
        return None if by is None else str(by)

    @property
    def title(self) -> str:
        """The name of the file or column, without its ending."""
        return self.place[1:] if self.place.startswith("@") else Path(self.place).stem

    def wrong(self, found: str, expected: str, *options: str, otherwise: str = "") -> InputError:
        """The refusal of a file that does not fit the data, with what to type.

        Args:
            found: What is in the file.
            expected: What the data ask for.
            options: Options each of which decides what is meant.
            otherwise: The kind that the file may be of instead.
        """
        if not any(options):
            options = ("column=NAME",) if "?column" in expected else ()
        choices = " or ".join(f"'{self._with(option)}'" for option in options)
        value = f"{self.kind}:FILE with a file for these data"
        if choices:
            value = f"'{self.kind}:{self.place}{choices[1:]}"
        other = f", or, if it is that, --noise {otherwise}:{self.place}" if otherwise else ""
        return InputError(
            "the file of label noise does not fit the data",
            found=f"{found} in {self.place}",
            expected=expected,
            fix=f"--noise {value}{other}",
        )

    def _with(self, option: str) -> str:
        """An option beside what the user has said: ``?column=label&id=image``."""
        said = [f"{k}={v}" for k, v in self.options.items() if k != option.partition("=")[0]]
        return "?" + "&".join([*said, option])
