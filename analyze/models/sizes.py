"""The size of a model before it is built, counted without memory for its values up to a limit.

A config or a model spec of a few bytes can ask for any number of layers or labels.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as registration
from torch.overrides import TorchFunctionMode

from analyze.errors import InputError
from analyze.files.walking import walk

MOST_MODULES = 200_000  # in any model
FEW_MODULES, BYTES_OF_A_MODULE = 2_000, 2_000  # whatever the files hold; and one more for so many
SPARE = 10_000_000  # numbers of a model, whatever the files hold: weights may be elsewhere, or tied
MOST_FILES = 10_000
PARAMETERS_ARE_MADE_BY = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)
MADE_OF_NOTHING = {
    *PARAMETERS_ARE_MADE_BY, torch.arange, torch.linspace, torch.logspace, torch.eye, torch.randint,
    torch.randperm,
}  # fmt: skip
ON_META = {"device": torch.device("meta"), "pin_memory": False}  # of a tensor without memory


class NoStorage(TorchFunctionMode):
    """Tensors that parameters are made of have no values; all others, such as ranges, have.

    No tensor is made of more than ``most`` numbers, where that is given. ``torch.device("meta")``
    imports torch's compiler, which takes a second.
    """

    def __init__(self, most: int | None = None, *, values: bool = False) -> None:
        super().__init__()
        self.most, self.values = most, values

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in MADE_OF_NOTHING:
            return func(*args, **kwargs)
        if self.most is not None:
            count = func(*args, **{**kwargs, **ON_META}).numel()
            if count > self.most:
                raise _TooLargeError(f"{count} numbers and more are described, in one tensor")
        if func in PARAMETERS_ARE_MADE_BY and kwargs.get("device") is None and not self.values:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


class _TooLargeError(Exception):
    """The model has more modules or numbers than the limit."""


def check_size(build: Callable[[], nn.Module], held: int, kind: str, name: str, fix: str) -> None:
    """Refuse a model for whose weights files of so many bytes are too small.

    Args:
        build: Makes the model; called without memory for its values.
        held: The bytes of the files that may hold its weights.
        kind: What describes the model, for the message: ``config`` or ``model spec``.
        name: Which one.
        fix: What the message says to do.

    Raises:
        InputError: more modules than any model has, or more numbers than the files could hold.
    """
    most = SPARE + 4 * held  # of 2 bits each, as the most thrifty formats have them
    modules = min(MOST_MODULES, FEW_MODULES + held // BYTES_OF_A_MODULE)
    try:
        with torch.random.fork_rng(devices=[]), _counted(modules, most):
            _try_to_build(build, most)
    except _TooLargeError as error:
        raise InputError(
            f"the {kind} describes a model that the checkpoint cannot be of",
            found=f"{error} by {name}",
            expected=f"as many modules and numbers as files of {held} bytes can hold",
            fix=fix,
        ) from error


def _try_to_build(build: Callable[[], nn.Module], most: int) -> None:
    """Build without values, or, as some models read numbers while they are built, with them.

    What goes wrong there goes wrong again when the model is built to be used, and is told then.
    """
    for values in (False, True):
        try:
            with NoStorage(most, values=values):
                build()
        except _TooLargeError:
            raise
        except Exception:
            continue
        return


@contextmanager
def _counted(most_modules: int, most: int) -> Iterator[None]:
    """Count the modules and numbers that this thread's models get, and stop beyond the limits."""
    this_thread, modules, numbers = threading.get_ident(), 0, 0

    def on_module(*_: Any) -> None:
        nonlocal modules
        if threading.get_ident() == this_thread:
            modules += 1
            if modules > most_modules:
                raise _TooLargeError(f"more than {most_modules} modules are described")

    def on_tensor(_module: nn.Module, _name: str, tensor: Any) -> None:
        nonlocal numbers
        if threading.get_ident() == this_thread and tensor is not None:
            numbers += tensor.numel()
            if numbers > most:
                raise _TooLargeError(f"{numbers} numbers and more are described")

    handles = [
        registration.register_module_module_registration_hook(on_module),
        registration.register_module_parameter_registration_hook(on_tensor),
        registration.register_module_buffer_registration_hook(on_tensor),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def bytes_below(folder: Path) -> int:
    """The size of all files below a directory."""
    total = seen = 0
    for place, _, names in walk(folder):
        for name in names:
            seen += 1
            try:
                total += (place / name).lstat().st_size
            except OSError:  # gone meanwhile
                continue
        if seen > MOST_FILES:
            break
    return total
