"""Whom single examples help: closed forms, identities, and errors by leaving out one at a time."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from analyze import statistics
from analyze.errors import InputError
from analyze.statistics import alignment, arrays, jackknife
from analyze.statistics.sufficient import SufficientStatistics
from tests.conftest import assert_three_facts
from tests.synthetic import synthetic

CASES = {
    "some agreement": lambda r: r.normal(size=(40, 7)) + 0.5,
    "none": lambda r: r.normal(size=(40, 7)),
    "few decide": lambda r: (r.normal(size=(40, 7)) + 0.3) * np.exp(r.normal(size=(40, 1))),
    "one without gradient": lambda r: np.concatenate([np.zeros((1, 7)), r.normal(size=(39, 7))]),
    "three": lambda r: r.normal(size=(3, 2)),
}


@pytest.fixture(params=CASES)
def gradients(request):
    return CASES[request.param](np.random.default_rng(5))


def sums_of(g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Alignment with the sum of all, and squared norms."""
    return g @ g.sum(0), np.square(g).sum(1)


def alpha_of(g: np.ndarray) -> float:
    """Unbiased alpha by its definition: the mean product of two different gradients, over Q/m."""
    m, products = len(g), g @ g.T
    pairs = products.sum() - np.trace(products)
    return pairs / (m * (m - 1)) / (np.trace(products) / m)


def test_help_of_single_examples_adds_up_to_coherence(gradients):
    a, q = sums_of(gradients)
    helped = alignment.helped_by(a, q)
    assert np.nansum(q * helped) / q.sum() == pytest.approx(a.sum() / q.sum())
    assert a.sum() == pytest.approx(np.square(gradients.sum(0)).sum())


def test_leave_one_out_is_the_product_with_the_others(gradients):
    a, q = sums_of(gradients)
    others = gradients.sum(0) - gradients
    found = alignment.leave_one_out(a, q, np.ones(len(q), dtype=bool))
    np.testing.assert_allclose(found, (gradients * others).sum(1), rtol=1e-10, atol=1e-10)
    none = np.zeros(len(q), dtype=bool)
    np.testing.assert_array_equal(alignment.leave_one_out(a, q, none), a)


@pytest.mark.parametrize("inside", [True, False])
def test_the_cosine_leaves_the_example_itself_out(gradients, inside):
    a, q = sums_of(gradients)
    member = np.full(len(q), inside)
    rest = gradients.sum(0) - gradients * member[:, None]
    lengths = np.linalg.norm(gradients, axis=1) * np.linalg.norm(rest, axis=1)
    expected = arrays.ratio((gradients * rest).sum(1), lengths)
    norm = np.linalg.norm(gradients.sum(0), keepdims=True)
    found = alignment.cosine_with_others(a, q, norm, member)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_direction_that_is_the_example_alone_has_no_cosine():
    a, q = sums_of(np.array([[3.0, 4.0]]))
    assert np.isnan(alignment.cosine_with_others(a, q, np.array([5.0]), np.array([True]))).all()
    kept = np.float32(a * 1.0000001)  # as a file keeps it
    assert np.isnan(alignment.cosine_with_others(kept, q, np.array([5.0]), np.array([True]))).all()


def test_the_error_is_the_brute_force_jackknife(gradients):
    a, q = sums_of(gradients)
    m = len(q)
    brute = np.array([alpha_of(np.delete(gradients, i, axis=0)) for i in range(m)])
    np.testing.assert_allclose(alignment.delete_one(a, q), brute, rtol=1e-9, atol=1e-12)
    error, degrees = alignment.delete_one_error(a, q)
    assert error == pytest.approx(np.sqrt((m - 1) / m * np.square(brute - brute.mean()).sum()))
    assert 0 < degrees <= m - 1


def test_the_error_is_that_of_folds_of_one_example(gradients):
    a, q = sums_of(gradients)
    m = len(q)
    sums = SufficientStatistics(
        gradients @ gradients.T, q, np.ones(m, int), np.arange(m), np.ones((1, m), dtype=bool)
    )
    expected = jackknife.standard_error(sums.alpha_replicates, sums.used)
    assert alignment.delete_one_error(a, q)[0] == pytest.approx(expected[0], rel=1e-9)


def test_the_closed_form_to_first_order():
    """``e_i = 2 ((a_i - q_i)/(m - 1) - U) - alpha (q_i - M)``: the paper's infinitesimal form."""
    g = np.random.default_rng(3).normal(size=(2000, 20)) + 0.2
    a, q = sums_of(g)
    m, alpha = len(q), alpha_of(g)
    e = 2 * ((a - q) / (m - 1) - (a - q).sum() / (m * (m - 1))) - alpha * (q - q.mean())
    closed = np.sqrt(np.square(e).sum() / (m * (m - 1))) / q.mean()
    assert alignment.delete_one_error(a, q)[0] == pytest.approx(closed, rel=5e-3)


def test_too_few_examples_have_no_error():
    error, degrees = alignment.delete_one_error(*sums_of(np.eye(2)))
    assert np.isnan(error)
    assert np.isnan(degrees)


def test_shares():
    a, q = np.array([3.0, -1.0, 1.0, 0.5, 0.0]), np.array([1.0, 1.0, 1.0, 1.0, 0.0])
    others = alignment.leave_one_out(a, q, np.ones(5, dtype=bool))
    assert alignment.share_helped(others, q) == 0.25  # of the four with a gradient
    assert alignment.zero_sum_share(np.array([2.0, 1.0])) == 0
    assert alignment.zero_sum_share(np.array([2.0, -2.0])) == 1
    assert alignment.zero_sum_share(np.array([3.0, -1.0])) == 0.5


def test_tracin_sums_over_the_checkpoints_that_have_a_value():
    a = np.array([[1.0, np.nan], [np.nan, np.nan], [2.0, np.nan]])
    found = alignment.tracin(a, np.array([0.5, 9.0, 0.1]))
    np.testing.assert_allclose(found, [0.7, np.nan])


# --- on trees

DIRECTIONS = ("clean", "corrupted", "all", "update", "weights")


@pytest.fixture(scope="module")
def tree():
    return synthetic(layers=3, checkpoints=4, probes=20, skipped=(2,), directions=DIRECTIONS)


def test_what_is_labelled_is_what_is_computed(tree):
    group = tree["examples"].to_dataset()
    found = statistics.examples(tree, layers="layers")
    place = {"checkpoint": 1, "direction": 0, "layer": 2}
    a, q = (group[n].astype(float) for n in ("alignment", "gradient_sqnorm"))
    a = a.isel(place).values
    q = q.isel(checkpoint=1, layer=2).values
    norm = group["direction_norm"].isel(place).values[None]
    clean = group["subset"].values == "clean"
    at = found.isel(place)
    np.testing.assert_array_equal(at["alignment"], a)
    np.testing.assert_array_equal(at["helped_by"], a / q)
    np.testing.assert_array_equal(at["leave_one_out"], a - q * clean)
    np.testing.assert_array_equal(at["cosine"], alignment.cosine_with_others(a, q, norm, clean))
    assert float(at["share_helped"].sel(subset="clean")) == np.mean((a - q)[clean] > 0)
    assert float(at["share_helped"].sel(subset="held_out")) == np.mean(a[40:] > 0)
    assert np.isnan(found["alignment"].isel(checkpoint=2)).all()
    assert np.isnan(found["share_helped"].isel(checkpoint=2)).all()


def test_the_network_is_the_sum_of_its_layers(tree):
    layers, network = (statistics.examples(tree, layers=name) for name in ("layers", "network"))
    np.testing.assert_allclose(layers["alignment"].sum("layer", skipna=False), network["alignment"])
    blocks = statistics.examples(tree, layers={"first": ["*.0.conv"], "rest": ["*.norm", "*.att*"]})
    np.testing.assert_allclose(blocks["alignment"].sum("layer", skipna=False), network["alignment"])


def test_a_layer_that_is_never_used_leaves_the_network_its_value(tree):
    broken = tree.copy()
    group = tree["examples"].to_dataset(inherit=False).copy(deep=True)
    for name in ("gradient_sqnorm", "alignment", "direction_norm"):
        group[name].loc[{"layer": group["layer"].values[0]}] = np.nan
    broken["examples"] = xr.DataTree(group)
    found = statistics.examples(broken)["alignment"]
    rest = statistics.examples(tree, layers="layers")["alignment"].isel(layer=slice(1, None))
    np.testing.assert_allclose(found, rest.sum("layer", skipna=False))


def test_movements_have_no_group(tree):
    found = statistics.examples(tree).sel(direction=["update", "weights"]).isel(checkpoint=0)
    for name in ("helped_by", "leave_one_out"):
        assert np.isnan(found[name]).all()
    a = found["alignment"].sel(direction="update").values
    share = found["share_helped"].sel(direction="update", subset="clean")
    assert float(share) == np.mean(a[:20] < 0)  # the loss falls along it
    assert np.isfinite(found["cosine"]).all()


def test_errors_by_examples_take_the_place_of_folds(tree):
    plain = synthetic(layers=3, checkpoints=4, probes=20, skipped=(2,), directions=("update",))
    for group in ("network", "layers"):
        with_one, by_folds = (t[group].to_dataset() for t in (tree, plain))
        stderr = with_one["m_coherence_stderr"]
        assert stderr.attrs["one_at_a_time"] == "clean, corrupted, all"
        assert "one_at_a_time" not in by_folds["m_coherence_stderr"].attrs
        at = {"checkpoint": 1, **({"layer": 1} if group == "layers" else {})}
        examples = statistics.examples(tree, layers=group).isel(at).sel(direction="clean")
        a = examples["alignment"].values[:20]
        q = a / examples["helped_by"].values[:20]
        expected, degrees = alignment.delete_one_error(a, q)
        here = with_one.isel(at).sel(subset="clean")
        assert float(here["m_coherence_stderr"]) == pytest.approx(19 * expected)
        assert float(here["degrees_of_freedom"]) == pytest.approx(degrees)
        root = float(here["m_coherence"]) ** 0.5  # an interval of the root, squared
        half = 19 * expected * jackknife.t_quantile(degrees) / (2 * root)
        assert float(here["m_coherence_upper"]) == pytest.approx((root + half) ** 2)
        for name in ("m_coherence_stderr", "degrees_of_freedom"):  # no direction: folds as before
            np.testing.assert_array_equal(
                with_one[name].sel(subset="held_out"), by_folds[name].sel(subset="held_out")
            )


def test_a_group_made_of_directions_has_its_error_too():
    whole = synthetic(layers=2, checkpoints=2, probes=20, directions=("all",))
    parts = synthetic(layers=2, checkpoints=2, probes=20, directions=("clean", "corrupted"))
    found = [t["network"]["m_coherence_stderr"].sel(subset="all").values for t in (whole, parts)]
    np.testing.assert_allclose(*found, rtol=1e-5)
    lacking = synthetic(layers=2, checkpoints=2, probes=20, directions=("clean",))
    attributes = lacking["network"]["m_coherence_stderr"].attrs
    assert attributes["one_at_a_time"] == "clean"
    union = statistics.coherence(parts, subsets={"both": {"subset": ["clean", "corrupted"]}})
    np.testing.assert_allclose(union["m_coherence_stderr"].sel(subset="both"), found[0], rtol=1e-5)


def test_estimates_keep_the_folds_that_differences_pair_by(tree):
    plain = synthetic(layers=3, checkpoints=4, probes=20, skipped=(2,), directions=("update",))
    for name in ("value", "stderr", "degrees_of_freedom"):
        found = [statistics.estimate(t)[name] for t in (tree, plain)]
        np.testing.assert_array_equal(*found)


def test_tracin_takes_learning_rates_where_there_are_any(tree):
    group = tree["examples"].to_dataset()
    a = group["alignment"].astype(float).sum("layer", skipna=False)
    found = statistics.tracin(tree)
    np.testing.assert_allclose(found["tracin"].sel(direction="all"),
                               a.sel(direction="all").sum("checkpoint"))  # fmt: skip
    assert found["tracin"].attrs["rates"].startswith("1 for every checkpoint")
    assert list(found["direction"].values) == ["clean", "corrupted", "all"]
    rates = np.array([0.1, 0.2, np.nan, 0.05])  # the third was skipped
    known = tree.copy()
    known["examples"] = group.assign_coords(learning_rate=("checkpoint", rates))
    weighted = statistics.tracin(known)
    np.testing.assert_allclose(
        weighted["tracin"].sel(direction="all"),
        (a.sel(direction="all") * rates[:, None]).sum("checkpoint"),
    )
    assert weighted["tracin"].attrs["rates"] == "those of the checkpoints"


def test_results_without_directions_are_refused_with_what_to_type():
    with pytest.raises(InputError) as refused:
        statistics.examples(synthetic(layers=2, checkpoints=2))
    assert_three_facts(str(refused.value))
    assert "--directions all" in refused.value.fix
