"""Compiles the device, once for each environment and source."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ExtensionFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import torch

SOURCE = Path(__file__).parent / "pretend.cpp"
NAME = "pretend_device"
COMPILERS = ("c++", "g++", "clang++")


def built() -> ModuleType:
    """The compiled device, from a cache that outlives this process.

    Several processes may ask at the same time: one builds, the others wait for it. The lock is the
    system's, so that it ends with the process that holds it.

    Raises:
        ModuleNotFoundError: a C++ compiler or ninja is missing.

    Cost: 20 s of processor time where nothing is in the cache.
    """
    folder = _folder()
    library = folder / f"{NAME}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not library.exists():
                return _compiled(folder / "build", library)
    spec = spec_from_loader(NAME, ExtensionFileLoader(NAME, str(library)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def missing() -> str:
    """What is not installed that ``built`` needs, in words; empty where there is nothing."""
    if (_folder() / f"{NAME}.so").exists():
        return ""
    compilers = [os.environ.get("CXX", ""), *COMPILERS]
    found = {
        "a C++ compiler": any(map(shutil.which, compilers)),
        "ninja": find_spec("ninja") is not None or shutil.which("ninja"),
    }
    absent = " and ".join(name for name, there in found.items() if not there)
    return f"{absent} is not installed" if absent else ""


def _folder() -> Path:
    """Where the device of this source, torch and Python lies."""
    facts = SOURCE.read_text(), torch.__version__, torch.__file__, sys.version
    digest = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    return cache / "analyze-tests" / f"{NAME}-{digest}"


def _compiled(folder: Path, library: Path) -> ModuleType:
    """The device, compiled in a folder by torch's own builder, and moved where it is looked for."""
    if absent := missing():
        raise ModuleNotFoundError(absent)
    from torch.utils.cpp_extension import load

    shutil.rmtree(folder, ignore_errors=True)  # what a build that was killed has left
    folder.mkdir()
    with _ninja_found():
        module = load(
            NAME, [str(SOURCE)], extra_cflags=["-O1"], with_cuda=False, build_directory=str(folder)
        )
    (folder / library.name).rename(library)
    return module


@contextmanager
def _ninja_found() -> Iterator[None]:
    """Torch looks for ninja as a program, which a Python that was not activated does not show."""
    before = os.environ["PATH"]
    if find_spec("ninja") is not None:
        import ninja

        os.environ["PATH"] = os.pathsep.join((ninja.BIN_DIR, before))
    try:
        yield
    finally:
        os.environ["PATH"] = before
