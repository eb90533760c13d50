"""What the engine is told and what it gives: plain values and arrays, no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analyze.errors import bad_choice, check_choice


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:0``, ``mps``.
        precision: ``float32`` or ``float64``; sums are accumulated in float64 in both.
        batch_norm: ``recomputed`` or ``saved``.
        batch_size: Examples at a time, or ``auto``.
        folds: Random blocks of each subset, for standard errors.
        examples: Whether to keep every example's squared norm.
        layers: Globs; only the parameters of these layers are measured. Empty for all.
        parameters: Globs; only these parameters are measured. Empty for all.
        cells: Columns of the probe set by which gradients are summed, besides subset and fold.
    """

    device: str = "auto"
    precision: str = "float32"
    batch_norm: str = "recomputed"
    batch_size: int | str = "auto"
    folds: int = 10
    examples: bool = True
    layers: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuse settings that mean nothing.

        Raises:
            InputError: saying which.
        """
        check_choice("precision", self.precision, ("float32", "float64"))
        check_choice("batch_norm", self.batch_norm, ("recomputed", "saved"))
        size = self.batch_size
        if size != "auto" and not (isinstance(size, int) and size >= 1):
            raise bad_choice("batch_size", size, "auto, or a positive number")
        if not isinstance(self.folds, int) or self.folds < 1:
            raise bad_choice("folds", self.folds, "a positive number")


@dataclass(frozen=True)
class ParameterRow:
    """One parameter of the results.

    Args:
        name: The first name that ``named_parameters()`` gives it.
        layer: Path of the module that owns it; its own name for a parameter of the root module;
            what belongs to ``X.parametrizations`` belongs to ``X``.
        layer_type: Class name of that module.
        size: Number of values.
        aliases: Its other names, where weights are tied.
        method: How its per-example gradients were measured.
    """

    name: str
    layer: str
    layer_type: str
    size: int
    aliases: tuple[str, ...]
    method: str


@dataclass(frozen=True)
class Verified:
    """How many probes were found again with the same numbers, while they were measured.

    Args:
        alone: By plain autograd, each alone.
        elsewhere: In batches of other probes.
    """

    alone: int = 0
    elsewhere: int = 0


@dataclass(frozen=True)
class Measurement:
    """Sufficient statistics of one model on one probe set. P parameters, C cells, N probes.

    Args:
        parameters: Names, in forward order.
        gram: ``[P, C, C]``, dot products of the cells' gradient sums; NaN for a parameter that is
            never used.
        squared_norms: ``[P, C]``, sums of squared per-example gradient norms; NaN likewise.
        loss: ``[N]``, nats.
        accuracy: ``[N]``, NaN where it has no meaning.
        examples: ``[P, N]``, squared norm of each example's gradient, or None.
        loss_saved: ``[N]``, with the batch norm statistics of the checkpoint, of some probes of
            each subset; NaN for the others. None without such statistics.
        loss_recomputed: ``[N]``, with recomputed ones, of the same probes.
        rounding: Parameters whose gradients are nothing but rounding here; None where an older
            version did not tell.
        verified: How many probes were found again.
        notes: What the user should know of how it was measured.
    """

    parameters: tuple[str, ...]
    gram: np.ndarray
    squared_norms: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray
    examples: np.ndarray | None = None
    loss_saved: np.ndarray | None = None
    loss_recomputed: np.ndarray | None = None
    rounding: tuple[str, ...] | None = None
    verified: Verified = Verified()
    notes: tuple[str, ...] = ()
