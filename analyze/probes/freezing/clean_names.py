"""Names of masks and lists that are of the clean examples, where 1 means corrupted elsewhere."""

from __future__ import annotations

import re

CLEAN_NAME = re.compile(
    r"(?<![a-z])(?:is)?(?:clean|correct|pristine|good|ok|okay|valid|verified|trusted|reliable|genuine"
    r"|original|intact|same|match|matches|matched|matching|agree|agrees|agreed|agreeing|consistent"
    r"|right|keep|kept)(?![a-z])"
)  # fmt: skip
_CORRUPTED = "noisy|noise|corrupt|wrong|issue|bad|error|flip|chang|modif|mislabel|incorrect"
CORRUPTED_NAME = re.compile(_CORRUPTED)
# not_noisy, unchanged, error-free: a negation makes a name that of the clean ones.
NEGATED = re.compile(
    rf"(?<![a-z])(?:not?|non|un|without)_?(?:label_?)?(?:{_CORRUPTED})[a-z]*"
    r"|(?:noise|error|issue)s?_?(?:free|less)(?![a-z])"
)


def names_the_clean(name: str) -> bool:
    """Whether a name says that it is of the clean ones: ``isClean``, ``not_noisy``, ``valid``."""
    spaced = re.sub("(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", name).lower()
    plain = NEGATED.sub("clean", spaced)
    return bool(CLEAN_NAME.search(plain)) and not CORRUPTED_NAME.search(plain)
