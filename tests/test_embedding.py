"""Data inside a page: what is read back, and what cannot leave its element."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest

from analyze.pages.embedding import data_element, packed, packed_steps, script_element


def read(array: dict[str, object]) -> np.ndarray:
    """As the page's script reads it."""
    raw = np.frombuffer(
        base64.b64decode(str(array["base64"])), f"<{np.dtype(array['kind']).str[1:]}"
    )
    return raw.reshape(array["shape"])


def test_arrays_come_back():
    values = np.array([[1.5, np.nan, -3e-7], [0.0, 1e20, 2.0]])
    np.testing.assert_array_equal(read(packed(values)), values.astype(np.float32))
    np.testing.assert_array_equal(read(packed(np.array([0, 255, 7]), "uint8")), [0, 255, 7])
    assert packed(values.T)["shape"] == [3, 2]


def test_steps_are_off_by_half_of_one_at_most():
    values = np.random.default_rng(0).normal(size=(7, 11))
    values[2, 3] = np.nan
    array = packed_steps(values)
    found = read(array).astype(float)
    missing = found == -32768
    np.testing.assert_array_equal(missing, np.isnan(values))
    error = np.abs(found * array["step"] - values)[~missing]
    assert 0 < error.max() <= np.nanmax(np.abs(values)) / 65534 * (1 + 1e-9)
    assert read(packed_steps(np.array([np.nan, np.nan]))).tolist() == [-32768] * 2
    assert read(packed_steps(np.zeros(2))).tolist() == [0, 0]


def test_names_cannot_end_the_element():
    data = {"name": "</script><!--<script>\u2028&", "more": ["\ud800"]}
    element = str(data_element(data))
    text = re.fullmatch('<script type="application/json" id="data">(.*)</script>', element)[1]
    assert not re.search("[<>&\u2028]", text)
    assert json.loads(text) == data


def test_what_json_has_no_word_for_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        data_element({"value": float("nan")})


@pytest.mark.parametrize("text", ["x = '</SCRIPT>'", "<!-- "])
def test_a_script_that_would_end_its_element_is_refused(text):
    with pytest.raises(ValueError, match="end its element"):
        script_element(text)
