"""Files on disk: whole or not there, where links lead, the structure of an HDF5 file."""
