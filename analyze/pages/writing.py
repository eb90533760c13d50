"""Pages and their figures as files: written whole, and only over pages of the same command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from analyze.errors import InputError
from analyze.files.whole import drop_parts_in, write_whole
from analyze.pages.figures import save_figure

PAGE = "index.html"
PRODUCTS = {"report": "report", "compare": "comparison"}  # of each command


def generator(command: str) -> str:
    """The element that marks the pages of a command."""
    return f'<meta name="generator" content="analyze {command}">'


def write_page(
    directory: Path,
    command: str,
    draw: Callable[[], dict[str, Figure]],
    render: Callable[[dict[str, bytes]], str],
) -> Path:
    """Write ``figures/*.{svg,pdf,png}`` and, last and in one step, ``index.html``; its path.

    The directory is made if it is missing; an older page of the command in it is replaced. ``draw``
    returns the figures by the names of their files, and ``render`` takes the contents of their SVG
    files. In the text of the page characters that UTF-8 cannot encode become question marks.

    Raises:
        InputError: the directory cannot be written to, or has another ``index.html``.
    """
    page, folder = directory / PAGE, directory / "figures"
    try:
        _refuse_foreign(page, command)
        figures = draw()
        folder.mkdir(parents=True, exist_ok=True)
        drop_parts_in(directory)
        drop_parts_in(folder)
        pictures = {name: save_figure(figure, folder, name) for name, figure in figures.items()}
        write_whole(page, render(pictures).encode(errors="replace"))
    except OSError as error:
        raise InputError(
            f"the {PRODUCTS[command]} cannot be written",
            found=f"{directory}: {error.strerror or error}",
            expected="a directory with write permission and enough space, or none yet",
            fix="--output DIR, another directory",
        ) from error
    return page


def _refuse_foreign(page: Path, command: str) -> None:
    if page.exists() and generator(command) not in page.read_text("utf-8", errors="replace"):
        raise InputError(
            f"the {PRODUCTS[command]} would replace another page",
            found=f"{page}, which analyze {command} did not write",
            expected="an empty directory, one that does not exist, or an older one of its own",
            fix="--output DIR, another directory",
        )
