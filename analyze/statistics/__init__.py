"""Sufficient statistics to coherence: ``arrays`` on numpy, ``labelled`` on xarray."""
