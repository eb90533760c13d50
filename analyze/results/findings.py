"""What results say in words, on the page, the terminal and in notebooks: each where it holds.

Every sentence is a row of ``SENTENCES`` with the condition under which it may be said. A value is
called agreement only by the rule of ``statistics.significance``, and one is called the highest only
where ``statistics.highest`` tells it from the next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import xarray as xr
from markupsafe import Markup

from analyze.errors import listed
from analyze.probes.subsets import ALL
from analyze.results.carried import between
from analyze.results.places import places
from analyze.results.values import Value, in_words, peak, value_at
from analyze.statistics import significance
from analyze.statistics.between_subsets import has_sums, together
from analyze.statistics.highest import highest
from analyze.statistics.regrouping import held_out
from analyze.statistics.sizes import at_one_size, shown_size
from analyze.statistics.warnings import FLAGS, flagged
from analyze.text import shown_name

PLUS_MINUS, MINUS = "\N{PLUS-MINUS SIGN}", "\N{MINUS SIGN}"
STRONG = Markup("<strong>{}</strong>")


@dataclass(frozen=True)
class LayerPeak:
    """A layer and its highest value."""

    name: str
    type: str
    value: Value


@dataclass(frozen=True)
class Opposed:
    """Two training subsets whose mean gradients pull against each other, beyond chance."""

    first: str
    second: str
    count: int  # of checkpoints, without those where the two must, as their sum vanishes
    cosine: float  # where they do so most surely
    error: float
    where: str


@dataclass(frozen=True)
class Findings:
    """What is known of all probes that are not held out, at the size shown."""

    measured: int  # checkpoints with a value
    tested: bool  # whether chance could be judged at any of them
    agreeing: int  # of them agree beyond chance
    probes: int
    held_out: str  # subsets that are not among them, in words; empty where there are none
    quantity: str  # m-coherence of 181 examples
    first: Value | None  # the highest, of those that agree where any does
    second: Value | None  # the next, where the first cannot be told from it
    last: Value | None  # at the last checkpoint with a value, where that is another
    ended: bool  # whether that is the last of all
    last_agrees: bool
    last_cancels: bool
    layers_tested: bool
    layer: LayerPeak | None  # of the layers that agree
    next_layer: LayerPeak | None  # where the first cannot be told from it
    opposed: Opposed | None = None  # of all pairs the one at most checkpoints


def findings(results: xr.DataTree) -> Findings:
    """What the paragraph is about."""
    network, layers = (results[name].to_dataset() for name in ("network", "layers"))
    known = np.flatnonzero(network["m_coherence"].sel(subset=ALL).notnull().values)
    tested, agree, cancel = (
        rule(network).sel(subset=ALL).values
        for rule in (significance.tested, significance.agree, significance.cancel)
    )
    top = highest(results, ALL)
    first = second = last = None
    if (place := peak(network.sel(subset=ALL))) is not None:
        place = place if top is None else _place(results, top.at)
        first = _value(results, place)
        if top is not None and not top.alone and top.next_at is not None:
            second = _value(results, _place(results, top.next_at))
        end = int(known[-1])
        last = _value(results, end) if end != place else None
    of_layers = highest(results, ALL, "layers")
    shared = of_layers is not None and not of_layers.alone and of_layers.next_at is not None
    left_out = [shown_name(name) for name in held_out(results)]
    return Findings(
        measured=len(known), tested=bool(tested[known].any()), agreeing=int(agree.sum()),
        probes=int(results.to_dataset()["probe_count"].sel(subset=ALL)),
        held_out=listed(left_out) if left_out else "", quantity=shown_size(results).quantity,
        first=first, second=second, last=last,
        ended=bool(len(known) and known[-1] == network.sizes["checkpoint"] - 1),
        last_agrees=bool(len(known) and agree[known[-1]]),
        last_cancels=bool(len(known) and cancel[known[-1]]),
        layers_tested=bool(significance.tested(layers).sel(subset=ALL).any()),
        layer=None if of_layers is None else _layer(results, of_layers.at),
        next_layer=_layer(results, of_layers.next_at or {}) if of_layers and shared else None,
        opposed=_opposed(results),
    )  # fmt: skip


def _opposed(results: xr.DataTree) -> Opposed | None:
    """The pair of training subsets that oppose each other at most checkpoints; None without one."""
    network = results["network"].to_dataset()
    left_out = (ALL, *held_out(results))
    names = [n for n in network["subset"].values.astype(str).tolist() if n not in left_out]
    if len(names) < 2 or not has_sums(results):
        return None
    table = between(results).transpose("checkpoint", ...)
    against = together(table) & (table["gradient_cosine"] < 0)
    if FLAGS in network:
        forced = flagged(network, "near_stationary").sel(subset=ALL)
        against &= ~forced.transpose("checkpoint", ...)
    counts = {
        (a, b): int(against.sel(subset=a, subset_other=b).sum()) for a, b in combinations(names, 2)
    }
    a, b = max(counts, key=lambda pair: counts[pair])
    if not counts[a, b]:
        return None
    pair = table.sel(subset=a, subset_other=b).where(against.sel(subset=a, subset_other=b))
    at = int(np.nanargmin(pair["p_value_adjusted"].values))
    cosine, error = (float(pair[f"gradient_cosine{end}"][at]) for end in ("", "_stderr"))
    where = places(results.to_dataset()).names[at]
    return Opposed(shown_name(a), shown_name(b), counts[a, b], cosine, error, where)


@dataclass(frozen=True)
class Sentence:
    """A sentence that the page may say, and where it holds."""

    name: str
    holds: Callable[[Findings], bool]
    text: Callable[[Findings], Markup]


SENTENCES = (
    Sentence(
        "nothing measured",
        lambda f: f.first is None,
        lambda _: Markup("No m-coherence could be measured for these probes."),
    ),
    Sentence(
        "no agreement",
        lambda f: f.tested and not f.agreeing,
        lambda f: Markup(
            "{} there is {}: {} m-coherence be told from that of gradients without a common "
            "direction, at a false discovery rate of 5 %."
        ).format(
            _over(f), STRONG.format("no agreement beyond chance"),
            "nowhere can" if f.measured == 1 else f"at none of {f.measured} checkpoints can",
        ),
    ),
    Sentence(
        "one checkpoint agrees",
        lambda f: f.measured == 1 and f.agreeing == 1,
        lambda f: Markup("{} gradients agree beyond chance: {} is {} ({}).").format(
            _over(f), f.quantity, _number(f.first), _where(f.first)
        ),
    ),
    Sentence(
        "agree most",
        lambda f: f.measured > 1 and f.agreeing > 0 and f.second is None,
        lambda f: Markup("{} gradients agree most at {}: {} is {} there.").format(
            _over(f), STRONG.format(_where(f.first)), f.quantity, _number(f.first)
        ),
    ),
    Sentence(
        "highest not told from the next",
        lambda f: f.measured > 1 and f.agreeing > 0 and f.second is not None,
        lambda f: Markup(
            "{} {} is highest at {}, {}, which cannot be told from {} at {}."
        ).format(
            _over(f), f.quantity, STRONG.format(_where(f.first)), _number(f.first),
            _number(f.second), _where(f.second),
        ),
    ),
    Sentence(
        "not tested",
        lambda f: f.first is not None and not f.tested,
        lambda f: Markup(
            "{} {} is {} at {}{}; no error is known by which to tell it from chance."
        ).format(
            _over(f), f.quantity, _number(f.first), _where(f.first),
            ", the highest measured" if f.measured > 1 else "",
        ),
    ),
    Sentence(
        "where it agrees",
        lambda f: 0 < f.agreeing < f.measured,
        lambda f: Markup("It is beyond chance at {} of {} checkpoints.").format(
            f.agreeing, f.measured
        ),
    ),
    Sentence(
        "at the end",
        lambda f: f.last is not None and f.agreeing > 0 and f.last_agrees,
        lambda f: Markup("{} ({}) it is {}.").format(_end(f), _where(f.last), _number(f.last)),
    ),
    Sentence(
        "chance at the end",
        lambda f: f.last is not None and f.agreeing > 0 and not f.last_agrees
        and not f.last_cancels,
        lambda f: Markup("{} ({}) it is {}, which cannot be told from chance.").format(
            _end(f), _where(f.last), _number(f.last)
        ),
    ),
    Sentence(
        "cancel at the end",
        lambda f: f.last is not None and f.last_cancels,
        lambda f: Markup(
            "{} ({}) it is {}: the gradients cancel, more than by chance."
        ).format(_end(f), _where(f.last), _number(f.last)),
    ),
    Sentence(
        "subsets oppose",
        lambda f: f.opposed is not None,
        lambda f: _against(f.opposed, f.measured),
    ),
    Sentence(
        "no layer agrees",
        lambda f: f.layers_tested and f.layer is None,
        lambda _: Markup("No layer agrees beyond chance."),
    ),
    Sentence(
        "highest layer",
        lambda f: f.layer is not None and f.next_layer is None,
        lambda f: Markup(
            "Among the layers, over the same probes, {} ({}) {} highest, at {} ({})."
        ).format(
            STRONG.format(_layer_of(f.layer).name), _layer_of(f.layer).type,
            "is" if f.measured == 1 else "peaks", _number(_layer_of(f.layer).value),
            _where(_layer_of(f.layer).value),
        ),
    ),
    Sentence(
        "highest layers not told apart",
        lambda f: f.next_layer is not None,
        lambda f: Markup(
            "Among the layers, over the same probes, {} ({}) has the highest value, {} ({}), which "
            "cannot be told from {} of {} ({}) ({})."
        ).format(
            STRONG.format(_layer_of(f.layer).name), _layer_of(f.layer).type,
            _number(_layer_of(f.layer).value), _where(_layer_of(f.layer).value),
            _number(_layer_of(f.next_layer).value),
            STRONG.format(_layer_of(f.next_layer).name), _layer_of(f.next_layer).type,
            _where(_layer_of(f.next_layer).value),
        ),
    ),
    Sentence(
        "too high on average",
        lambda f: f.agreeing > 0 and (f.measured > 1 or f.layer is not None),
        lambda _: Markup("The highest of several noisy values is too high on average."),
    ),
)  # fmt: skip


def said(found: Findings) -> list[tuple[str, Markup]]:
    """The names and texts of the sentences that hold."""
    return [(row.name, row.text(found)) for row in SENTENCES if row.holds(found)]


def in_plain_text(results: xr.DataTree) -> list[str]:
    """The sentences that hold, for the terminal: without marks, in ASCII but for names."""
    return [
        text.striptags().replace(PLUS_MINUS, "+-").replace(MINUS, "-")
        for _, text in said(findings(results))
    ]


def _over(found: Findings) -> Markup:
    """The probes that are spoken of, and which are left out."""
    probes = f"{found.probes:,} probes"
    if not found.held_out:
        return Markup("Over all {},").format(probes)
    return Markup("Over the {} outside {},").format(probes, found.held_out)


def _against(pair: Opposed | None, measured: int) -> Markup:
    """Two subsets that oppose each other, how often, and their cosine where that is surest."""
    assert pair is not None
    often = "" if measured == 1 else f" at {pair.count} of {measured} checkpoints"
    value = f"{pair.cosine:+.2f} {PLUS_MINUS} {max(pair.error, 0.01):.2f}".replace("-", MINUS)
    return Markup(
        "But {} and {} pull against each other, beyond chance{}: the cosine of their mean "
        "gradients is {} at {}."
    ).format(
        STRONG.format(pair.first), STRONG.format(pair.second), often, STRONG.format(value),
        pair.where,
    )  # fmt: skip


def _end(found: Findings) -> str:
    """Where the last value is: where later checkpoints were skipped, the end is not known."""
    return "At the end" if found.ended else "At the last that could be measured"


def _layer_of(layer: LayerPeak | None) -> LayerPeak:
    """A layer that the condition of its sentence has found."""
    assert layer is not None
    return layer


def _number(value: Value | None) -> Markup:
    """``78 ± 11``, which no line of a page parts."""
    return Markup("") if value is None else STRONG.format(in_words(value))


def _where(value: Value | None) -> str:
    return "" if value is None else value.where


def _place(results: xr.DataTree, at: dict[str, str]) -> int:
    names = results.to_dataset()["checkpoint"].values.astype(str).tolist()
    return int(names.index(at["checkpoint"]))


def _value(results: xr.DataTree, place: int, layer: str | None = None) -> Value:
    """The value of all probes at a checkpoint that has one, of the network or a layer."""
    table = at_one_size(results, "network" if layer is None else "layers").sel(subset=ALL)
    table = table if layer is None else table.sel(layer=layer)
    found = value_at(table, place, places(results.to_dataset()))
    assert found is not None
    return found


def _layer(results: xr.DataTree, at: dict[str, str]) -> LayerPeak:
    kinds = results["layers"].to_dataset()["layer_type"]
    names = results["layers"].to_dataset()["layer"].values.astype(str).tolist()
    kind = shown_name(str(kinds.values[names.index(at["layer"])]))
    name = shown_name(at["layer"])
    name = f"layer {name}" if name[:1].isdigit() else name  # as in a Sequential
    return LayerPeak(name, kind, _value(results, _place(results, at), at["layer"]))
