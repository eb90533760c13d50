"""The page: a template whose numbers and claims come from the files of the trainings; no torch."""

from __future__ import annotations

import textwrap
from collections import Counter
from pathlib import Path

import numpy as np

from scripts.studying import courses, design, findings
from scripts.studying.seeds import digits, over_seeds
from scripts.studying.store import DATA, FOLDER, Study, path_of

TEMPLATE = Path(__file__).with_name("template.md")
PAGE = FOLDER.with_suffix(".md")
LINE = 120  # characters
WHOLE = len(design.trainings())


def written(study: Study, folder: Path = DATA) -> str:
    """The text of the page."""
    text = TEMPLATE.read_text(encoding="utf-8").format(
        done_sentence=_done(study),
        side=design.SIDE,
        images=design.IMAGES,
        momentum=design.MOMENTUM,
        batch_size=design.BATCH_SIZE,
        epochs=design.EPOCHS,
        steps=design.STEPS,
        probes=design.PROBES,
        held_out=design.HELD_OUT,
        measured_steps=len(design.MEASURED_STEPS),
        networks_table="\n".join(_networks(study)),
        fit_sentence=_fit(study),
        table="\n".join(findings.lines(study)),
        floor=findings.floor_of_random_labels(study),
        lag_sentence=_lag(study),
        cosine_sentence=_cosine(study),
        size_sentence=_size(study),
        networks_sentence=_others(study),
        example=study.done[0].training.name,
        kilobytes=round(
            np.mean([path_of(folder, m.training).stat().st_size for m in study.done]) / 1000
        ),
        machine_sentence=_machine(study),
    )
    return "\n\n".join(map(_wrapped, text.rstrip("\n").split("\n\n"))) + "\n"


def _wrapped(block: str) -> str:
    """A paragraph in lines of the docs' width; tables, lists, code and headings as they are."""
    if block.startswith(("|", "#", "`" * 3, "!", "- ")):
        return block
    return textwrap.fill(
        " ".join(block.split()), LINE, break_long_words=False, break_on_hyphens=False
    )


def _done(study: Study) -> str:
    """How many trainings there are, by network."""
    count = len(study.done)
    if count == WHOLE:
        return f"All {WHOLE} trainings of the design are done."
    return (
        f"**{count} of the {WHOLE} trainings of the design are done**, so that a smaller design "
        "stands here: the table says how many seeds each network has at each share of noise, of "
        "three for the first network and two for the others. `scripts/study` goes on where it "
        "stopped."
    )


def _networks(study: Study) -> list[str]:
    rows = ["| network | model | first rate | middle layer | seeds at each share of noise |",
            "| --- | --- | --- | --- | --- |"]  # fmt: skip
    for network in design.NETWORKS.values():
        seeds = Counter(m.training.noise for m in study.of(network.name))
        numbers = ", ".join(f"{noise} %: {seeds[noise]}" for noise in sorted(seeds)) or "none yet"
        weights = "; weights drawn as He et al. (2015) do" if network.he else ""
        rows.append(
            f"| {network.words} | `{network.model}`{weights} | {network.learning_rate} | "
            f"`{network.layers[1]}` | {numbers} |"
        )
    return rows


def _fit(study: Study) -> str:
    """What is fitted at the end, and how new images fare."""
    worst = min(study.done, key=lambda m: m.values("accuracy")[-1])
    parts = []
    for noise in study.noises():
        group = study.of(noise=noise)
        held_out = over_seeds(
            group, lambda m: 100 * m.values("accuracy", subset="held_out")[-1], is_log=False
        )
        parts.append(f"{noise} % noise: {held_out}")
    return (
        f"At the end {100 * worst.values('accuracy')[-1]:.1f} % of the training probes are fitted, "
        "or more, in every training. Of the held-out images the residual network with batch norm "
        f"then has right, in percent: {'; '.join(parts)}."
    )


def _lag(study: Study) -> str:
    """The highest value with saved statistics, and the recomputed one of the same weights."""
    parts = []
    for noise in study.noises():
        best = max(study.of(noise=noise), key=lambda m: np.nanmax(m.values(mode="saved")))
        saved = best.values(mode="saved")
        k = int(np.nanargmax(saved))
        parts.append(
            f"{noise} % noise: {digits(saved[k])} against {digits(best.values()[k])} (seed "
            f"{best.training.seed}, step {best.steps[k]})"
        )
    return "Where saved ones give most, against recomputed ones of the same weights: " + (
        "; ".join(parts) + "."
    )


def _cosine(study: Study) -> str:
    """How far clean and corrupted sums oppose each other."""
    parts = []
    for noise in (n for n in study.noises() if n not in (0, 100)):
        lowest = over_seeds(
            study.of(noise=noise),
            lambda m: float(np.nanmin(m.values("gradient_cosine"))),
            is_log=False,
        )
        parts.append(f"{noise} % noise: {lowest}")
    return (
        "Where the two pull against each other, what helps one harms the other: the lowest cosine "
        f"of their mean gradients is, by share of noise, {'; '.join(parts)}."
    )


def _size(study: Study) -> str:
    parts = []
    for noise in study.noises():
        ratio = over_seeds(
            study.of(noise=noise),
            lambda m: float(
                np.nanmean(courses.log_coherence(m) - courses.log_coherence(m, size="m"))
            ),
        )
        parts.append(f"{noise} % noise: {ratio}")
    return f"The larger one's value over the smaller one's, mean over training: {'; '.join(parts)}."


def _others(study: Study) -> str:
    """How much is measured of the other networks."""
    names = [n.words for n in design.NETWORKS.values() if n.name != "residual" and study.of(n.name)]
    if not names:
        return "None of them is trained yet."
    seeds = max(len(study.of(n, 0)) for n in design.NETWORKS if n != "residual")
    told = "" if seeds > 1 else " With one seed each this is a picture, and no finding."
    return f"Beside the main one: {'; '.join(names)}.{told}"


def _machine(study: Study) -> str:
    facts = [m.facts for m in study.done]
    seconds = sum(f["processor_seconds"] for f in facts)

    def each(name: str) -> str:
        return " and ".join(sorted({str(f[name]) for f in facts}))

    return (
        f"Made with gradient-coherence {each('analyze')}, torch {each('torch')} and Python "
        f"{each('python')} on one thread a training of {each('processor')}: "
        f"{seconds / 60:.0f} minutes of one core for the {len(facts)} trainings, "
        f"{sum(f['processor_seconds_of_training'] for f in facts) / seconds * 100:.0f} % of it for "
        "training. The same versions on the same kind of processor give the same numbers."
    )
