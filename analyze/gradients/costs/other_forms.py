"""The work of the algorithms of all forms but ``OuterProducts``."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

from analyze.gradients.costs import outer_products
from analyze.gradients.costs.work import BATCHED, Work, added, product, some
from analyze.gradients.data.batches import BatchShape
from analyze.gradients.forms import (
    Explicit,
    Form,
    OuterProducts,
    Placed,
    PulledBack,
    ScatteredRows,
    Sum,
)

Cheapest = Callable[[Form], Work]  # the work of a form's cheapest algorithm


def explicit(form: Explicit, algorithm: str, batch: BatchShape, cheapest: Cheapest) -> Work:
    """Gradients that are there already are squared and added up."""
    return _reduced(form, batch)


def of_one_call(form: Form, algorithm: str, batch: BatchShape, cheapest: Cheapest) -> Work:
    """The call is made and differentiated again for each example, by ``vmap`` or one by one."""
    return added((_making(form, batch), _reduced(form, batch)))


def scattered(form: ScatteredRows, algorithm: str, batch: BatchShape, cheapest: Cheapest) -> Work:
    """Rows are sorted, and added up twice: by example, and by segment into whole tables."""
    positions, width = form.rows.shape[1], form.shape[-1]
    entries = batch.examples * positions * width
    tables = batch.segments * form.shape.numel()
    return some(calls=16, copied=2 * entries + tables, rows=2 * entries / width, reduced=entries)


def placed(form: Placed, algorithm: str, batch: BatchShape, cheapest: Cheapest) -> Work:
    """What the view's gradients take, and their sums put into whole parameters."""
    entries = batch.segments * form.shape.numel()
    return added((cheapest(form.inner), some(calls=4 * batch.segments, copied=2 * entries)))


def pulled_back(form: PulledBack, algorithm: str, batch: BatchShape, cheapest: Cheapest) -> Work:
    """Every gradient is made, taken back through a graph, and reduced."""
    return added((_making(form, batch), _reduced(form, batch)))


def summed(form: Sum, algorithm: str, batch: BatchShape, cheapest: Cheapest) -> Work:
    """Gradients of all uses are added up, or the uses reduced one by one, with cross terms."""
    if algorithm == "direct":
        return added((_making(form, batch), _reduced(form, batch)))
    apart = added(cheapest(use) for use in form.uses)
    if algorithm == "apart":
        return apart
    pairs = combinations(form.uses, 2)
    return added((apart, *(_crossed(a, b, batch) for a, b in pairs)))


def _crossed(first: Form, second: Form, batch: BatchShape) -> Work:
    """Inner products of looked-up rows and outer products, one example at a time in float64."""
    rows, outer = (first, second) if isinstance(first, ScatteredRows) else (second, first)
    assert isinstance(rows, ScatteredRows), "no rows to cross with"
    assert isinstance(outer, OuterProducts), "no outer products to cross with"
    looked_up, positions, width = rows.rows.shape[1], outer.dims[1], rows.shape[-1]
    examples = batch.examples
    doubled = some(copied=examples * (looked_up + positions) * (width + looked_up))
    products = product(BATCHED, 2 * examples, looked_up, width, positions)  # at half the speed
    return added((doubled, products, some(calls=12 * examples)))


def _making(form: Form, batch: BatchShape) -> Work:
    """What it takes to make every example's gradient."""
    entries = batch.examples * form.shape.numel()
    if isinstance(form, OuterProducts):
        return outer_products.making(form, batch)
    if isinstance(form, Sum):
        uses = [_making(use, batch) for use in form.uses]
        return added((*uses, some(copied=(len(uses) - 1) * entries, calls=len(uses))))
    if isinstance(form, Placed | PulledBack):
        return added((_making(form.inner, batch), some(copied=2 * entries, calls=8)))
    if isinstance(form, Explicit):
        return Work()
    return some(copied=2 * entries, calls=4)


def _reduced(form: Form, batch: BatchShape) -> Work:
    entries = batch.examples * form.shape.numel()
    return some(reduced=entries, calls=2 + 2 * batch.segments)
