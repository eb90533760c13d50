"""Runs the notebooks of ``docs/notebooks`` anew, so that their output is that of today's code.

``tests/test_notebooks.py`` runs them likewise, and keeps nothing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import nbformat
from nbclient import NotebookClient

PROJECT = Path(__file__).resolve().parents[1]
FOLDER = PROJECT / "docs" / "notebooks"
SECONDS = 600  # that a cell may take on a slow machine
NONE: Mapping[str, str] = MappingProxyType({})


def executed(path: Path, changes: Mapping[str, str] = NONE) -> nbformat.NotebookNode:
    """The notebook with what its cells give when they are run in order.

    Args:
        path: Of the notebook.
        changes: What stands in its code, each with what is to stand in its place.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raises; its traceback is the message.
        ValueError: what is to be changed is not there.
    """
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for old, new in changes.items():
        if not any(old in cell.source for cell in code):
            raise ValueError(f"no {old!r} in the code of {path.name}")
        for cell in code:
            cell.source = cell.source.replace(old, new)
    NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3",
        resources={"metadata": {"path": str(PROJECT)}},
    ).execute()  # fmt: skip
    return notebook


def published(notebook: nbformat.NotebookNode) -> str:
    """The text of its file: without times, stderr, and where this machine has things."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if "outputs" in cell:
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    text = nbformat.writes(notebook)
    for place, name in ((sys.prefix, "environment"), (str(PROJECT), "project")):
        text = text.replace(place, name)
    return re.sub(r"/[\w/.-]*tmp\w*\.json", "kernel.json", text)  # the kernel's connection


def main() -> None:
    for path in sorted(FOLDER.glob("*.ipynb")):
        print(f"{path.relative_to(PROJECT)} ...", flush=True)
        path.write_text(published(executed(path)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
