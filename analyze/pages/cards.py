"""One example on a page: its picture, labels, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from analyze.pages.pictures import Picture


@dataclass(frozen=True)
class Card:
    """An example as ``cards.html`` shows it."""

    id: int
    picture: Picture | None
    colour: str
    given: str  # empty where it is not known
    true: str  # empty where it is the given class or not known
    standings: list[tuple[str, Markup]]  # score and rank in words, and its course over training
