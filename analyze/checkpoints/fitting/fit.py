"""Fit a checkpoint's tensors to a model: all of them, or not at all."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from analyze.checkpoints.fitting.ambiguity import decided_versions, two_parts
from analyze.checkpoints.fitting.filling import IncompatibleKeys, filled, own_versions
from analyze.checkpoints.fitting.hints import hint
from analyze.checkpoints.fitting.mismatch import Attempt, as_built, misfit
from analyze.checkpoints.fitting.tensor_names import (
    any_matches,
    carried,
    colliding,
    prefixes_of,
    renamed,
    stripped,
    unused_rules,
    unwrapped,
)
from analyze.checkpoints.odd_tensors import oddity
from analyze.checkpoints.versions import versions_in
from analyze.errors import CheckpointError, listed

# A library's own conversion of weights: from a model and tensors to tensors by the model's names.
Convert = Callable[[nn.Module, Mapping[str, Any]], dict[str, Any]]
# The spec and the model with a number of classes; None where the spec has no such argument.
Resized = Callable[[int], tuple[str, nn.Module] | None]


def fit(
    model: nn.Module,
    weights: Mapping[str, Any],
    name: str,
    model_name: str,
    *,
    rename: Sequence[str] = (),
    ignore: Sequence[str] = (),
    convert: Convert | None = None,
    resized: Resized = lambda _: None,
) -> str:
    """Load the weights into the model; returns the prefix that was taken off their names.

    The model's own ``load_state_dict`` does it, so that its modules convert what they convert; what
    did not fit is judged afterwards. Missing keys are errors unless tied to a present one: weights
    left at random would give plausible numbers.

    Args:
        model: Changed in place; of no use where the checkpoint is refused.
        weights: Tensors and extra states by name; a state dict of torch has versions as well.
        name: The checkpoint's name, for messages.
        model_name: The model's spec, for messages.
        rename: ``OLD=NEW`` for names of the checkpoint, as they are or without the prefix.
        ignore: Globs. A buffer of the model may then be missing or misshapen, and stays as built
            (not the statistics of a norm, which training changes); a tensor that the model has no
            place for is left out. A parameter of the model never is.
        convert: The conversion of tensors by the model's library.
        resized: Builds the model with another number of classes, for a hint.

    Raises:
        CheckpointError: missing, unknown or wrongly shaped tensors, all of them listed; values
            that are not finite, or no floating point numbers where the model has them; two values
            for one parameter of the model; two parts that both fit; unknown versions that matter.
    """
    fitting = _Fitting(model, weights, name, model_name, convert, resized)
    attempt = fitting.tried(rename, ignore)
    if not attempt.outcome.fits:
        raise misfit(attempt, name, model_name, hint(attempt))
    state = model.state_dict()
    _check_finite([k for k in state if k not in attempt.infinite and not _finite(state[k])], name)
    _check_ties(attempt.saved, attempt.wanted, name, model_name)
    return attempt.prefix


@dataclass(frozen=True)
class _Fitting:
    """A model and a checkpoint, with their names for messages."""

    model: nn.Module
    weights: Mapping[str, Any]
    name: str
    model_name: str
    convert: Convert | None
    resized: Resized

    def helped(self, rename: Sequence[str], ignore: Sequence[str]) -> IncompatibleKeys | None:
        """The outcome with other choices of the user; None where they are refused."""
        try:
            attempt = self.tried(rename, ignore)
            if attempt.outcome.fits:
                _check_ties(attempt.saved, attempt.wanted, self.name, self.model_name)
            return attempt.outcome
        except CheckpointError:
            return None

    def tried(self, rename: Sequence[str], ignore: Sequence[str]) -> Attempt:
        """Load with these choices of the user."""
        wanted = self.model.state_dict(keep_vars=True)
        prefix, names = self._named(wanted, rename, ignore)
        saved = {new: self.weights[old] for new, old in names.items()}
        saved = _without_ignored(saved, wanted, ignore)
        tensors = {key: value for key, value in saved.items() if isinstance(value, Tensor)}
        _check_plain({k: kind for k, t in tensors.items() if (kind := oddity(t))}, self.name)
        versions = carried(versions_in(self.weights), names)
        if self.convert is not None:
            _check_ties(saved, wanted, self.name, self.model_name)
            saved = _without_ignored(self.convert(self.model, saved), wanted, ignore)
            versions = own_versions(self.model)
        other = {k: kind for k, t in saved.items() if (kind := _other_kind(t, wanted.get(k)))}
        _check_plain(other, self.name)
        every = {*self.weights, *names, *saved, *wanted}
        unused = [f"--rename {rule}" for rule in unused_rules(tuple(self.weights), tuple(rename))]
        unused += [f"--ignore '{glob}'" for glob in ignore if not fnmatch.filter(every, glob)]
        buffers = {k: value for k, value in wanted.items() if not isinstance(value, nn.Parameter)}
        infinite = {key for key, value in buffers.items() if not _finite(value)}

        def judged(outcome: IncompatibleKeys) -> IncompatibleKeys:
            spared = {k for k in outcome.not_loaded if k in wanted and any_matches(k, ignore)}
            return outcome.without({key for key in spared if as_built(key, wanted[key])})

        versions = decided_versions(self.model, saved, versions, self.name, judged)
        return Attempt(
            prefix, unused, saved, wanted, infinite, judged(filled(self.model, saved, versions)),
            lambda more, less: self.helped([*rename, *more], [*ignore, *less]), self.resized,
        )  # fmt: skip

    def _named(
        self, wanted: Mapping[str, Any], rename: Sequence[str], ignore: Sequence[str]
    ) -> tuple[str, dict[str, str]]:
        """The prefix that is taken off, and the checkpoint's names by those of the model."""
        if rename and (both := colliding(_not_ignored(self.weights, ignore), rename)):
            raise _one_name(*both, rename, self.name)
        names = renamed({key: key for key in self.weights}, rename)
        prefixes, matches = prefixes_of(_not_ignored(names, ignore), wanted)
        if not matches:
            prefixes, matches = prefixes_of(names, wanted)
        prefix = prefixes[0] if len(prefixes) == 1 else ""
        if len(prefixes) > 1 and 2 * matches >= len(wanted):
            raise two_parts(prefixes, list(names), self.name, self.model_name)
        if self.convert is not None and 2 * matches < len(wanted):
            prefix = ""  # a name of an older version may end as another one of today
        names = renamed(stripped(names, wanted, prefix), rename, wanted)
        return prefix, unwrapped(names, wanted)


def _not_ignored(names: Iterable[str], ignore: Sequence[str]) -> list[str]:
    return [key for key in names if not any_matches(key, ignore)]


def _one_name(old: str, new: str, rename: Sequence[str], name: str) -> CheckpointError:
    return CheckpointError(
        "a renaming gives two tensors one name",
        found=f"{name} has {old} and {new}; --rename {' '.join(rename)} makes {new} of both",
        expected="names that differ",
        fix=f"rename the other one, too: --rename {new}=OTHER; or leave it out: --ignore '{new}'",
    )


def _without_ignored(
    saved: Mapping[str, Any], wanted: Mapping[str, Any], ignore: Sequence[str]
) -> dict[str, Any]:
    """The tensors that the user does not ignore; parameters of the model cannot be ignored."""
    return {
        key: value
        for key, value in saved.items()
        if not any_matches(key, ignore)
        or (key in wanted and not (as_built(key, wanted[key]) and _misshapen(value, wanted[key])))
    }


def _misshapen(value: Any, wanted: Any) -> bool:
    both = isinstance(value, Tensor) and isinstance(wanted, Tensor) and not is_lazy(wanted)
    return both and value.shape != wanted.shape


def _check_plain(odd: Mapping[str, str], name: str) -> None:
    """Refuse tensors that are no dense floating point numbers, with the kinds in ``odd``."""
    if odd:
        raise CheckpointError(
            "the checkpoint holds tensors that are not plain weights",
            found=f"{listed([f'{key} ({kind})' for key, kind in odd.items()])} in {name}",
            expected="dense floating point numbers, as the model has them",
            fix="save the weights as the model computes with them: "
            "torch.save(model.state_dict(), path), after to_dense() or dequantize() where needed",
        )


def _check_finite(bad: list[str], name: str) -> None:
    if bad:
        raise CheckpointError(
            "the checkpoint holds values that are not finite",
            found=f"NaN or infinity in {listed(bad)} in {name}",
            expected="finite weights",
            fix="leave it out: --checkpoints GLOB; the training had diverged",
        )


def _check_ties(
    saved: Mapping[str, Any], wanted: Mapping[str, Any], name: str, model_name: str
) -> None:
    """Refuse two values for one parameter of the model: the last one loaded would win."""
    first: dict[int, str] = {}
    for key, value in saved.items():
        if not (isinstance(value, Tensor) and isinstance(wanted.get(key), Tensor)):
            continue
        other = first.setdefault(id(wanted[key]), key)
        same_shape = value.shape == saved[other].shape
        if other != key and not (same_shape and torch.equal(value, saved[other])):
            raise CheckpointError(
                "the checkpoint has two values for one parameter of the model",
                found=f"{other} and {key} differ in {name}",
                expected=f"equal values: they are one parameter of {model_name}",
                fix="give the model that was trained, without tied weights: --model SPEC",
            )


def _other_kind(value: Any, wanted: Any) -> str:
    """The type of a tensor that is not of the floating point or complex kind of the model's."""
    if not (isinstance(value, Tensor) and isinstance(wanted, Tensor)):
        return ""
    kinds = [(t.is_floating_point(), t.is_complex()) for t in (value, wanted)]
    return "" if kinds[0] == kinds[1] or not any(kinds[1]) else str(value.dtype)


def _finite(value: Any) -> bool:
    """Whether all numbers of a value are finite, as where it has none."""
    if not isinstance(value, Tensor) or is_lazy(value):
        return True
    if not (value.is_floating_point() or value.is_complex()):
        return True
    wide = value.float() if value.element_size() == 1 else value  # no isfinite for float8
    return bool(torch.isfinite(wide).all())
