"""Sufficient statistics to coherence and its errors: ``arrays`` on numpy, ``labelled`` on xarray."""
