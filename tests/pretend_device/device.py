"""Importing this makes ``torch.device("pretend")`` in this process, and ``"pretend:1"``.

Numbers are the CPU's; placement, memory, streams and what the host waits for are as on a GPU. Not
there: sparse tensors, modes of precision, a GPU's own kernels and what they do not repeat,
fragmentation, time. The default stream is never late. Memory inside of an operation is not counted.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
import types
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from tests.pretend_device.building import built

HERE = str(Path(__file__).parent)
_compiled = built()

waits: Counter[str] = Counter()  # what made the host wait for the device, and where
held, peak, reset_peak = _compiled.held, _compiled.peak, _compiled.reset_peak  # bytes
allocations = _compiled.allocations  # how many blocks there were since the start
unrecorded = _compiled.unrecorded  # blocks freed under another stream that may still use them
launches = _compiled.launches  # by the name of the operation, since the start


def limit(size: int | None) -> None:
    """How many bytes each device has, 16 GiB for None.

    Beyond them ``torch.OutOfMemoryError`` is raised.
    """
    _compiled.limit(size)


def fail_at(number: int) -> None:
    """Let the ``number``-th allocation from now on run out of memory, and those after it not.

    None fails after 0.
    """
    _compiled.fail_at(number)


def appear() -> None:
    """What torch calls when it is imported; the import of this module has done it all."""


def _waited(why: str) -> None:
    waits[f"{why} at {_where(sys._getframe().f_back)}"] += 1


def _where(frame: types.FrameType | None) -> str:
    """The innermost line that is neither torch's nor ours; in a backward pass there may be none."""
    while frame is not None:
        path = frame.f_code.co_filename
        if "/torch/" not in path and not path.startswith(HERE):
            return f"{path.split('site-packages/')[-1]}:{frame.f_lineno}"
        frame = frame.f_back
    return "autograd"


def _module() -> types.ModuleType:
    """What torch expects as ``torch.pretend``."""
    module: Any = types.ModuleType("torch.pretend")
    module.is_available = module.is_initialized = lambda: True
    module._is_in_bad_fork = lambda: False
    module.device_count = lambda: 2
    module.current_device, module.set_device = _compiled.current_device, _compiled.set_device
    module.synchronize = lambda device=None: torch.accelerator.synchronize(device)
    module.manual_seed = module.manual_seed_all = lambda seed: None
    module.get_rng_state = lambda device=None: torch.get_rng_state()
    module.set_rng_state = lambda state, device=None: None
    module.get_amp_supported_dtype = lambda: [torch.float16, torch.bfloat16]
    return module


torch.utils.rename_privateuse1_backend("pretend")
torch._register_device_module("pretend", _module())
torch.utils.generate_methods_for_privateuse1_backend(for_storage=True)
_compiled.on_wait(_waited)
if size := os.environ.get("PRETEND_LIMIT"):
    limit(int(size))
# Autograd's own threads may still let go of what Python gave them, and abort where it is gone.
atexit.register(time.sleep, 0.1)
