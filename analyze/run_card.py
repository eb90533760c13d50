"""The run card, ``run.toml``: what a run is, so that ``analyze run RUN`` alone works."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from analyze.errors import InputError

NAME = "run.toml"


@dataclass(frozen=True)
class RunCard:
    """What a card says; a card is data, and a key that it leaves out is None.

    Args:
        name: Of the run, for titles.
        model: A model spec without code.
        probes: The probe file, relative to the card.
        loss: A loss spec.
    """

    name: str | None = None
    model: str | None = None
    probes: str | None = None
    loss: str | None = None


def read_run_card(run: Path) -> RunCard:
    """The card in a run's directory; an empty one when there is none.

    Raises:
        InputError: not TOML, or with a key or value that a card does not have.
    """
    path = run / NAME
    if not path.is_file():
        return RunCard()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise _broken(path, str(error)) from error
    table = content.get("run")
    known = [field.name for field in fields(RunCard)]
    if not isinstance(table, dict) or set(content) != {"run"}:
        raise _broken(path, f"the tables {sorted(content)}")
    for key, value in table.items():
        if key not in known or not isinstance(value, str):
            raise _broken(path, f"{key} = {value!r}")
    return RunCard(**table)


def _broken(path: Path, found: str) -> InputError:
    known = ", ".join(field.name for field in fields(RunCard))
    return InputError(
        "the run card is not understood",
        found=f"{path}: {found}",
        expected=f"one table [run] with any of {known}, all of them strings",
        fix='[run]\n            model = "torchvision:resnet18?num_classes=10"\n'
        '            probes = "../probes.safetensors"',
    )
