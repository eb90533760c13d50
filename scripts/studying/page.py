"""The page: a template whose numbers and claims come from the files of the trainings; no torch."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from scripts.studying import courses, design, findings, shipped
from scripts.studying.seeds import ENOUGH, digits, over_seeds
from scripts.studying.store import DATA, FOLDER, Measured, Study, path_of

TEMPLATE = Path(__file__).with_name("template.md")
PAGE = FOLDER.with_suffix(".md")
LINE = 120  # characters
WHOLE = len(design.trainings())
FIRST = design.FIRST_STEPS + 1  # measured at each of them


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
        saved_steps=len(design.SAVED_STEPS),
        spaced_steps=len(design.SPACED_STEPS),
        seeds=_seeds(study),
        measured_steps=len(design.MEASURED_STEPS),
        first_steps=FIRST,
        growth=f"{(design.STEPS / FIRST) ** (1 / (len(design.MEASURED_STEPS) - FIRST)):.1f}",
        networks_table="\n".join(_networks(study)),
        fit_sentence=_fit(study),
        summary="\n".join(findings.summary(study)),
        table="\n".join(findings.lines(study)),
        floor=findings.floor_of_random_labels(study),
        lag_sentence=_lag(study),
        cosine_sentence=_cosine(study),
        size_sentence=_size(study),
        networks_sentence=_others(study),
        example=study.done[0].training.name,
        example_of_pages=shipped.EXAMPLE.name,
        compared=", ".join(map(str, shipped.COMPARED)),
        kilobytes=round(
            np.mean([path_of(folder, m.training).stat().st_size for m in study.done]) / 1000
        ),
        machine_sentence=_machine(study),
    )
    return "\n\n".join(map(_wrapped, text.rstrip("\n").split("\n\n"))) + "\n"


def _wrapped(block: str) -> str:
    """A paragraph in lines of the docs' width; tables, lists, code and headings as they are."""
    if block.startswith(("|", "#", "`" * 3, "!")):
        return block
    if block.startswith("- "):
        return "\n".join(_filled(line, "  ") for line in block.splitlines())
    return _filled(" ".join(block.split()))


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, LINE, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _done(study: Study) -> str:
    """How many trainings there are, by network."""
    count = len(study.done)
    if count == WHOLE:
        return f"All {WHOLE} trainings of the design are done."
    return (
        f"**{count} of the {WHOLE} trainings of the design are done**, so that a smaller design "
        "stands here: the table says how many seeds each network has at each share of noise, of "
        "five for the first network and three for the others. `scripts/study` goes on where it "
        "stopped."
    )


def _seeds(study: Study) -> str:
    """How many there are of each network at each share of noise, at least and at most."""
    counts = Counter((m.training.network.name, m.training.noise) for m in study.done).values()
    least, most = min(counts), max(counts)
    return str(most) if least == most else f"{least} to {most}"


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
    """What is fitted at the end, how new images fare, and how many examples decide the value."""
    least = 100 * min(m.values("accuracy")[-1] for m in study.done)
    fitted = "all" if least == 100 else f"at least {least:.1f} % of the"
    right = _by_noise(study, lambda m: 100 * m.values("accuracy", subset="held_out")[-1])
    deciding = _by_noise(
        study, lambda m: np.log(m.values("effective_sample_size")[-1]), is_log=True
    )
    return (
        f"At the end {fitted} training probes are fitted in every training. Of the held-out images "
        f"the residual network with batch norm then has right, in percent: {right}. How many of "
        f"the {design.PROBES} probes decide the value there, by the "
        f"[effective sample size](statistics.md): {deciding}."
    )


def _by_noise(study: Study, quantity: Callable[[Measured], float], *, is_log: bool = False) -> str:
    """A quantity of the first network over its seeds, for each share of noise where it is known."""
    found = {n: over_seeds(study.of(noise=n), quantity, is_log=is_log) for n in study.noises()}
    return "; ".join(f"{noise} % noise: {value}" for noise, value in found.items() if value.values)


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
    lowest = _by_noise(study, lambda m: float(np.nanmin(_opposition(m))))
    return (
        "Where the two pull against each other, what helps one harms the other: the lowest cosine "
        f"of their mean gradients, by the share of noise: {lowest}."
    )


def _opposition(measured: Measured) -> np.ndarray:
    """The cosine where both subsets are parts of the training, else NaN."""
    known = measured.training.noise not in (0, 100)
    return measured.values("gradient_cosine") if known else np.array([np.inf])


def _size(study: Study) -> str:
    """How much larger the value of the larger sample is."""

    def ratio(m: Measured) -> float:
        return float(np.nanmean(courses.log_coherence(m) - courses.log_coherence(m, size="m")))

    ratios = _by_noise(study, ratio, is_log=True)
    return f"The larger one's value over the smaller one's, mean over training: {ratios}."


def _others(study: Study) -> str:
    """How much is measured of the other networks."""
    names = [n.words for n in design.NETWORKS.values() if n.name != "residual" and study.of(n.name)]
    if not names:
        return "None of them is trained yet."
    seeds = max(len(study.of(n, 0)) for n in design.NETWORKS if n != "residual")
    told = "" if seeds >= ENOUGH else " With so few seeds this is a picture, and no finding."
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
