#!/usr/bin/env python3
"""Fetch the libraries that the pages draw with, and their licences, at pinned versions.

    scripts/vendor_libraries.py

Runs ``npm pack``, which checks what it downloads against the registry's hash; the hash of every
file taken is checked again here. Writes ``analyze/pages/libraries``. To be run by maintainers, for
another version: users and tests need neither npm nor a network.
"""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "analyze" / "pages" / "libraries"


@dataclass(frozen=True)
class Library:
    """A package of npm; what is compiled into another one's script gives its licence alone."""

    package: str
    script: str = ""
    sha256: str = ""
    name: str = ""


LIBRARIES = (
    Library(
        "d3@7.9.0",
        "dist/d3.min.js",
        "f2094bbf6141b359722c4fe454eb6c4b0f0e42cc10cc7af921fc158fceb86539",
        "d3.min.js",
    ),
    Library(
        "@observablehq/plot@0.6.17",
        "dist/plot.umd.min.js",
        "4358086467740777dd788d6b27a95cebdbaefdd50c730a3060117073bd7134cb",
        "plot.min.js",
    ),
    Library("isoformat@0.2.1"),
    Library("interval-tree-1d@1.0.4"),
    Library("binary-search-bounds@2.0.5"),
)


def main() -> None:
    """Write the scripts, and all licences as one text."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    licences = []
    with tempfile.TemporaryDirectory() as folder:
        for library in LIBRARIES:
            archive = _packed(library.package, Path(folder))
            licences.append(f"{library.package}\n\n{_licence(archive)}")
            if library.script:
                content = _member(archive, library.script)
                _check(library, content)
                (FOLDER / library.name).write_bytes(content)
    text = "\n\n".join(licences) + "\n"
    (FOLDER / "LICENSES.txt").write_text(text, encoding="utf-8")


def _packed(package: str, folder: Path) -> Path:
    """The archive of a package."""
    command = ["npm", "pack", "--silent", package]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return folder / done.stdout.split()[-1]


def _member(archive: Path, name: str) -> bytes:
    with tarfile.open(archive) as tar:
        file = tar.extractfile(f"package/{name}")
        if file is None:
            raise SystemExit(f"{archive.name} has no file {name}")
        return file.read()


def _licence(archive: Path) -> str:
    """The text of its licence, without the empty lines around it."""
    return _member(archive, "LICENSE").decode().strip()


def _check(library: Library, content: bytes) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != library.sha256:
        raise SystemExit(f"{library.package}: {library.script} has the hash {found}")


if __name__ == "__main__":
    main()
