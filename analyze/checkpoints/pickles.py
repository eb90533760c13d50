"""Torch files, opened by the reader of plain values: nothing in them runs, unless trusted.

``weights_only=True`` is always said, as an environment variable can overrule the default. Besides
tensors, the reader takes the types of ``harmless``, for the length of one call; they hold values
and run nothing. There is no way from a refusal to the unsafe reader but ``--trust-pickle``.
"""

from __future__ import annotations

import argparse
import builtins
import datetime
import io
import pathlib
import pickle
import pickletools
import re
import types
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

from analyze.checkpoints.damage import as_text, damaged
from analyze.checkpoints.numpy_values import stand_ins
from analyze.errors import CheckpointError, InputError, RefusedError, listed

PLAIN = ("slice", "frozenset", "complex")
FACTORIES = ("list", "dict", "set", "int", "float", "bool", "str")  # what a defaultdict names
COMPRESSION = 1.05  # beyond the size of the file: torch stores, so more is not there


class Record:
    """Stands in for a trainer's own bookkeeping object: holds what was saved, does nothing."""


def dictionary(_default: object = None) -> dict[Any, Any]:
    """Stands in for defaultdict, which the reader of plain values cannot fill."""
    return {}


class Span(tuple[object, ...]):
    """Stands in for range, which a pickle could have turned into a list of any length."""


def span(*numbers: object) -> Span:
    """Its start, stop and step."""
    return Span(numbers)


# By the names under which they are saved; MMEngine need not be installed.
RECORDS = ("mmengine.logging.history_buffer.HistoryBuffer",)


def harmless() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Types that trainers save beside the weights: options, numbers of numpy, paths, dates."""
    found: list[Any] = [
        argparse.Namespace, (dictionary, "collections.defaultdict"), types.SimpleNamespace,
        datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone,
        (span, "builtins.range"), *stand_ins(),
    ]  # fmt: skip
    found += [getattr(builtins, name) for name in PLAIN]
    found += [(Record, f"builtins.{name}") for name in FACTORIES]
    for module in ("pathlib", "pathlib._local"):
        for flavour in ("Posix", "Windows"):  # a pure path does not touch the file system
            pure = getattr(pathlib, f"Pure{flavour}Path")
            found += [(pure, f"{module}.{flavour}Path"), (pure, f"{module}.Pure{flavour}Path")]
    return found + [(Record, name) for name in RECORDS]


def load_torch(path: Path, *, trust: bool = False) -> tuple[Mapping[str, Any], bool]:
    """The dictionary in a torch file, and whether trust was needed; see ``load_values``.

    Raises:
        CheckpointError: as ``load_values``, or the file holds no dictionary.
    """
    loaded, trusted = load_values(path, trust=trust)
    if isinstance(loaded, nn.Module):
        loaded = loaded.state_dict()
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            "the checkpoint file holds no dictionary of tensors",
            found=f"{as_text(path)}: {type(loaded).__name__}",
            expected="a state_dict, or a dictionary with one",
            fix="save it with torch.save(model.state_dict(), path)",
        )
    return loaded, trusted


def load_values(path: Path, *, trust: bool = False) -> tuple[Any, bool]:
    """What a torch file holds, its tensors mapped, not read; whether trust was needed.

    Args:
        path: A file of ``torch.save``.
        trust: The user's word that it may run code.

    Raises:
        CheckpointError: the file is damaged, or is a pickle that would run code and is not
            trusted.
    """
    _refuse_compressed(path)
    try:
        return _quietly(path, weights_only=True), False
    except pickle.UnpicklingError as error:
        refused = _refused(path, error)
        if not trust or refused is None:
            raise refused or damaged(path, _said(error)) from error
        return _trusted(path), True
    except Exception as error:  # a damaged pickle or zip can raise anything
        raise damaged(path, error) from error


def _trusted(path: Path) -> Any:
    try:
        return _quietly(path, weights_only=False)
    except Exception as error:  # the code in a pickle can raise anything
        raise CheckpointError(
            "the trusted pickle cannot be opened",
            found=f"{as_text(path)}: {type(error).__name__}: {error}",
            expected="a pickle whose classes can be imported here",
            fix="install the package that saved it, or save the weights alone: "
            "torch.save(model.state_dict(), path)",
        ) from error


def _quietly(path: Path, *, weights_only: bool) -> Any:
    """What torch warns of is an error later, or nothing."""
    with warnings.catch_warnings(), torch.serialization.safe_globals(harmless()):
        warnings.simplefilter("ignore")
        try:
            return torch.load(path, map_location="cpu", weights_only=weights_only, mmap=True)
        except RuntimeError as error:
            if "mmap can only be used" not in str(error):
                raise
            # written before torch 1.6
            return torch.load(path, map_location="cpu", weights_only=weights_only)


def _refuse_compressed(path: Path) -> None:
    """A zip whose entries claim more than the file has, or whose tensors are compressed.

    Mapped tensors are the bytes as they stand in the file: compressed ones would be wrong numbers.
    """
    try:
        size = path.stat().st_size
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _refuse_program(path, archive.namelist())
            claimed = sum(entry.file_size for entry in entries)
    except InputError:
        raise
    except Exception as error:  # a damaged zip can raise anything
        raise damaged(path, error) from error
    if claimed > COMPRESSION * size:
        raise _compressed(
            "the checkpoint file unpacks to more than it holds, so it was not opened",
            f"{as_text(path)}: {size} bytes that unpack to {claimed}",
        )
    packed = [e.filename for e in entries if e.compress_type and "/data/" in e.filename]
    if packed:
        raise _compressed(
            "the tensors in the checkpoint file are compressed",
            f"{listed(packed, 3)} in {as_text(path)}",
        )


def _refuse_program(path: Path, names: list[str]) -> None:
    """An archive of TorchScript or torch.export, which is a program and no state_dict."""
    last = {name.rpartition("/")[2] for name in names}
    script = "constants.pkl" in last and any("/code/" in name for name in names)
    if not script and "archive_format" not in last:
        return
    kind, loaded = (
        ("TorchScript", f"torch.jit.load({as_text(path.name)!r})")
        if script
        else ("a program of torch.export", f"torch.export.load({as_text(path.name)!r})")
    )
    raise RefusedError(
        f"the file is {kind}, not the weights of a model",
        found=f"a program with its weights in {as_text(path)}",
        expected="a state_dict, and the model in Python: calls inside of a program cannot be seen",
        fix=f"if you trust it: torch.save({loaded}.state_dict(), 'weights.pt'), and move it away; "
        "or leave it out: --checkpoints GLOB",
    )


def _compressed(what: str, found: str) -> RefusedError:
    return RefusedError(
        what,
        found=found,
        expected="a zip archive without compression, as torch.save writes it",
        fix="save it again with torch.save(model.state_dict(), path), or zip -0",
    )


def _refused(path: Path, error: Exception) -> RefusedError | None:
    """The reader of plain values met something else in a pickle; None when it met damage."""
    blocked = re.search(r"GLOBAL ([\w.]+)", str(error))
    names = [blocked[1]] if blocked else _imported_names(path)
    if not names:
        return None
    return RefusedError(
        "the checkpoint file is a pickle that would run code, so it was not opened",
        found=f"{as_text(path)} asks for {listed(names, 3)}",
        expected="tensors and plain values, as torch.load(weights_only=True) reads them",
        fix="save the weights alone: torch.save(model.state_dict(), path), or safetensors; "
        "if you trust whoever made it: --trust-pickle",
    )


def _said(error: Exception) -> Exception:
    """The reason in torch's message, without its advice."""
    reason = str(error).partition("WeightsUnpickler error:")[2].split("Check the doc")[0]
    return RuntimeError(" ".join(reason.split()))


def _imported_names(path: Path) -> list[str]:
    """What a pickle would import besides torch, read without running it, as far as it goes."""
    names: list[str] = []
    strings: list[str] = []
    try:
        file = _pickle_in(path)
        for _ in range(4):  # a file from before torch 1.6 is several pickles
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name == "STACK_GLOBAL":
                    names.append(".".join(strings[-2:]))
                elif opcode.name == "GLOBAL":
                    names.append(str(argument).replace(" ", "."))
                elif isinstance(argument, str):
                    strings.append(argument)
    except Exception:  # damaged, or at its end
        pass
    return [n for n in dict.fromkeys(names) if not n.startswith(("torch.", "collections."))]


def _pickle_in(path: Path) -> IO[bytes]:
    if not zipfile.is_zipfile(path):
        return io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
        return io.BytesIO(archive.read(name))
