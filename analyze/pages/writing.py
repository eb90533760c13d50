"""Pages and their figures as files: whole or not there, and in the place of pages of ours only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from analyze.errors import InputError
from analyze.files.whole import drop_parts_in, write_whole
from analyze.pages.figures import save_figure

PAGE = "index.html"
MADE_BY = {"report": "report", "compare": "comparison"}  # what each command makes


def generator(command: str) -> str:
    """The element by which a page of ours is known."""
    return f'<meta name="generator" content="analyze {command}">'


def write_page(
    directory: Path,
    command: str,
    draw: Callable[[], dict[str, Figure]],
    render: Callable[[dict[str, Figure]], str],
) -> Path:
    """Write ``figures/*.{svg,pdf,png}`` and, last and in one step, ``index.html``.

    Args:
        directory: Made if it is missing; an older page of the command in it is replaced.
        command: That writes the page, ``report`` or ``compare``.
        draw: Gives the figures by the names of their files.
        render: Gives the page; what UTF-8 has no bytes for becomes a question mark.

    Returns:
        The path of the page.

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
        for name, figure in figures.items():
            save_figure(figure, folder, name)
        write_whole(page, render(figures).encode(errors="replace"))
    except OSError as error:
        raise InputError(
            f"the {MADE_BY[command]} cannot be written",
            found=f"{directory}: {error.strerror or error}",
            expected="a directory with write permission and enough space, or none yet",
            fix="--output DIR, another directory",
        ) from error
    return page


def _refuse_foreign(page: Path, command: str) -> None:
    if page.exists() and generator(command) not in page.read_text("utf-8", errors="replace"):
        raise InputError(
            f"the {MADE_BY[command]} would replace another page",
            found=f"{page}, which analyze {command} did not write",
            expected="an empty directory, one that does not exist, or an older one of its own",
            fix="--output DIR, another directory",
        )
