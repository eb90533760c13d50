"""Build a probe set: examples, noise, subsets, choice, transforms, in this order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from analyze.errors import InputError, listed, unknown
from analyze.files.whole import drop_parts
from analyze.probes.file import read_probes, write_probes
from analyze.probes.freezing.data import Examples, examples_of
from analyze.probes.freezing.noise import Labels, labels_of
from analyze.probes.freezing.selection import choose
from analyze.probes.freezing.transforms import Transforms, frozen
from analyze.probes.probe_set import ProbeSet
from analyze.probes.subsets import DEFAULT_SUBSET, HELD_OUT, Column

MOST_CLASSES = 1_000_000
CLASS, TRUE_CLASS, NOISE = "class", "true_class", "noise"


@dataclass(frozen=True)
class Recipe:
    """How a probe set is built.

    Args:
        data: A spec of the training data: ``torchvision:CIFAR10?root=data``.
        noise: ``KIND:FILE``, as many as there are.
        held_out: A spec of data that training did not see.
        subset_by: The column that names the subset: ``class``, ``true_class``, ``noise``, or one of
            the data's own; by default the noise where it is known.
        per_subset: As many examples of each subset.
        seed: Of the draw.
        balance: As many of each class within a subset.
        transforms: Of the inputs.
    """

    data: str
    noise: Sequence[str] = ()
    held_out: str | None = None
    subset_by: str | None = None
    per_subset: int | None = None
    seed: int = 0
    balance: bool = False
    transforms: Transforms = field(default_factory=Transforms)


@dataclass(frozen=True)
class Built:
    """A probe set, and what was found on the way, in words."""

    probes: ProbeSet
    facts: list[str]


def build_probes(recipe: Recipe) -> Built:
    """Read, choose and freeze the examples.

    Raises:
        InputError: whatever of the data, the noise and the choice does not fit together.

    Cost: all labels are read, and the inputs of the examples that are chosen.
    """
    examples = examples_of(recipe.data)
    labels = labels_of(examples, list(recipe.noise))
    columns = _columns(examples, labels)
    subset = _subsets(recipe, examples, labels, columns)
    rows = _chosen(recipe, subset, columns[CLASS].codes if CLASS in columns else None)
    transforms = recipe.transforms
    probes = ProbeSet(
        frozen(examples.items(rows), transforms), labels.given[rows],
        [subset[row] for row in rows], _ids(examples)[rows], mean=transforms.mean,
        std=transforms.std, subset_names=_ordered([subset[row] for row in rows]),
        columns={name: Column(c.codes[rows], c.names) for name, c in columns.items()},
    )  # fmt: skip
    facts = [*_facts(examples, labels), *_short(recipe, probes)]
    if recipe.held_out is not None:
        held = examples_of(recipe.held_out)
        chosen = _chosen(recipe, [HELD_OUT] * len(held), _classes(held.targets))
        probes = _with_held_out(probes, held, chosen, recipe, int(_ids(examples).max()) + 1)
        facts.append(f"{len(chosen)} of {len(held)} examples held out")
    return Built(probes, facts)


def _chosen(recipe: Recipe, subset: list[str], classes: np.ndarray | None) -> np.ndarray:
    return choose(subset, classes, recipe.per_subset, seed=recipe.seed, balance=recipe.balance)


def _with_held_out(
    probes: ProbeSet, held: Examples, rows: np.ndarray, recipe: Recipe, first_id: int
) -> ProbeSet:
    """The examples that training did not see, after the others; their labels are true."""
    inputs = frozen(held.items(rows), recipe.transforms)
    shapes, expected = (
        {name or "inputs": list(values.shape[1:]) for name, values in some.items()}
        for some in (inputs, probes.inputs)
    )
    if shapes != expected:
        raise InputError(
            "the examples held out are of another kind",
            found=str(shapes),
            expected=str(expected),
            fix="--resize N --crop N, or other data for --held-out",
        )
    names = [name for name in (CLASS, TRUE_CLASS) if name in probes.columns]
    columns = {name: _extended(probes.columns[name], held.targets[rows]) for name in names}
    subset = [probes.subset_names[code] for code in probes.subset] + [HELD_OUT] * len(rows)
    return ProbeSet(
        {name: np.concatenate([values, inputs[name]]) for name, values in probes.inputs.items()},
        np.concatenate([probes.targets, held.targets[rows]]), subset,
        np.concatenate([probes.id, first_id + rows]), columns=columns, mean=probes.mean,
        std=probes.std, subset_names=_ordered(subset),
    )  # fmt: skip


def freeze(recipe: Recipe, path: Path, *, overwrite: bool = False) -> Built:
    """``build_probes``, and the file of it.

    Args:
        recipe: How the probe set is built.
        path: Of the probe file.
        overwrite: Whether an older probe file may be replaced; any other file is left alone.

    Raises:
        InputError: as ``build_probes``, or the file is there or cannot be written.
    """
    _check_writable(path, overwrite)
    built = build_probes(recipe)
    notes = {"data": recipe.data, "noise": ", ".join(recipe.noise), "seed": str(recipe.seed)}
    drop_parts(path)
    write_probes(path, built.probes, **notes)
    return built


def _columns(examples: Examples, labels: Labels) -> dict[str, Column]:
    """Class as given, true class, noise, and the data's own labels, as codes."""
    columns = {k: _coded(v) for k, v in examples.columns.items() if v.ndim == 1}
    if (classes := _classes(labels.given)) is not None:
        columns[CLASS] = _class_column(classes, examples.class_names)
    if labels.known:
        columns[NOISE] = _coded(np.asarray(labels.state_names))
    if labels.true is not None and (labels.true >= 0).all():
        columns[TRUE_CLASS] = _class_column(labels.true, examples.class_names)
    return columns


def _classes(targets: np.ndarray) -> np.ndarray | None:
    """Labels that are classes; None for those that are something else."""
    whole = targets.ndim == 1 and targets.dtype.kind in "iub"
    return targets.astype(np.int64) if whole and (targets >= 0).all() else None


def _class_column(classes: np.ndarray, names: Sequence[str]) -> Column:
    count = int(classes.max()) + 1
    if count > MOST_CLASSES:
        raise InputError(
            "a label is no class",
            found=f"the class {count - 1}",
            expected=f"classes from 0 to {MOST_CLASSES - 1}",
            fix="number the classes from 0 on",
        )
    known = tuple(names) if len(names) >= count else tuple(map(str, range(count)))
    return Column(classes.astype(np.int64), known)


def _coded(values: np.ndarray) -> Column:
    names, codes = np.unique(values.astype(str), return_inverse=True)
    return Column(codes.astype(np.int64), tuple(names.tolist()))


def _subsets(
    recipe: Recipe, examples: Examples, labels: Labels, columns: dict[str, Column]
) -> list[str]:
    """The subset of each example, by name."""
    by = recipe.subset_by or (
        NOISE if labels.known else "subset" if "subset" in columns else None
    )  # fmt: skip
    if by is None:
        return [DEFAULT_SUBSET] * len(examples)
    if by not in columns:
        fix = f"--subset-by {next(iter(columns), 'class')}"
        what = "there is no such column to make subsets of"
        raise unknown(what, f"--subset-by {by}", sorted(columns), fix)
    column = columns[by]
    return [column.names[code] for code in column.codes]


def _ids(examples: Examples) -> np.ndarray:
    """The data's own, or the position in it: the same example has the same id in every set."""
    return np.arange(len(examples)) if examples.ids is None else np.asarray(examples.ids)


def _extended(column: Column, targets: np.ndarray) -> Column:
    """A column of classes with those of the examples held out, whose labels are true."""
    further = range(len(column.names), int(targets.max(initial=0)) + 1)
    codes = np.concatenate([column.codes, targets.astype(np.int64)])
    return Column(codes, column.names + tuple(map(str, further)))


def _ordered(names: list[str]) -> list[str]:
    """Clean, corrupted, unknown first, then by name; held out last."""
    first = ["clean", "corrupted", "estimated_clean", "estimated_corrupted", "unknown"]
    rank = {name: k for k, name in enumerate(first)}
    return sorted(set(names), key=lambda n: (n == HELD_OUT, rank.get(n, len(first)), n))


def _facts(examples: Examples, labels: Labels) -> list[str]:
    """What was counted and verified in the whole data set."""
    facts = [f"{len(examples)} examples in {examples.source}"]
    classes = _classes(labels.given)
    if classes is not None:
        empty = sorted(set(range(int(classes.max()) + 1)) - set(classes.tolist()))
        none = f"; none of class {listed(list(map(str, empty)), 4)}" if empty else ""
        facts.append(f"labels from {classes.min()} to {classes.max()}{none}")
    if labels.known:
        counts = Counter(labels.state_names)
        facts.append(", ".join(f"{n} {name}" for name, n in sorted(counts.items())))
    return facts + labels.facts


def _short(recipe: Recipe, probes: ProbeSet) -> list[str]:
    """Subsets that have fewer examples than wanted: their m-coherence has a lower ceiling."""
    wanted = recipe.per_subset or 0
    counts = zip(probes.subset_names, np.bincount(probes.subset).tolist(), strict=True)
    few = [f"{name} {count}" for name, count in counts if count < wanted]
    return [f"fewer than {wanted} in {listed(few)}: m-coherence grows with their number"] * bool(
        few
    )


def _check_writable(path: Path, overwrite: bool) -> None:
    """A folder to write to, and nothing in the way but a probe file that may be replaced."""
    if not path.parent.is_dir() or path.is_dir() or path.suffix != ".safetensors":
        raise InputError(
            "the probe file cannot be written",
            found=f"{path}: no file in a directory that exists, ending in .safetensors",
            expected="the path of a safetensors file",
            fix="analyze probes build probes.safetensors --data SPEC",
        )
    if path.exists():
        read_probes(path)
    if path.exists() and not overwrite:
        raise InputError(
            "there is such a file already",
            found=str(path),
            expected="a new file: runs are compared by the probes that they were measured on",
            fix="another name, or --overwrite to replace the probe file",
        )
