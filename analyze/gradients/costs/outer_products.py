"""The work of the algorithms of ``OuterProducts``: linear layers and convolutions.

``[G, T, O, K]`` are ``form.dims``; each function follows the code of ``forms/outer_products.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from analyze.gradients.costs.work import (
    BATCHED,
    CONVOLUTION,
    CORRELATED,
    DEPTHWISE,
    DILATED,
    EXCHANGED,
    GRAMS,
    GROUPED,
    MATRIX,
    NARROW,
    ONEDNN,
    SINGLE,
    Work,
    added,
    product,
    some,
)
from analyze.gradients.data.batches import BatchShape
from analyze.gradients.forms import OuterProducts, Walk
from analyze.gradients.forms.form import chunk_length
from analyze.gradients.forms.outer_products import FEW_POSITIONS, SINGLY_BY_ONEDNN

ADDING = 1 << 16  # entries of the matrix that adds up Gram matrices, see rules/geometry.py
LANES = 16  # channels that oneDNN computes at a time
HALF = 8  # channels of a group that fill half of them: fewer go to a slower way
SMALL_KERNEL = 9  # taps at most of kernels that oneDNN has a depthwise weight gradient for


def work(form: OuterProducts, algorithm: str, batch: BatchShape) -> Work:
    """What an algorithm does for a batch.

    Raises:
        KeyError: no such algorithm is known.
    """
    return _WORK[algorithm](form, batch)


def making(form: OuterProducts, batch: BatchShape, algorithm: str = "direct") -> Work:
    """What it takes to make every example's gradient at once, by ``direct`` or ``transposed``."""
    groups, positions, outputs, inputs = form.dims
    times, chunks = batch.examples * groups, _chunks(form, algorithm, batch)
    sides = (inputs, outputs) if algorithm == "transposed" else (outputs, inputs)
    kind = EXCHANGED if algorithm == "transposed" else BATCHED
    made = product(kind, times, sides[0], positions, sides[1])
    return added((_factors(form, batch.examples, chunks), made, some(calls=2 * chunks)))


def _direct(form: OuterProducts, batch: BatchShape) -> Work:
    return added((making(form, batch), _reduced(form, batch, _chunks(form, "direct", batch))))


def _transposed(form: OuterProducts, batch: BatchShape) -> Work:
    chunks = _chunks(form, "transposed", batch)
    return added((making(form, batch, "transposed"), _reduced(form, batch, chunks)))


def _singly(form: OuterProducts, batch: BatchShape) -> Work:
    """One call for each example, small gradients reduced together."""
    groups, positions, outputs, inputs = form.dims
    made = product(SINGLE, batch.examples * groups, outputs, positions, inputs)
    factors = _factors(form, batch.examples, _chunks(form, "singly", batch))
    calls = some(calls=batch.examples)
    return added((factors, made, calls, _reduced(form, batch, _steps(form, batch))))


def _singly_by_onednn(form: OuterProducts, batch: BatchShape) -> Work:
    groups, positions, outputs, inputs = form.dims
    made = product(ONEDNN, batch.examples * groups, outputs, positions, inputs)
    factors = _factors(form, batch.examples, _chunks(form, SINGLY_BY_ONEDNN, batch))
    return added((factors, made, _stacked(form, batch)))


def _alone(form: OuterProducts, batch: BatchShape) -> Work:
    """Torch's weight gradient for each example by itself."""
    made = _weight_gradient(form, GROUPED, batch.examples, 1, form.dims[0])
    return added((made, some(calls=3 * batch.examples), _stacked(form, batch)))


def _grouped(form: OuterProducts, batch: BatchShape) -> Work:
    """Torch's weight gradient with every example as a group of its own."""
    chunks = _chunks(form, "grouped", batch)
    groups = form.dims[0] * (batch.examples // chunks)
    made = _weight_gradient(form, GROUPED, batch.examples, 1, groups)
    return added((made, some(calls=4 * chunks), _reduced(form, batch, chunks)))


def _correlated(form: OuterProducts, batch: BatchShape) -> Work:
    groups, positions, _, inputs = form.dims
    kind = CORRELATED if _walk(form).step == 1 else DILATED
    chunks = _chunks(form, "correlated", batch)
    made = product(kind, batch.examples * groups, 1, positions, inputs)
    return added((made, some(calls=6 * chunks), _reduced(form, batch, chunks)))


def _gram(form: OuterProducts, batch: BatchShape) -> Work:
    """The ordinary weight gradient of each segment, and the norms."""
    norms = _norms(form, batch.examples, _chunks(form, "gram", batch))
    return added((_batch_sums(form, batch), norms))


def _unfolded(kind: str) -> Callable[[OuterProducts, BatchShape], Work]:
    """All positions of a chunk in two matrices, multiplied by the kind of product; the norms."""

    def of(form: OuterProducts, batch: BatchShape) -> Work:
        groups, positions, outputs, inputs = form.dims
        of_segment = batch.examples / batch.segments
        parts = math.ceil(of_segment / form.chunk("unfolded", batch.threads))
        chunks = batch.segments * parts
        total = product(kind, chunks * groups, outputs, positions * of_segment / parts, inputs)
        pixels = batch.examples * groups * positions  # in each copy of both factors
        taps = math.prod(_walk(form).kernel)
        copied = some(calls=10 * chunks)
        if taps > 1:
            copied.update(some(copied=pixels * inputs, rows=pixels * taps))
        joined = taps > 1 and positions <= FEW_POSITIONS
        again = some(reduced=(chunks - batch.segments) * form.shape.numel())
        return added((copied, total, again, _norms(form, batch.examples, chunks, joined)))

    return of


_WORK: dict[str, Callable[[OuterProducts, BatchShape], Work]] = {
    "direct": _direct,
    "transposed": _transposed,
    "singly": _singly,
    SINGLY_BY_ONEDNN: _singly_by_onednn,
    "alone": _alone,
    "grouped": _grouped,
    "correlated": _correlated,
    "gram": _gram,
    "unfolded": _unfolded(MATRIX),
    "unfolded by oneDNN": _unfolded(ONEDNN),
}


def _chunks(form: OuterProducts, algorithm: str, batch: BatchShape) -> int:
    most = form.chunk(algorithm, batch.threads)
    return math.ceil(batch.examples / chunk_length(batch.examples, most, batch.threads))


def _steps(form: OuterProducts, batch: BatchShape) -> int:
    """How often gradients that are made one by one are reduced."""
    return math.ceil(batch.examples / form.together(batch.examples))


def _walk(form: OuterProducts) -> Walk:
    assert form.walk is not None, "no convolution"
    return form.walk


def _factors(form: OuterProducts, examples: int, chunks: int) -> Work:
    """Both factors in chunks: those of a convolution are unfolded, those of several uses joined."""
    groups, positions, outputs, inputs = form.dims
    if form.uses:
        joined = examples * groups * positions * (outputs + inputs)
        parts = [_factors(use, examples, chunks) for use in form.uses]
        return added((*parts, some(calls=2 * chunks, copied=joined)))
    if form.walk is None or not form.walk.copied:
        return some(calls=2 * chunks)
    entries = examples * groups * positions * inputs
    strided = entries if form.walk.step > 1 else 0  # else whole rows at a time
    return some(calls=5 * chunks, copied=strided, rows=entries / form.walk.row)


def _reduced(form: OuterProducts, batch: BatchShape, chunks: int) -> Work:
    """Squares and sums of all gradients, that come in chunks."""
    entries = batch.examples * form.shape.numel()
    return some(reduced=entries, calls=3 * (chunks + batch.segments - 1))


def _stacked(form: OuterProducts, batch: BatchShape) -> Work:
    """Gradients made one by one, small ones put together, and reduced."""
    alone = form.together(batch.examples) == 1
    copied = 0 if alone else batch.examples * form.shape.numel()
    return added((some(copied=copied), _reduced(form, batch, _steps(form, batch))))


def _batch_sums(form: OuterProducts, batch: BatchShape) -> Work:
    """The ordinary weight gradient of each segment, by torch."""
    if form.uses:
        return added(_batch_sums(use, batch) for use in form.uses)
    groups, positions, outputs, inputs = form.dims
    length = batch.examples / batch.segments
    if form.walk is None:
        shared = positions * length
        total = product(MATRIX, batch.segments * groups, outputs, shared, inputs)
        return added((total, some(calls=3 * batch.segments)))
    total = _weight_gradient(form, CONVOLUTION, batch.segments, length, groups)
    return added((total, some(calls=batch.segments)))


def _weight_gradient(
    form: OuterProducts, kind: str, times: int, images: float, groups: int
) -> Work:
    """Torch's weight gradient of some images, so many times, in calls of so many groups.

    oneDNN computes ``LANES`` outputs at a time, whether there are as many or not.
    """
    own, positions, outputs, inputs = form.dims
    walk, shared = _walk(form), positions * images
    channels = inputs // math.prod(walk.kernel)
    if outputs == channels == 1 and inputs <= SMALL_KERNEL <= positions and groups % LANES == 0:
        return product(DEPTHWISE, times * own, 1, shared, inputs)
    if groups > 1 and (channels % HALF or outputs % HALF):
        return product(NARROW, times * own, outputs, shared, inputs)
    lanes = LANES * math.ceil(outputs / LANES)
    # No patches are made: the input is read as it is.
    read = images * (walk.places * channels + positions * lanes)
    made = product(kind, times * own, lanes, shared, inputs, read)
    return added((made, some(images=times * images * own if kind == CONVOLUTION else 0)))


def _norms(form: OuterProducts, examples: int, chunks: int, joined: bool = False) -> Work:
    """Norms by Gram matrices, in chunks; ``joined`` where those of unfolded factors are taken."""
    groups, positions, outputs, inputs = form.dims
    times = examples * groups
    if positions == 1:
        lengths = some(calls=6 * chunks, reduced=times * (outputs + inputs))
        return added((_factors(form, examples, chunks), lengths))
    reduced = some(reduced=times * positions**2, calls=10 * chunks)
    of_dy = product(GRAMS, times, positions, outputs, positions)
    of_x = product(GRAMS, times, positions, inputs, positions)
    if joined:
        return added((reduced, of_x, of_dy, some(calls=8 * chunks)))
    if form.grams is None:
        factors = _factors(form, examples, chunks)
        return added((reduced, of_x, of_dy, factors, some(calls=4 * chunks)))
    return added((reduced, of_dy, _grams_of_places(form, times, chunks)))


def _grams_of_places(form: OuterProducts, times: int, chunks: int) -> Work:
    """Gram matrices of single places, added up to those of patches: see rules/geometry.py."""
    walk, (_, positions, _, inputs) = _walk(form), form.dims
    of_places = product(GRAMS, times, walk.places, inputs // math.prod(walk.kernel), walk.places)
    made = added((of_places, some(calls=6 * chunks)))
    if not walk.copied:
        return made
    if walk.places**2 * positions**2 <= ADDING:
        return added((made, product(MATRIX, chunks, times / chunks, walk.places**2, positions**2)))
    shifts = sum(walk.kernel)
    copied = times * positions * walk.places * shifts
    return added((made, some(copied=copied, calls=2 * shifts * chunks)))
