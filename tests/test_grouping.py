"""Rows for blocks and parameters: sums of what is stored, like the layers."""

from __future__ import annotations

import re

import numpy as np
import pytest

import analyze
from analyze.statistics import arrays, group_by
from analyze.statistics.grouping import block_of
from tests.conftest import assert_input_error, call
from tests.nightly import of_every_run

pytestmark = pytest.mark.usefixtures("pages_only")

BLOCKS = {
    "layer1.0.conv1": "layer1.0",
    "layer1.0.downsample.1": "layer1.0",
    "encoder.layers.3.mlp.fc1": "encoder.layers.3",
    "encoder.layers.encoder_layer_2.ln_1": "encoder.layers.encoder_layer_2",
    "features.3.block.0.1.fc1": "features.3",
    "transformer.h.11.attn.c_attn": "transformer.h.11",
    "conv1": "conv1",
    "fc": "fc",
    "head.weight": "head",
}


@pytest.fixture(scope="module")
def results(measured):
    return analyze.open_results(measured.output)


@pytest.mark.parametrize("layer", BLOCKS)
def test_blocks_are_named_as_models_name_them(layer):
    assert block_of(layer) == BLOCKS[layer]


def test_layers_are_as_they_were(results):
    assert group_by(results, "layer").identical(results)


def test_a_row_for_every_parameter(results):
    rows = group_by(results, "parameter")["layers"].to_dataset()
    table = results["parameters"].to_dataset()
    assert [*rows["layer"].values] == [*table["parameter"].values]
    whole = [str(n) for n in results.to_dataset()["subset"].values].index("all")
    held_out = table["cell_subset"].values == "held_out"
    for parameter in table["parameter"].values:
        own = table.sel(parameter=parameter).isel(checkpoint=0, cell=~held_out)
        gram = own["gradient_gram"].isel(cell_other=~held_out).values
        expected = arrays.m_coherence(gram.sum(), own["gradient_sqnorm"].values.sum())
        found = rows["m_coherence"].sel(layer=parameter).isel(checkpoint=0, subset=whole)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_block_is_the_sum_of_its_layers(results, monkeypatch):
    monkeypatch.setattr("analyze.statistics.grouping.block_of", lambda layer: "everything")
    block = group_by(results, "block")["layers"].to_dataset()
    assert [*block["layer"].values] == ["everything"]
    assert int(block["parameter_count"].item()) == int(results["layers"]["parameter_count"].sum())
    for name in ("m_coherence", "m_coherence_stderr", "gradient_cosine", "effective_sample_size"):
        np.testing.assert_allclose(
            block[name].isel(layer=0), results["network"][name], rtol=1e-6, err_msg=name
        )


def test_an_unknown_grouping_is_refused(results):
    with pytest.raises(analyze.InputError, match="no such grouping"):
        group_by(results, "colour")


@pytest.mark.parametrize("by", of_every_run(["block", "parameter"], {"parameter"}))
def test_on_the_command_line(measured, tmp_path, by):
    shown = call("show", str(measured.output), "--group-by", by)
    assert shown.exit_code == 0, shown.output
    assert ("hidden.weight" in shown.stdout) == (by == "parameter")
    page = call(
        "report", str(measured.output), "--group-by", by, "--output", str(tmp_path / "page")
    )
    assert page.exit_code == 0, page.output
    text = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    text = re.sub(r"[\d.e-]+ \(hidden.weight\), of \d+ parameters", "", text)  # of the proof
    assert ("hidden.weight" in text) == (by == "parameter")


def test_a_file_that_is_no_results_file(tmp_path):
    assert_input_error(call("show", str(tmp_path / "none.h5"), "--group-by", "block"))
