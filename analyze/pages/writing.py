"""Pages and their figures as files: written whole, and only over pages of the same command."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from matplotlib.figure import Figure

from analyze.errors import InputError
from analyze.files.targets import check_target
from analyze.files.targets import directory as made
from analyze.files.whole import Content, drop_parts, drop_parts_in, write_together
from analyze.pages.figures import is_own_figure, rendered

PAGE = "index.html"
FIGURES = "figures"
PRODUCTS = {"report": "report", "compare": "comparison"}  # of each command


def generator(command: str) -> str:
    """The element that marks the pages of a command."""
    return f'<meta name="generator" content="analyze {command}">'


def check_directory(directory: Path, command: str, *data: str) -> None:
    """Check before the work that a page and files of data can be written; nothing is made.

    Raises:
        InputError: it cannot be written to, or has another ``index.html``.
    """
    with _problems_told(directory, command), made(directory / FIGURES, keep=False):
        _check_page(directory / PAGE, command)
        for name in data:
            check_target(directory / name)


def write_page(
    directory: Path,
    command: str,
    draw: Callable[[], dict[str, Figure]],
    render: Callable[[dict[str, bytes]], str],
    data: Callable[[], Mapping[str, Content]] = dict,
) -> Path:
    """Write ``figures/*.{svg,pdf,png}``, then files of data, and last ``index.html``; its path.

    The directory is made if it is missing; an older page of the command in it is replaced. Nothing
    is replaced before all of it is on the disk. ``draw`` returns the figures by the names of their
    files, ``render`` takes the contents of their SVG files, and ``data`` gives the content of
    further files by name. In the text of the page characters that UTF-8 cannot encode become
    question marks.

    Raises:
        InputError: the directory cannot be written to, or has other files of these names.
    """
    page, folder = directory / PAGE, directory / FIGURES
    with _problems_told(directory, command), made(folder):
        _check_page(page, command)
        figures = draw()
        files: dict[Path, Content] = {}
        pictures: dict[str, bytes] = {}
        for name, figure in figures.items():
            drawn = rendered(figure)
            files |= {folder / f"{name}.{kind}": [content] for kind, content in drawn.items()}
            pictures[name] = drawn["svg"]
        for path in files:
            check_target(path)
            if not page.exists() and path.exists() and not is_own_figure(path):
                raise _foreign(path, "picture", command)  # a page would say that it is ours
        files |= {directory / name: content for name, content in data().items()}
        files[page] = [render(pictures).encode(errors="replace")]
        drop_parts_in(folder)  # also of figures that are not drawn any more
        for path in files:
            if path.parent == directory:
                drop_parts(path)
        write_together(files)
    return page


@contextmanager
def _problems_told(directory: Path, command: str) -> Iterator[None]:
    """Turn what the system refuses into a message."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"the {PRODUCTS[command]} cannot be written",
            found=f"{directory}: {error.strerror or error}",
            expected="a directory with write permission and enough space, or none yet",
            fix="--output DIR, another directory",
        ) from error


def _check_page(page: Path, command: str) -> None:
    """Check that the page can be written, over none but one of the command."""
    check_target(page)
    if page.exists() and generator(command) not in page.read_text("utf-8", errors="replace"):
        raise _foreign(page, "page", command)


def _foreign(path: Path, kind: str, command: str) -> InputError:
    return InputError(
        f"the {PRODUCTS[command]} would replace another {kind}",
        found=f"{path}, which analyze {command} did not write",
        expected="an empty directory, one that does not exist, or an older one of its own",
        fix="--output DIR, another directory",
    )
