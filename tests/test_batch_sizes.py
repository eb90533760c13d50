"""Batch size and threads change rounding and nothing else."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pytest
import torch

import analyze
from analyze.gradients.device.devices import equal_batches, largest_batch_size
from analyze.gradients.engine import Engine
from analyze.gradients.losses import build_loss
from analyze.gradients.measurement import Settings
from analyze.models.building import build_model
from analyze.specs.model import ModelSpec
from tests.conftest import SPEC, small_probes, small_weights
from tests.nightly import variants

RELATIVE = {"float32": 1e-5, "float64": 1e-9}  # no ReLU of this network is near its kink


@cache
def scaled_gram(precision: str, batch_size: int | str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gram entries over the norms of their cells, and squared norms."""
    torch.set_num_threads(count)
    model = build_model(ModelSpec.parse(SPEC))
    model.load_state_dict(small_weights(0))
    tree = analyze.measure(
        model, small_probes(130), device="cpu", batch_size=batch_size, folds=1, precision=precision
    )
    table = tree["parameters"].to_dataset()
    gram = table["gradient_gram"].values[0]
    diagonal = np.diagonal(gram, axis1=-2, axis2=-1)
    return gram / np.sqrt(diagonal[:, :, None] * diagonal[:, None, :]), np.concatenate(
        [diagonal, table["gradient_sqnorm"].values[0]]
    )


@pytest.mark.parametrize(
    ("precision", "threads_used", "batch_size"),
    variants(
        list(product(RELATIVE, [1, 2], [1, 7, 64, "auto"])),
        lambda precision, threads, size: {(precision, threads), (threads, size)},
    ),
)
def test_results_do_not_depend_on_batch_size_and_threads(precision, threads_used, batch_size):
    gram, norms = scaled_gram(precision, 32, 1)
    other_gram, other_norms = scaled_gram(precision, batch_size, threads_used)
    np.testing.assert_allclose(other_gram, gram, rtol=0, atol=RELATIVE[precision])
    np.testing.assert_allclose(other_norms, norms, rtol=RELATIVE[precision])


@pytest.mark.parametrize(
    ("kept", "size"), [(600, 512), (500_000, 134), (2 << 20, 128), (8 << 20, 64), (600 << 20, 1)]
)
def test_a_batch_is_as_large_as_fits_and_larger_where_examples_are_tiny(kept, size):
    assert largest_batch_size(torch.device("cpu"), kept) == size


@pytest.mark.parametrize(
    ("examples", "largest", "threads", "size"),
    [(300, 128, 1, 100), (300, 128, 2, 75), (256, 64, 2, 64), (7, 128, 4, 2), (1, 8, 1, 1)],
)
def test_batches_are_of_equal_length_and_as_many_for_each_thread(examples, largest, threads, size):
    assert equal_batches(examples, largest, threads) == size


def prepared(**options) -> Engine:
    engine = Engine(small_probes(300), build_loss("cross_entropy"), Settings("cpu", **options))
    engine.prepare([build_model(ModelSpec.parse(SPEC))])
    return engine


def test_the_automatic_batch_size_follows_from_what_autograd_keeps():
    engine = prepared()
    kept = engine.current.cost.kept
    assert engine.batch_size == equal_batches(300, largest_batch_size(engine.device, kept))
    assert engine.state()["batch_size"] == engine.batch_size


def test_a_batch_size_that_is_asked_for_is_taken():
    assert prepared(batch_size=7).batch_size == 7
