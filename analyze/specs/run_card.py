"""The run card, ``run.toml``: all that ``analyze run RUN`` needs to know of a run."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path

from analyze.errors import InputError
from analyze.files.permission import not_permitted
from analyze.files.present import is_file

NAME = "run.toml"
LARGEST = 1 << 15  # bytes; the readers of TOML take time that grows with the square
LARGEST_NUMBER = 1e300  # of settings; Python does not print every digit of any number
TRAINING = "training"


@dataclass(frozen=True)
class RunCard:
    """The content of a run card, which is data; a key that it leaves out is None."""

    name: str | None = None  # the run's name, for titles
    model: str | None = None  # a model spec without code
    probes: str | None = None  # the probe file, relative to the card
    loss: str | None = None  # a loss spec
    # Settings of the training in the user's own words and numbers, for comparisons.
    training: dict[str, str | int | float | bool] = field(default_factory=dict)


KEYS = [field.name for field in fields(RunCard) if field.name != TRAINING]


def read_run_card(run: Path) -> RunCard:
    """The card in a run's directory; an empty one when there is none.

    Raises:
        InputError: not TOML, or with a key or value that a card does not have.
    """
    path = run / NAME
    if not is_file(path):
        return RunCard()
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"more than {LARGEST >> 10} KiB")
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except PermissionError as error:
        raise not_permitted(path) from error
    except (ValueError, RecursionError, OSError) as error:  # ValueError: no TOML, no UTF-8
        raise _broken(path, str(error)) from error
    table, training = content.get("run"), content.get(TRAINING, {})
    if not isinstance(table, dict) or set(content) - {"run", TRAINING}:
        raise _broken(path, f"the tables {sorted(content)}")
    for key, value in table.items():
        if key not in KEYS or not isinstance(value, str) or "\0" in value:
            raise _broken(path, f"{key} = {value!r}")
    if not isinstance(training, dict):
        raise _broken(path, f"{TRAINING} = {training!r}")
    for key, value in training.items():
        number = isinstance(value, int | float) and abs(value) < LARGEST_NUMBER
        if not isinstance(value, str) and not number:  # not NaN, which no page can hold
            shown = hex(value) if type(value) is int else repr(value)  # Python prints no long one
            raise _broken(path, f"{key} = {shown} in [{TRAINING}]")
    return RunCard(**table, training=training)


def _broken(path: Path, found: str) -> InputError:
    return InputError(
        "the run card is not understood",
        found=f"{path}: {found}",
        expected=f"a table [run] with any of {', '.join(KEYS)}, all of them strings, and if you "
        f"like a table [{TRAINING}] with settings of your own: strings, finite numbers, "
        "true or false",
        fix='[run]\n            model = "torchvision:resnet18?num_classes=10"\n'
        '            probes = "../probes.safetensors"',
    )
