"""Build a probe set, step by step: examples, noise, subsets, choice, transforms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from analyze.errors import InputError, check_choice, counted, listed, unknown
from analyze.files.targets import check_target
from analyze.files.whole import drop_parts
from analyze.probes.drawing import drawn
from analyze.probes.file import cannot_write, read_probes, write_probes
from analyze.probes.freezing.data import Examples, PictureError, examples_of
from analyze.probes.freezing.noise import Labels, labels_of
from analyze.probes.freezing.transforms import Transforms, frozen
from analyze.probes.probe_set import ProbeSet
from analyze.probes.subsets import DEFAULT_SUBSET, HELD_OUT, Column
from analyze.specs.spec import Spec

MOST_CLASSES = 1_000_000
CLASS, TRUE_CLASS, NOISE = "class", "true_class", "noise"


@dataclass(frozen=True)
class Recipe:
    """How a probe set is built."""

    data: str  # a spec of the training data: torchvision:CIFAR10?root=data
    noise: Sequence[str] = ()  # KIND:FILE, see noise.KINDS
    held_out: str | None = None  # a spec of data that training did not see
    subset_by: str | None = None  # a column; None: noise, else the column "subset", else one subset
    per_subset: int | None = None  # None: all examples
    seed: int = 0
    balance: bool = False  # draw equally from the classes within a subset
    transforms: Transforms = field(default_factory=Transforms)
    on_error: str = "fail"  # or skip: what to do about a picture that cannot be read


@dataclass(frozen=True)
class Built:
    """A probe set with sentences on what was counted and verified while it was built."""

    probes: ProbeSet
    facts: list[str]


def build_probes(recipe: Recipe) -> Built:
    """Read, choose and freeze the examples.

    Cost: all labels are read, and the inputs of the chosen examples.
    """
    examples = examples_of(recipe.data)
    labels = labels_of(examples, list(recipe.noise))
    columns = _columns(examples, labels)
    subset = _subsets(recipe, examples, labels, columns)
    rows = choose(recipe, subset, columns[CLASS].codes if CLASS in columns else None)
    transforms = recipe.transforms
    items, rows, unread = _read(examples, rows, recipe.on_error)
    probes = ProbeSet(
        frozen(items, transforms), labels.given[rows],
        [subset[row] for row in rows], _ids(examples)[rows], mean=transforms.mean,
        std=transforms.std, subset_names=_ordered([subset[row] for row in rows]),
        columns={name: Column(c.codes[rows], c.names) for name, c in columns.items()},
    )  # fmt: skip
    facts = [*_facts(examples, labels), *_short(recipe, probes), *unread]
    if recipe.held_out is not None:
        held = examples_of(recipe.held_out)
        chosen = choose(recipe, [HELD_OUT] * len(held), _classes(held.targets))
        items, chosen, unread = _read(held, chosen, recipe.on_error)
        first_id = int(_ids(examples).max()) + 1
        probes = _with_held_out(probes, held, items, chosen, recipe, first_id)
        facts += [f"{len(chosen)} of {len(held)} examples held out", *unread]
    return Built(probes, facts)


def _read(
    examples: Examples, rows: np.ndarray, on_error: str
) -> tuple[list[Any], np.ndarray, list[str]]:
    """The inputs of the rows, the rows that could be read, and sentences on the others."""
    check_choice("on_error", on_error, ("fail", "skip"))
    if on_error == "fail":
        return examples.items(rows), rows, []
    items: list[Any] = []
    kept: list[int] = []
    problems: list[PictureError] = []
    for row in rows:
        try:
            items += examples.items(np.array([row]))
        except PictureError as error:
            problems.append(error)
        else:
            kept.append(row)
    if problems and not kept:
        raise problems[0]
    unread = listed([problem.found for problem in problems], 4)
    sentence = f"{counted(len(problems), 'picture')} skipped that cannot be read: {unread}"
    return items, np.array(kept, np.int64), [sentence] if problems else []


def choose(recipe: Recipe, subset: Sequence[str], classes: np.ndarray | None) -> np.ndarray:
    """Sorted rows of the recipe's draw from each subset, or all rows of one that has too few.

    The draw in one subset does not depend on the other subsets. A balanced draw takes equally from
    the ``classes`` ``[N]`` within a subset, as far as they reach.
    """
    names, chosen = np.asarray(subset), []
    for name in dict.fromkeys(subset):
        rows = np.flatnonzero(names == name)
        rows = drawn(rows, name, recipe.seed)
        if recipe.balance and classes is not None:
            rows = _dealt(rows, classes)
        chosen.append(rows[: recipe.per_subset])
    return np.sort(np.concatenate(chosen)) if chosen else np.array([], np.int64)


def _dealt(rows: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Rows with the first of every class in front, then the second of every class, and so on."""
    turn = np.zeros(len(rows), np.int64)
    for value in np.unique(classes[rows]):
        members = np.flatnonzero(classes[rows] == value)
        turn[members] = np.arange(len(members))
    return rows[np.argsort(turn, kind="stable")]


def _with_held_out(
    probes: ProbeSet, held: Examples, items: list[Any], rows: np.ndarray, recipe: Recipe,
    first_id: int,
) -> ProbeSet:  # fmt: skip
    """The probe set with held-out examples at its end; their labels count as true."""
    inputs = frozen(items, recipe.transforms)
    shapes, expected = (
        {name or "inputs": list(values.shape[1:]) for name, values in arrays.items()}
        for arrays in (inputs, probes.inputs)
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
    """Build a probe set and write it to a file; ``overwrite`` replaces none but a probe file."""
    _check_writable(path, overwrite)
    _refuse_inputs(recipe, path)
    built = build_probes(recipe)
    notes = {"data": recipe.data, "noise": ", ".join(recipe.noise), "seed": str(recipe.seed)}
    drop_parts(path)
    write_probes(path, built.probes, **notes)
    return built


def _columns(examples: Examples, labels: Labels) -> dict[str, Column]:
    """The columns of all examples: class, true class, noise, and the data's further labels."""
    columns = {k: Column.of(v) for k, v in examples.columns.items() if v.ndim == 1}
    if (classes := _classes(labels.given)) is not None:
        columns[CLASS] = _class_column(classes, examples.class_names)
    if labels.known:
        columns[NOISE] = Column.of(np.asarray(labels.state_names))
    if labels.true is not None and (labels.true >= 0).all():
        columns[TRUE_CLASS] = _class_column(labels.true, examples.class_names)
    return columns


def _classes(targets: np.ndarray) -> np.ndarray | None:
    """Targets as classes; None where they are something else."""
    integers = targets.ndim == 1 and targets.dtype.kind in "iub"
    return targets.astype(np.int64) if integers and (targets >= 0).all() else None


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


def _subsets(
    recipe: Recipe, examples: Examples, labels: Labels, columns: dict[str, Column]
) -> list[str]:
    """The name of each example's subset."""
    default = NOISE if labels.known else "subset" if "subset" in columns else None
    by = recipe.subset_by or default
    if by is None:
        return [DEFAULT_SUBSET] * len(examples)
    if by not in columns:
        what, fix = "there is no such column to make subsets of", next(iter(columns), "class")
        raise unknown(what, f"--subset-by {by}", sorted(columns), f"--subset-by {fix}")
    column = columns[by]
    return [column.names[code] for code in column.codes]


def _ids(examples: Examples) -> np.ndarray:
    """The ids that the data have, or positions: an example has the same id in every probe set."""
    return np.arange(len(examples)) if examples.ids is None else np.asarray(examples.ids)


def _extended(column: Column, targets: np.ndarray) -> Column:
    """A column of classes with the targets of the held-out examples at its end."""
    further = range(len(column.names), int(targets.max(initial=0)) + 1)
    codes = np.concatenate([column.codes, targets.astype(np.int64)])
    return Column(codes, column.names + tuple(map(str, further)))


def _ordered(names: list[str]) -> list[str]:
    """Subsets in order: clean, corrupted and unknown first, then by name, held out last."""
    first = ["clean", "corrupted", "estimated_clean", "estimated_corrupted", "unknown"]
    rank = {name: k for k, name in enumerate(first)}
    return sorted(set(names), key=lambda n: (n == HELD_OUT, rank.get(n, len(first)), n))


def _facts(examples: Examples, labels: Labels) -> list[str]:
    """Sentences on what was counted and verified in the whole data set."""
    facts = [f"{len(examples)} examples in {examples.source}"]
    if (classes := _classes(labels.given)) is not None:
        empty = sorted(set(range(int(classes.max()) + 1)) - set(classes.tolist()))
        none = f"; none of class {listed(list(map(str, empty)), 4)}" if empty else ""
        facts.append(f"labels from {classes.min()} to {classes.max()}{none}")
    if labels.known:
        counts = Counter(labels.state_names)
        facts.append(", ".join(f"{n} {name}" for name, n in sorted(counts.items())))
    return facts + labels.facts


def _short(recipe: Recipe, probes: ProbeSet) -> list[str]:
    """A sentence on subsets with too few examples, as their m-coherence has a lower ceiling."""
    wanted = recipe.per_subset or 0
    counts = zip(probes.subset_names, np.bincount(probes.subset).tolist(), strict=True)
    few = [f"{name} {count}" for name, count in counts if count < wanted]
    sentence = f"fewer than {wanted} in {listed(few)}: m-coherence grows with their number"
    return [sentence] if few else []


def _refuse_inputs(recipe: Recipe, path: Path) -> None:
    """Refuse to replace a file that the probes are made of."""
    specs = [recipe.data, *recipe.noise, *([recipe.held_out] if recipe.held_out else [])]
    names = [Spec.parse(spec).name for spec in specs]
    places = [place for name in names for place in (name, name.partition(":")[2]) if place]
    for place in places:
        same = False
        with suppress(OSError, ValueError):  # most places are no files
            same = path.samefile(place)
        if same:
            raise InputError(
                "the probe file would replace what it is made of",
                found=f"{path}, which is {place}",
                expected="another file: the examples could not be frozen a second time",
                fix="another name: analyze probes build probes.safetensors --data SPEC",
            )


def _check_writable(path: Path, overwrite: bool) -> None:
    """Check that the file can be written, with nothing in the way but a probe file to replace."""
    if path.suffix != ".safetensors":
        raise InputError(
            "the probe file cannot be written",
            found=f"{path}: no file in a directory that exists, ending in .safetensors",
            expected="the path of a safetensors file",
            fix="analyze probes build probes.safetensors --data SPEC",
        )
    try:
        check_target(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    if not path.exists():
        return
    read_probes(path)
    if not overwrite:
        raise InputError(
            "there is such a file already",
            found=str(path),
            expected="a new file: runs are compared by the probes that they were measured on",
            fix="another name, or --overwrite to replace the probe file",
        )
