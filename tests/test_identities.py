"""`analyze show --verify`: a changed number is noticed."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import pytest

import analyze
from analyze.statistics.identities import broken
from tests.conftest import assert_input_error, call, make_run


def changed(path, variable: str, factor: float, place: tuple) -> None:
    with h5py.File(path, "r+") as file:
        file[variable][place] = file[variable][place] * factor


def test_a_sound_file_says_so(measured):
    result = call("show", str(measured.output), "--verify")
    assert (result.exit_code, result.stdout) == (0, f"{measured.output}: all identities hold\n")


# Which changed number breaks which identity.
CHANGES = {
    "count": ("probe_count", 2, (0,), "the counts of cells and subsets differ"),
    "gram": ("parameters/gradient_gram", 1.01, (0, 0, 0, 1), "not symmetric"),
    "large dot": ("parameters/gradient_gram", 1e6, (0, 0, 0, 1), "than the norms allow"),
    "negative": ("parameters/gradient_gram", -1, (0, 0, 0, 0), "than the norms allow"),
    "norms": ("parameters/gradient_sqnorm", 1e-6, (0, 0, 0), "than its examples' gradients allow"),
    "network": ("network/m_coherence", 1.001, (0, 0), "of the network is not that of its sums"),
    "layers": ("layers/m_coherence", 1.001, (0, 0, 0), "of the layers is not that of their sums"),
    "bound": ("layers/m_coherence", 1e6, (0, 0, 0), "below 0 or above m"),
    "below": ("network/m_coherence", -1, (0, 0), "below 0 or above m"),
    "energy": ("layers/mean_squared_gradient_norm", 1.001, (0, 0, 0), "do not add up"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """Results with single examples, that are not to be changed."""
    run = make_run(tmp_path_factory.mktemp("sound"))
    assert run.run("--examples", "on").exit_code == 0
    assert broken(analyze.open_results(run.output)) == []
    return run.output


@pytest.mark.parametrize("case", CHANGES)
def test_a_changed_number_is_refused(sound, tmp_path, case):
    variable, factor, place, said = CHANGES[case]
    path = Path(shutil.copy(sound, tmp_path / "changed.h5"))
    changed(path, variable, factor, place)
    if case == "count":  # which is compared with that of the examples when a file is opened
        with h5py.File(path, "r+") as file:
            del file["examples"]
    result = call("show", str(path), "--verify")
    assert_input_error(result, "the results contradict themselves", said)


def test_a_count_that_is_not_that_of_the_examples_is_refused_when_the_file_is_opened(
    sound, tmp_path
):
    path = Path(shutil.copy(sound, tmp_path / "changed.h5"))
    changed(path, *CHANGES["count"][:3])
    result = call("show", str(path))
    assert_input_error(result, "this is not a results file", "examples of other subsets")
