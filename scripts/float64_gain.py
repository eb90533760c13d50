"""What norms of per-example gradients cost beside a plain step on a GPU: computed, not measured.

``python -m scripts.float64_gain`` prints the table of docs/adr/0030-little-in-float64.md, of
ViT-B/16 in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

EXAMPLES, POSITIONS, WIDTH, BLOCKS = 32, 197, 768, 12
LINEAR = [(WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)]  # of a block
WRITTEN = 18 * WIDTH  # entries of a position that the forward pass of a block writes
BUSY, STREAMED = 1 / 2, 2 / 3  # shares of a data sheet's arithmetic and bytes that are counted on


@dataclass(frozen=True)
class Card:
    """Multiply-adds and bytes a second, by the data sheet."""

    name: str
    float32: float
    float64: float
    memory: float

    def seconds(self, float32: float = 0.0, float64: float = 0.0, moved: float = 0.0) -> float:
        """The time of multiply-adds and of bytes that are read or written, one after the other."""
        arithmetic = (float32 / self.float32 + float64 / self.float64) / BUSY
        return arithmetic + moved / (self.memory * STREAMED)


CARDS = [
    Card("RTX 4090", 41.3e12, 0.645e12, 1.008e12),
    Card("RTX 3090", 17.8e12, 0.278e12, 0.936e12),
    Card("A100", 9.75e12, 9.75e12, 1.555e12),  # float64 by its tensor cores
]


def plain(card: Card) -> float:
    """A forward and a backward pass, which is two."""
    weights = sum(inputs * outputs for inputs, outputs in LINEAR)
    forward = POSITIONS * weights + 2 * POSITIONS**2 * WIDTH
    written = 4 * POSITIONS * WRITTEN
    return 3 * EXAMPLES * BLOCKS * card.seconds(float32=forward, moved=2 * written)


def norms(card: Card, gram_in_float64: bool, bytes_of_a_norm: float) -> float:
    """What the linear layers' norms add, each by the way that takes less."""
    total = 0.0
    for inputs, outputs in LINEAR:
        # Gradients are written, and read for their sum, which plain autograd has without.
        made = card.seconds(moved=inputs * outputs * (8 + bytes_of_a_norm))
        multiplied, size = POSITIONS**2 * (inputs + outputs), 8 if gram_in_float64 else 4
        factors, grams = POSITIONS * (inputs + outputs), POSITIONS**2
        moved = factors * (12 if gram_in_float64 else 0) + size * (factors + 6 * grams)
        which = "float64" if gram_in_float64 else "float32"
        total += min(made, card.seconds(**{which: multiplied}, moved=moved))
    return EXAMPLES * BLOCKS * total


def main() -> None:
    """Print the table."""
    print("| card | all in float64 | squares in blocks | and Gram matrices in float32 |")
    print("| --- | --: | --: | --: |")
    for card in CARDS:
        step = plain(card)
        ways = [(True, 20.0), (True, 4.0), (False, 4.0)]
        shares = [1 + norms(card, *way) / step for way in ways]
        print(f"| {card.name} | " + " | ".join(f"{share:.2f}" for share in shares) + " |")


if __name__ == "__main__":
    main()
