"""The source of a statement on the labels, ``KIND:FILE?option=value``, and its refusal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from analyze.errors import InputError
from analyze.specs.spec import Spec

BY = ("id", "position", "order")


@dataclass(frozen=True)
class Source:
    """A file of label noise, or a column of the data set."""

    kind: str  # a key of noise.KINDS
    place: str  # a file, or @COLUMN
    options: dict[str, str]  # any of column, id, by, corrupted

    @classmethod
    def parse(cls, text: str) -> Source:
        """The source that ``KIND:PLACE?option=value`` names."""
        spec = Spec.parse(text)
        kind, _, place = spec.name.partition(":")
        return cls(kind, place, spec.words)

    @property
    def column(self) -> str | None:
        """The option ``column``."""
        return self.options.get("column")

    @property
    def by(self) -> str | None:
        """The option ``by``; a value that is not in ``BY`` is refused."""
        by = self.options.get("by")
        if by not in (None, *BY):
            raise self.wrong(f"?by={by}", f"one of {', '.join(BY)}", "by=id")
        return by

    @property
    def title(self) -> str:
        """The name of the file without its ending, or of the column."""
        return self.place[1:] if self.place.startswith("@") else Path(self.place).stem

    def wrong(
        self, problem: str, expected: str, *options: str, otherwise: str = "", mend: str = ""
    ) -> InputError:
        """The refusal of a file that does not fit the data.

        Args:
            problem: What is in the file.
            expected: What the data ask for.
            options: Options to type, each of which decides how the file is read.
            otherwise: The kind that the file may be of instead.
            mend: What makes a file that fits of this one, if that is known.
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
            found=f"{problem} in {self.place}",
            expected=expected,
            fix=mend or f"--noise {value}{other}",
        )

    def _with(self, option: str) -> str:
        """An option beside those that the user typed: ``?column=label&id=image``."""
        typed = [f"{k}={v}" for k, v in self.options.items() if k != option.partition("=")[0]]
        return "?" + "&".join([*typed, option])
