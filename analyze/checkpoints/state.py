"""Which part of what a checkpoint holds is the model's weights, and which their moving average."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from analyze.checkpoints.plain import oddity
from analyze.checkpoints.versions import Versions, extra_states_in, versions_in
from analyze.errors import RefusedError, counted, listed

MODEL_KEYS = (
    "state_dict", "model_state_dict", "model", "net", "module", "params", "weights", "network",
    "state.model", "app.model",
)  # fmt: skip
EMA_KEYS = (
    "state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict", "ema_model",
    "params_ema", "ema",
)  # fmt: skip
NO_MODEL = ("optim", "sched", "scaler", "rng")  # in the keys of what has tensors, too
N_AVERAGED = "n_averaged"  # torch's AveragedModel counts its updates beside the weights
COUNTERS = (N_AVERAGED, "steps")  # MMEngine's average has another name for it
# Lightning's WeightAveraging puts the average where the weights were.
LIGHTNING_AVERAGE, LIGHTNING_MODEL = "averaging_state", "current_model_state"


@dataclass(frozen=True)
class Stored:
    """A tensor that is still in its file, under this key."""

    key: str


@dataclass(frozen=True)
class Part:
    """The tensors at one place of a checkpoint; ``key`` is empty for the top level.

    With them what torch keeps beside: extra states that are no tensors, and versions of modules.
    """

    key: str
    tensors: Mapping[str, Tensor | Stored]
    extra: Mapping[str, Any] = field(default_factory=dict)
    versions: Versions = field(default_factory=dict)


@dataclass(frozen=True)
class Parts:
    """What a checkpoint has; None for what it has not.

    Args:
        model: The trained weights.
        ema: Their moving average.
        rival: Other ones at another key that trainers use, under the same names.
    """

    model: Part | None
    ema: Part | None
    rival: Part | None = None

    def chosen(self, weights: str | None, name: str) -> tuple[Part | None, str]:
        """The part that the user wants, and ``model`` or ``ema``; None where no tensors are.

        Raises:
            RefusedError: the checkpoint has the other kind only, or the trained ones twice.
        """
        kinds = {"model": self.model, "ema": self.ema}
        if weights is None:
            weights = "ema" if self.model is None and self.ema is not None else "model"
        part, other = kinds[weights], "ema" if weights == "model" else "model"
        if part is None and kinds[other] is not None:
            raise _other_kind_only(weights, other, kinds[other], name)
        if weights == "model" and part is not None and self.rival is not None:
            raise _twice(part, self.rival, name)
        return part, weights


def parts_of(state: Mapping[str, Any]) -> Parts:
    """The trained weights and their average, by the keys that trainers put them at."""
    if LIGHTNING_AVERAGE in state and isinstance(state.get(LIGHTNING_MODEL), Mapping):
        return Parts(_part(state, LIGHTNING_MODEL), _part(state, "state_dict"))
    models = [p for key in MODEL_KEYS if (p := _part(state, key))]
    model = models[0] if models else None
    ema = next((p for key in EMA_KEYS if (p := _part(state, key))), None)
    if model is None and ema is None:
        top = tensors_in(state)
        # A few beside a dictionary of many are a random state, or the centre of a loss.
        model = _made("", state) if len(top) > max(places(state).values(), default=0) else None
    if model is not None and N_AVERAGED in model.tensors:
        return Parts(None, ema or model)
    return Parts(model, ema, next((p for p in models[1:] if _could_be(p, models[0])), None))


def parts_at(state: Mapping[str, Any], key: str, weights: str | None, name: str) -> Parts:
    """The weights at the key that the user gave; they are what ``weights`` says.

    Raises:
        RefusedError: no tensors are there.
    """
    part = _part(state, key)
    if part is None:
        others = places(state)
        raise RefusedError(
            "the checkpoint holds no weights at this key",
            found=f"no tensors at {key} of {name}; {told(others)}",
            expected="a dictionary of tensors there, as --weights-key says",
            fix=f"{key_option(others)}, or leave the checkpoint out: --checkpoints GLOB",
        )
    return Parts(None, part) if weights == "ema" else Parts(part, None)


def places(state: Mapping[Any, Any], depth: int = 3) -> dict[str, int]:
    """The dotted paths of dictionaries that hold tensors, with how many."""
    found = {}
    for key, value in state.items():
        if not (isinstance(key, str) and isinstance(value, Mapping) and depth):
            continue
        if any(word in key.lower() for word in NO_MODEL):
            continue
        if tensors := tensors_in(value):
            found[key] = len(tensors)
        found |= {f"{key}.{inner}": n for inner, n in places(value, depth - 1).items()}
    return found


def told(found: Mapping[str, int]) -> str:
    """Where there are tensors, in words."""
    counts = [f"{key} ({n})" for key, n in found.items()]
    return f"tensors at {listed(counts, 4)}" if counts else "none anywhere"


def key_option(found: Mapping[str, int]) -> str:
    """What to type to say which of these the weights are: the key itself where it is one only."""
    if len(found) == 1:
        return f"--weights-key {next(iter(found))}"
    return "--weights-key KEY" + (f", one of {listed(list(found), 4)}" if found else "")


def tensors_in(mapping: Mapping[Any, Any]) -> dict[str, Tensor | Stored]:
    """The tensors directly in a dictionary, by name."""
    return {str(k): v for k, v in mapping.items() if isinstance(v, Tensor | Stored)}


def at(state: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    value: Any = state
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _part(state: Mapping[str, Any], key: str) -> Part | None:
    """The tensors at a key, or one level below it as some keep them: ``ema.module``."""
    found = at(state, key)
    if not isinstance(found, Mapping):
        found = _as_state_dict(found)
    if found is None:
        return None
    if tensors_in(found):
        return _made(key, found)
    for inner in ("state_dict", "module", "model", "shadow"):
        if isinstance(found.get(inner), Mapping) and tensors_in(found[inner]):
            return _made(f"{key}.{inner}", found[inner])
    return None


def _made(key: str, state: Mapping[Any, Any]) -> Part:
    tensors = tensors_in(state)
    extra = {k: value for k, value in extra_states_in(state).items() if k not in tensors}
    return Part(key, tensors, extra, versions_in(state))


def _as_state_dict(value: Any) -> Mapping[str, Any] | None:
    """A whole module, which only a trusted pickle can hold."""
    from torch import nn

    return value.state_dict() if isinstance(value, nn.Module) else None


def _could_be(one: Part, other: Part) -> bool:
    """Whether they are other weights of one network."""
    if one.tensors.keys() != other.tensors.keys():
        return False
    pairs = [(tensor, other.tensors[name]) for name, tensor in one.tensors.items()]
    return any(a is not b and not _at_one_place(a, b) for a, b in pairs)


def _at_one_place(a: Tensor | Stored, b: Tensor | Stored) -> bool:
    """The same tensor, saved under two names."""
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)) or oddity(a) or oddity(b):
        return False
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride()


def _twice(part: Part, rival: Part, name: str) -> RefusedError:
    return RefusedError(
        "the checkpoint holds weights of one network twice",
        found=f"{counted(len(part.tensors), 'tensor')} of the same names at {part.key} and at "
        f"{rival.key} of {name}",
        expected="one of them, as which was trained cannot be told",
        fix=f"--weights-key {part.key}, or --weights-key {rival.key}",
    )


def _other_kind_only(weights: str, other: str, part: Part | None, name: str) -> RefusedError:
    assert part is not None
    words = {"model": "trained weights", "ema": "averaged (EMA) weights"}
    place = part.key or "the top level"
    return RefusedError(
        f"the checkpoint holds no {words[weights]}",
        found=f"{words[other]} at {place} of {name}, "
        f"{counted(len(part.tensors), 'tensor')}: {listed(list(part.tensors), 3)}",
        expected=f"{words[weights]}, as --weights {weights} asks for",
        fix=f"--weights {other}, or leave the checkpoint out: --checkpoints GLOB",
    )
