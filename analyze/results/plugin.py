"""What xarray imports of this package with its first file: its entry in ``xarray.backends``.

Any import of ``analyze.results`` repairs how trees are shown, see ``inheritance``: so the
trees of our files are shown as HTML also where nobody has imported ``analyze``.
"""

from __future__ import annotations

from xarray.backends import H5netcdfBackendEntrypoint


class ResultsBackend(H5netcdfBackendEntrypoint):
    """``xarray.open_datatree(file, engine="gradient_coherence")``: results, read by h5netcdf."""

    description = "Results and comparisons of gradient-coherence, which are netCDF-4 files"
    url = ""
