"""An HDF5 file for h5netcdf, which looks up a member of it anew at every use."""

from __future__ import annotations

from typing import Any

import h5py
from h5py import h5i


class Members(h5py.File):
    """An HDF5 file that looks up each of its members once.

    Of a results file h5netcdf asks for each of some hundred variables forty times, which is half
    of the time that reading or writing takes. It takes an open file as it takes a path.

    Cost:
        Members stay open until the file is closed, whose writer keeps what it knows of them so
        long: the bytes are others than those of ``h5py.File``, and the same each time.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._members: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        member = self._members.get(name)
        # One that was deleted has no name; h5netcdf replaces the scales of dimensions.
        if member is None or h5i.get_name(member.id) is None:
            member = self._members[name] = super().__getitem__(name)
        return member
