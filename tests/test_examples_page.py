"""The report's section of examples: pictures, the map, which label helps which."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import analyze
from analyze import statistics
from analyze.comparison import page as comparison_page
from analyze.comparison.examples import contents
from analyze.pages.pictures import SIDE, pictures_of
from analyze.pages.sparkline import sparkline
from analyze.probes import ProbeSet, write_probes
from analyze.probes.subsets import Column
from analyze.rankings.columns import column_help
from analyze.rankings.gallery import MOST, gallery
from analyze.reports.page import render_page, report
from analyze.results.file import write_results
from tests.conftest import assert_input_error, call
from tests.synthetic import synthetic
from tests.test_rankings import CLASSES, COUNT, made, recorded, the_probes
from tests.trees import pictures

pytestmark = pytest.mark.usefixtures("pages_only")

EVIL = '"><script>alert(1)</script>'


def with_inputs(inputs, **options) -> ProbeSet:
    """The probes of the tests with other inputs."""
    old = the_probes()
    subset = [old.subset_names[k] for k in old.subset]
    return ProbeSet(inputs, old.targets, subset, old.id, columns=old.columns | options)


@pytest.fixture(scope="module")
def bytes_():
    return np.random.default_rng(4).integers(0, 256, (COUNT, 1, 8, 8)).astype(np.uint8)


@pytest.fixture(scope="module")
def probes(bytes_):
    return with_inputs(bytes_)


@pytest.fixture(scope="module")
def tree(probes):
    return made(("all", "clean", "corrupted"), ("class",), probes)


@pytest.fixture(scope="module")
def html(tree, probes):
    return render_page(tree, pictures("training", "layers"), None, (probes, ""))


def test_pictures_are_the_pixels_of_the_probe_file(html, bytes_, tree, probes):
    cards = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="Example (\d+)"', html)
    shown = {int(number) for _, number in cards}
    found = gallery(tree, probes)
    assert found is not None
    assert shown == {int(found.ids[row]) for group in found.groups for row in group.rows}
    assert len(shown) <= MOST
    for data, number in cards:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        np.testing.assert_array_equal(pixels, bytes_[int(number) - 100, 0])


def test_the_first_of_each_ranking_are_there_by_subset_and_class(html, tree, probes):
    found = gallery(tree, probes)
    assert found is not None
    titles = {"prototype": "Most helpful", "suspicion": "Most opposing", "change": "Most changed"}
    for score, title in titles.items():
        of = {g.of: g.rows for g in found.groups if g.title == title}
        for subset in ("clean", "corrupted", "held_out"):
            rows = np.flatnonzero(found.subsets == subset)
            assert of[subset][0] == rows[np.argmax(found.scores[score][rows])]
        assert f">{title}</h3>" in html
    assert set(CLASSES) == {
        str(found.labels.given[row]) for g in found.groups if g.of == "each class" for row in g.rows
    }
    wrong = [row for g in found.groups if g.of == "corrupted" for row in g.rows]
    assert html.count("(true: ") >= len(wrong)


def test_a_page_never_has_more_pictures_than_it_can_hold():
    many = synthetic(layers=2, checkpoints=2, subsets=30, probes=8, directions=("all",))
    found = gallery(many, None)
    assert found is not None
    assert 0 < len({row for g in found.groups for row in g.rows}) <= MOST


def test_without_directions_there_is_no_section():
    page = render_page(synthetic(layers=2, checkpoints=2), pictures("training", "layers"))
    assert 'id="examples"' not in page
    assert not re.search(r'"examples"\s*:', page)


def test_without_the_probe_file_examples_are_ids_and_the_page_says_so(tree):
    page = render_page(tree, pictures("training"), None, (None, "The probe file x is not there."))
    assert 'src="data:image' not in page
    assert "The probe file x is not there." in page
    assert '<span class="id">1' in page


def test_text_is_shown_as_text_and_names_stay_names(tree):
    texts = Column(np.arange(COUNT), tuple(f"{EVIL} number {k}" for k in range(COUNT)))
    with_text = with_inputs(np.zeros((COUNT, 5), dtype=np.int64), text=texts)
    page = render_page(tree, pictures("training"), None, (with_text, ""))
    assert EVIL not in page
    assert "&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt; number 2" in page
    tokens = np.arange(COUNT * 40).reshape(COUNT, 40)
    assert pictures_of(with_inputs(tokens), [1])[0].text.startswith("40 41 42")
    assert pictures_of(with_inputs(np.zeros((COUNT, 3))), [0])[0].uri is None


def test_large_images_are_made_smaller_and_numbers_share_a_scale():
    large = np.zeros((COUNT, 3, 300, 600), dtype=np.uint8)
    uri = pictures_of(with_inputs(large), [0])[0].uri
    assert Image.open(io.BytesIO(base64.b64decode(str(uri).partition(",")[2]))).size == (SIDE, 96)
    real = np.zeros((COUNT, 1, 8, 8), dtype=np.float32)
    real[0], real[1] = -1.0, 3.0
    found = pictures_of(with_inputs(real), [0, 1, 2])
    greys = [np.asarray(Image.open(io.BytesIO(base64.b64decode(str(p.uri).partition(",")[2]))))
             for p in found]  # fmt: skip
    assert [g.mean() for g in greys] == [0, 255, 64]


def test_a_small_line_has_gaps_where_there_is_no_value():
    line = sparkline(np.array([0.0, 1, 2, 3]), np.array([0.5, np.nan, -0.5, 0.1]), "#0072b2")
    path = re.findall(r'<path d="([^"]+)" fill="none"', line)[0]
    assert path.count("M") == 2
    assert path.count("L") == 1
    assert "from +0.50 to +0.10" in line
    assert sparkline(np.arange(2.0), np.full(2, np.nan), "#0072b2") == ""


def test_help_between_labels_is_the_mean_product_over_the_norms():
    """Against the gradients of the tests, through cells by class."""
    from tests.test_rankings import the_gradients

    probes = the_probes()
    found = column_help(cells_by_class(probes))
    assert found is not None
    assert (found.column, found.labels) == ("class", list(CLASSES))
    g = the_gradients()[1]
    assert g is not None
    flat = np.concatenate(list(g), axis=1)
    trained = probes.training
    for a in range(3):
        for b in range(3):
            rows, others = (trained[probes.targets[trained] == k] for k in (a, b))
            products = flat[rows] @ flat[others].T
            if a == b:
                products = products[~np.eye(len(rows), dtype=bool)]
            norms = [np.square(flat[r]).sum(1).mean() for r in (rows, others)]
            expected = products.mean() / np.sqrt(norms[0] * norms[1])
            assert found.values[0, 1, a, b] == pytest.approx(expected)
    diagonal = statistics.coherence(
        cells_by_class(probes), subsets={"a": {"class": "cat", "subset": ["clean", "corrupted"]}}
    )
    assert found.values[0, 1, 0, 0] == pytest.approx(float(diagonal["alpha_unbiased"][1, 0]))
    assert column_help(synthetic(layers=2, checkpoints=2)) is None


def cells_by_class(probes: ProbeSet) -> xr.DataTree:
    """Results of the tests' gradients with cells by class."""
    from analyze.gradients.measurement import Measurement, ParameterRow
    from analyze.probes import Cells
    from analyze.results.tree import OK, Row, build_tree
    from tests.test_rankings import the_gradients

    cells = Cells.of(probes, 2, ("class",))
    parameters = [ParameterRow(f"{n}.weight", n, "Linear", 6, (), "linear") for n in ("a", "b")]
    rows = []
    for k, g in enumerate(the_gradients()):
        if g is None:
            rows.append(Row(f"{k}", float(k), np.nan, "damaged", None))
            continue
        parts = [cells.of_probe == c for c in range(len(cells))]
        sums = np.stack([g[:, p].sum(1) for p in parts], 1)
        squares = np.stack([np.square(g[:, p]).sum((1, 2)) for p in parts], 1)
        gram, count = np.einsum("lcd,led->lce", sums, sums), len(probes)
        measured = Measurement(
            ("a.weight", "b.weight"), gram, squares, np.ones(count), np.ones(count)
        )
        rows.append(Row(f"{k}", float(k), np.nan, OK, measured))
    origin: dict[str, object] = {"held_out": ["held_out"], "folds": 2}
    return build_tree(rows, parameters, probes, cells, origin, examples=False)


def test_the_command_finds_the_probe_file_or_refuses_another(tree, probes, tmp_path):
    write_probes(tmp_path / "probes.safetensors", probes)
    write_results(recorded(tree, "probes.safetensors"), tmp_path / "out.h5")
    page = report(tmp_path / "out.h5", output=tmp_path / "page").read_text(encoding="utf-8")
    assert "data:image/png" in page
    write_probes(tmp_path / "other.safetensors", the_probes())
    out = ("--output", str(tmp_path / "other"), "--probes", str(tmp_path / "other.safetensors"))
    assert_input_error(call("report", str(tmp_path / "out.h5"), *out), "not the probes")


# --- in a browser


@pytest.fixture(scope="module")
def page_file(tmp_path_factory, html):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html, encoding="utf-8")
    return path


def first_row(page) -> str:
    page.focus("#map")
    return page.text_content("#map-readout")


def test_the_map_sorts_and_filters(reader, page_file, tree, probes):
    page = reader.open(page_file)
    found = gallery(tree, probes)
    assert found is not None
    for score in ("suspicion", "influence"):
        page.select_option("#map-by", label=score)
        best = int(found.ids[np.argmax(found.scores[score])])
        assert first_row(page).startswith(f"example {best} ")
    page.select_option("#map-end", label="lowest first")
    least = int(found.ids[np.argmin(found.scores["influence"])])
    assert first_row(page).startswith(f"example {least} ")
    page.select_option("#map-subset", label="corrupted")
    rows = np.flatnonzero(found.subsets == "corrupted")
    least = int(found.ids[rows[np.argmin(found.scores["influence"][rows])]])
    assert first_row(page).startswith(f"example {least} · corrupted")
    page.fill("#map-find", "owl")
    assert "owl" in first_row(page)
    page.fill("#map-find", "no such word")
    assert page.text_content("#map-readout") == "No example fits."
    page.fill("#map-find", "")
    page.select_option("#map-by", label="id")
    assert first_row(page).startswith("example 120 ")


def test_the_map_goes_on_by_keyboard_and_has_the_values(reader, page_file, tree, probes):
    page = reader.open(page_file)
    page.select_option("#map-by", label="id")
    page.select_option("#map-end", label="lowest first")
    page.focus("#map")
    page.keyboard.press("ArrowRight")
    for _ in range(45):  # further than the rows that are drawn at once
        page.keyboard.press("ArrowDown")
    found = gallery(tree, probes)
    assert found is not None
    value = f"{found.pull.cosine[1, 45]:.3}".replace("-", "\N{MINUS SIGN}")
    words = page.text_content("#map-readout")
    assert words.startswith("example 145 · held_out")
    assert f"cosine {value[:5]}" in words
    assert page.text_content("#map-first-name") == "7 of 60"


def test_which_label_helps_which(reader, tmp_path):
    path = tmp_path / "report.html"
    results = cells_by_class(the_probes())
    path.write_text(render_page(results, pictures("training")), encoding="utf-8")
    page = reader.open(path, width=400)
    found = column_help(results)
    assert found is not None
    page.fill("#help-checkpoint", "1")
    page.focus("#help")
    page.keyboard.press("ArrowRight")
    value = f"{found.values[0, 1, 0, 1]:.3}".replace("-", "\N{MINUS SIGN}")
    assert f"cat and dog · whole network · step 1 · help {value[:5]}" in page.text_content(
        "#help-readout"
    )
    before = page.inner_html("#help")
    page.select_option("#help-layer", label="b")
    assert page.inner_html("#help") != before
    assert page.evaluate("document.documentElement.scrollWidth") == 400


# --- in a comparison


@pytest.fixture(scope="module")
def compared(tree):
    other = made(("all",), ("class",), the_probes())
    plain_run = synthetic(layers=2, checkpoints=4, probes=20, skipped=(2,))
    runs = {"plain": plain_run, "one": tree, "two": turned(other)}
    return analyze.compare(runs, different_probes=True)


def turned(tree):
    """A run in which the first example points the other way."""
    copy = tree.copy()
    group = tree["examples"].to_dataset(inherit=False).copy(deep=True)
    group["alignment"].values[..., 7] *= -1
    copy["examples"] = xr.DataTree(group)
    return copy


def test_the_same_example_stands_beside_itself(compared, tree):
    table = compared["examples"].to_dataset(inherit=False)
    runs = [str(name) for name in compared.to_dataset()["run"].values]
    assert runs == ["plain", "one", "two"]
    found = gallery(tree, None)
    assert found is not None
    np.testing.assert_allclose(table["suspicion"][1], found.scores["suspicion"])
    assert np.isnan(table["suspicion"][0]).all()
    cards = contents(compared)["examples"]
    assert cards[0].id == 107  # which was turned
    (first, _), (second, _) = cards[0].standings
    assert first.startswith("one: dog, ")
    assert second.startswith("two: dog, ")
    gaps = np.abs(table["suspicion"][1] - table["suspicion"][2]).values
    assert np.flatnonzero(gaps > 1e-5).tolist() == [7]
    assert len(cards) == 1  # no other example differs


def test_the_page_of_a_comparison_has_them_with_pictures(compared, probes, tmp_path, reader):
    path = tmp_path / "probes.safetensors"
    write_probes(path, probes)
    origin = json.loads(compared.attrs["provenance"])
    origin["runs"]["one"]["probes"] = {"path": str(path)}
    copy = compared.copy()
    copy.attrs = compared.attrs | {"provenance": json.dumps(origin)}
    html = comparison_page.render_page(copy, pictures("training"))
    file = tmp_path / "comparison.html"
    file.write_text(html, encoding="utf-8")
    page = reader.open(file, width=400)
    assert page.locator("#examples img").count() == 1
    assert page.locator("#examples li").first.text_content().split()[0] == "107"
    assert page.evaluate("document.documentElement.scrollWidth") == 400


def test_runs_without_directions_have_no_such_section():
    runs = {f"seed {k}": synthetic(layers=2, checkpoints=3, seed=k) for k in range(2)}
    found = analyze.compare(runs)
    assert "examples" not in found.children
    assert 'id="examples"' not in comparison_page.render_page(found, pictures("training"))
