"""Which part of what a checkpoint holds is the model's weights, and which their moving average."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from analyze.checkpoints.torch_files.pickled_tensors import PickledTensor
from analyze.checkpoints.torch_objects import is_module, is_tensor
from analyze.checkpoints.versions import Versions, extra_states_in, versions_in
from analyze.errors import RefusedError, counted, listed

if TYPE_CHECKING:
    from torch import Tensor

MODEL_KEYS = (
    "state_dict", "model_state_dict", "model", "net", "module", "params", "weights", "network",
    "state.model", "app.model",
)  # fmt: skip
EMA_KEYS = (
    "state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict", "ema_model",
    "params_ema", "ema",
)  # fmt: skip
NO_MODEL = ("optim", "sched", "scaler", "rng")  # in the keys of what has tensors, too
LONGEST_KEY = 1000  # characters of the key of a dictionary of tensors
N_AVERAGED = "n_averaged"  # torch's AveragedModel counts its updates beside the weights
COUNTERS = (N_AVERAGED, "steps")  # MMEngine's average has another name for it
# Lightning's WeightAveraging puts the average where the weights were.
LIGHTNING_AVERAGE, LIGHTNING_MODEL = "averaging_state", "current_model_state"


@dataclass(frozen=True)
class Stored:
    """A tensor that is still in its file, under this key."""

    key: str


# ``Tensor`` is what a trusted pickle holds.
AnyTensor: TypeAlias = "Tensor | PickledTensor | Stored"


@dataclass(frozen=True)
class Weights:
    """The tensors at one place of a checkpoint, and what torch keeps of the modules beside them."""

    key: str  # empty for the top level
    tensors: Mapping[str, AnyTensor]
    extra: Mapping[str, Any] = field(default_factory=dict)  # extra states that are no tensors
    versions: Versions = field(default_factory=dict)


@dataclass(frozen=True)
class KindsOfWeights:
    """The kinds of weights in a checkpoint; None for a kind that it does not have."""

    model: Weights | None  # the trained weights
    ema: Weights | None  # their moving average
    rival: Weights | None = None  # other weights under the same names, at another usual key

    def chosen(self, kind: str | None, name: str) -> tuple[Weights, str]:
        """The weights that the user wants, empty where there are none, and their kind.

        Without a ``kind`` the trained weights are taken, where there are any.

        Raises:
            RefusedError: the checkpoint has the other kind only, or the trained ones twice.
        """
        kinds = {"model": self.model, "ema": self.ema}
        if kind is None:
            kind = "ema" if self.model is None and self.ema is not None else "model"
        weights, other = kinds[kind], "ema" if kind == "model" else "model"
        if weights is None and (others := kinds[other]) is not None:
            raise _other_kind_only(kind, other, others, name)
        if kind == "model" and weights is not None and self.rival is not None:
            raise _twice(weights, self.rival, name)
        return weights or Weights("", {}), kind


def kinds_of_weights(state: Mapping[str, Any]) -> KindsOfWeights:
    """The trained weights and their average, by the keys that trainers put them at."""
    if LIGHTNING_AVERAGE in state and isinstance(state.get(LIGHTNING_MODEL), Mapping):
        return KindsOfWeights(_below(state, LIGHTNING_MODEL), _below(state, "state_dict"))
    models = [weights for key in MODEL_KEYS if (weights := _below(state, key))]
    model = models[0] if models else None
    ema = next((weights for key in EMA_KEYS if (weights := _below(state, key))), None)
    if model is None and ema is None:
        top = tensors_in(state)
        # A few beside a dictionary of many are a random state, or the centre of a loss.
        if len(top) > max(places(state).values(), default=0):
            model = _weights("", state)
    if model is not None and N_AVERAGED in model.tensors:
        return KindsOfWeights(None, ema or model)
    rivals = (weights for weights in models[1:] if _could_be(weights, models[0]))
    return KindsOfWeights(model, ema, next(rivals, None))


def weights_at(state: Mapping[str, Any], key: str, kind: str | None, name: str) -> KindsOfWeights:
    """The weights at the key that the user gave, taken for the kind that ``--weights`` says.

    Raises:
        RefusedError: no tensors are there.
    """
    weights = _below(state, key)
    if weights is None:
        others = places(state)
        raise RefusedError(
            "the checkpoint holds no weights at this key",
            found=f"no tensors at {key} of {name}; {as_words(others)}",
            expected="a dictionary of tensors there, as --weights-key says",
            fix=f"{key_option(others)}, or leave the checkpoint out: --checkpoints GLOB",
        )
    return KindsOfWeights(None, weights) if kind == "ema" else KindsOfWeights(weights, None)


def places(state: Mapping[Any, Any], depth: int = 3) -> dict[str, int]:
    """The dotted paths of dictionaries that hold tensors, with the number of tensors in each.

    A dictionary that stands at several places is told at the first, the outermost.
    """
    counts = {}
    seen = {id(state)}
    level = [("", state)]
    for _ in range(depth):
        inside = []
        for path, outer in level:
            for key, value in outer.items():
                if not (isinstance(key, str) and isinstance(value, Mapping)) or id(value) in seen:
                    continue
                if len(key) > LONGEST_KEY or any(word in key.lower() for word in NO_MODEL):
                    continue
                seen.add(id(value))
                inside.append((f"{path}{key}.", value))
                if tensors := tensors_in(value):
                    counts[f"{path}{key}"] = len(tensors)
        level = inside
    return counts


def as_words(counts: Mapping[str, int]) -> str:
    """Places and numbers of tensors as a phrase for messages."""
    shown = [f"{key} ({n})" for key, n in counts.items()]
    return f"tensors at {listed(shown, 4)}" if shown else "none anywhere"


def key_option(keys: Collection[str]) -> str:
    """The ``--weights-key`` option to type; it names the key where there is only one."""
    if len(keys) == 1:
        return f"--weights-key {next(iter(keys))}"
    return "--weights-key KEY" + (f", one of {listed(list(keys), 4)}" if keys else "")


def tensors_in(mapping: Mapping[Any, Any]) -> dict[str, AnyTensor]:
    """The tensors directly in a dictionary, by name."""
    return {
        str(key): value for key, value in mapping.items()
        if isinstance(key, str | int)
        and (isinstance(value, PickledTensor | Stored) or is_tensor(value))
    }  # fmt: skip


def common_prefix(names: Iterable[str]) -> str:
    """The dotted prefix that all names share, such as ``module.`` or ``model._orig_mod.``."""
    parents = [name.split(".")[:-1] for name in names]
    shared = os.path.commonprefix(parents)  # noqa: RUF071 - of lists
    return "".join(f"{part}." for part in shared)


def at(state: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    value: Any = state
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _below(state: Mapping[str, Any], key: str) -> Weights | None:
    """The tensors at a key, or one level below it as some keep them: ``ema.module``."""
    value = at(state, key)
    if is_module(value):  # which only a trusted pickle can hold
        value = value.state_dict()
    if not isinstance(value, Mapping):
        return None
    if tensors_in(value):
        return _weights(key, value)
    for inner in ("state_dict", "module", "model", "shadow"):
        if isinstance(value.get(inner), Mapping) and tensors_in(value[inner]):
            return _weights(f"{key}.{inner}", value[inner])
    return None


def _weights(key: str, state: Mapping[Any, Any]) -> Weights:
    tensors = tensors_in(state)
    extra = {k: value for k, value in extra_states_in(state).items() if k not in tensors}
    return Weights(key, tensors, extra, versions_in(state))


def _could_be(weights: Weights, model: Weights) -> bool:
    """Whether these are weights of the same network as the model's, with other values."""
    if weights.tensors.keys() != model.tensors.keys():
        return False
    pairs = [(tensor, model.tensors[name]) for name, tensor in weights.tensors.items()]
    return any(a is not b and not _at_one_place(a, b) for a, b in pairs)


def _at_one_place(a: AnyTensor, b: AnyTensor) -> bool:
    """Whether two names have the same tensor."""
    if isinstance(a, PickledTensor) and isinstance(b, PickledTensor):
        return a.at_one_place(b)
    if not (is_tensor(a) and is_tensor(b)):
        return False
    from analyze.checkpoints.odd_tensors import same_values

    return same_values(a, b)


def _twice(weights: Weights, rival: Weights, name: str) -> RefusedError:
    return RefusedError(
        "the checkpoint holds weights of one network twice",
        found=f"{counted(len(weights.tensors), 'tensor')} of the same names at {weights.key} "
        f"and at {rival.key} of {name}",
        expected="one of them, as which was trained cannot be told",
        fix=f"--weights-key {weights.key}, or --weights-key {rival.key}",
    )


def _other_kind_only(kind: str, other: str, present: Weights, name: str) -> RefusedError:
    words = {"model": "trained weights", "ema": "averaged (EMA) weights"}
    place = present.key or "the top level"
    return RefusedError(
        f"the checkpoint holds no {words[kind]}",
        found=f"{words[other]} at {place} of {name}, "
        f"{counted(len(present.tensors), 'tensor')}: {listed(list(present.tensors), 3)}",
        expected=f"{words[kind]}, as --weights {kind} asks for",
        fix=f"--weights {other}, or leave the checkpoint out: --checkpoints GLOB",
    )
