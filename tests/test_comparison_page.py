"""The page of a comparison in a browser: what is drawn and said is what the tree says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import analyze
from analyze.statistics.sizes import at_one_size
from tests.browser import choose_layer
from tests.charts import changed, drawn, point_at, printed
from tests.comparisons import make_comparison, write_comparison
from tests.synthetic import synthetic
from tests.test_charts import save

LAYERS = ("conv1", "bn1", "fc")
PINNED = [f"{name} \N{MULTIPLICATION SIGN}" for name in ("bn1", "step 4")]
TRAINING = {"loss"}  # the invented runs have no accuracy


@pytest.fixture(scope="module")
def three():
    return make_comparison(runs=("one", "two", "three"), lacking={"one": "bn1"})


@pytest.fixture(scope="module")
def comparison(tmp_path_factory, three) -> Path:
    return write_comparison(tmp_path_factory.mktemp("comparison"), three)


GROUPS = {"few": ["seed 0", "seed 1"], "more": ["seed 2", "seed 3", "seed 4"]}


@pytest.fixture(scope="module")
def seeds():
    """Two configurations of two and of three seeds, of which one was measured on fewer probes."""
    sizes = {"layers": 3, "checkpoints": 6, "subsets": 2, "folds": 4}
    return {
        f"seed {k}": synthetic(
            seed=k, strength=1 + k // 2, probes=50 if k == 4 else 80,
            skipped=(2,) if k == 1 else (), **sizes,
        )
        for k in range(5)
    }  # fmt: skip


@pytest.fixture(scope="module")
def configurations(seeds):
    return analyze.compare(seeds, groups=GROUPS, different_probes=True)


@pytest.fixture(scope="module")
def configurations_page(tmp_path_factory, configurations) -> Path:
    return write_comparison(tmp_path_factory.mktemp("configurations"), configurations)


def test_the_choices_of_the_comparison_redraw_its_views(reader, comparison):
    page = reader.open(comparison)
    charts = ("lines", "heat", "ratio", *TRAINING)
    for control, follow in (
        ("layer", {*charts} - TRAINING), ("subset", {*charts}), ("pair", {"heat", "ratio"}),
        ("size", {"lines"}),
    ):  # fmt: skip
        before = {name: drawn(page, name) for name in charts}
        if control == "layer":
            choose_layer(page, "con")
            assert page.input_value("#layer") == "conv1"
        else:
            page.select_option(f"#{control}", index=1)
        assert changed(page, before) == follow
    before = {name: drawn(page, name) for name in charts}
    page.fill("#checkpoint", "4")
    assert changed(page, before) == set(charts)


def test_axes_are_chosen_and_what_is_at_the_pointer_is_marked_in_the_other_charts(
    reader, comparison
):
    page = reader.open(comparison)
    lines = ("lines", "ratio", *TRAINING)
    choose_layer(page, "bn1")
    for control, label, follow in (
        ("coherence-scale", "linear", {"lines"}), ("along-scale", "logarithmic", set()),
        ("along-scale", "linear", {*lines}),
    ):  # fmt: skip
        before = {name: drawn(page, name) for name in lines}
        page.select_option(f"#{control}", label=label)
        assert changed(page, before) == follow, label
    marked = "() => [...document.querySelectorAll('.chart .hovered:not([display=none])')].length"
    point_at(page, "heat", 1, 2, len(LAYERS), 5)
    assert page.evaluate(marked) == len(lines)
    page.mouse.move(0, 0)
    assert page.evaluate(marked) == 0
    page.locator("#lines").scroll_into_view_if_needed()
    box = page.locator("#lines [aria-label=dot] path").last.bounding_box()
    for aside in (1, 2):
        page.mouse.move(box["x"] + aside, box["y"] + 2)
    page.wait_for_selector("#lines [aria-label=tip] text")
    assert page.evaluate(marked) == len(lines)  # all but that one, and the heat map
    link = page.evaluate("() => new Promise((done) => setTimeout(() => done(location.hash), 400))")
    assert "x=linear&y=linear" in link


@pytest.mark.parametrize("width", [1280, 400])
def test_layers_and_checkpoints_are_pinned_and_a_part_of_the_training_is_seen(
    reader, comparison, three, width
):
    page = reader.open(comparison, width)
    page.select_option("#pair", label="three / two")
    assert page.is_hidden("#pinned")
    choose_layer(page, "bn1")
    page.click("#pin-layer")
    choose_layer(page, "fc")
    page.fill("#checkpoint", "1")
    page.click("#pin-checkpoint")
    assert page.locator("#pinned button").all_text_contents() == PINNED
    # ratios of both layers; the pinned checkpoint in every chart
    assert page.locator("#ratio-legend li").all_text_contents() == ["fc", "bn1"]
    assert page.text_content("#ratio-title") == "Ratio of 2 layers over training"
    for name in ("lines", "ratio", *TRAINING):
        marks = page.locator(f"#{name} [aria-description='pinned checkpoint'] line")
        assert marks.count() == 1, name
    assert page.locator("#heat .pin").count() == 1
    # the first three of five checkpoints, in every chart and file
    page.click("#zoom-closer")
    assert page.text_content("#zoom-words") == "3 of 5 checkpoints"
    lines = {"lines": "one", "ratio": "bn1", "loss": "one"}
    shown = {
        name: page.get_attribute(f"#{name} [aria-description='{line}'] path", "d").count("L")
        for name, line in lines.items()
    }
    assert shown == {"lines": 2, "ratio": 2, "loss": 2}
    ratio = three["pairs/layers"].to_dataset().sel(pair="three / two", subset="all", layer="fc")
    words = point_at(page, "heat", 2, 2, len(LAYERS), 3)
    assert "step 16" in words
    assert f"ratio {printed(float(np.exp(ratio['log_ratio'][2])))} (95 %" in words
    _, table = save(page, "ratio", "CSV")
    rows = [line.split(",")[:3] for line in table.decode().splitlines()[1:]]
    assert rows == [[n, "all", x] for n in ("fc", "bn1") for x in ("0", "4", "16")]
    # a link has it, and dragging over any of the lines chooses another part
    page.wait_for_url(
        re.compile("pinned-layer=bn1&pinned-checkpoint=step[+]4&from=step[+]0&to=step[+]16")
    )
    again = reader.open(comparison, width)
    again.goto(page.url)
    again.reload()
    assert again.text_content("#zoom-words") == "3 of 5 checkpoints"
    assert again.locator("#pinned button").all_text_contents() == PINNED
    again.emulate_media(media="print")  # paper says that this is a part
    assert again.is_visible("#zoom-words")
    assert again.is_hidden("#zoom-whole")
    again.emulate_media(media="screen")
    again.click("#zoom-whole")
    again.emulate_media(media="print")
    assert again.is_hidden("#zoom-words")
    again.emulate_media(media="screen")
    again.locator("#loss svg").scroll_into_view_if_needed()
    box = again.locator("#loss svg").bounding_box()
    again.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 200)
    again.mouse.down()
    again.mouse.move(box["x"] + box["width"] - 2, box["y"] + 210, steps=3)
    again.mouse.up()
    again.wait_for_function("() => document.getElementById('zoom-words').textContent[2] === 'o'")
    assert again.evaluate("document.documentElement.scrollWidth") <= width


def test_ratios_at_the_pointer_are_those_of_the_results(reader, comparison, three):
    page = reader.open(comparison)
    page.select_option("#pair", label="three / two")
    pairs = three["pairs/layers"].to_dataset().sel(pair="three / two", subset="all")
    for row, layer in enumerate(LAYERS):
        one = pairs.isel(checkpoint=2).sel(layer=layer)
        words = point_at(page, "heat", row, 2, len(LAYERS), 5)
        assert f"ratio {printed(float(np.exp(one['log_ratio'])))} (95 %" in words
        significant = float(one["p_value_adjusted"]) <= 0.05
        assert ("not significant" in words) is not significant
    # shaded over training are the significant places of the whole network, in one span or several
    network = three["pairs/network"].to_dataset().sel(pair="three / two", subset="all")
    found = network["p_value_adjusted"].values <= 0.05
    spans = page.locator("#ratio [aria-description=significant] rect").count()
    assert spans == int(found[0]) + int((found[1:] & ~found[:-1]).sum()) > 0


def test_cells_without_significance_are_hatched_and_without_a_partner_grey(
    reader, comparison, three
):
    page = reader.open(comparison)
    page.select_option("#pair", label="two / one")
    pixels = page.evaluate(
        """async () => {
          const image = new Image();
          image.src = document.querySelector("#heat image").getAttribute("href");
          await image.decode();
          const size = { width: image.width, height: image.height };
          const canvas = Object.assign(document.createElement("canvas"), size);
          const context = canvas.getContext("2d");
          context.drawImage(image, 0, 0);
          const { data } = context.getImageData(0, 0, image.width, image.height);
          return [image.width, image.height, [...data]];
        }"""
    )
    columns, rows = pixels[:2]
    colours = np.array(pixels[2]).reshape(rows, columns, 4)
    pairs = three["pairs/layers"].to_dataset().sel(pair="two / one", subset="all")
    p = pairs["p_value_adjusted"].transpose("layer", "checkpoint").values
    spread = colours[..., :3].max(-1) - colours[..., :3].min(-1)
    found = p <= 0.05
    np.testing.assert_array_equal(colours[..., 3] == 0, ~found)
    assert (spread[found] > 15).all()
    areas = page.evaluate(
        """() => {
          const image = document.querySelector("#heat image").getBBox();
          return Object.fromEntries(["paper", "missing"].map((name) => {
            const path = document.querySelector(`#heat path.${name}`);
            const inside = [];
            for (let row = 0; row < ROWS; row++) for (let column = 0; column < COLUMNS; column++)
              inside.push(path !== null && path.isPointInFill(new DOMPoint(
                image.x + (column + 0.5) * image.width / COLUMNS,
                image.y + (row + 0.5) * image.height / ROWS)));
            return [name, inside];
          }));
        }""".replace("ROWS", str(rows)).replace("COLUMNS", str(columns))
    )
    hatched, missing = (np.reshape(areas[name], (rows, columns)) for name in ("paper", "missing"))
    np.testing.assert_array_equal(hatched, np.isfinite(p) & ~found)
    np.testing.assert_array_equal(missing, np.isnan(p))
    assert hatched.any()
    assert missing.any()


def test_a_run_can_be_hidden(reader, comparison):
    page = reader.open(comparison)
    assert page.locator("#lines [aria-description=two] path").count() == 1
    page.focus("#legend button >> nth=1")
    page.keyboard.press("Enter")
    assert page.locator("#lines [aria-description=two] path").count() == 0
    assert page.locator("#lines [aria-description=three] path").count() == 1
    assert page.evaluate("document.activeElement.textContent") == "two"
    assert page.get_attribute("#legend button >> nth=1", "aria-pressed") == "false"


def test_twenty_runs_of_two_hundred_layers(reader, tmp_path):
    tree = make_comparison(
        runs=[f"seed-{k}" for k in range(20)], layers=[f"blocks.{k}.mlp" for k in range(200)],
        steps=range(10), subsets=("clean", "corrupted", "held_out", "all"),
    )  # fmt: skip
    path = write_comparison(tmp_path, tree)
    assert path.stat().st_size < 8e6
    page = reader.open(path)
    assert page.locator("#pair option").count() == 190
    assert page.locator("#lines [aria-description^='95 % band']").count() == 2
    page.select_option("#pair", label="seed-19 / seed-18")
    assert "seed-19 / seed-18" in page.text_content("#heat-title")
    page.fill("#events-2-filter", "seed-19 seed-18 clean")
    assert page.text_content("#events-2-count") == "1 of 760 rows"


def test_configurations_are_drawn_compared_and_listed(
    reader, configurations, configurations_page, seeds
):
    tree = configurations
    page = reader.open(configurations_page)
    assert page.locator("#pair option").all_text_contents() == ["more / few"]
    assert page.locator(".card h3").all_text_contents() == ["few (2 seeds)", "more (3 seeds)"]
    bands = page.locator("#lines [aria-description^='95 % band']")
    names = [band.get_attribute("aria-description") for band in bands.all()]
    assert sorted(names) == ["95 % band of few (2 seeds)", "95 % band of more (3 seeds)"]
    strokes = {
        page.get_attribute(f"#lines [aria-description='{name}']", "stroke")
        for name in ("few (2 seeds)", "seed 0", "seed 1")
    }
    assert len(strokes) == 1  # seeds have the colour of their configuration
    assert "m-coherence of 50 examples" in page.text_content("#lines")
    # the values of the group, and their ratio, at one size
    page.fill("#checkpoint", "3")
    group = tree["groups/network"].to_dataset().isel(checkpoint=3).sel(subset="all")
    mean = {str(g): group["m_coherence"].sel(group=g).item() for g in ("few", "more")}
    words = page.text_content("#readout")
    assert f"few (2 seeds) {printed(mean['few'])} (95 %" in words
    pair = tree["pairs/network"].to_dataset().isel(checkpoint=3, pair=0).sel(subset="all")
    ratio = float(np.exp(pair["log_ratio"]))
    assert ratio == pytest.approx(mean["more"] / mean["few"])
    assert f"ratio {printed(ratio)} (95 %" in words
    # where a seed has no value the mean is of the others, and is said to be
    others = "Where a seed has no value, the mean is over the others."
    assert others in page.text_content(".details")
    page.fill("#checkpoint", "2")
    assert ", seeds with a value: 1 of 2 ·" in page.text_content("#readout")
    page.fill("#checkpoint", "3")
    assert "seeds with a value" not in page.text_content("#readout")
    # unbiased alpha of the mean at that size; the ratio stays that of m-coherence
    page.select_option("#size", label="as unbiased alpha")
    alpha = page.text_content("#readout")
    assert f"few (2 seeds) {printed((mean['few'] - 1) / 49)} (95 %" in alpha
    assert f"ratio {printed(ratio)} (95 %" in alpha
    assert "unbiased alpha" in page.text_content("#lines")
    assert page.text_content("#lines-title").startswith("Unbiased alpha, the whole network")
    assert page.text_content("#layer-table-title").endswith("unbiased alpha")
    assert page.text_content("#layer-table-pair") == "more / few, ratio at m = 50"
    # the geometric mean at another size is that of the runs at that size
    page.select_option("#size", label="at m = 100")
    shown = analyze.compare(seeds, groups=GROUPS, different_probes=True, at_size=100)
    at = shown["groups/network"].to_dataset().isel(checkpoint=3).sel(subset="all", group="few")
    ends = [printed(at[f"m_coherence{end}"].item()) for end in ("", "_lower", "_upper")]
    assert "few (2 seeds) {} (95 %: {} to {})".format(*ends) in page.text_content("#readout")
    page.select_option("#size", label="at m = 50")
    # hiding a configuration hides its seeds
    page.click("#legend button >> nth=0")
    assert bands.count() == 1
    assert page.locator("#lines [aria-description='seed 0'] path").count() == 0
    assert page.locator("#lines [aria-description='seed 3'] path").count() == 1


def test_the_tables_have_peaks_ends_ratios_loss_and_accuracy(
    reader, configurations, configurations_page
):
    tree = configurations
    page = reader.open(configurations_page)
    page.select_option("#subset", label="clean")
    layers = tree["groups/layers"].to_dataset().sel(subset="clean", group="more")
    value = layers["m_coherence"].transpose("layer", "checkpoint").values
    rows = page.locator("#layer-table tbody tr")
    assert rows.count() == 1 + len(value)
    cells = rows.nth(2).locator("td").all_text_contents()
    assert cells[2].startswith(f"{printed(value[1].max())} at ")
    assert cells[3] == printed(value[1, -1])
    page.click("#layer-table th[data-column='3'] button")
    texts = page.locator("#layer-table td:nth-child(4)").all_text_contents()
    peaks = [float(text.split()[0]) for text in texts]
    assert peaks == sorted(peaks, reverse=True)
    page.fill("#layer-table-filter", "norm")
    assert page.text_content("#layer-table-count") == "1 of 4 rows"
    page.click("#layer-table tbody tr:not([hidden]) button")
    assert "norm" in page.text_content("#lines-title")
    # a line for each checkpoint: both sides and their ratio, and loss and accuracy of the runs
    assert "norm" in page.text_content("#places-title")
    lines = page.locator("#places tbody tr")
    assert lines.count() == tree.sizes["checkpoint"]
    assert lines.last.locator("td").count() == 3
    title = "Loss and accuracy of the runs by checkpoint: clean"
    assert page.text_content("#of-training-title") == title
    lines = page.locator("#of-training tbody tr")
    last = lines.last.locator("td").all_text_contents()
    of_last = tree.to_dataset().sel(subset="clean").isel(checkpoint=-1)
    assert last[:5] == [printed(x) for x in of_last["loss"].values]
    assert last[5:] == [printed(x) for x in of_last["accuracy"].values]
    skipped = lines.nth(2).locator("td").all_text_contents()
    assert skipped[1] == "\N{EN DASH}"  # the loss of the run that has no checkpoint there


def test_runs_of_other_sizes_are_shown_at_one(reader, tmp_path):
    sizes = {"layers": 2, "checkpoints": 4, "subsets": 1, "folds": 4}
    runs = {n: synthetic(seed=m, probes=m, **sizes) for n, m in (("large", 200), ("small", 40))}
    tree = analyze.compare(runs, different_probes=True)
    page = reader.open(write_comparison(tmp_path, tree))
    own, shown = tree["network"]["m_coherence"], at_one_size(tree)["m_coherence"]
    at = {"run": "large", "subset": "all"}
    assert float(own.sel(at).max()) > 1.5 * float(shown.sel(at).max())
    card = page.locator(".card").first
    assert card.locator(".big").text_content() == printed(float(shown.sel(at).max()))
    assert (
        card.locator(".where")
        .first.text_content()
        .startswith("m-coherence of 40 examples, peak at")
    )
    assert card.locator("dd").last.text_content() == printed(float(own.sel(at).max()))
    for title in ("lines", "heat", "events-1"):
        assert "of 40 examples" in page.text_content(f"#{title}-title")


def test_at_equal_loss_places_are_called_loss_levels(reader, tmp_path):
    sizes = {"layers": 2, "checkpoints": 4, "subsets": 1, "probes": 20, "folds": 3}
    runs = {name: synthetic(seed=k, **sizes) for k, name in enumerate(("one", "two"))}
    page = reader.open(write_comparison(tmp_path, analyze.compare(runs, align="loss")))
    assert re.fullmatch(r"\d+ loss levels", page.text_content("#zoom-words"))
    assert page.text_content("label[for=checkpoint]").startswith("Loss level")
