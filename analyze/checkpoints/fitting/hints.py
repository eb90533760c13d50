"""Options to type for a checkpoint that does not fit.

Every option was tried on the checkpoint before it is shown, and is the only one of its kind; which
of two tensors of one shape is which is never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, chain

from torch import Tensor

from analyze.checkpoints.fitting.filling import IncompatibleKeys
from analyze.checkpoints.fitting.globs import DEEPEST, globs_for
from analyze.checkpoints.fitting.mismatch import Attempt, as_built, shape_of
from analyze.checkpoints.versions import is_extra_state
from analyze.errors import listed

SYNONYMS = {  # of the last part of a name; TensorFlow's and Flax's, and those of old BERTs
    **dict.fromkeys(("gamma", "scale"), "weight"),
    **dict.fromkeys(("beta", "offset", "shift"), "bias"),
    **dict.fromkeys(("moving_mean", "mean"), "running_mean"),
    **dict.fromkeys(("moving_variance", "moving_var", "var"), "running_var"),
}
# The meaning of a vector of a norm, by the last part of its name.
MEANINGS = SYNONYMS | {name: name for name in SYNONYMS.values()} | {"g": "weight", "b": "bias"}
MOST_LEAVES = 100  # last parts of names that a utility of torch took apart; models have a few
# Names at the end of a path that one way of reparametrising a weight has, and those of another.
REPARAMETRISED = (
    {".parametrizations.{}.original0": ".{}_g", ".parametrizations.{}.original1": ".{}_v"},
    {".{}_orig": ".parametrizations.{}.original", ".{}_u": ".parametrizations.{}.0._u",
     ".{}_v": ".parametrizations.{}.0._v"},
    {".parametrizations.{}.original": ".{}_orig", ".parametrizations.{}.0._u": ".{}_u",
     ".parametrizations.{}.0._v": ".{}_v"},
)  # fmt: skip
# Weights that torch's utilities take apart: names, a word for it, what to do on either side.
UTILITIES = (
    (("{}_orig", "{}_mask"), "pruned", "torch.nn.utils.prune.identity(module, 'NAME')",
     "torch.nn.utils.prune.remove(module, 'NAME')"),
    (("{}_g", "{}_v"), "split by weight norm",
     "torch.nn.utils.parametrizations.weight_norm(module, 'NAME')",
     "torch.nn.utils.remove_weight_norm(module, 'NAME')"),
    (("{}_orig", "{}_u", "{}_v"), "divided by a spectral norm",
     "torch.nn.utils.spectral_norm(module, 'NAME')",
     "torch.nn.utils.remove_spectral_norm(module, 'NAME')"),
    *(((f".parametrizations.{{}}.{original}",), "parametrized",
       "the same parametrization (torch.nn.utils.parametrizations.weight_norm, ...)",
       "torch.nn.utils.parametrize.remove_parametrizations(module, 'NAME')")
      for original in ("original0", "original")),
)  # fmt: skip
# Buffers that libraries made persistent once and no longer do, or leave in the file by accident.
BUFFERS = (
    "position_ids", "token_type_ids", "masked_bias", "inv_freq", "relative_position_index",
    "relative_coords_table", "attn_mask", "causal_mask", "mask", "total_ops", "total_params",
    "num_batches_tracked", "original_inv_freq", "tril",
)  # fmt: skip


@dataclass(frozen=True)
class Proposal:
    """Options, and the words around them with ``{}`` in their place."""

    words: str
    rename: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The words with the options, quoted where a shell needs it."""
        options = [f"--rename {_quoted(rule)}" for rule in self.rename]
        options += [f"--ignore '{glob}'" for glob in self.ignore]
        return self.words.format(" ".join(options))


def hint(attempt: Attempt) -> str:
    """The first proposal that helps, to stand after ``--model SPEC``; empty where none does."""
    if certain := _utility(attempt) or _head(attempt) or _extra_state(attempt):
        return certain
    for rule in RULES:
        for proposal in rule(attempt):
            left = attempt.helped(proposal.rename, proposal.ignore)
            if left is not None and _better(left, attempt.outcome):
                return proposal.text
    return ""


def _better(left: IncompatibleKeys, before: IncompatibleKeys) -> bool:
    """Whether less is left that does not fit, and nothing new."""
    if left.said or len(left.not_loaded) > len(before.not_loaded):
        return False
    counts = [len(outcome.not_loaded) + len(outcome.unknown) for outcome in (left, before)]
    fewer = counts[0] < counts[1]
    return fewer or (left.fits and not before.fits)


def _utility(m: Attempt) -> str:
    """A weight that a utility of torch takes apart on one side and not on the other."""
    missing = {key: None for key in m.outcome.missing if key in m.wanted}
    unknown = dict.fromkeys(m.outcome.unknown)
    for endings, kind, make, undo in UTILITIES:
        if names := [name for name in missing if _parts_of(name, endings) <= unknown.keys()]:
            leaf = names[0].rpartition(".")[2]
            return (
                f" (the checkpoint has {listed(names, 3)} {kind}: apply "
                f"{make.replace('NAME', leaf)} to each module in the factory, "
                f"--model FILE.py:FACTORY; or call {undo.replace('NAME', leaf)} before saving)"
            )
        if names := [name for name in unknown if _parts_of(name, endings) <= missing.keys()]:
            return (
                f" (the model has {listed(names, 3)} {kind}, the checkpoint has not: build it "
                "without, --model FILE.py:FACTORY)"
            )
    return ""


def _head(m: Attempt) -> str:
    """Another number of classes than the model was asked for."""
    outcome = m.outcome
    counts = {(shape_of(m.saved[key]) or ())[:1] for key in outcome.misshapen}
    if outcome.missing or outcome.unknown or outcome.said or len(counts) != 1 or counts == {()}:
        return ""
    resized = m.resized(counts.pop()[0])
    if resized is None:
        return ""
    spec, model = resized
    other = model.state_dict(keep_vars=True)
    fits = other.keys() == m.wanted.keys() and all(
        shape_of(other.get(key)) == shape_of(value) for key, value in m.saved.items()
    )
    return f" (it has another number of classes: --model '{spec}')" if fits else ""


def _extra_state(m: Attempt) -> str:
    """Extra state that the checkpoint lacks; without it modules may compute otherwise."""
    lacking = [key for key in m.outcome.missing if is_extra_state(key)]
    if not lacking or len(lacking) < len(m.outcome.not_loaded) or m.outcome.unknown:
        return ""
    return (
        f" (the checkpoint lacks what modules save beside their tensors, {listed(lacking, 3)}: "
        "keep it by torch.save(model.state_dict(), path))"
    )


def _parts_of(name: str, endings: Iterable[str]) -> set[str]:
    """The names of the tensors that a utility makes of one."""
    path, _, leaf = name.rpartition(".")
    made = (ending.format(leaf).removeprefix(".") for ending in endings)
    return {f"{path}.{part}" if path else part for part in made}


def _reparametrised(m: Attempt) -> Iterator[Proposal]:
    """Weight norm and spectral norm by the names of torch's old and new way."""
    unknown = m.outcome.unknown
    leaves = sorted({parts[k + 1] for key in unknown
                     for parts in [key.split(".")] for k in range(len(parts) - 1)
                     if parts[k] == "parametrizations"}
                    | {key.rpartition(".")[2].removesuffix("_orig") for key in unknown
                       if key.endswith("_orig")})  # fmt: skip
    if len(leaves) > MOST_LEAVES:
        return
    for table in REPARAMETRISED:
        rules = [
            rule
            for leaf in leaves
            for old, new in table.items()
            for rule in _by_ending(old.format(leaf), new.format(leaf), unknown)
        ]
        if rules:
            yield Proposal(" (perhaps the same under other names: {})", tuple(rules))


def _by_ending(old: str, new: str, names: Iterable[str]) -> list[str]:
    """``*.a=*.b`` where several names end in ``.a``, else one rule for each name."""
    ended = [name for name in names if f".{name}".endswith(old)]
    if len(ended) > 1 and all(name.endswith(old) for name in ended):
        return [f"*{old}=*{new}"]
    return [f"{name}={f'.{name}'.removesuffix(old)[1:]}{new}".replace("=.", "=") for name in ended]


def _synonyms(m: Attempt) -> Iterator[Proposal]:
    """``gamma`` is ``weight`` and ``beta`` is ``bias``, wherever the shapes say so too."""
    missing = set(m.outcome.missing)
    rules = []
    for old, new in SYNONYMS.items():
        names = [
            key for key in m.outcome.unknown
            if key.rpartition(".")[2] == old
            and (other := f"{key.removesuffix(old)}{new}") in missing
            and shape_of(m.saved[key]) == shape_of(m.wanted.get(other))
        ]  # fmt: skip
        rules += _by_ending(f".{old}", f".{new}", names)
    if rules:
        yield Proposal(" (perhaps the same under other names: {})", tuple(rules))


def _prefix(m: Attempt) -> Iterator[Proposal]:
    """The prefix that all unknown names lack to be names of the model, where it is the only one."""
    unknown, missing = m.outcome.unknown, m.outcome.missing
    lacking = {key[: -len(unknown[0])] for key in missing if unknown and key.endswith(unknown[0])}
    lacking = {prefix for prefix in lacking if prefix.endswith(".")}
    fitting = [p for p in lacking if all(f"{p}{key}" in m.wanted for key in unknown)]
    if len(fitting) == 1:
        yield Proposal(f" (the names lack {fitting[0]}: {{}})", (f"*={fitting[0]}*",))


def _subtrees(m: Attempt) -> Iterator[Proposal]:
    """Modules under another name, with the same names and shapes inside."""
    pairs = _still_in_order(m, _matched(m))
    if pairs:
        shown = listed([f"{old} for {new}" for old, new in pairs], 3)
        rules = tuple(f"{old}={new}" for old, new in pairs)
        yield Proposal(f" (perhaps {shown}: {{}})", rules)
        if len(rules) > 1:
            yield from (
                Proposal(f" (perhaps {o} for {n}: {{}})", (f"{o}={n}",)) for o, n in pairs[:3]
            )


def _still_in_order(m: Attempt, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs without layers that would change places: 1 for 4 beside a 2 that stays.

    Layers that are counted otherwise, 0 1 2 for 0 2 4, meet some numbers by chance.
    """
    unknown = set(m.outcome.unknown)
    swapped: set[str] = set()
    for parent in {path.rpartition(".")[0] for path, _ in pairs}:
        begin = f"{parent}." if parent else ""
        moved = {old: new for old, new in pairs if _numbered(old, begin) and _numbered(new, begin)}
        stay = {begin + key[len(begin) :].partition(".")[0]
                for key in m.saved if key.startswith(begin) and key not in unknown}  # fmt: skip
        places = {path: path for path in stay if _numbered(path, begin)} | moved
        order = [int(new[len(begin) :]) for _, new in sorted(
            places.items(), key=lambda pair: int(pair[0][len(begin) :]))]  # fmt: skip
        if moved and order != sorted(set(order)):
            swapped |= moved.keys()
    return [pair for pair in pairs if pair[0] not in swapped]


def _numbered(path: str, begin: str) -> bool:
    return path.startswith(begin) and path[len(begin) :].isdecimal()


Shapes = dict[str, tuple[int, ...] | None]  # by name
Inner = frozenset[tuple[str, tuple[int, ...] | None]]  # names and shapes below a path


def _matched(m: Attempt) -> list[tuple[str, str]]:
    """Old and new paths, the highest first, each with one match only."""
    ours = {key: shape_of(m.wanted.get(key)) for key in m.outcome.missing}
    theirs = {key: shape_of(m.saved[key]) for key in m.outcome.unknown}
    pairs: list[tuple[str, str]] = []
    depth = 1 + max((key.count(".") for key in (*theirs, *ours)), default=0)
    for level in range(1, depth + 1) if depth <= DEEPEST else ():
        olds, news = _inside(theirs, (level,)), _inside(ours, range(1, depth + 1))
        for inner, old in olds.items():
            new = news.get(inner, [])
            if len(old) == len(new) == 1 and _may_be(old[0], new[0], inner):
                pairs.append((old[0], new[0]))
        theirs = _not_below(theirs, {old for old, _ in pairs})
        ours = _not_below(ours, {new for _, new in pairs})
    return pairs


def _inside(shapes: Shapes, levels: Iterable[int]) -> dict[Inner, list[str]]:
    """The paths with these numbers of parts, by the names and shapes below them."""
    below: dict[str, set[tuple[str, tuple[int, ...] | None]]] = {}
    for key, shape in shapes.items():
        parts = key.split(".")
        for k in levels:
            if k <= len(parts):
                below.setdefault(".".join(parts[:k]), set()).add((".".join(parts[k:]), shape))
    paths: dict[Inner, list[str]] = {}
    for path, inner in below.items():
        paths.setdefault(frozenset(inner), []).append(path)
    return paths


def _not_below(shapes: Shapes, gone: set[str]) -> Shapes:
    """The shapes of tensors that are below none of these paths."""
    return {
        key: shape
        for key, shape in shapes.items()
        if gone.isdisjoint(accumulate(key.split("."), "{}.{}".format))
    }


def _may_be(old: str, new: str, inner: Inner) -> bool:
    """Whether tensors or modules of the same shapes can be the same.

    A vector is not taken for one of another meaning, a shift for a scale; nor a tensor for one
    whose module and last word both are others, a ``temperature`` for the ``bias`` of a head.
    """
    if any(not rest for rest, _ in inner):
        (place, leaf), (other, name) = (re.split(r"\.(?=[^.]*$)", f".{p}") for p in (old, new))
        if place != other and leaf.rpartition("_")[2] != name.rpartition("_")[2]:
            return False
    vector = any(not rest and shape is not None and len(shape) == 1 for rest, shape in inner)
    a, b = (MEANINGS.get(path.rpartition(".")[2]) for path in (old, new))
    return not vector or a is None or b is None or a == b


def _missing_buffers(m: Attempt) -> Iterator[Proposal]:
    """Buffers of the model that the checkpoint lacks, or has in another shape."""
    names = m.outcome.not_loaded
    built = {k for k, value in m.wanted.items() if as_built(k, value) and not is_extra_state(k)}
    if names and not m.outcome.unknown and built.issuperset(names):
        gone = set(names)
        kept = [key for key in m.wanted if key not in gone]
        yield from _left_out("; if these buffers are as the model builds them: {}", names, kept)


def _old_buffers(m: Attempt) -> Iterator[Proposal]:
    """Buffers that the model no longer has; in a place that it does not have they are not its."""
    paths = (key.split(".")[:-1] for key in m.wanted)
    places = {"", *chain.from_iterable(accumulate(path, "{}.{}".format) for path in paths)}
    names = [key for key in m.outcome.unknown
             if _is_buffer(key, m.saved[key]) and not places.isdisjoint(_around(key))]  # fmt: skip
    gone = set(names)
    kept = [key for key in m.saved if key not in gone]
    yield from _left_out(" (buffers that the model no longer has: {})", names, kept)


def _around(key: str) -> tuple[str, str]:
    """The module of a tensor, which may have had no other tensor, and the one around it."""
    module = key.rpartition(".")[0]
    return module, module.rpartition(".")[0]


def _is_buffer(key: str, value: object) -> bool:
    """Whether a tensor is a buffer by its name, its type, or as the causal mask of old GPT-2."""
    if key.rpartition(".")[2] in BUFFERS:
        return True
    if not isinstance(value, Tensor):
        return False
    mask = value.dim() == 4 and value.shape[:2] == (1, 1) and value.shape[2] == value.shape[3]
    return mask or not (value.is_floating_point() or value.is_complex())


def _no_part(m: Attempt) -> Iterator[Proposal]:
    """Whole modules that the model has not, where all else fits."""
    unknown = m.outcome.unknown
    ours, theirs = ({key.partition(".")[0] for key in names} for names in (m.wanted, unknown))
    if not m.outcome.not_loaded and ours.isdisjoint(theirs):
        gone = set(unknown)
        kept = [key for key in m.saved if key not in gone]
        words = "; if these are no part of the model, as weights of a loss: {}"
        yield from _left_out(words, unknown, kept)


def _left_out(words: str, names: list[str], kept: list[str]) -> Iterator[Proposal]:
    for globs in globs_for(names, kept) if names else ():
        yield Proposal(words, (), tuple(globs))


def _quoted(rule: str) -> str:
    return f"'{rule}'" if any(c in rule for c in "*?[ ") else rule


RULES = (
    _reparametrised, _synonyms, _prefix, _subtrees, _missing_buffers, _old_buffers, _no_part,
)  # fmt: skip
