"""Model specs, and the stricter rules for those in a run card; no torch."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from analyze.errors import InputError
from analyze.specs.spec import Scalar, Spec
from analyze.specs.user_files import defined_in

if TYPE_CHECKING:
    from torch.nn import Module

REGISTERED = ("builtin", "timm", "torchvision", "transformers")
FORMS = (
    "builtin:NAME, torchvision:NAME, timm:NAME, transformers:auto, FILE.py:FACTORY or "
    "package.module:FACTORY"
)
# Arguments that load files or use the network; models are built without them.
LOADING = ("weights", "weights_backbone", "checkpoint_path", "cache_dir")


def _meant(text: str) -> str:
    """What may have been meant by a text without a colon: a file of Python, or a model's name."""
    if text.endswith(".py"):
        made = defined_in(Path(text))
        return f"--model {shlex.quote(f'{text}:{made[0]}')}" if made else f"--model {text}:FACTORY"
    if text.isidentifier():
        return f"--model torchvision:{text}, timm:{text}, or FILE.py:{text} for one of your own"
    return "--model 'torchvision:resnet18?num_classes=10'"


def loads_weights(argument: str) -> bool:
    """Whether an argument of a model's factory asks for trained weights."""
    return argument in LOADING or argument.startswith("pretrained")


@dataclass(frozen=True)
class ModelSpec:
    """A model by name: ``torchvision:resnet18?num_classes=10``; or one in memory."""

    text: str  # as written
    source: str  # ``torchvision``, ``timm``, ``builtin``, a Python file or a package
    name: str  # the model or factory
    arguments: dict[str, Scalar]
    config: Path | None = None  # the checkpoints' ``config.json``, if the model is built from it
    module: Module | None = field(default=None, repr=False)  # in memory, of which copies are filled

    @property
    def needs_config(self) -> bool:
        """Whether the model is built from the checkpoints' own ``config.json``."""
        return self.source == "transformers"

    @classmethod
    def parse(cls, text: str) -> ModelSpec:
        """Read a spec.

        Raises:
            InputError: not of the form ``SOURCE:NAME``, or with an argument that loads weights.
        """
        spec = Spec.parse(text)
        source, _, name = spec.name.rpartition(":")
        if source.partition(":")[0] in REGISTERED:  # a name may hold a colon, as timm's hf-hub
            source, _, name = spec.name.partition(":")
        if not source or not name:
            raise InputError(
                "this is not a model spec",
                found=repr(text),
                expected=f"{FORMS}, each with ?argument=value&... where needed",
                fix=_meant(text),
            )
        loading = [key for key in spec.arguments if loads_weights(key)]
        if loading and source in REGISTERED:
            raise InputError(
                "the model spec asks for weights, which come from the checkpoints",
                found=f"{loading[0]} in {text!r}",
                expected="a model without weights: nothing is downloaded",
                fix=f"leave {loading[0]} out",
            )
        return cls(text, source, name, spec.arguments)

    @classmethod
    def of_module(cls, module: Module) -> ModelSpec:
        """A model in memory: what is measured are copies of it with the checkpoints' weights."""
        kind = type(module)
        return cls(f"{kind.__module__}.{kind.__qualname__} in memory", "", kind.__qualname__, {},
                   module=module)  # fmt: skip

    def refuse_code(self, card: str) -> None:
        """A run card is data: it may name a registered model with scalar arguments.

        Raises:
            InputError: the spec names Python code, or a file or address.
        """
        words = [self.name, *(v for v in self.arguments.values() if isinstance(v, str))]
        opened = [w for w in words if ":" in w or "/" in w or "\\" in w]
        if self.source not in REGISTERED:
            named, place = "Python code, which is not run", ""
            expected = f"one of {', '.join(f'{r}:NAME' for r in REGISTERED)}"
        elif opened:
            named, place = "a file or an address, which is not opened", f"{opened[0]!r} in "
            expected = "a model's name and scalar arguments"
        else:
            return
        raise InputError(
            f"the run card names {named} unasked",
            found=f"{place}model = {self.text!r} in {card}",
            expected=f"{expected}: a run card is data",
            fix=f"if you trust it: --model {self.text!r}",
        )
