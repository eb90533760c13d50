"""Sums of outer products over positions: linear layers, convolutions, contractions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, partial, reduce
from typing import NamedTuple

import torch
from torch import Tensor

from analyze.gradients.forms import onednn
from analyze.gradients.forms.form import Choose, Form, Summary, made_again
from analyze.gradients.forms.parts import Parts, PartSums, stacked
from analyze.gradients.forms.squares import SquaredNorms, squared_norms

WORTH_TRYING = 3  # times the ordinary weight gradient; a Gram matrix dearer than this cannot win
CANCELLING = 0.05  # of the sum of the squares, below which float32 is not enough

SMALLEST = 1e-30  # products of squares that float32 holds

Product = Callable[[Tensor, Tensor], Tensor]  # of two matrices
UNFOLDED: dict[str, Product] = {"unfolded": torch.matmul, "unfolded by oneDNN": onednn.product}


class Grams(NamedTuple):
    """Gram matrices over the positions, ``[n, G, T, T]`` each, of the two factors.

    Args:
        of: Of a range of examples, in a dtype.
        cost: Multiply-adds of one example in one group.
        values: Numbers held at a time, of one example in one group.
    """

    of: Callable[[int, int, torch.dtype], tuple[Tensor, Tensor]]
    cost: float
    values: int


class _Kind(NamedTuple):
    """What the algorithms of a call depend on."""

    dims: tuple[int, int, int, int]
    makers: tuple[str, ...]
    unfolds: bool
    gram_cost: float | None  # where there is a cheaper way to the Gram matrices
    device: str
    onednn: bool  # whether its matrix products can take the place of torch's


@dataclass
class OuterProducts(Form):
    """``g[n, go, k] = sum_t dy[n, g, t, o] x[n, g, t, k]``: linear layers and convolutions.

    Args:
        count: N.
        shape: Of the parameter; ``G * O * K`` values in this order.
        dims: ``(G, T, O, K)``.
        factors: Gives ``x`` ``[n, G, T, K]`` and ``dy`` ``[n, G, T, O]`` of a range of examples;
            for a convolution this unfolds, so it is asked for a chunk at a time.
        batch_sum: Gives the ordinary weight gradient of a range of examples, their sum, in
            ``shape``.
        like: Any tensor of the call, for its device and dtype.
        view: As for every form.
        grams: A cheaper way to the Gram matrices than by ``factors``, if there is one.
        makers: Further ways to make the gradients of a range of examples, ``[n, *shape]``, by name.
        single_makers: Further ways to make the gradient of one example, ``shape``, by name.
        unfolded_sum: As ``batch_sum``, by one matrix product over the positions of the examples,
            if there is such a way; holds their ``x`` in full. Is given what multiplies.
        uses: The calls that this was merged from, so that merging many stays cheap.

    Cost, in multiply-adds beyond the ordinary weight gradient ``N*G*T*O*K``: ``direct`` none (it
    replaces it), nor ``transposed``, which exchanges the factors, nor ``singly``, which makes them
    in one place one after the other; ``gram`` ``N*G*T*T*(O + K)``, or what ``grams`` says, and
    ``unfolded`` the same with ``unfolded_sum`` in place of ``batch_sum``: on a CPU, where a
    convolution has few positions, several times as fast as torch's own weight gradient; by
    oneDNN's matrix product too, in float32.
    """

    count: int
    shape: torch.Size
    dims: tuple[int, int, int, int]
    factors: Callable[[int, int], tuple[Tensor, Tensor]]
    batch_sum: Callable[[int, int], Tensor]
    like: Tensor
    view: Callable[[Tensor], Tensor] | None = None
    grams: Grams | None = None
    makers: Mapping[str, Callable[[int, int], Tensor]] = field(default_factory=dict)
    single_makers: Mapping[str, Callable[[int], Tensor]] = field(default_factory=dict)
    unfolded_sum: Callable[[int, int, Product], Tensor] | None = None
    uses: tuple[OuterProducts, ...] = ()

    @property
    def algorithms(self) -> tuple[str, ...]:
        return _algorithms(self._kind)

    @property
    def key(self) -> str:
        return _key(self._kind)

    @cached_property
    def _kind(self) -> _Kind:
        return _Kind(
            self.dims,
            (*self.makers, *self.single_makers),
            self.unfolded_sum is not None,
            None if self.grams is None else self.grams.cost,
            self.like.device.type,
            self.unfolded_sum is not None and onednn.can_multiply(self.like),
        )

    def explicit(self, start: int, stop: int) -> Tensor:
        x, dy = self.factors(start, stop)
        return _products(dy, x).view(stop - start, *self.shape)

    def maker(self, algorithm: str) -> Callable[[int, int], Tensor] | None:
        return self.makers.get(algorithm) or super().maker(algorithm)

    def _by(self, algorithm: str, parts: Parts, choose: Choose) -> Summary:
        if algorithm == "gram":
            return self._gram(parts, self.batch_sum)
        if algorithm in UNFOLDED:
            return self._gram(parts, partial(self._unfolded, UNFOLDED[algorithm]))
        if algorithm == "transposed":
            return self._transposed(parts)
        if algorithm == "singly":
            return self._singly(self._matrix_products(), parts)
        if algorithm in self.single_makers:
            return self._singly(map(self.single_makers[algorithm], range(self.count)), parts)
        return super()._by(algorithm, parts, choose)

    def _transposed(self, parts: Parts) -> Summary:
        """As ``direct`` with the factors of the matrix products exchanged: ``[n, G, K, O]``."""
        groups, _, outputs, inputs = self.dims

        def make(start: int, stop: int) -> Tensor:
            x, dy = self.factors(start, stop)
            return _products(x, dy).view(stop - start, groups, inputs, outputs)

        totals, squares = self._added(make, "transposed", parts)  # [S, G, K, O]
        shaped = totals.transpose(2, 3).reshape(-1, *self.shape)
        return Summary(shaped, squares.found(partial(made_again, self.explicit)))

    def _singly(self, gradients: Iterable[Tensor], parts: Parts) -> Summary:
        """Square and add each gradient while it is in the cache; the next may take its place."""
        sums, squares = PartSums(parts), SquaredNorms()
        for gradient in gradients:
            squares.add(gradient[None])
            sums.add(gradient[None])
        totals = sums.found().reshape(-1, *self.shape)
        return Summary(totals, squares.found(partial(made_again, self.explicit)))

    def _matrix_products(self) -> Iterator[Tensor]:
        """Each example's gradient ``[G, O, K]``, all in the same memory."""
        groups, _, outputs, inputs = self.dims
        place = self.like.new_empty(groups, outputs, inputs)
        for start, stop in self._chunks("singly"):
            x, dy = self.factors(start, stop)  # [n, G, T, K], [n, G, T, O]
            for right, left in zip(x.unbind(), dy.transpose(2, 3).unbind(), strict=True):
                yield torch.bmm(left, right, out=place)

    def _gram(self, parts: Parts, total: Callable[[int, int], Tensor]) -> Summary:
        """``q[n] = sum_{t,t'} (x_t . x_t') (dy_t . dy_t')``, summed over the groups.

        The sum over each part is the ordinary weight gradient, which ``total`` gives.
        """
        totals = stacked([total(first, end) for first, end in parts.bounds])  # [S, *shape]
        if self.dims[1] == 1:  # one position: |x|^2 |dy|^2
            x, dy = self.factors(0, self.count)  # [N, 1, 1, K], [N, 1, 1, O]
            return Summary(totals, squared_norms(x) * squared_norms(dy))
        norms = [self._norms_by_gram(start, stop) for start, stop in self._chunks("gram")]
        return Summary(totals, torch.cat(norms))

    def _unfolded(self, product: Product, first: int, end: int) -> Tensor:
        """The sum over some examples, of which a chunk is unfolded at a time."""
        assert self.unfolded_sum is not None
        step = self._chunk("unfolded")
        starts = range(first, end, step)
        sums = (self.unfolded_sum(start, min(start + step, end), product) for start in starts)
        return reduce(torch.Tensor.add_, sums)

    def _norms_by_gram(self, start: int, stop: int) -> Tensor:
        """In the dtype of the call where the terms do not cancel, else in float64.

        The terms are off by ``eps`` of ``sum_t |x_t|^2 |dy_t|^2``. Where they cancel (a direction
        that a norm layer removes) their sum is far smaller, and would be off by 1e-3 and more.
        """
        for precision in (self.like.dtype, torch.float64):
            x_gram, dy_gram = self._grams.of(start, stop, precision)  # [n, G, T, T]
            products = x_gram * dy_gram
            norms = products.sum((1, 2, 3), dtype=torch.float64)
            apart = products.diagonal(0, -2, -1).sum((1, 2), dtype=torch.float64)
            if precision == torch.float64 or _far_from_rounding(norms, apart):
                break
        return norms.clamp_min_(0.0)

    @property
    def _grams(self) -> Grams:
        if self.grams is not None:
            return self.grams
        _, positions, outputs, inputs = self.dims
        values = positions * (3 * positions + outputs + inputs)
        return Grams(partial(_grams_of, self.factors), _gram_cost(self.dims), values)

    def _bytes_per_example(self, algorithm: str) -> int:
        groups, positions, outputs, inputs = self.dims
        gradient, factors = outputs * inputs, positions * (outputs + inputs)
        values = max(gradient, factors)
        if algorithm == "gram":
            values = self._grams.values
        elif algorithm == "singly" or algorithm in UNFOLDED:
            values = factors
        elif algorithm in self.makers:
            values = gradient
        return 4 * groups * values

    def _device_type(self) -> str:
        return self.like.device.type

    def merged(self, other: Form) -> Form | None:
        """The same parameter used again: its positions are those of all uses."""
        if not isinstance(other, OuterProducts) or other.shape != self.shape:
            return None
        groups, positions, outputs, inputs = self.dims
        if (other.dims[0], other.dims[2], other.dims[3]) != (groups, outputs, inputs):
            return None
        uses = (*(self.uses or (self,)), *(other.uses or (other,)))

        def factors(start: int, stop: int) -> tuple[Tensor, Tensor]:
            sides = [use.factors(start, stop) for use in uses]
            return torch.cat([x for x, _ in sides], 2), torch.cat([dy for _, dy in sides], 2)

        def batch_sum(start: int, stop: int) -> Tensor:
            return reduce(torch.add, (use.batch_sum(start, stop) for use in uses))

        dims = (groups, positions + other.dims[1], outputs, inputs)
        return OuterProducts(
            self.count, self.shape, dims, factors, batch_sum, self.like, self.view, uses=uses
        )


def _products(left: Tensor, right: Tensor) -> Tensor:
    """``[n, G, T, A]``, ``[n, G, T, B]`` to ``[n * G, A, B]``; a step less than by ``@``."""
    return torch.bmm(left.flatten(0, 1).transpose(1, 2), right.flatten(0, 1))


@cache
def _algorithms(kind: _Kind) -> tuple[str, ...]:
    """Those that could be the fastest."""
    groups, positions, outputs, inputs = kind.dims
    unfolded = [*UNFOLDED] if kind.onednn else ["unfolded"]
    by_gram = ("gram", *unfolded) if kind.unfolds and positions <= outputs else ("gram",)
    if positions == 1 and groups == 1 and kind.device != "mps":
        return by_gram
    made = ("direct", "transposed", "singly", *kind.makers)
    cost = _gram_cost(kind.dims) if kind.gram_cost is None else kind.gram_cost
    if kind.device == "mps" or cost > WORTH_TRYING * positions * outputs * inputs:
        return made
    return (*made, *by_gram)


@cache
def _key(kind: _Kind) -> str:
    unfolded = ["unfolded"] if kind.unfolds else []
    products = ["oneDNN"] if kind.onednn else []
    dims = "x".join(map(str, kind.dims))
    return " ".join(["outer products", dims, *kind.makers, *unfolded, *products])


def _gram_cost(dims: tuple[int, int, int, int]) -> int:
    """Multiply-adds of one example in one group."""
    _, positions, outputs, inputs = dims
    return positions**2 * (outputs + inputs)


def _grams_of(
    factors: Callable[[int, int], tuple[Tensor, Tensor]], start: int, stop: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The products of all positions with each other, of both factors."""
    x, dy = (side.to(dtype) for side in factors(start, stop))
    return x @ x.transpose(2, 3), dy @ dy.transpose(2, 3)


def _far_from_rounding(norms: Tensor, apart: Tensor) -> bool:
    """Whether no terms cancelled, and none were too small for float32."""
    remaining, smallest = (float(v.min()) for v in (norms / apart, apart))
    return remaining >= CANCELLING and smallest > SMALLEST
