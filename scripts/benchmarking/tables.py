"""Figures of a benchmark as tables of Markdown, in the docs between two marks."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table; the first column to the left, the others to the right."""
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))


def exactness_table(figures: dict[str, Any]) -> str:
    """One line: what became of the tests."""
    counts = [str(figures[key]) for key in ("tests", "failed", "skipped")]
    return markdown(["tests of exactness", "failed", "skipped"], [counts])


def speed_table(figures: dict[str, Any]) -> str:
    """A line for each model, a column for each way: ratio, memory and worst error below."""
    ways = list(next(iter(figures.values()))["ways"])
    lines = []
    for name, workload in figures.items():
        lines.append([f"{name}, {workload['what']}", *map(_cell, workload["ways"].values())])
    return markdown(["time, memory, worst error", *ways], lines)


def _cell(way: dict[str, Any]) -> str:
    if "refuses" in way:
        return "refuses"
    memory = "" if way["memory"] is None else f", {way['memory']:.2f}"
    return f"{_median(way['ratio'])}{memory}, {way['error']:.0e}"


def _median(ratio: dict[str, float]) -> str:
    return f"**{ratio['median']:.2f}** ({ratio['low']:.2f}-{ratio['high']:.2f})"


def cell_table(figures: dict[str, Any]) -> str:
    """A line for each model."""
    lines = [
        [name, _median(found["ratio"]), f"{found['batch']}"] for name, found in figures.items()
    ]
    return markdown(["a checkpoint of one cell", "time", "batch of a thread"], lines)


def verification_table(figures: dict[str, Any]) -> str:
    """A line for each model."""
    lines = []
    for name, found in figures.items():
        again = f"{found['elsewhere']} and {found['alone']} of {found['probes']}"
        lines.append([name, _median(found["ratio"]), again, f"{found['batch']}"])
    header = ["with verification", "time", "probes again elsewhere, alone", "batch"]
    return markdown(header, lines)


def directions_table(figures: dict[str, Any]) -> str:
    """A line for each model."""
    parts = ("second", "further", "known")
    lines = [
        [f"{name}, {found['what']}", *(_median(found[part]) for part in parts)]
        for name, found in figures.items()
    ]
    head = ["of a plain step", "second pass, one direction", "each further one",
            "each in the first pass"]  # fmt: skip
    return markdown(head, lines)


def series_table(figures: dict[str, Any]) -> str:
    """A line for each model."""
    lines = [[name, _median(found["ratio"])] for name, found in figures.items()]
    workers = next(iter(figures.values()))["workers"]
    return markdown([f"{workers} workers", "time"], lines)


def cells_table(figures: dict[str, Any]) -> str:
    """A line for each model."""
    lines = []
    for name, found in figures.items():
        ratio = found["ratio"]
        pairs = f"{ratio['pairs']:.0f}"
        lines.append([name, f"**{ratio['median']:.2f}**", pairs, f"{found['batch']}"])
    return markdown(["whole checkpoint", "time", "pairs", "batch"], lines)


def memory_table(figures: dict[str, Any]) -> str:
    """A line for each model: megabytes, and what is beyond the sums against the plain step."""
    lines = []
    for name, found in figures.items():
        plain, ours, sums = found["plain"], found["ours"], found["sums"]
        shared = found.get("shared")
        if not (plain and ours):
            lines.append([name, *["not known"] * 8])
            continue
        known = (plain["step"], ours["step"], sums, plain["kept"], ours["kept"])
        megabytes = [f"{value / 1e6:.0f}" for value in known]
        ratio = (ours["step"] - sums) / plain["step"]
        together = _together(found) if shared else ["", ""]
        lines.append([name, *megabytes[:3], f"**{ratio:.2f}**", *megabytes[3:], *together])
    head = ["MB", "plain", "ours", "sums", "(ours - sums) / plain", "plain keeps", "ours keeps",
            "all threads", "(all threads - sums) / plain"]  # fmt: skip
    return markdown(head, lines)


def _together(found: dict[str, Any]) -> list[str]:
    """What all threads that share a checkpoint have, and how it is to a plain step's."""
    whole = found["shared"]["step"]
    beyond = (whole - found["sums"]) / found["plain"]["step"]
    return [f"{whole / 1e6:.0f}", f"**{beyond:.2f}**"]


def scaling_table(figures: dict[str, list[dict[str, Any]]]) -> str:
    """A line for each point: how much there is, time and memory, against the first of its axis."""
    lines = []
    for axis, points in figures.items():
        what = "parameters" if axis == "width" else axis
        for point in points:
            amount, time, memory = (_times(point, points[0], k) for k in (what, "seconds", "bytes"))
            megabytes = f"{point['bytes'] / 1e6:.0f} MB ({memory})"
            lines.append([f"{point[what]:,} {what}", amount, time, megabytes])
    return markdown(["", "amount", "time", "memory"], lines)


def whole_run_table(figures: dict[str, Any]) -> str:
    """A line for each number of checkpoints."""
    lines = []
    for name, found in figures.items():
        recomputed = _median(found["recomputed"]) if "recomputed" in found else ""
        process, beyond_start = found["process"], found["beyond_start"]
        pairs = f"{process['pairs']:.0f}"
        lines.append([name, recomputed, _median(process), _median(beyond_start), pairs])
    head = ["`analyze run`", "process", "process, saved", "beyond start, saved", "pairs"]
    return markdown(head, lines)


def first_table(figures: dict[str, Any]) -> str:
    """A line for each model and number of probes."""
    lines = []
    for name, counts in figures.items():
        for count in sorted(counts, key=int):
            modes = counts[count]
            both = [modes.get(mode, {}) for mode in ("recomputed", "saved")]
            ratios = [found.get(key) for found in both for key in ("ratio", "again")]
            pairs = f"{both[0]['ratio']['pairs']:.0f}"
            cells = ["" if ratio is None else _median(ratio) for ratio in ratios]
            lines.append([name, f"{int(count):,}", *cells, pairs])
    head = ["`analyze.measure`", "probes", "first call", "second call", "first call, saved",
            "second call, saved", "pairs"]  # fmt: skip
    return markdown(head, lines)


def unseen_table(figures: dict[str, Any]) -> str:
    """A line for each model, then median and worst of these."""
    seeds = ", ".join(sorted({str(found["seed"]) for found in figures.values()}))
    lines = []
    for name, found in figures.items():
        time = found["refuses"] if "refuses" in found else _median(found["ratio"])
        lines.append([name, found["what"], time])
    medians = [f["ratio"]["median"] for f in figures.values() if "ratio" in f]
    for name, value in (("median", statistics.median), ("worst", max)):
        amount = f"**{value(medians):.2f}**" if medians else ""
        lines.append([f"*{name}*", f"{len(medians)} models", amount])
    return markdown([f"drawn by seed {seeds}", "images", "time"], lines)


def _times(point: dict[str, Any], first: dict[str, Any], key: str) -> str:
    return f"{point[key] / first[key]:.2f} x"


def replace_between(path: Path, mark: str, text: str) -> None:
    """Put ``text`` between the lines ``<!-- mark -->`` and ``<!-- end of mark -->``."""
    whole = path.read_text()
    start, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
    before, _, rest = whole.partition(start)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{start}{text}\n{end}{after}")
