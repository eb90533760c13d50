"""How small a coherence the probes can tell from chance, from a pilot before the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from analyze.gradients.engine import Engine
from analyze.gradients.measurement import Measurement, ParameterRow
from analyze.probes import ProbeSet
from analyze.probes.cells import mixed
from analyze.statistics import noise_floor

PILOT = 256  # probes
BLOCKS = 32  # blocks of the pilot: in small ones the mean gradient hardly counts


@dataclass(frozen=True)
class Limit:
    """The smallest coherence of a layer that can be told from chance.

    Args:
        layer_type: The class of its module.
        parameters: The number of its values.
        effective_dimension: ``d_eff``; without any gradient this and the limits are None.
        m_coherence: The value from which z is 3 or more.
        alpha_unbiased: The same limit as unbiased alpha, by subset; None for a single probe.
    """

    layer: str
    layer_type: str
    parameters: int
    effective_dimension: float | None
    m_coherence: float | None
    alpha_unbiased: dict[str, float | None]


def detectable(
    engine: Engine, model: Callable[[], nn.Module], parameters: Sequence[ParameterRow]
) -> list[Limit]:
    """The smallest coherence of each layer that the probes can tell from chance.

    A pilot on some probes gives each layer's ``d_eff``, the directions its gradients spread over.
    From it ``noise_floor.smallest_detectable`` has the m-coherence that reaches z = 3; a layer of
    just that coherence does so in about half of the cases. The size of each subset gives the
    unbiased alpha that goes with it. ``model`` builds the model with the weights of a checkpoint.

    Returns:
        A limit for each layer, in forward order.

    Raises:
        InputError: the pilot cannot be measured, as where a gradient is not finite.

    Cost: plan and proof once more, and at most 256 examples.
    """
    probes = _pilot(engine.probes)
    folds = -(-BLOCKS // len(probes.subset_names))
    settings = replace(engine.settings, folds=folds, cells=(), directions=(), examples=False)
    pilot = Engine(probes, engine.loss, settings)
    pilot.prepare([model()])
    measured = pilot.measure(model())
    sizes = _sizes(engine.probes)
    rows = []
    for layer in dict.fromkeys(p.layer for p in parameters):
        inside = [p for p in parameters if p.layer == layer]
        dimension = _dimension(measured, [p.name for p in inside], pilot.cells.counts)
        smallest = float(noise_floor.smallest_detectable(np.array(dimension)))
        known = bool(np.isfinite(smallest))
        rows.append(
            Limit(
                layer=layer,
                layer_type=inside[0].layer_type,
                parameters=sum(p.size for p in inside),
                effective_dimension=dimension if known else None,
                m_coherence=smallest if known else None,
                alpha_unbiased={
                    name: (smallest - 1) / (m - 1) if known and m > 1 else None
                    for name, m in sizes.items()
                },
            )
        )
    return rows


def _pilot(probes: ProbeSet) -> ProbeSet:
    """Some training probes, as good as random; some of all probes where all are held out."""
    rows = probes.training if len(probes.training) else np.arange(len(probes))
    chosen = rows[np.argsort(mixed(probes.id[rows]), kind="stable")][:PILOT]
    return probes.take(np.sort(chosen))


def _sizes(probes: ProbeSet) -> dict[str, int]:
    counts = np.bincount(probes.subset, minlength=len(probes.subset_names))
    return {name: int(m) for name, m in zip(probes.subset_names, counts, strict=True)}


def _dimension(measured: Measurement, names: list[str], counts: np.ndarray) -> float:
    """``d_eff`` of the sum over some parameters, each cell a block of its own."""
    places = [measured.parameters.index(name) for name in names]
    known = [k for k in places if np.isfinite(measured.squared_norms[k]).all()]
    gram, squared = measured.gram[known].sum(0), measured.squared_norms[known].sum(0)
    cells = np.arange(len(counts))
    everything = np.ones((1, len(counts)), dtype=bool)
    return float(noise_floor.effective_dimension(gram, squared, counts, everything, cells)[0])
