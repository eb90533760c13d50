"""Where outputs go: checked before the work, and directories that a failure leaves no trace of."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from analyze.files.whole import destination, new_part

UNITS = ".units"  # after the name of a results file, of the folder of its run's units


def check_name(path: str | Path) -> None:
    """Refuse a name that no file can have.

    Raises:
        OSError: it is empty, holds NUL, or ends in a separator, as a directory's.
    """
    text = str(path)
    if not text or "\0" in text:
        raise OSError(errno.EINVAL, "the name is empty, or holds a character NUL")
    if text.endswith(tuple(filter(None, (os.sep, os.altsep)))):
        raise OSError(errno.EISDIR, "the name ends in a separator, as a directory's does")


def check_target(path: str | Path) -> None:
    """Check that ``write_whole`` can write a file, by making its temporary file for a moment.

    Only the system knows all the reasons why it cannot: permissions, a read-only file system, no
    inodes, a quota, a name that is too long.

    Raises:
        OSError: it cannot; the reason is in ``strerror``.
    """
    check_name(path)
    target = destination(Path(path))
    if not os.path.isdir(target.parent):  # noqa: PTH112 - which raises where a name is too long
        raise OSError(errno.ENOENT, f"no directory {target.parent}")
    with suppress(FileNotFoundError):
        _check_present(target, target.lstat())
    with ExitStack() as stack:
        new_part(stack, target)


def _check_present(target: Path, state: os.stat_result) -> None:
    """Refuse to replace what is no file, or what only its owner may replace."""
    if stat.S_ISDIR(state.st_mode):
        raise OSError(errno.EISDIR, "it is a directory")
    if stat.S_ISLNK(state.st_mode):
        raise OSError(errno.ELOOP, "it is a link in a circle")
    if not stat.S_ISREG(state.st_mode):
        raise OSError(errno.EINVAL, "it is a device or a pipe, not a file")
    folder = target.parent.stat()
    sticky = folder.st_mode & stat.S_ISVTX  # as /tmp: files are replaced by their owners only
    foreign = sticky and os.geteuid() not in (0, state.st_uid, folder.st_uid)
    if foreign or not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "it is write-protected, or of another owner")


@contextmanager
def directory(path: Path, *, keep: bool = True) -> Iterator[None]:
    """Make a directory with its parents; what is new and empty goes again if the block fails.

    Without ``keep`` it goes in any case: the block has tried only whether there can be one.

    Raises:
        OSError: it cannot be made.
    """
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "the name holds a character NUL")
    missing = [p for p in (path, *path.parents) if not os.path.lexists(p)]
    try:
        path.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        keep = False
        raise
    finally:
        for made in () if keep else missing:  # the innermost first
            with suppress(OSError):
                made.rmdir()
