"""Sums of outer products over positions: linear layers, convolutions, contractions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial, reduce
from itertools import starmap

import torch
from torch import Tensor

from analyze.gradients.data.segments import Segments, stacked
from analyze.gradients.device.devices import has_float64, is_cpu
from analyze.gradients.forms import onednn
from analyze.gradients.forms.dots import dot_products, dot_products_of_pairs
from analyze.gradients.forms.doubts import Norms, joined
from analyze.gradients.forms.form import Choose, Form
from analyze.gradients.forms.grams import (
    Factors,
    Grams,
    cost_of_factors,
    grams_of_factors,
    norms_by_grams,
)
from analyze.gradients.forms.reduction import Make, Summary, reduced
from analyze.gradients.forms.squares import squared_norms
from analyze.gradients.forms.unfolded import PRODUCTS, Product, Unfolded, Walk

# Multiply-adds in a matrix product that as long are: one with an entry of a gradient, or an output.
MULTIPLYING, OF_AN_OUTPUT = 8, 12
WORTH_TRYING = 3  # times the ordinary weight gradient: a Gram matrix dearer than this cannot win
TOGETHER = 1 << 17  # entries of gradients made one by one that stay in the cache for the next step
SINGLY_BY_ONEDNN = "singly by oneDNN"
SINGLY = ("singly", SINGLY_BY_ONEDNN)
FEW_POSITIONS = 32  # unfolded factors of no more are multiplied with themselves for the norms


@dataclass
class OuterProducts(Form):
    """``g[n, go, k] = sum_t dy[n, g, t, o] x[n, g, t, k]``: linear layers and convolutions.

    Args:
        shape: The parameter's; ``G * O * K`` values in this order.
        dims: ``(G, T, O, K)``.
        factors: Gives ``x`` ``[n, G, T, K]`` and ``dy`` ``[n, G, T, O]`` of a range of examples;
            a convolution unfolds for it, so it is called for a chunk at a time.
        batch_sum: Gives the sum of a range of examples: the ordinary weight gradient.
        like: Any tensor of the call, for its device and dtype.
        grams: A cheaper way to the Gram matrices than by ``factors``, if there is one.
        makers: Further ways to make the gradients of a range of examples, ``[n, *shape]``, by name.
        single_makers: Further ways to make the gradient of one example, ``shape``, by name.
        unfolded: Gives both factors of a range of examples as two matrices, ``x`` in full.
        outputs: Gives the call's output with another weight ``shape`` in the place of its own, and
            the gradient there, of all examples: ``[N, ...]`` each, in any equal shape. By
            ``factors`` without it.
        walk: How a convolution walks over ``x`` for it; None where there is nothing to unfold.
        uses: The calls that this was merged from, so that merging many stays cheap.

    Cost, in multiply-adds beyond the ordinary weight gradient ``N*G*T*O*K``: ``direct`` none (it
    replaces it), nor ``transposed``, which exchanges the factors, nor ``singly``, which makes them
    one after the other; ``gram`` ``N*G*T*T*(O + K)``, or what ``grams`` says, and ``unfolded`` the
    same with one matrix product over the positions of all examples in place of ``batch_sum``: on a
    CPU, where a convolution has few positions, several times as fast as torch's own weight
    gradient. ``singly`` and ``unfolded`` also by oneDNN's matrix product, in float32.
    """

    count: int
    shape: torch.Size
    dims: tuple[int, int, int, int]
    factors: Factors
    batch_sum: Make
    like: Tensor
    view: Callable[[Tensor], Tensor] | None = None
    grams: Grams | None = None
    makers: Mapping[str, Make] = field(default_factory=dict)
    single_makers: Mapping[str, Callable[[int], Tensor]] = field(default_factory=dict)
    unfolded: Callable[[int, int], Unfolded] | None = None
    outputs: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    walk: Walk | None = None
    uses: tuple[OuterProducts, ...] = ()

    def __post_init__(self) -> None:
        self.device = self.like.device
        self._algorithms, self._key = _kind_of(
            self.dims,
            (*self.makers, *(self.single_makers if is_cpu(self.device) else ())),
            self.unfolded is not None,
            tuple((use.dims[1], use.walk) for use in self.uses or (self,)),
            None if self.grams is None else self.grams.cost,
            self.device,
            onednn.can_multiply(self.like),
        )

    @property
    def algorithms(self) -> tuple[str, ...]:
        return self._algorithms

    @property
    def key(self) -> str:
        return self._key

    def explicit(self, start: int, stop: int) -> Tensor:
        x, dy = self.factors(start, stop)
        return _products(dy, x).view(stop - start, *self.shape)

    def maker(self, algorithm: str) -> Make | None:
        return self.makers.get(algorithm) or super().maker(algorithm)

    @property
    def making(self) -> tuple[str, ...]:
        """The algorithms that make the gradients."""
        made = [a for a in self.algorithms if a != "gram" and a not in PRODUCTS]
        return tuple(made) or super().making

    def dots(self, directions: Tensor, algorithm: str = "direct") -> Tensor:
        """``sum_t dy_t . (V x_t)``, the call with a direction as its weight; no gradient is made.

        Where there are many positions and several directions, each gradient is made once, by the
        algorithm, and multiplied with all of them.
        """
        if self.uses:
            return reduce(torch.add, [use.dots(directions) for use in self.uses])
        if self.like.is_complex() or not self._by_outputs(len(directions)):
            return self._dots_of_gradients(directions, algorithm)
        return torch.stack([self._dots_of_outputs(v.reshape(self.shape)) for v in directions])

    def _by_outputs(self, directions: int) -> bool:
        """Whether outputs along so many directions are sooner there than gradients."""
        _, positions, _, inputs = self.dims
        outputs = directions * positions * (inputs + OF_AN_OUTPUT)
        return outputs <= inputs * (positions + MULTIPLYING * directions)

    def _dots_of_outputs(self, direction: Tensor) -> Tensor:
        """``[N]`` of a direction ``shape``, from the outputs that the call has with it."""
        if self.outputs is not None:
            return dot_products_of_pairs(*self.outputs(direction))
        groups, _, outputs, inputs = self.dims
        transposed = direction.reshape(groups, outputs, inputs).transpose(1, 2)  # [G, K, O]
        parts = []
        for start, stop in self._chunks("singly"):
            x, dy = self.factors(start, stop)  # [n, G, T, K], [n, G, T, O]
            by_group = x.transpose(0, 1).reshape(groups, -1, inputs)  # [G, n*T, K]
            made = torch.bmm(by_group, transposed).view(groups, *dy.shape[:1], *dy.shape[2:])
            parts.append(dot_products_of_pairs(made.transpose(0, 1), dy))
        return torch.cat(parts)

    def _dots_of_gradients(self, directions: Tensor, algorithm: str) -> Tensor:
        """``[D, N]`` from gradients as an algorithm makes them."""
        gradients = self._gradients(algorithm)
        if gradients is None:
            make = self.maker(algorithm) or self.explicit
            gradients = starmap(make, self._chunks(algorithm))
        if algorithm == "transposed":
            groups, _, outputs, inputs = self.dims
            shaped = directions.reshape(-1, groups, outputs, inputs)
            directions = shaped.transpose(2, 3).contiguous()
        return torch.cat([dot_products(chunk, directions) for chunk in gradients], 1)

    def _by(self, algorithm: str, segments: Segments, choose: Choose) -> Summary:
        if algorithm == "gram":
            return self._gram(segments)
        if algorithm in PRODUCTS:
            return self._by_one_product(PRODUCTS[algorithm], segments)
        gradients = self._gradients(algorithm)
        if gradients is None:
            return super()._by(algorithm, segments, choose)
        summary = reduced(gradients, segments, self.explicit)
        totals = summary.totals
        if algorithm == "transposed":
            totals = totals.transpose(2, 3)  # [S, G, O, K]
        return summary._replace(totals=totals.reshape(-1, *self.shape))

    def _gradients(self, algorithm: str) -> Iterator[Tensor] | None:
        """Chunks of gradients in other shapes than the parameter's; the next may overwrite one."""
        if algorithm == "transposed":
            return starmap(self._transposed, self._chunks(algorithm))
        if algorithm == "singly":
            return self._matrix_products()
        if algorithm == SINGLY_BY_ONEDNN:
            return self._products_by_onednn()
        make = self.single_makers.get(algorithm)
        return None if make is None else self._made_alone(make)

    def _transposed(self, start: int, stop: int) -> Tensor:
        """``[n, G, K, O]``: as ``explicit`` with the factors of the products exchanged."""
        groups, _, outputs, inputs = self.dims
        x, dy = self.factors(start, stop)
        return _products(x, dy).view(stop - start, groups, inputs, outputs)

    def _made_alone(self, make: Callable[[int], Tensor]) -> Iterator[Tensor]:
        """Gradients ``[n, *shape]``, each made for itself; small ones together."""
        together = self.together(self.count)
        for start in range(0, self.count, together):
            yield stacked([make(n) for n in range(start, min(start + together, self.count))])

    def _matrix_products(self) -> Iterator[Tensor]:
        """Gradients ``[n, G, O, K]``, one product each, all in the same memory."""
        groups, _, outputs, inputs = self.dims
        place, filled = self.like.new_empty(self.together(self.count), groups, outputs, inputs), 0
        for start, stop in self._chunks("singly"):
            x, dy = self.factors(start, stop)  # [n, G, T, K], [n, G, T, O]
            for right, left in zip(x.unbind(), dy.transpose(2, 3).unbind(), strict=True):
                torch.bmm(left, right, out=place[filled])
                filled += 1
                if filled == len(place):
                    yield place
                    filled = 0
        if filled:
            yield place[:filled]

    def _products_by_onednn(self) -> Iterator[Tensor]:
        """Gradients ``[n, O, K]`` of one group, one product each; small ones together."""
        together = self.together(self.count)
        for start, stop in self._chunks(SINGLY_BY_ONEDNN):
            x, dy = (side[:, 0].unbind() for side in self.factors(start, stop))  # [T, K], [T, O]
            for first in range(0, stop - start, together):
                pairs = zip(dy[first : first + together], x[first : first + together], strict=True)
                yield stacked([onednn.product(left.t(), right) for left, right in pairs])

    def together(self, count: int) -> int:
        """Of ``count`` gradients that are made one by one, those squared and added at once."""
        return max(1, min(count, TOGETHER // max(1, self.shape.numel())))

    def _gram(self, segments: Segments) -> Summary:
        """``q[n] = sum_{t,t'} (x_t . x_t') (dy_t . dy_t')``, summed over the groups.

        The sum over each segment is the ordinary weight gradient.
        """
        totals = stacked([self.batch_sum(first, end) for first, end in segments.bounds])
        norms = [self._norms(start, stop) for start, stop in self._chunks("gram")]
        return Summary(totals, *joined(norms))

    def _by_one_product(self, product: Product, segments: Segments) -> Summary:
        """Norms as in ``_gram``, sums by one product over all positions of a chunk of examples."""
        assert self.unfolded is not None
        step = self.chunk("unfolded")
        totals: list[Tensor] = []
        norms: list[Norms] = []
        for first, end in segments.bounds:
            for start in range(first, end, step):
                stop = min(start + step, end)
                chunk = self.unfolded(start, stop)
                if start == first:
                    totals.append(chunk.total(product))
                else:
                    totals[-1].add_(chunk.total(product))
                norms.append(self._norms(start, stop, chunk))
        return Summary(stacked(totals), *joined(norms))

    def _norms(self, start: int, stop: int, unfolded: Unfolded | None = None) -> Norms:
        """Squared norms ``[n]`` of a range of examples, by the cheapest Gram matrices."""
        if self.dims[1] == 1:  # one position: |x|^2 |dy|^2 in each group
            x, dy = (squared_norms(side.flatten(0, 1)) for side in self.factors(start, stop))
            products = x.mul_(dy)
            return Norms(products if self.dims[0] == 1 else products.view(stop - start, -1).sum(1))
        if unfolded is not None and unfolded.by_position and self.dims[1] <= FEW_POSITIONS:
            return norms_by_grams(partial(unfolded.grams, stop - start), self.like)
        return norms_by_grams(partial(self._grams.of, start, stop), self.like)

    @property
    def _grams(self) -> Grams:
        return grams_of_factors(self.factors, self.dims) if self.grams is None else self.grams

    def _bytes_per_example(self, algorithm: str) -> int:
        groups, positions, outputs, inputs = self.dims
        gradient, factors = outputs * inputs, positions * (outputs + inputs)
        values = max(gradient, factors)
        if algorithm == "gram":
            values = self._grams.values
        elif algorithm in (*SINGLY, *PRODUCTS):
            values = factors
        elif algorithm in self.makers:
            values = gradient
        return 4 * groups * values

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
    """Products ``[n * G, A, B]`` of ``[n, G, T, A]`` and ``[n, G, T, B]``, faster than by ``@``."""
    return torch.bmm(left.flatten(0, 1).transpose(1, 2), right.flatten(0, 1))


def _by_by(numbers: tuple[int, ...]) -> str:
    return "x".join(map(str, numbers))


@cache
def _kind_of(
    dims: tuple[int, int, int, int],
    makers: tuple[str, ...],
    unfolds: bool,
    uses: tuple[tuple[int, Walk | None], ...],
    gram_cost: float | None,
    device: torch.device,
    by_onednn: bool,
) -> tuple[tuple[str, ...], str]:
    """The algorithms that could be the fastest, and the key under which one is chosen."""
    groups, positions, outputs, inputs = dims
    words = ["outer products", _by_by(dims), *makers]
    for times, walk in uses:
        words += [f"use of {times}"] * (len(uses) > 1)
        if walk is not None and walk.copied:
            words += ["walk", _by_by(walk.kernel), *map(str, walk[1:-1])]
    key = " ".join([*words, *["unfolded"] * unfolds, *["oneDNN"] * by_onednn])
    unfolded = [*PRODUCTS] if by_onednn else ["unfolded"]
    by_gram = ("gram", *unfolded) if unfolds and positions <= outputs else ("gram",)
    if positions == 1 and groups == 1 and has_float64(device):
        return by_gram, key
    singly: tuple[str, ...] = SINGLY if by_onednn and groups == 1 else SINGLY[:1]
    if not is_cpu(device):
        singly = ()  # an operation for each example takes a GPU longer than what it does
    made = ("direct", "transposed", *singly, *makers)
    cost = cost_of_factors(dims) if gram_cost is None else gram_cost
    if not has_float64(device) or cost > WORTH_TRYING * positions * outputs * inputs:
        return made, key
    return (*made, *by_gram), key
