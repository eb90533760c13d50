"""The report's charts in a browser: the address has what is chosen, and every chart is a file."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from analyze.figures.names import shortened
from analyze.figures.training import compact
from analyze.pages.skeleton import HERE
from analyze.pages.text import rounded
from analyze.reports.page import render_page
from analyze.results.rows import FORMULA
from analyze.text import with_interval
from tests.browser import Reader, choose_layer
from tests.trees import STEPS, make_tree, pictures, with_chance

SCRIPTS = HERE / "scripts"
SVG = "{http://www.w3.org/2000/svg}"
LAYERS = ("conv1", "bn1", "fc", *(f"{sign}SUM(A1)" for sign in FORMULA))


def write_report(path: Path, tree) -> Path:
    """The page alone, with empty figures."""
    path.write_text(render_page(tree, pictures("training", "layers")), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tree():
    return with_chance(make_tree(layers=LAYERS, skipped={3: "damaged"}))


@pytest.fixture(scope="module")
def report(tmp_path_factory, tree) -> Path:
    return write_report(tmp_path_factory.mktemp("charts") / "report.html", tree)


@pytest.fixture(scope="module")
def page(browser, report):
    """One page that tests look at one after the other; it has no fault at the end."""
    reader = Reader(browser)
    yield reader.open(report)
    reader.close()
    assert reader.faults == []


def go(page, address: str) -> None:
    """Follow a link with this address, from a page that is as at its start."""
    page.evaluate(
        """async (address) => {
          for (const hash of [`=${performance.now()}`, address || "="]) {
            const followed = new Promise((done) => {
              addEventListener("hashchange", done, { once: true });
            });
            location.hash = hash;
            await followed;
          }
        }""",
        address,
    )


def box_of(page, selector: str) -> dict[str, float]:
    """Where something stands in the window, in whose middle it is brought."""
    found = page.locator(selector).first
    found.evaluate("(element) => element.scrollIntoView({ block: 'center' })")
    return found.bounding_box()


def save(page, chart: str, kind: str) -> tuple[str, bytes]:
    """Press a chart's button for a kind of file; name and content of what is saved."""
    with page.expect_download() as found:
        page.locator(f"figure:has(#{chart}) .files").get_by_text(kind, exact=True).click()
    return found.value.suggested_filename, Path(found.value.path()).read_bytes()


# --- the address


def test_a_link_shows_what_was_chosen(reader, report):
    page = reader.open(report)
    assert "#" not in page.url
    choose_layer(page, "=SUM")
    page.select_option("#subset", label="held_out")
    page.fill("#checkpoint", "5")
    page.wait_for_url(re.compile(r"#.*checkpoint=step\+64"))
    other = reader.open(report)
    other.goto(page.url)
    other.reload()
    for name in ("readout", "lines-title", "heat-title", "profile-title"):
        assert other.text_content(f"#{name}") == page.text_content(f"#{name}")
    assert other.text_content("#readout").startswith("=SUM(A1) · held_out · step 64")
    assert other.locator("#address-notice").count() == 0


def test_the_page_follows_its_address(page):
    start = page.text_content("#readout")
    go(page, "layer=fc&subset=clean&checkpoint=step+256")
    assert page.text_content("#readout").startswith("fc · clean · step 256")
    go(page, "layer=bn1")
    words = start.split(" · ")[1:3]
    assert page.text_content("#readout").startswith(" · ".join(["bn1", *words]))
    go(page, "")
    assert page.text_content("#readout") == start


def test_what_the_address_asks_for_in_vain_is_told(page):
    go(page, "layer=conv9&subset=clean&colour=red")
    notice = page.text_content("#address-notice")
    assert "layer “conv9”" in notice
    assert "“colour”" in notice
    assert "clean" not in notice
    assert page.text_content("#readout").startswith("whole network · clean")
    go(page, "layer=fc")
    assert page.locator("#address-notice").count() == 0


def test_a_place_on_the_page_keeps_what_is_chosen(page):
    go(page, "layer=fc&subset=clean")
    page.evaluate("location.hash = 'details-title'")
    page.wait_for_url(re.compile("layer=fc&subset=clean"))
    assert page.text_content("#readout").startswith("fc · clean")
    assert page.locator("#address-notice").count() == 0


# --- the choice of layers and checkpoints


def test_a_layer_is_found_by_typing(page):
    go(page, "")
    options = page.locator("#layer-list [role=option]")
    page.click("#layer")
    assert options.count() == len(LAYERS) + 1
    page.keyboard.type("BN")
    assert options.all_text_contents() == ["bn1Conv2d"]
    page.keyboard.press("Escape")
    assert page.input_value("#layer") == "whole network"
    assert page.get_attribute("#layer", "aria-expanded") == "false"
    page.keyboard.type("conv2d 1")
    assert options.first.text_content() == "conv1Conv2d"
    page.keyboard.press("ArrowDown")
    active = page.get_attribute("#layer", "aria-activedescendant")
    assert page.text_content(f"#{active}") == "bn1Conv2d"
    page.keyboard.press("Enter")
    assert page.text_content("#lines-title") == "M-coherence of bn1 over training, at m = 500"
    page.fill("#layer", "nothing like it")
    assert options.count() == 0
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.input_value("#layer") == "bn1"
    page.click("#layer")
    page.locator("#layer-list [role=option] >> nth=3").click()
    assert page.text_content("#lines-title") == "M-coherence of fc over training, at m = 500"


def test_pinned_layers_stand_beside_the_chosen_one(page, tree):
    go(page, "layer=bn1&subset=clean")
    subsets = page.locator("#legend li").all_text_contents()
    assert set(subsets) > {"clean", "held_out"}
    page.click("#pin-layer")
    choose_layer(page, "conv1")
    assert page.locator("#legend li").all_text_contents() == ["conv1", "bn1"]
    assert (
        page.text_content("#lines-title")
        == "M-coherence of 2 layers over training: clean, at m = 500"
    )
    for name in ("conv1", "bn1"):
        assert page.locator(f"#lines [aria-description='95 % band of {name}'] path").count() == 1
    looks = page.locator("#legend svg path").evaluate_all("all => all.map(e => e.outerHTML)")
    assert len(set(looks)) == 2
    _, content = save(page, "lines", "CSV")
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    layers = tree["layers"]["m_coherence"].sel(subset="clean", layer=["conv1", "bn1"])
    saved = [float(row["m_coherence (examples)"] or "nan") for row in rows]
    expected = layers.transpose("layer", "checkpoint").values.ravel()
    np.testing.assert_allclose(saved, expected, rtol=1e-6)
    page.click("#pinned-layers button")
    assert page.locator("#legend li").all_text_contents() == subsets


def test_pins_have_an_end(page):
    go(page, "&".join(f"pinned-layer={name}" for name in ["whole+network", "conv1", "bn1", "fc"]))
    for name in LAYERS[3:7]:
        choose_layer(page, name[:4])
        page.click("#pin-layer")
    choose_layer(page, LAYERS[8][:4])
    assert page.locator("#pinned-layers button").count() == 8
    assert page.is_disabled("#pin-layer")
    go(page, "&".join(f"pinned-checkpoint=step+{step}" for step in STEPS[:9]))
    assert page.locator("#pinned-checkpoints button").count() == 8
    assert "step 448" in page.text_content("#address-notice")


def test_pinned_checkpoints_are_in_all_charts(page, tree):
    go(page, "subset=clean&checkpoint=step+256&layer=fc")
    page.click("#pin-checkpoint")
    page.fill("#checkpoint", "5")
    title = "The layers at step 64, step 256: clean, at m = 500"
    assert page.text_content("#profile-title") == title
    assert page.locator("#profile-legend li").all_text_contents() == ["step 64", "step 256"]
    assert page.locator("#profile [aria-description=pinned] path").count() == len(LAYERS)
    assert page.locator("#lines [aria-description='pinned checkpoint'] line").count() == 1
    assert page.locator("#heat .pin").count() == 1
    _, content = save(page, "profile", "CSV")
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    value = tree["layers"]["m_coherence"].sel(subset="clean").transpose("layer", "checkpoint")
    saved = [float(row["m_coherence (examples)"]) for row in rows]
    np.testing.assert_allclose(saved, value[:, [5, 7]].values.ravel(), rtol=1e-6)


# --- where gradients cancel


def cancelling(tree, steps: tuple[int, ...], dimension: float):
    """Results whose values are 0.3 at some steps, with tight intervals, in so many directions."""
    tree = tree.copy()
    for name in ("network", "layers"):
        group = tree[name].to_dataset()
        low = group["step"].isin(steps)
        group["m_coherence"] = xr.where(low, 0.3, group["m_coherence"])
        group["m_coherence_stderr"] = xr.where(low, 0.05, group["m_coherence_stderr"])
        group["m_coherence_lower"] = group["m_coherence"] - 0.2
        group["m_coherence_upper"] = group["m_coherence"] + 0.2
        group["effective_dimension"] = 0 * group["m_coherence"] + dimension
        order = ("checkpoint", *(("layer",) if name == "layers" else ()), "subset")
        tree[name] = xr.DataTree(group.transpose(*order, ...))
    return tree


def test_where_gradients_cancel_the_training_is_shaded(reader, tree, tmp_path):
    path = write_report(tmp_path / "cancel.html", cancelling(tree, (64, 128, 640), 500.0))
    page = reader.open(path)
    page.goto(path.as_uri() + "#subset=clean&layer=fc&checkpoint=step+128&x=linear")
    page.reload()
    spans = page.locator("#lines [aria-description='gradients cancel'] rect")
    assert spans.count() == 2  # 64 and 128 are neighbours
    width = [span.bounding_box()["width"] for span in spans.all()]
    expected = ((128 + 256) / 2 - (32 + 64) / 2) / ((640 + 960) / 2 - (448 + 640) / 2)
    assert width[0] / width[1] == pytest.approx(expected, rel=0.01)
    assert page.locator("#lines").get_by_text("gradients cancel").count() == 1
    assert "gradients cancel" in page.text_content("#readout")
    page.fill("#checkpoint", "7")
    assert "gradients cancel" not in page.text_content("#readout")


def test_where_chance_is_as_low_nothing_is_shaded(reader, tree, tmp_path):
    path = write_report(tmp_path / "chance.html", cancelling(tree, (64, 128, 640), 2.0))
    page = reader.open(path)
    assert page.locator("#lines [aria-description='gradients cancel']").count() == 0
    assert "cancel" not in page.inner_text(".details")


# --- what is at the pointer, axes, zoom


def pointed(page, chart: str) -> bool:
    """Whether a chart marks what is at the pointer in another one."""
    return page.locator(f"#{chart} .hovered:not([display=none])").count() == 1


def test_what_is_at_the_pointer_is_marked_in_all_charts(page):
    go(page, "subset=clean&layer=fc&checkpoint=step+64")
    for chart, others in (
        ("heat image", ("lines", "profile")), ("profile svg", ("lines", "heat")),
        ("lines svg", ("heat", "profile")),
    ):  # fmt: skip
        box = box_of(page, f"#{chart}")
        page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.5 * box["height"])
        page.mouse.move(box["x"] + 0.6 * box["width"] + 1, box["y"] + 0.5 * box["height"])
        page.wait_for_selector(f"#{chart.split()[0]} [aria-label=tip] text")
        assert [pointed(page, other) for other in others] == [True, True]
        assert not pointed(page, chart.split()[0])
    page.mouse.move(0, 0)
    page.wait_for_selector("#lines [aria-label=tip] text", state="detached")
    assert not any(pointed(page, chart) for chart in ("lines", "heat", "profile"))


def ticks(page, chart: str, axis: str) -> list[str]:
    """The labels of an axis, as they stand."""
    return page.locator(f"#{chart} [aria-label='{axis}-axis tick label'] text").all_text_contents()


def test_axes_are_what_the_reader_wants(page):
    go(page, "subset=clean&layer=fc")
    assert "0" not in ticks(page, "lines", "y")
    page.select_option("#coherence-scale", label="linear")
    assert ticks(page, "lines", "y")[0] == "0"
    assert ticks(page, "profile", "x")[0] == "0"
    assert "50" in ticks(page, "lines", "x")  # early checkpoints are dense
    page.select_option("#along-scale", label="linear")
    assert np.ptp(np.diff([float(t.replace(",", "")) for t in ticks(page, "lines", "x")])) == 0
    page.select_option("#along-scale", label="logarithmic")
    assert "50" in ticks(page, "lines", "x")
    page.wait_for_url(re.compile("x=logarithmic&y=linear"))


def test_a_part_of_the_training_is_seen_by_dragging_and_by_buttons(page):
    go(page, "subset=clean&layer=fc&checkpoint=step+256")
    box = box_of(page, "#lines svg")
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 120, steps=3)
    assert page.locator("#lines .shade").count() == 1
    page.mouse.up()
    page.wait_for_function(
        "() => document.getElementById('zoom-words').textContent.includes(' of ')"
    )
    words = page.text_content("#zoom-words")
    count = int(words.split()[0])
    assert 3 <= count < len(STEPS)
    assert page.locator("#lines .shade").count() == 0
    assert page.text_content("#readout").startswith("fc · clean · step 256")  # no click
    assert len(ticks(page, "heat", "x")) == count
    _, content = save(page, "heat", "CSV")
    assert len(content.splitlines()) == 1 + count * len(LAYERS)
    page.wait_for_url(re.compile("from=step[+]"))
    page.click("#zoom-whole")
    assert page.text_content("#zoom-words") == f"{len(STEPS)} checkpoints"
    page.focus("#zoom-closer")
    page.keyboard.press("Enter")
    assert page.text_content("#zoom-words") == "6 of 12 checkpoints"
    before = ticks(page, "heat", "x")
    page.click("#zoom-earlier")
    assert int(ticks(page, "heat", "x")[0]) < int(before[0])
    page.click("#zoom-wider")
    assert page.is_disabled("#zoom-whole")


def test_a_link_has_all_that_was_chosen(reader, report):
    page = reader.open(report)
    address = (
        "#layer=fc&subset=clean&size=at+m+%3D+500&checkpoint=step+256&pinned-layer=bn1&pinned-layer=conv1"
        "&pinned-checkpoint=step+64&from=step+32&to=step+640&x=linear&y=linear"
    )
    page.goto(report.as_uri() + address)
    page.reload()
    assert page.locator("#address-notice").count() == 0
    assert page.text_content("#zoom-words") == "6 of 12 checkpoints"
    assert page.locator("#legend li").all_text_contents() == ["fc", "bn1", "conv1"]
    assert ticks(page, "lines", "y")[0] == "0"
    page.fill("#checkpoint", "8")
    page.wait_for_url(re.compile(re.escape(address[1:].replace("256", "448"))))


def test_a_link_followed_right_after_a_choice_is_not_written_over(page):
    go(page, "subset=clean&layer=fc")
    after = page.evaluate(
        """() => new Promise((done) => {
          document.getElementById("zoom-closer").click();
          history.replaceState(history.state, "", "#subset=clean&layer=bn1");
          setTimeout(() => done(location.hash), 500);
        })"""
    )
    assert after == "#subset=clean&layer=bn1"


def test_a_click_on_the_lines_chooses_the_nearest_checkpoint(page):
    go(page, "subset=clean&layer=fc&checkpoint=step+4&x=linear")
    plotted = box_of(page, "#lines [aria-description=guide] line")
    page.mouse.click(plotted["x"] + plotted["width"] - 12, plotted["y"] - 40)
    assert page.text_content("#readout").startswith("fc · clean · step 1,280")
    page.wait_for_selector("#lines [aria-label=tip] text")  # the words stay after a tap


# --- one size


def test_the_size_is_chosen_on_the_page(page, tree):
    go(page, "layer=fc&subset=all&checkpoint=step+64")
    counts = tree["probe_count"]
    m, smallest = int(counts.sel(subset="all")), int(counts.min())
    value = tree["layers"]["m_coherence"].sel(layer="fc", subset="all")
    measured = float(value[STEPS.index(64)])
    alpha = (measured - 1) / (m - 1)
    assert page.text_content("#lines-title") == "M-coherence of fc over training, at m = 500"
    for choice, shown in (
        (f"at m = {smallest}", 1 + (smallest - 1) * alpha),
        ("each at its own m", measured),
        ("as unbiased alpha", alpha),
    ):
        page.select_option("#size", label=choice)
        words = page.text_content("#readout")
        number = re.search(r"(?:m-coherence|unbiased alpha) ([\d.]+)", words)
        assert number is not None
        assert float(number[1]) == pytest.approx(shown, rel=6e-3)
        for title in ("lines", "heat", "profile"):
            assert page.text_content(f"#{title}-title").endswith(choice)
        assert page.is_disabled("#coherence-scale") == (choice == "as unbiased alpha")
    page.wait_for_url(re.compile("size=as[+]unbiased[+]alpha"))
    assert "0: orthogonal" in page.locator("#lines svg text").all_text_contents()
    _, content = save(page, "lines", "CSV")
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    saved = [float(r["alpha_unbiased (1)"] or "nan") for r in rows if r["subset"] == "all"]
    np.testing.assert_allclose(saved, (value.values - 1) / (m - 1), rtol=1e-5, atol=1e-7)
    assert not [name for name in rows[0] if name.startswith("m_coherence")]
    page.select_option("#size", index=0)


# --- what may be misread

# Words of a chart that lie over other words of it.
OVERLAPS = """() => {
  const texts = [...document.querySelectorAll("#lines svg text")].filter((t) => t.textContent);
  const boxes = texts.map((text) => [text.textContent, text.getBoundingClientRect()]);
  return boxes.flatMap(([one, a], k) => boxes.slice(k + 1).filter(([, b]) =>
    a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom)
    .map(([other]) => `${one} and ${other}`));
}"""


def test_the_name_of_a_pinned_checkpoint_lies_over_no_other_words(reader, report):
    page = reader.open(report, 400)
    go(page, "pinned-checkpoint=step+4")
    assert "4" in page.locator("#lines svg text").all_text_contents()
    assert page.evaluate(OVERLAPS) == []


def test_words_below_the_lines_are_of_what_is_drawn(page):
    words = "#lines + figcaption"
    go(page, "layer=fc")
    assert "The chosen subset" in page.inner_text(words)
    assert "pinned layers" not in page.inner_text(words)
    go(page, "layer=fc&pinned-layer=bn1")
    assert "The chosen subset with" not in page.inner_text(words)
    assert "The chosen and the pinned layers" in page.inner_text(words)


def test_words_on_a_guide_lie_above_the_lines(page):
    go(page, "layer=fc")
    later = page.evaluate(
        """() => {
          const [line] = document.querySelectorAll("#lines [aria-label=line]");
          const words = [...document.querySelectorAll("#lines svg text")]
            .find((text) => text.textContent === "1: orthogonal");
          return line.compareDocumentPosition(words) & Node.DOCUMENT_POSITION_FOLLOWING;
        }"""
    )
    assert later == 4


STEPS_TOLD = [0, 0.5, 12.34567, 1280, 9999, 13559, 23983, 40e3, 120e3, 1.5e6, 1234567, 87654321]
NAMES = [
    "fc", "layers.1.attention", "layer1.downsample.conv2", "transformer.layers.1.attention",
    "encoder.blocks.11.attention.output.dense", "model.decoder.layers.3.self_attn.q_proj",
    "features.denseblock4.denselayer16.conv2", "a very long subset of many words", "a.b.c.d.e.f.g",
    "7.conv.weights_of_a_long_name", "backbone.body.layer4.2.downsample.0", "één.lange.naam.zonder",
]  # fmt: skip


def test_numbers_and_names_on_the_page_are_told_as_in_the_figures(browser):
    scripts = "".join((SCRIPTS / name).read_text() for name in ("format.js", "table.js"))
    empty = browser.new_page()

    def of(values: list, function: str) -> list:
        return empty.evaluate(f"(values) => {{ {scripts} return values.map({function}); }}", values)

    printed = of([0.00051234, -0.0002, 0, 12.345], "rounded")
    assert printed == ["0.000512", "\N{MINUS SIGN}0.000200", "0.00", "12.3"]
    values = [1.2e-5, -4.44e-6, 99.96, 99.5, 1234.4, 0.76, -3.1]
    assert of(values, "rounded") == [rounded(value) for value in values]
    script = "([value, low, high]) => withInterval(value, low, high)"
    ends = [[1.26, 0.76, 2.1], [1234.4, 99.96, 2e4]]
    assert of(ends, script) == [with_interval(*three) for three in ends]
    assert of([1280, 13559, 120e3, 1.5e6, 1234567], "compact") == [
        "1,280", "13,559", "120k", "1.5M", "1,234,567",
    ]  # fmt: skip
    assert of(STEPS_TOLD, "compact") == [compact(value) for value in STEPS_TOLD]
    for longest in (10, 14, 22, 30):
        script = f"(name) => shortened(name, {longest})"
        assert of(NAMES, script) == [shortened(name, longest) for name in NAMES]
    cells = ["1,280", "\N{MINUS SIGN}0.5", "<0.01", "12,345.5 \N{PLUS-MINUS SIGN} 3", "\N{EN DASH}"]
    keys = of(
        cells,
        """(text) => {
          const cell = document.createElement("td");
          cell.className = "n";
          cell.textContent = text;
          return keyOf(cell);
        }""",
    )
    assert keys == [1280, -0.5, 0.01, 12345.5, None]
    empty.close()


# --- files


def test_every_chart_is_saved_with_the_numbers_of_the_results(page, tree):
    go(page, "layer=bn1&subset=clean&checkpoint=step+64&size=each+at+its+own+m")
    layers = tree["layers"].to_dataset()[["m_coherence"]]
    one = layers.sel(layer="bn1").transpose("subset", "checkpoint")
    at = layers.isel(checkpoint=STEPS.index(64)).sel(subset="clean")
    for chart, expected in (
        ("lines", one), ("heat", layers.sel(subset="clean").transpose("layer", "checkpoint")),
        ("profile", at),
    ):  # fmt: skip
        name, content = save(page, chart, "CSV")
        assert re.fullmatch(r"[\w.-]+\.csv", name)
        rows = list(csv.DictReader(io.StringIO(content.decode())))
        value = expected["m_coherence"].values.ravel()
        saved = [float(row["m_coherence (examples)"] or "nan") for row in rows]
        np.testing.assert_allclose(saved, value, rtol=1e-6)
        low = [float(row["m_coherence_lower (95 %)"] or "nan") for row in rows]
        assert np.isnan(low).tolist() == np.isnan(value).tolist()
        assert (np.array(low)[~np.isnan(value)] < value[~np.isnan(value)]).all()
    steps = [float(row["optimizer step"]) for row in rows]
    assert steps == [64.0] * len(LAYERS)
    formulas = [row["layer"] for row in rows if "SUM" in row["layer"]]
    assert formulas == [f"'{sign}SUM(A1)" for sign in FORMULA]


def test_a_saved_drawing_needs_nothing_of_the_page(page):
    go(page, "layer=bn1&subset=clean&checkpoint=step+64")
    words = {
        "lines": ["M-coherence of bn1 over training, at m = 500", "held_out", "optimizer step"],
        "heat": [
            "Every layer and checkpoint: clean, at m = 500",
            "bn1",
            "m-coherence of 500 examples",
        ],
        "profile": ["The layers at step 64: clean, at m = 500", "bn1"],
    }
    for chart, expected in words.items():
        before = page.inner_html(f"#{chart}")
        name, content = save(page, chart, "SVG")
        assert name.endswith(".svg")
        text = content.decode()
        assert "aria-hidden" not in text
        assert "var(" not in text.replace("var(--plot-background)", "")
        assert not re.search(r"href=\"(?!data:|#)", text)
        root = ElementTree.fromstring(text)
        assert root.tag == f"{SVG}svg"
        shown = {"".join(t.itertext()) for t in root.iter(f"{SVG}text")}
        assert set(expected) <= shown
        assert len(list(root.iter(f"{SVG}svg"))) > 1
        assert page.inner_html(f"#{chart}") == before


def test_a_picture_has_twice_the_pixels_and_the_colours_of_the_page(page):
    go(page, "")
    for chart in ("lines", "heat", "profile"):
        _, content = save(page, chart, "PNG")
        image = Image.open(io.BytesIO(content)).convert("RGB")
        chart_width = page.evaluate(f"document.querySelector('#{chart} svg').width.baseVal.value")
        assert image.width == 2 * (chart_width + 32)
        assert image.getpixel((2, 2)) == (255, 255, 255)
        assert len(image.getcolors(1 << 20)) > 20
