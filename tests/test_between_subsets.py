"""Whether two subsets pull the same way: the error of cross help, and what chance shows."""

from __future__ import annotations

import numpy as np
import pytest

from analyze import statistics
from analyze.gradients.measurement import Measurement, ParameterRow
from analyze.probes import Cells, ProbeSet
from analyze.results.tree import OK, Row, build_tree
from analyze.statistics.between_subsets import apart, between_subsets, together

FOLDS = 8
COUNT = 40  # examples of a subset
NAMES = ("clean", "corrupted")


def drawn(gradients: np.ndarray):
    """Results of gradients ``[checkpoint, example, direction]``, the first half of them clean."""
    subset = np.repeat(NAMES, COUNT)
    probes = ProbeSet(
        np.zeros((2 * COUNT, 1), dtype=np.float32), np.zeros(2 * COUNT, int), subset.tolist()
    )
    cells = Cells.of(probes, FOLDS)
    row = ParameterRow("fc.weight", "fc", "Linear", 10, (), "linear")
    rows = []
    for k, g in enumerate(gradients):
        sums = np.stack([g[cells.of_probe == c].sum(0) for c in range(len(cells))])
        squares = np.square(g).sum(-1)
        squared = np.array([[squares[cells.of_probe == c].sum() for c in range(len(cells))]])
        one = np.ones(2 * COUNT)
        measured = Measurement(("fc.weight",), (sums @ sums.T)[None], squared, one, one)
        rows.append(Row(f"step_{k:05d}.pt", float(k), np.nan, OK, measured))
    return build_tree(rows, [row], probes, cells, {"folds": FOLDS}, examples=False)


def random(directions: int, checkpoints: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed)
    return drawn.standard_normal((checkpoints, 2 * COUNT, directions))


def of_pair(table, name: str) -> np.ndarray:
    return table[name].sel(subset="clean", subset_other="corrupted").values


def test_the_error_of_cross_help_is_the_jackknife_over_folds():
    gradients = random(3, 2) + 0.5
    tree = drawn(gradients)
    subset, fold = np.repeat(NAMES, COUNT), tree["parameters"].to_dataset()
    cells = Cells.of(
        ProbeSet(np.zeros((80, 1), dtype=np.float32), np.zeros(80, int), subset.tolist()), FOLDS
    )
    fold = fold["cell_fold"].values[cells.of_probe]

    def help_of(used: np.ndarray) -> np.ndarray:
        a, b = (gradients[:, used & (subset == name)].mean(1) for name in NAMES)
        return (a * b).sum(-1)

    theta = np.stack([help_of(fold != k) for k in range(FOLDS)])
    error = np.sqrt((FOLDS - 1) / FOLDS * np.square(theta - theta.mean(0)).sum(0))
    table = between_subsets(tree)
    np.testing.assert_allclose(of_pair(table, "cross_help"), help_of(fold >= 0), rtol=1e-12)
    np.testing.assert_allclose(of_pair(table, "cross_help_stderr"), error, rtol=1e-12)
    stored = tree["network"].to_dataset()
    np.testing.assert_allclose(
        of_pair(table, "gradient_cosine_stderr"), of_pair(stored, "gradient_cosine_stderr")
    )


@pytest.mark.parametrize("directions", [1, 2, 20])
@pytest.mark.parametrize("mean", [0.0, 1.0], ids=["neither has a mean", "one has a mean"])
def test_chance_is_seldom_called_a_pull(directions, mean):
    gradients = random(directions, 300)
    gradients[:, :COUNT, 0] += mean
    table = between_subsets(drawn(gradients))
    assert together(table).sum() <= 2 * 3  # each pair stands twice
    assert (together(table) | apart(table)).sum() == 2 * 300


def test_mean_gradients_that_pull_together_or_apart_are_found():
    gradients = random(5, 2)
    gradients[:, :, 0] += 1.5
    gradients[1, COUNT:, 0] -= 3.0
    table = between_subsets(drawn(gradients))
    assert together(table).sum() == 2 * 2
    assert of_pair(table, "cross_help")[0] > 0 > of_pair(table, "cross_help")[1]


def test_a_subset_and_itself_and_all_are_not_tested():
    table = between_subsets(drawn(random(3, 2)))
    tested = table["p_value_adjusted"].notnull().any("checkpoint")
    assert not tested.sel(subset="all").any()
    assert not np.diagonal(tested.values).any()


def test_differences_of_cross_help_pair_the_folds():
    estimated = statistics.estimate(drawn(random(3, 2)), "cross_help")
    first = estimated.isel(checkpoint=0)
    difference = statistics.difference(first, first)
    assert float(difference["stderr"].sel(subset="clean", subset_other="corrupted")) == 0
