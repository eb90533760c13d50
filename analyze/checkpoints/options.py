"""The user's choices of how checkpoints are found and read; no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

from analyze.errors import InputError
from analyze.specs.run_card import RunCard, named_card

WEIGHTS = ("model", "ema")
GROUPS = ("step", "epoch", "tokens")


@dataclass(frozen=True)
class ReadingOptions:
    """The user's choices; the defaults decide nothing that could be decided wrongly.

    Args:
        weights: ``model`` for the trained weights, ``ema`` for their moving average; None takes
            the trained ones where there are any.
        weights_key: Dotted path of the weights in the files, if scan does not know it:
            ``student``, ``state.net``.
        manifest: A CSV file ``checkpoint,step,epoch,tokens`` that overrules every other rule.
        step_regex: A regular expression that finds steps in names, by groups named ``step``,
            ``epoch`` or ``tokens``: ``iter(?P<step>[0-9]+)``.
        trust_pickle: Open pickles that can run code: only for files whose maker you trust.
        rename: ``OLD=NEW`` for names of tensors, with ``*`` for any part: ``head.*=fc.*``.
        ignore: Globs of buffers that may be missing, and of tensors that the model has no place
            for.

    Raises:
        InputError: a value that means nothing.
    """

    weights: str | None = None
    manifest: str | Path | None = None
    step_regex: str | None = None
    trust_pickle: bool = False
    rename: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    weights_key: str | None = None

    def __post_init__(self) -> None:
        if self.weights not in (None, *WEIGHTS):
            raise InputError(
                "there are no such weights",
                found=f"weights {self.weights!r}",
                expected=f"one of {', '.join(WEIGHTS)}",
                fix="--weights model",
            )
        if self.step_regex is not None:
            _check_regex(self.step_regex)
        for rule in self.rename:
            old, equals, new = rule.partition("=")
            if not old or not equals or not new or old.count("*") < new.count("*"):
                raise InputError(
                    "a renaming is not understood",
                    found=f"--rename {rule!r}",
                    expected="OLD=NEW, each * of NEW standing for one of OLD",
                    fix="--rename 'head.*=fc.*', or --rename head=fc",
                )

    def with_card(self, card: RunCard, path: str) -> ReadingOptions:
        """These choices, with those of a run card at ``path`` where the user made none.

        Raises:
            InputError: a value in the card that means nothing.
        """
        of_card = {name: getattr(card, name) for name in OF_A_CARD}
        unset = {n: v for n, v in of_card.items() if v and not getattr(self, n)}
        if not unset:
            return self
        with named_card(path):
            return replace(self, **unset)


OF_A_CARD = ("weights", "weights_key", "step_regex", "rename", "ignore")
DEFAULTS = ReadingOptions()


class FindingKeywords(TypedDict, total=False):
    """The fields of ``ReadingOptions`` that say how checkpoints are found, as keywords."""

    weights: str | None
    weights_key: str | None
    manifest: str | Path | None
    step_regex: str | None
    trust_pickle: bool


def _check_regex(text: str) -> None:
    try:
        groups = set(re.compile(text).groupindex)
        fact = f"named groups {sorted(groups)} in {text!r}"
    except re.error as error:
        groups, fact = set(), f"{text!r}: {error}"
    if not groups or not groups <= set(GROUPS):
        raise InputError(
            "the pattern for steps is not understood",
            found=fact,
            expected=f"a regular expression with named groups among {', '.join(GROUPS)}",
            fix=r"--step-regex 'iter(?P<step>\d+)'",
        )
