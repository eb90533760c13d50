"""Work: how much an algorithm does of each thing that takes time, whatever the machine.

A product of matrices ``[A, B] @ [B, C]`` takes time for its ``A*B*C`` multiply-adds, for the
entries it reads, ``B*(A + C)``, for those it writes, ``A*C``, and once for each product: small ones
are far from the speed of large ones. Who multiplies makes a difference, so each has its own kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

# What takes time, to how much of it is done.
Work = Counter[str]

BATCHED = "batched"  # torch.bmm of many
EXCHANGED = "exchanged"  # likewise, the gradients transposed
SINGLE = "single"  # torch.bmm, one call each
MATRIX = "matrix"  # one large product by torch
ONEDNN = "oneDNN"  # one by oneDNN
GRAMS = "Gram"  # of positions with each other; on a GPU in float64 unless that is dear
CONVOLUTION = "convolution"  # torch's weight gradient of a batch
GROUPED = "grouped"  # torch's weight gradient of single examples
NARROW = "narrow"  # likewise, of groups that do not fill a vector of oneDNN's
DEPTHWISE = "depthwise"  # likewise, of groups of one channel, where oneDNN has a kernel for them
CORRELATED = "correlated"  # convolutions with the output's gradient as their kernel
DILATED = "correlated, dilated"  # likewise, where the convolution had a stride

PRODUCTS = (
    BATCHED, EXCHANGED, SINGLE, MATRIX, ONEDNN, GRAMS, CONVOLUTION, GROUPED, NARROW, DEPTHWISE,
    CORRELATED, DILATED,
)  # fmt: skip
TIMES = "products"
OF_A_PRODUCT = ("multiply-adds", "read", "written", TIMES)

CALLS = "calls"  # of functions of torch
COPIED = "entries copied"
ROWS = "rows copied"  # of entries that lie together
REDUCED = "entries reduced"  # squared, or added up
IMAGES = "images"  # examples of one call of torch's weight gradient

EVERYTHING = (
    *(f"{kind} {what}" for kind in PRODUCTS for what in OF_A_PRODUCT),
    CALLS, COPIED, ROWS, REDUCED, IMAGES,
)  # fmt: skip


def product(
    kind: str, times: float, rows: float, shared: float, columns: float, read: float | None = None
) -> Work:
    """``times`` products of ``[rows, shared]`` and ``[shared, columns]``.

    ``read`` entries where that is less than both.
    """
    both = shared * (rows + columns)
    amounts = rows * shared * columns, both if read is None else read, rows * columns, 1
    parts = zip(OF_A_PRODUCT, amounts, strict=True)
    return Work({f"{kind} {what}": times * amount for what, amount in parts})


def some(**amounts: float) -> Work:
    """Work besides products: ``calls``, ``copied``, ``rows``, ``reduced``, ``images``."""
    names = {"calls": CALLS, "copied": COPIED, "rows": ROWS, "reduced": REDUCED, "images": IMAGES}
    return Work({names[name]: amount for name, amount in amounts.items()})


def added(works: Iterable[Work]) -> Work:
    """All of several works."""
    total = Work()
    for work in works:
        total.update(work)
    return total
