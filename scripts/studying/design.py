"""What is trained and measured: networks, label noise, seeds and hyperparameters; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

IMAGES = 1000  # training images, drawn anew for each seed
PROBES = 320  # of these, drawn without regard to their labels, so that `all` is a fair sample
HELD_OUT = 160  # test images with their true labels
SIDE = 14  # pixels: the mean of 2 x 2 pixels of the data set's 28 x 28
BATCH_SIZE = 50
EPOCHS = 50
STEPS = EPOCHS * IMAGES // BATCH_SIZE
MOMENTUM = 0.9
FOLDS = 10
# Evenly on a logarithmic axis, as far as whole steps go: what is averaged over a whole course is
# averaged over these, so that the first steps do not count for more than all others.
SPACED_STEPS = (
    *range(9), 10, 12, 14, 17, 20, 25, 32, 40, 52, 68, 88, 115, 150, 195, 250, 325, 420, 550, 710,
    STEPS,
)  # fmt: skip
FIRST_STEPS = 25  # each of them is measured
MEASURED_STEPS = (*range(FIRST_STEPS + 1), *(s for s in SPACED_STEPS if s > FIRST_STEPS))
# With saved statistics: every second one, as it takes as long again.
SAVED_STEPS = SPACED_STEPS[::2]


@dataclass(frozen=True)
class Network:
    """A network of the study, and three of its layers: the first, a middle and the last one."""

    name: str
    words: str
    model: str
    learning_rate: float
    layers: tuple[str, str, str]
    he: bool = False  # weights drawn as He et al. (2015) do; else as torch does

    @property
    def has_batch_norm(self) -> bool:
        """Whether its statistics can be saved or recomputed."""
        return self.name in ("residual", "inception")


_RESIDUAL = "builtin:small_resnet?width=8"
_LAYERS = ("conv1", "block2.conv2", "fc")
NETWORKS = {
    network.name: network
    for network in (
        Network("residual", "residual, batch norm", _RESIDUAL, 0.05, _LAYERS),
        Network("inception", "Inception-style, batch norm", "builtin:small_inception?width=8", 0.1,
                ("stem.0", "block2.branch3.1.0", "fc")),
        Network("group_norm", "residual, group norm", f"{_RESIDUAL}&norm=group", 0.05, _LAYERS),
        Network("no_norm", "residual, no norm", f"{_RESIDUAL}&norm=none", 0.1, _LAYERS,
                he=True),
    )
}  # fmt: skip
PLACES = ("network", "first convolution", "middle layer", "last layer")


@dataclass(frozen=True)
class Training:
    """One training: a network, the share of labels that are redrawn in percent, and a seed."""

    network: Network
    noise: int
    seed: int

    @property
    def name(self) -> str:
        """The name of its files."""
        return f"{self.network.name}_noise_{self.noise}_seed_{self.seed}"


def trainings() -> list[Training]:
    """All of them, in the order in which a study that is cut short is worth most."""
    main, others = NETWORKS["residual"], [n for n in NETWORKS.values() if n.name != "residual"]

    def each(
        networks: Sequence[Network], noise: Sequence[int], seeds: Sequence[int]
    ) -> list[Training]:
        return [Training(n, share, seed) for seed in seeds for share in noise for n in networks]

    return [
        *each([main], (0, 50, 100), (0, 1, 2)),
        *each(others, (0, 100), (0,)),
        *each([main], (25, 75), (0, 1, 2)),
        *each(others, (0, 100), (1, 2)),
        *each(others, (50,), (0, 1, 2)),
        *each([main], (0, 25, 50, 75, 100), (3, 4)),
    ]


QUICK = [Training(NETWORKS["residual"], noise, 0) for noise in (0, 50, 100)]
