"""Several runs side by side: matching, ratios with errors, refusals, files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.path import Path

import analyze
from analyze.comparison import details
from analyze.comparison import page as comparison_page
from analyze.comparison.cards import cards
from analyze.comparison.matching import same_probes
from analyze.comparison.page import write_comparison
from analyze.comparison.rows import difference_rows, peak_rows, setting_rows
from analyze.comparison.runs import Run, grouped
from analyze.figures import pair_ratio, runs_over_training
from analyze.pages.text import cell
from analyze.probes.facts import inputs_hash
from analyze.statistics.arrays import alpha_unbiased
from analyze.statistics.ratios import log_ratio
from analyze.statistics.significance import RATE
from analyze.statistics.sizes import at_one_size
from tests.comparisons import make_comparison
from tests.conftest import SUBSETS, assert_input_error, call, make_run, small_probes
from tests.simulation import COUNT, correlated_folds, normal_folds
from tests.trees import pictures


@pytest.fixture(scope="module")
def two(measured, tmp_path_factory):
    """The measured run, and the same checkpoints with other labels and all of them readable."""
    run = make_run(tmp_path_factory.mktemp("other"))
    given = small_probes()
    other = analyze.ProbeSet(
        given.inputs[""], (given.targets + 1) % 3, [SUBSETS[k % 3] for k in range(24)]
    )
    analyze.run(run.path, probes=other, output=run.output, folds=2, device="cpu")
    return {"first": measured.output, "second": run.output}


@pytest.fixture(scope="module")
def compared(two) -> xr.DataTree:
    """Both side by side; not to be changed."""
    return analyze.compare(two)


def with_changes(path, **provenance) -> xr.DataTree:
    tree = analyze.open_results(path)
    tree.attrs["provenance"] = json.dumps(json.loads(tree.attrs["provenance"]) | provenance)
    return tree


# --- values


def test_runs_stand_beside_each_other_unchanged(two, compared):
    assert compared["network"]["m_coherence"].dims == ("run", "checkpoint", "subset")
    assert compared["layers"]["m_coherence"].dims == ("run", "checkpoint", "layer", "subset")
    for name, path in two.items():
        own = analyze.open_results(path)
        order = np.argsort(own["step"].values)
        for group in ("network", "layers"):
            expected = own[group]["m_coherence"].isel(checkpoint=order).values
            found = compared[group]["m_coherence"].sel(run=name).values
            np.testing.assert_array_equal(found, expected)
    assert list(compared["step"].values) == [9, 10, 100]


def test_a_skipped_checkpoint_has_no_ratio_and_says_why(compared):
    pairs = compared["pairs/network"].to_dataset()
    assert pairs["log_ratio"].sel(checkpoint="step 10").isnull().all()
    assert pairs["log_ratio"].sel(checkpoint="step 9").notnull().any()
    status = compared["status"].sel(checkpoint="step 10")
    assert status.sel(run="second") == "ok"
    assert status.sel(run="first") != "ok"


def test_the_ratio_is_that_of_the_values(compared):
    value = at_one_size(compared)["m_coherence"]
    expected = np.log(value.sel(run="second") / value.sel(run="first"))
    found = compared["pairs/network"].to_dataset()["log_ratio"].isel(pair=0)
    known = found.notnull().values
    assert known.any()
    np.testing.assert_allclose(found.values[known], expected.values[known], rtol=1e-9)


def test_a_run_beside_itself_differs_nowhere(measured):
    pairs = analyze.compare({"a": measured.output, "b": measured.output})["pairs/layers"]
    known = pairs["log_ratio"].values
    assert (known[np.isfinite(known)] == 0).all()
    assert not (pairs["p_value_adjusted"].values <= RATE).any()


@pytest.mark.parametrize("by", ["block", "parameter"])
def test_rows_of_another_size(two, by):
    tree = analyze.compare(two, by=by)
    value = at_one_size(tree, "layers")["m_coherence"]
    found = tree["pairs/layers"].to_dataset()["log_ratio"].isel(pair=0)
    expected = np.log(value.sel(run="second") / value.sel(run="first"))
    known = found.notnull() & expected.notnull()
    assert known.any()
    np.testing.assert_allclose(
        found.where(known).values, expected.where(known).transpose(*found.dims).values, rtol=1e-9
    )


def test_layers_of_other_names(two):
    first = analyze.open_results(two["first"])
    names = [str(name) for name in first["layers"]["layer"].values]
    tree = analyze.compare(two, rename=[f"{names[0]}=stem"])
    assert "stem" in tree["layers"]["layer"].values
    assert names[0] not in tree["layers"]["layer"].values
    with pytest.raises(analyze.InputError, match="no run has a layer"):
        analyze.compare(two, rename=["gone=stem"])
    with pytest.raises(analyze.InputError, match="same name"):
        analyze.compare(two, rename=[f"{names[0]}={names[1]}"])
    with pytest.raises(analyze.InputError, match="what to rename"):
        analyze.compare(two, rename=["stem"])


# --- statistics


def estimates(gram: np.ndarray, squares: np.ndarray) -> xr.Dataset:
    """Unbiased alpha of every draw with its replicates: a draw is a checkpoint."""
    folds = gram.shape[-1]
    keep = 1.0 - np.eye(folds)

    def alpha(weights, count):
        total = np.einsum("...f,dfg,...g->...d", weights, gram, weights)
        return alpha_unbiased(total, squares @ weights.T if weights.ndim > 1 else squares @ weights,
                              count)  # fmt: skip

    value = alpha(np.ones(folds), float(COUNT))
    theta = np.stack([alpha(row, COUNT * (1 - 1 / folds)) for row in keep])
    over = ("checkpoint", "subset")
    return xr.Dataset(
        {
            "value": (over, value[:, None]),
            "replicate": (("fold", *over), theta[:, :, None]),
            "used": (("fold", "subset"), np.ones((folds, 1), dtype=bool)),
            "degrees_of_freedom": (over, np.full((len(value), 1), folds - 1.0)),
        },
        {"checkpoint": np.arange(len(value)), "subset": ["all"], "fold": np.arange(folds)},
    )


def ratios(first, second, *, paired):
    count = xr.DataArray([COUNT], dims="subset", coords={"subset": ["all"]})
    return log_ratio(estimates(*first), estimates(*second), count, paired=paired)


def test_paired_intervals_cover_and_equal_runs_differ_at_the_nominal_rate():
    gram, squares = correlated_folds(np.random.default_rng(0), 2000, 10, 50, (0.05, 0.05), 0.8)
    both = [(gram[k], squares[k]) for k in range(2)]
    found = ratios(*both, paired=True)
    rate = float((found["p_value"] < 0.05).mean())
    assert 0.03 < rate < 0.08
    apart = ratios(*both, paired=False)
    assert float(found["log_ratio_stderr"].mean()) < float(apart["log_ratio_stderr"].mean())
    assert float((found["p_value_adjusted"] <= RATE).mean()) < 0.005


def test_intervals_cover_a_ratio_that_is_there():
    alphas = (0.05, 0.1)
    gram, squares = correlated_folds(np.random.default_rng(1), 2000, 10, 50, alphas, 0.8)
    found = ratios((gram[0], squares[0]), (gram[1], squares[1]), paired=True)
    truth = np.log((1 + (COUNT - 1) * alphas[1]) / (1 + (COUNT - 1) * alphas[0]))
    inside = (found["log_ratio_lower"] <= truth) & (truth <= found["log_ratio_upper"])
    assert 0.92 < float(inside.mean()) < 0.97


def test_unpaired_intervals_of_independent_runs():
    draw, spectrum = np.random.default_rng(2), np.ones(50)
    both = [normal_folds(draw, 2000, 10, spectrum, 0.05) for _ in range(2)]
    rate = float((ratios(*both, paired=False)["p_value"] < 0.05).mean())
    assert 0.03 < rate < 0.08


# --- probes


def test_the_hash_of_inputs_knows_inputs_and_not_labels_or_order():
    given = small_probes()
    order = np.arange(24)[::-1]
    other = analyze.ProbeSet(given.inputs[""][order], given.targets[order] * 0, id=given.id[order])
    assert inputs_hash(other) == inputs_hash(given)
    changed = given.inputs[""].copy()
    changed[3, 2] += 1
    assert inputs_hash(analyze.ProbeSet(changed, given.targets)) != inputs_hash(given)


def test_other_inputs_are_refused_unless_asked_for_and_then_marked(two):
    runs = {"a": two["first"], "b": with_changes(two["second"], inputs_sha256="other")}
    with pytest.raises(analyze.InputError, match="different probes"):
        analyze.compare(runs)
    tree = analyze.compare(runs, different_probes=True)
    assert list(tree["probes"].values)[1] == "different"
    assert not tree["pairs/network"]["paired"].values.any()


def test_older_results_are_judged_by_ids(two):
    old = [Run(k, with_changes(path, inputs_sha256=None)) for k, path in two.items()]
    assert same_probes(*old) == (True, "ids of the probes")


# --- files, figures and the command


def test_figures_show_every_run_and_hatch_what_is_not_significant(compared):
    ax = runs_over_training.draw(compared, Figure().add_subplot(), "clean")
    assert ax.get_legend_handles_labels()[1] == ["first", "second"]
    size = min(n for run in compared["probe_count"].values for n in run if n)
    assert ax.get_ylabel() == f"m-coherence of {size} examples"
    shown = at_one_size(compared)["m_coherence"].sel(run="second", subset="clean").values
    drawn = ax.get_legend_handles_labels()[0][1].get_ydata()
    np.testing.assert_array_equal(drawn, shown[np.isfinite(shown)])
    ax = pair_ratio.draw(compared, Figure().add_subplot(), "second / first", "clean")
    (coloured,) = (mesh.get_array() for mesh in ax.collections)
    pairs = compared["pairs/layers"].to_dataset().sel(pair="second / first", subset="clean")
    value = pairs["log_ratio"].transpose("layer", "checkpoint").values
    known = np.isfinite(value)
    significant = (pairs["p_value_adjusted"].transpose("layer", "checkpoint") <= RATE).values
    np.testing.assert_array_equal(~np.ma.getmaskarray(coloured), significant)
    hatched = [patch.get_path() for patch in ax.patches if patch.get_label() == "_chance"]
    rows, columns = known.shape
    middles = [(t + 0.5, row + 0.5) for row in range(rows) for t in range(columns)]
    inside = [Path(part).contains_points(middles) for p in hatched for part in p.to_polygons()]
    np.testing.assert_array_equal(
        np.any(inside, axis=0).reshape(rows, columns), known & ~significant
    )


def test_the_command_writes_a_file_and_figures(two, tmp_path):
    second = tmp_path / "second.h5"
    second.write_bytes(two["second"].read_bytes())
    result = call("compare", str(two["first"]), str(second), "--output", str(tmp_path / "c"))
    assert result.exit_code == 0, result.output
    assert "second / out" in result.stdout
    written = xr.open_datatree(tmp_path / "c" / "comparison.h5", engine="h5netcdf")
    assert list(written["run"].values) == ["out", "second"]
    assert written.attrs["schema_version"] == 1
    written.close()
    for kind in ("svg", "pdf", "png"):
        assert (tmp_path / "c" / "figures" / f"training.{kind}").stat().st_size > 1000
        assert (tmp_path / "c" / "figures" / f"ratio_1.{kind}").stat().st_size > 1000


def test_what_is_no_comparison_is_refused(two, tmp_path):
    path = str(two["first"])
    assert_input_error(call("compare", path), "1 results", "from 2 to 20")
    assert_input_error(call("compare", path, path), "out")
    assert_input_error(call("compare", path, str(tmp_path / "gone.h5")), "gone.h5")


def test_runs_without_a_shared_checkpoint_are_refused(two):
    first, other = (analyze.open_results(two[name]) for name in ("first", "second"))
    epochs = ("checkpoint", np.arange(first.sizes["checkpoint"], dtype=float))
    falling = xr.DataArray([3.0, 2.0, 1.0], dims="checkpoint")
    first.dataset = first.to_dataset().assign_coords(epoch=epochs)
    first.dataset = first.to_dataset().assign(loss=0 * first["loss"] + falling)
    root = other.to_dataset().assign_coords(epoch=epochs)
    root = root.assign(loss=0 * root["loss"] + falling * 1.1)
    for epoch, option in ((root["epoch"], "epoch"), (root["epoch"] + 0.5, "loss")):
        other.dataset = root.assign_coords(step=root["step"] + 0.5, epoch=epoch)
        with pytest.raises(analyze.InputError, match="no two runs have a checkpoint") as caught:
            analyze.compare({"a": first, "b": other})
        assert f"--align {option}" in str(caught.value)


@pytest.mark.parametrize("align", ["step", "epoch", "loss"])
def test_runs_that_share_nothing_are_sent_in_no_circle(two, align):
    first, other = (analyze.open_results(two[name]) for name in ("first", "second"))
    epochs = ("checkpoint", np.arange(first.sizes["checkpoint"], dtype=float))
    first.dataset = first.to_dataset().assign_coords(epoch=epochs)
    root = other.to_dataset()
    root = root.assign_coords(step=root["step"] + 0.5, epoch=first["epoch"] + 0.5)
    other.dataset = root.assign(loss=root["loss"] / 1e3)
    with pytest.raises(analyze.InputError) as refusal:
        analyze.compare({"a": first, "b": other}, align=align)
    assert "share no step, epoch or training loss" in refusal.value.fix
    assert "--align" not in refusal.value.fix
    same = ("checkpoint", first["step"].values)
    other.dataset = root.assign_coords(step=same).assign(loss=root["loss"] / 1e3)
    if align == "step":
        assert analyze.compare({"a": first, "b": other}, align=align).sizes["checkpoint"]
    else:
        with pytest.raises(analyze.InputError) as refusal:
            analyze.compare({"a": first, "b": other}, align=align)
        assert refusal.value.fix.startswith("--align step, or ")


def test_a_single_text_is_one_value_and_a_single_run_none_to_compare(two):
    renamed = analyze.compare(two, rename="fc=head")
    assert json.loads(renamed.attrs["provenance"])["renamed"] == {"fc": "head"}
    for one in (str(two["first"]), analyze.open_results(two["first"])):
        with pytest.raises(analyze.InputError, match="of several runs"):
            analyze.compare(one)


def test_where_no_place_is_known_the_refusal_says_so(two):
    with pytest.raises(analyze.InputError, match="at the same epoch") as refusal:
        analyze.compare(two, align="epoch")
    assert refusal.value.found.startswith("no epoch that is known in the first")
    assert refusal.value.fix.startswith("--align step")


def test_panels_of_ratios_have_the_names_of_their_subsets_as_they_are():
    tree = make_comparison(layers=["fc"], subsets=["50% $x$", "all"])
    figure = pair_ratio.figure(tree, "second / first")
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles[:2] == [r"50% \$x\$", "all"]


def test_figures_of_a_comparison_in_which_nothing_is_known_are_drawn():
    tree = make_comparison()
    for group in tree.subtree:
        numbers = group.to_dataset(inherit=False)
        group.dataset = numbers.assign(
            {n: v * np.nan for n, v in numbers.data_vars.items() if v.dtype.kind == "f"}
        )
    for name in (names := analyze.figures.titles(tree)):
        assert analyze.plot(tree, name).axes
    assert "training" in names


# --- settings


def test_settings_on_the_terminal_are_short_and_stay_different():
    paths = [f"data/{'deep/' * 9}{name}.safetensors" for name in ("one", "two")]
    hashes = ["0123456789abcdef" * 4, "fedcba9876543210" * 4]
    alike = [f"{name}/{'deep/' * 9}run" for name in ("one", "two")]
    tree = make_comparison(
        settings={"probes.path": paths, "probes.sha256": hashes, "run.path": alike}
    )
    title, columns, rows = setting_rows(tree)
    assert (title, columns) == ("Settings that differ", ["setting", "first", "second"])
    assert rows == [
        ["probes.path", "…/one.safetensors", "…/two.safetensors"],
        ["probes.sha256", hashes[0][:12], hashes[1][:12]],
        ["run.path", *alike],
    ]


def test_settings_of_many_runs_are_listed_by_value():
    tree = make_comparison(runs="abcde", settings={"precision": ["float32"] * 4 + ["float64"]})
    _, columns, rows = setting_rows(tree)
    assert columns == ["setting", "value", "runs"]
    assert rows == [["precision", "float32", "a, b, c, d"], ["precision", "float64", "e"]]


def test_settings_stand_under_the_heads_they_are_looked_for_by():
    table = {"training.learning_rate": ["0.1", "-"], "folds": ["10", "5"], "run.name": ["a", "b"]}
    assert grouped(table) == [
        ("Run card", {"run.name": ["a", "b"]}),
        ("Training settings", {"training.learning_rate": ["0.1", "-"]}),
        ("Measurement", {"folds": ["10", "5"]}),
    ]


def test_training_settings_of_a_card_are_compared(tiny, measured):
    card = (tiny.path / "run.toml").read_text(encoding="utf-8")
    tiny.card(f"{card}\n[training]\nlearning_rate = 0.1\nlabels = 'real'\n")
    assert tiny.run().exit_code == 0
    tree = analyze.compare({"a": measured.output, "b": tiny.output})
    found = json.loads(tree.attrs["provenance"])["differing_settings"]
    assert found["training.learning_rate"] == ["-", "0.1"]
    assert found["training.labels"] == ["-", "real"]


# --- the page


def test_the_page_says_what_the_files_say(compared, tmp_path):
    write_comparison(compared, tmp_path)
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "first and second" in html
    assert "matched by step" in html
    for table in (peak_rows(compared), difference_rows(compared)):
        for row in table[2]:
            for value in row:
                assert cell(value) in html


def test_cards_and_key_events_write_a_number_alike(compared):
    looks = [{"label": "first", "colour": "#000000"}, {"label": "second", "colour": "#000000"}]
    peaks = [row[2] for row in peak_rows(compared)[2] if row[1] == "all"]
    found = cards(compared, looks, "all")
    assert peaks == [f"{one.peak.value} (95 %: {one.peak.interval})" for one in found]


def test_a_layer_without_a_partner_and_settings_are_on_the_page():
    tree = make_comparison(
        lacking={"second": "bn1"}, settings={"training.learning_rate": ["0.1", "0.2"]}
    )
    html = comparison_page.render_page(tree, pictures("training"))
    assert "<dt>second has no</dt><dd><code>bn1</code></dd>" in html
    assert "Training settings" in html
    assert "<td>0.2</td>" in html


def test_the_same_comparison_gives_the_same_page_and_another_page_is_not_replaced(tmp_path):
    tree = make_comparison()
    shown = pictures("training")
    assert comparison_page.render_page(tree, shown) == comparison_page.render_page(tree, shown)
    (tmp_path / "index.html").write_text("<h1>my site</h1>")
    with pytest.raises(analyze.InputError, match="another page"):
        write_comparison(tree, tmp_path)
    assert (tmp_path / "index.html").read_text() == "<h1>my site</h1>"
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_where_all_pairs_are_too_many_the_page_has_those_with_the_first_run(monkeypatch):
    tree = make_comparison(runs="abcd")
    assert len(details.shown_pairs(tree)) == 6
    monkeypatch.setattr(details, "MOST_CELLS", 10)
    assert details.shown_pairs(tree) == ["b / a", "c / a", "d / a"]
    html = comparison_page.render_page(tree, pictures("training"))
    assert "the other 3 are in" in html
