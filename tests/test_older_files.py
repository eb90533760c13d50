"""Files of older versions: what they lack is derived from their sums; newer ones are refused."""

from __future__ import annotations

import h5py
import pytest
import xarray as xr

import analyze
from analyze.statistics.derived import lacking
from tests.conftest import call

pytestmark = pytest.mark.usefixtures("pages_only")

FIRST = {
    "m_coherence", "m_coherence_stderr", "alpha", "alpha_unbiased", "norm_of_mean_gradient",
    "mean_squared_gradient_norm", "gradient_dot", "gradient_cosine",
}  # fmt: skip


@pytest.fixture
def old(measured, tmp_path):
    """A results file as the first version wrote it: the variables of the contract and no others."""
    path = tmp_path / "old.h5"
    path.write_bytes(measured.output.read_bytes())
    with h5py.File(path, "r+") as file:
        for group in ("network", "layers"):
            for name, variable in list(file[group].items()):
                ours = variable.attrs.get("long_name") and name not in ("step", "epoch")
                if ours and name not in FIRST:
                    del file[group][name]
    return path


def test_what_an_old_file_lacks_is_derived_and_named(measured, old):
    with xr.open_datatree(old, engine="h5netcdf") as raw:
        assert set(raw["network"].data_vars) == set(raw["layers"].data_vars) == FIRST
    new, found = analyze.open_results(measured.output), analyze.open_results(old)
    assert lacking(found) == {}
    for group in ("network", "layers"):
        xr.testing.assert_allclose(
            found[group].to_dataset(inherit=False), new[group].to_dataset(inherit=False), rtol=1e-12
        )
    assert "the file is of an older version of the program and lacks" in found.attrs["provenance"]


def test_show_and_report_say_so(measured, old, tmp_path):
    said = "Warning: the file is of an older version of the program and lacks "
    older, newer = call("show", str(old)), call("show", str(measured.output))
    assert said in older.stderr
    assert said not in newer.stderr
    assert older.stdout == newer.stdout
    assert call("report", str(old), "--output", str(tmp_path / "page")).exit_code == 0
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert "the file is of an older version of the program" in page


def test_what_an_old_file_has_stays_as_it_is(old):
    with h5py.File(old, "r+") as file:
        file["network/alpha"][...] = 0.5
    assert (analyze.open_results(old)["network"]["alpha"] == 0.5).all()


def test_a_schema_before_the_first_is_read_likewise(old):
    with h5py.File(old, "r+") as file:
        file.attrs["schema_version"] = 0
    assert lacking(analyze.open_results(old)) == {}


def test_a_file_of_this_version_is_not_touched(measured):
    assert "older version" not in analyze.open_results(measured.output).attrs["provenance"]
