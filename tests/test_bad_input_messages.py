"""Every bad input of ``bad_inputs.toml``: its exit code, its whole message, and nothing written."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.conftest import call, without_preparation

TABLE = Path(__file__).with_name("bad_inputs.toml").read_text(encoding="utf-8")
CASES = tomllib.loads(TABLE)["case"]


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_a_bad_input_has_its_exit_code_and_whole_message(tiny, case):
    folder = tiny.path.parent
    result = call(*(word.replace("{folder}", str(folder)) for word in case["command"]))
    assert result.exit_code == case["exit_code"]
    message = without_preparation(result.stderr)
    assert message.replace(str(folder), "{folder}") == case["message"]
    assert result.stdout == ""
    assert not tiny.output.exists()


def test_there_are_enough_of_them():
    assert len({case["id"] for case in CASES}) == len(CASES) >= 60
