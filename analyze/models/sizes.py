"""The size of a model before it is built, counted on torch's meta device up to a limit.

A config or a model spec of a few bytes can ask for any number of layers or labels.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration
from torch.utils._python_dispatch import TorchDispatchMode

from analyze.errors import InputError
from analyze.files.walking import walk

MOST_MODULES = 200_000  # in any model
FEW_MODULES, BYTES_OF_A_MODULE = 2_000, 2_000  # whatever the files hold; and one more for so many
SPARE = 10_000_000  # numbers of a model, whatever the files hold: weights may be elsewhere, or tied
MOST_FILES = 10_000
ON_META = {"device": torch.device("meta"), "pin_memory": False}  # of a tensor without memory


class _TooLargeError(Exception):
    """The model has more modules or numbers than the limit."""


def check_size(build: Callable[[], nn.Module], held: int, kind: str, name: str, fix: str) -> None:
    """Refuse a model for whose weights files of so many bytes are too small.

    Args:
        build: Makes the model; called on the meta device.
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
    """Build on the meta device, or, as some models read numbers while they are built, on the CPU.

    What goes wrong there goes wrong again when the model is built to be used, and is told then.
    """
    for device in ("meta", "cpu"):
        try:
            with torch.device(device), _Bounded(most):
                build()
        except _TooLargeError:
            raise
        except Exception:
            continue
        return


class _Bounded(TorchDispatchMode):
    """Refuses to make a tensor of too many numbers before there is memory for it."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here; to say so would load torch's compiler and SymPy."""
        return False

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if not any(isinstance(value, Tensor) for value in args) and "device" in kwargs:
            count = getattr(func(*args, **{**kwargs, **ON_META}), "numel", int)()
            if count > self.most:
                raise _TooLargeError(f"{count} numbers and more are described, in one tensor")
        return func(*args, **kwargs)


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
