"""What the engine is told and what it gives: plain values and arrays, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analyze.errors import bad_choice, check_choice

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Args:
        device: Where to compute: ``auto``, ``cpu``, ``cuda``, ``cuda:0``, ``mps`` or another
            accelerator of torch.
        precision: ``float32`` or ``float64``; sums are accumulated in float64 in both.
        batch_norm: ``recomputed`` sets the statistics by one pass over the probes that are not
            held out; ``saved`` takes the checkpoint's own, as plain autograd in eval mode does,
            whose numbers differ from the default's.
        batch_size: Examples at a time, or ``auto``.
        tune: Time batch sizes and algorithms on batches of the run and take the fastest, for long
            runs: about 2 % of the estimated time. Else they follow from what is counted, without a
            clock, the same in every run. A resumed run keeps what it began with.
        folds: Random blocks of each subset, for standard errors; 1 gives NaN for them.
        examples: Whether to keep every example's squared norm.
        layers: Globs; only these layers are measured, and the network is their sum.
        parameters: Globs; only these parameters are measured.
        cells: Columns of the probe set (class, source) by which gradients are summed as well: what
            can be told apart after the run.
        directions: What each example's gradient is multiplied with, in every layer: subsets,
            ``all`` and ``COLUMN=LABEL`` of ``cells`` stand for the sum of their probes' gradients,
            ``update`` for the next checkpoint's weights minus these, ``weights`` for the weights.
    """

    device: str = "auto"
    precision: str = "float32"
    batch_norm: str = "recomputed"
    batch_size: int | str = "auto"
    tune: bool = False
    folds: int = 10
    examples: bool = True
    layers: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    directions: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuse settings that mean nothing.

        Raises:
            InputError: naming the setting.
        """
        check_choice("precision", self.precision, ("float32", "float64"))
        check_choice("batch_norm", self.batch_norm, ("recomputed", "saved"))
        size = self.batch_size
        if size != "auto" and not (isinstance(size, int) and size >= 1):
            raise bad_choice("batch_size", size, "auto, or a positive number")
        if not isinstance(self.folds, int) or self.folds < 1:
            raise bad_choice("folds", self.folds, "a positive number")
        if not isinstance(self.tune, bool):
            raise bad_choice("tune", self.tune, "True or False")


@dataclass(frozen=True)
class ParameterRow:
    """One parameter of the results."""

    name: str  # the first that ``named_parameters()`` gives it
    # The path of the module that owns it, of X for what belongs to X.parametrizations. A parameter
    # of the root module is a layer of its own.
    layer: str
    layer_type: str  # class name of the layer's module
    size: int  # number of values
    aliases: tuple[str, ...]  # other names, where weights are tied
    method: str  # how its per-example gradients were measured


@dataclass(frozen=True)
class Verified:
    """How many probes gave the same numbers again while they were measured."""

    alone: int = 0  # by plain autograd of each alone
    elsewhere: int = 0  # in batches of other probes


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
        alignment: ``[V, P, N]``, dot product of each example's gradient with each of V directions;
            NaN for a direction that this model has none of. None where none was asked for.
        direction_squares: ``[V, P]``, squared norms of the directions; NaN likewise.
        margin: ``[N]``, the logit of the target's class minus the largest other; NaN where it has
            no meaning. None where no direction was asked for.
        loss_saved: ``[N]``, with the batch norm statistics of the checkpoint, of some probes of
            each subset; NaN for the others. None without such statistics.
        loss_recomputed: ``[N]``, with recomputed ones, of the same probes.
        rounding: Parameters whose gradients are nothing but rounding; None where an older version
            did not tell.
        verified: How many probes gave the same numbers again.
        notes: What the user should know of how the model was measured.
    """

    parameters: tuple[str, ...]
    gram: np.ndarray
    squared_norms: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray
    examples: np.ndarray | None = None
    alignment: np.ndarray | None = None
    direction_squares: np.ndarray | None = None
    margin: np.ndarray | None = None
    loss_saved: np.ndarray | None = None
    loss_recomputed: np.ndarray | None = None
    rounding: tuple[str, ...] | None = None
    verified: Verified = Verified()
    notes: tuple[str, ...] = ()
