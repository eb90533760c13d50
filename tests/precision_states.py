"""Settings of precision, what holds inside a measurement, and what is left of them after it.

A child of this process makes each combination, as torch has settings that nobody can set back. What
is kept is told by what is read, and by what is read after further settings: there are states that
differ in nothing but in whether they follow a wider setting.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch

from analyze.gradients.step.conditions import measuring

Setting = tuple[str, Any]
PLACES = ["", "cuda.matmul", "cudnn", "cudnn.conv", "cudnn.rnn", "mkldnn", "mkldnn.matmul",
          "mkldnn.conv", "mkldnn.rnn"]  # fmt: skip
HOW = ("without", "plain", "error", "model")  # nothing is measured; or so it is
NEWER = ["none", "ieee", "tf32", "bf16"]
OLDER: list[Setting] = [
    ("products", "highest"), ("products", "high"), ("products", "medium"),
    ("cublas", True), ("cublas", False), ("cudnn flag", True), ("cudnn flag", False),
]  # fmt: skip


def place(path: str) -> Any:
    found: Any = torch.backends
    for part in path.split(".") if path else ():
        found = getattr(found, part)
    return found


def make(setting: Setting) -> None:
    name, value = setting
    if name == "products":
        torch.set_float32_matmul_precision(value)
    elif name == "cublas":
        torch.backends.cuda.matmul.allow_tf32 = value
    elif name == "cudnn flag":
        torch.backends.cudnn.allow_tf32 = value
    else:
        place(name).fp32_precision = value


def told(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except RuntimeError:
        return "contradiction"


def readings() -> list[Any]:
    older = (
        torch.get_float32_matmul_precision,
        lambda: torch.backends.cuda.matmul.allow_tf32,
        lambda: torch.backends.cudnn.allow_tf32,
    )
    return [place(path).fp32_precision for path in PLACES] + [told(read) for read in older]


def answers() -> list[Any]:
    """What is read now, and after each of some further settings, which stay."""
    found = [readings()]
    wide = [("", v) for v in NEWER] + [("cudnn", v) for v in NEWER[:3]] + [("mkldnn", "ieee")]
    for setting in [*wide, ("", "none"), ("cudnn", "none"), ("products", "highest")]:
        make(setting)
        found.append(readings())
    return found


def combinations() -> Iterator[tuple[Setting, ...]]:
    """None, one or two settings, by whichever way; the older one first and last."""
    newer = [(path, value) for path in PLACES for value in NEWER
             if value != "bf16" or not path.startswith("cud")]  # fmt: skip
    yield ()
    for one in newer + OLDER:
        yield (one,)
    for one, other in itertools.product(newer, OLDER):
        yield one, other
        yield other, one
    some = [("", "ieee"), ("", "tf32"), ("cudnn.conv", "ieee"), ("cudnn.rnn", "tf32"),
            ("cuda.matmul", "tf32"), ("mkldnn.matmul", "bf16"), ("products", "medium")]  # fmt: skip
    yield from itertools.combinations(some, 3)


def by_a_model() -> list[Any]:
    """What holds where a model changes settings while it is measured."""
    with torch.backends.cudnn.flags(enabled=False), torch.backends.mkldnn.flags(enabled=True):
        found = readings()
    for setting in (("products", "medium"), ("", "tf32"), ("cudnn.conv", "tf32"), *OLDER[3:]):
        make(setting)
    return [*found, *readings()]


def observed(combination: tuple[Setting, ...], how: str) -> dict[str, Any]:
    """``inside`` and ``after``; where nothing is measured, ``after`` alone."""
    for setting in combination:
        make(setting)
    inside: list[Any] = []
    try:
        with nullcontext() if how == "without" else measuring():
            if how == "without":
                pass
            elif how == "model":
                inside = by_a_model()
            else:
                inside = readings()
            if how == "error":
                raise ArithmeticError
    except ArithmeticError:
        pass
    return {"inside": inside, "after": answers()}


def in_a_child(combination: tuple[Setting, ...], how: str) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            with os.fdopen(writing, "w") as pipe:
                json.dump(observed(combination, how), pipe)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text or '{"inside": "an error", "after": "an error"}')


def main(step: int) -> None:
    """Print what every so many-th combination gives, a line each."""
    warnings.simplefilter("ignore")
    for combination in itertools.islice(combinations(), 0, None, step):
        found = {how: in_a_child(combination, how) for how in HOW}
        print(json.dumps({"settings": combination, "found": found}))
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
