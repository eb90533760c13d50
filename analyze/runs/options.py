"""What a user chooses for a run, said once for the command line and for Python; no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from analyze.checkpoints.options import FindingKeywords, ReadingOptions
from analyze.errors import bad_choice, check_choice
from analyze.gradients.measurement import Settings
from analyze.runs.cluster.address import check_address
from analyze.specs.run_card import RunCard, named_card

if TYPE_CHECKING:
    from torch.nn import Module

    from analyze.probes import ProbeSet


OF_SETTINGS = ("layers", "parameters", "cells", "directions")  # that a run card may have


@dataclass(frozen=True)
class Options:
    """What is measured, and how; None where the run card or the default decides.

    Args:
        model: A model spec, such as ``torchvision:resnet18?num_classes=10``; without it the run
            card's. Python takes a module, too: copies of it get the checkpoints' weights.
        probes: The probe file; without it the run card's. Python takes a probe set, too, and what
            ``measure`` takes for one.
        loss: A loss spec, such as ``cross_entropy?label_smoothing=0.1``; without it the run
            card's, or ``cross_entropy``. Python takes a loss of torch, too.
        checkpoints: A glob on names, or a slice such as ``::2``.
        max_probes: Measure only this many probes, drawn by a hash of their ids.
        examples: ``on`` keeps every example's norms, ``auto`` up to 256 MiB of them, ``off`` none.
        on_error: ``skip`` leaves out a checkpoint that cannot be measured and says why in its
            ``status``; ``fail`` reads all of them first, and stops at the first such one.
        settings: How gradients are measured.
        reading: How checkpoints are found and read.

    Raises:
        InputError: a value that means nothing.
    """

    model: str | Module | None = None
    probes: str | Path | ProbeSet | Any | None = None
    loss: str | Callable[..., Any] | None = None
    checkpoints: str | None = None
    max_probes: int | None = None
    examples: str = "auto"
    on_error: str = "skip"
    settings: Settings = field(default_factory=Settings)
    reading: ReadingOptions = field(default_factory=ReadingOptions)

    def __post_init__(self) -> None:
        self.settings.check()
        check_choice("examples", self.examples, ("auto", "on", "off"))
        check_choice("on_error", self.on_error, ("skip", "fail"))
        if self.settings.directions and self.examples == "off":
            raise bad_choice("examples", "off", "auto or on, as --directions asks for each example")
        if self.max_probes is not None and self.max_probes < 1:
            raise bad_choice("max_probes", self.max_probes, "a positive number")

    def with_card(self, card: RunCard, path: str) -> Self:
        """These choices, with those of a run card at ``path`` where the user made none.

        Raises:
            InputError: a value in the card that means nothing.
        """
        reading = self.reading.with_card(card, path)
        measured = {name: getattr(card, name) for name in OF_SETTINGS}
        unset = {n: v for n, v in measured.items() if v and not getattr(self.settings, n)}
        with named_card(path):
            return replace(
                self, reading=reading, settings=replace(self.settings, **unset),
                checkpoints=self.checkpoints or card.checkpoints,
                max_probes=self.max_probes or card.max_probes,
            )  # fmt: skip

    @property
    def more_may_come(self) -> bool:
        """Whether checkpoints may come while it runs."""
        return False


@dataclass(frozen=True)
class RunOptions(Options):
    """Those of a run, which writes results.

    Args:
        output: The results file; without it the run's name with ``.h5``, in the current directory.
        restart: Throw away what an earlier run on this output has measured.
        follow: Go on after that with each checkpoint that is new or has changed, and write the
            results again after each, until Ctrl-C. What is still being written is left for later;
            what the training deletes after it was measured stays.
        patience: With ``follow``: end when nothing new came for so many minutes.
        cluster: Measure by Ray: ``local`` starts one on this machine, ``auto`` takes the one that
            this machine belongs to, and an address that of its head. Each checkpoint is a task.
        gpus_per_task: With ``cluster``: GPUs of a task, or a part of one such as 0.25; by default 1
            where the run was prepared on a GPU.
        cpus_per_task: With ``cluster``: processors, and threads, of a task.
    """

    output: str | Path | None = None
    restart: bool = False
    follow: bool = False
    patience: float | None = None
    cluster: str | None = None
    gpus_per_task: float | None = None
    cpus_per_task: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patience is not None and not (self.follow and self.patience > 0):
            raise bad_choice(
                "patience", self.patience, "a positive number of minutes, with --follow"
            )
        gpus, cpus = self.gpus_per_task, self.cpus_per_task
        whole = gpus is not None and gpus >= 0 and float(gpus).is_integer()
        if gpus is not None and not (self.cluster and (whole or 0 < gpus < 1)):
            raise bad_choice(
                "gpus_per_task", gpus, "a whole number, or a part of one GPU, with --cluster"
            )
        if cpus < 1 or (cpus > 1 and not self.cluster):
            raise bad_choice("cpus_per_task", cpus, "a positive number, with --cluster")
        if self.cluster is not None:
            check_address(self.cluster)
        if self.follow and self.cluster:
            raise bad_choice(
                "cluster", self.cluster, "none with --follow, whose checkpoints come one at a time"
            )

    @property
    def more_may_come(self) -> bool:
        return self.follow


class Keywords(FindingKeywords, total=False):
    """The fields of ``Options`` as keywords, for type checkers."""

    model: str | Module | None
    probes: str | Path | ProbeSet | Any | None
    loss: str | Callable[..., Any] | None
    checkpoints: str | None
    max_probes: int | None
    examples: str
    on_error: str
    device: str
    batch_size: int | str
    tune: bool
    precision: str
    batch_norm: str
    folds: int
    layers: Sequence[str]
    parameters: Sequence[str]
    cells: Sequence[str]
    directions: Sequence[str]
    rename: Sequence[str]
    ignore: Sequence[str]


class RunKeywords(Keywords, total=False):
    """The fields of ``RunOptions`` as keywords, for type checkers."""

    output: str | Path | None
    restart: bool
    follow: bool
    patience: float | None
    cluster: str | None
    gpus_per_task: float | None
    cpus_per_task: int
