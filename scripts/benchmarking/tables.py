"""Figures of a benchmark as tables of Markdown, in the docs between two marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table; the first column to the left, the others to the right."""
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))


def speed_table(figures: dict[str, Any]) -> str:
    """A line for each model, a column for each way: ratio, memory and worst error below."""
    workloads = figures["workloads"]
    ways = list(next(iter(workloads.values()))["ways"])
    lines = []
    for name, workload in workloads.items():
        lines.append([f"{name}, {workload['what']}", *map(_cell, workload["ways"].values())])
    return markdown(["time, memory, worst error", *ways], lines)


def _cell(way: dict[str, Any]) -> str:
    if "refuses" in way:
        return "refuses"
    ratio = way["ratio"]
    memory = "" if way["memory"] is None else f", {way['memory']:.2f}"
    middle_half = f"({ratio['low']:.2f}-{ratio['high']:.2f})"
    return f"**{ratio['median']:.2f}** {middle_half}{memory}, {way['error']:.0e}"


def replace_between(path: Path, mark: str, text: str) -> None:
    """Put ``text`` between the lines ``<!-- mark -->`` and ``<!-- end of mark -->``."""
    whole = path.read_text()
    start, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
    before, _, rest = whole.partition(start)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{start}{text}\n{end}{after}")
