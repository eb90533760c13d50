"""The folders of ``analyze/`` and what they import: a table, a picture, and figures of the code.

    python -m scripts.architecture            writes docs/architecture.md's table and the picture
    python -m scripts.architecture --figures  prints sizes; --source DIR of another checkout

A folder stands for all of its files; ``gradients`` is opened up. Imports inside functions count.
"""

from __future__ import annotations

import argparse
import ast
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
PICTURE = ROOT / "docs" / "architecture.svg"
OPENED = "gradients"
START, END = "<!-- folders -->\n", "<!-- end of folders -->"
Graph = dict[str, set[str]]


def modules(source: Path) -> dict[str, Path]:
    """Every module of a package by its dotted name."""
    named = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source.parent).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def imports(source: Path) -> Graph:
    """What each module imports of the package, wherever the import stands."""
    known = modules(source)
    return {n: set(imported(path, known)) & known.keys() - {n} for n, path in known.items()}


def imported(path: Path, known: Collection[str]) -> Iterator[str]:
    """The modules that a file imports, other packages' as well, also for types alone."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"a relative import in {path}"
            assert node.level == 0, f"a relative import in {path}"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in known else node.module for name in inside)


def folder_of(module: str) -> str:
    """The folder of a module; a file that is in none stands for itself."""
    parts = module.split(".")
    if len(parts) == 1 or parts[1] == "__main__":
        return "analyze"
    return "/".join(parts[1:3]) if parts[1] == OPENED else parts[1]


def folders(graph: Graph) -> Graph:
    """Imports between folders; those of ``analyze/__init__`` are names for users, and left out."""
    between: Graph = defaultdict(set)
    for module, imported in graph.items():
        here = folder_of(module)
        between[here] |= {folder_of(name) for name in imported} - {here}
    for name in ("analyze", OPENED):
        between.pop(name, None)
    return {name: between[name] - {"analyze", OPENED} for name in sorted(between)}


def reachable(graph: Graph, start: str) -> set[str]:
    """Everything that a node leads to; itself among it where there is a circle."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph.get(waiting.pop(), set()) - seen
        seen |= new
        waiting += new
    return seen


def circles(graph: Graph) -> list[str]:
    """The nodes that lead back to themselves."""
    return [name for name in graph if name in reachable(graph, name)]


def reduced(graph: Graph) -> Graph:
    """Without the arrows that follow from others."""
    return {
        name: {
            other for other in graph[name]
            if not any(other in reachable(graph, near) for near in graph[name] - {other})
        }
        for name in graph
    }  # fmt: skip


def floors(graph: Graph) -> dict[str, int]:
    """How many folders stand below each: 0 for what imports nothing."""
    heights: dict[str, int] = {}

    def height(name: str) -> int:
        if name not in heights:
            heights[name] = max((height(other) + 1 for other in graph[name]), default=0)
        return heights[name]

    for name in graph:
        height(name)
    return heights


def purpose(folder: str, source: Path = ROOT / "analyze") -> str:
    """The first sentence of a folder's docstring, or of a file's at the top."""
    place = source / folder
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split()).rstrip(".").replace("``", "`")


def table(graph: Graph) -> str:
    """A line for each folder, from the top floor down: what is in it, what it imports."""
    heights = floors(graph)
    lines = ["| folder | what is in it | imports |", "| --- | --- | --- |"]
    for name in sorted(graph, key=lambda folder: (-heights[folder], folder)):
        used = ", ".join(f"`{other}`" for other in sorted(graph[name])) or "nothing"
        lines.append(f"| `{name}` | {purpose(name)} | {used} |")
    return "\n".join(lines) + "\n"


def written(page: str, graph: Graph) -> str:
    """The page with the table of today."""
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}{table(graph)}{END}{after}"


def draw(graph: Graph) -> None:
    """The picture: a floor of folders above another; arrows lead down to what is imported."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "architecture"
    from matplotlib import pyplot as plt

    heights, arrows = floors(graph), reduced(graph)
    places = _places(heights, arrows)
    top = max(heights.values())
    figure, ax = plt.subplots(figsize=(12, 0.85 * (top + 1)))
    for name, (x, y) in places.items():
        engine = name.startswith(OPENED)
        ax.text(
            x, y, name, ha="center", va="center", fontsize=10,
            bbox={"boxstyle": "round,pad=0.4", "fc": "#dbe9f6" if engine else "#f3f0e7",
                  "ec": "#4a6f94" if engine else "#8a8470"},
            zorder=3,
        )  # fmt: skip
        for other in sorted(arrows[name]):
            ax.annotate(
                "", xy=(places[other][0], places[other][1] + 0.24), xytext=(x, y - 0.24),
                arrowprops={"arrowstyle": "-|>", "color": "#9a9a9a", "lw": 0.8}, zorder=1,
            )  # fmt: skip
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.6, top + 0.6)
    ax.axis("off")
    figure.tight_layout(pad=0.3)
    figure.savefig(PICTURE, metadata={"Date": None, "Description": arrows_drawn(graph)})
    plt.close(figure)


def arrows_drawn(graph: Graph) -> str:
    """What the picture shows, in words; they stand in its file, so that a test can read them."""
    arrows = reduced(graph)
    return "; ".join(f"{name}: {' '.join(sorted(arrows[name])) or 'nothing'}" for name in arrows)


def _places(heights: dict[str, int], arrows: Graph) -> dict[str, tuple[float, float]]:
    """Each folder on its floor, the engine's to the left, near the folders that import it."""
    places: dict[str, tuple[float, float]] = {}
    for floor in range(max(heights.values()), -1, -1):
        names = sorted(name for name in heights if heights[name] == floor)
        engine = [name for name in names if name.startswith(OPENED)]
        others = [name for name in names if name not in engine]
        for side, first, width in ((engine, 0.0, 0.55), (others, 0.6, 0.4)):
            side.sort(key=lambda name: _middle_above(name, places, arrows))
            swing = 0.25 * (-1) ** floor if len(side) == 1 else 0.0  # arrows pass beside
            for k, name in enumerate(side):
                places[name] = (first + width * (k + 0.5 + swing) / len(side), float(floor))
    return places


def _middle_above(name: str, places: dict[str, tuple[float, float]], arrows: Graph) -> float:
    """Where the folders that import this one stand, on average."""
    above = [x for other, (x, _) in places.items() if name in arrows[other]]
    return sum(above) / len(above) if above else 0.5


def figures(source: Path) -> dict[str, object]:
    """Sizes of the code, for a before and an after."""
    known, graph = modules(source), imports(source)
    texts = {name: path.read_text(encoding="utf-8") for name, path in known.items()}
    functions = sorted(
        (
            (node.end_lineno or node.lineno) - node.lineno + 1, f"{name}.{node.name}"
        )
        for name, text in texts.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
    )[::-1]  # fmt: skip
    flat = [p for p in (source / OPENED).glob("*.py") if p.name != "__init__.py"]
    loose = [p for p in source.glob("*.py") if not p.name.startswith("__")]
    return {
        "modules at the top": len(loose),
        "folders at the top": len([p for p in source.iterdir() if (p / "__init__.py").exists()]),
        "files directly in gradients/": len(flat),
        "modules": len(known),
        "arrows between modules": sum(map(len, graph.values())),
        "modules in circles": circles(graph),
        "folders in circles": circles(folders(graph)),
        "lines": sum(len(text.splitlines()) for text in texts.values()),
        "longest files": sorted(((len(t.splitlines()), n) for n, t in texts.items()))[:-6:-1],
        "longest functions": functions[:10],
    }


def main() -> None:
    """Write the table and the picture, or print figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figures", action="store_true", help="Only print sizes of the code.")
    parser.add_argument(
        "--source", type=Path, default=ROOT / "analyze", help="Of another checkout."
    )
    chosen = parser.parse_args()
    if chosen.figures:
        for name, value in figures(chosen.source).items():
            print(f"{name}: {value}")
        return
    graph = folders(imports(ROOT / "analyze"))
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), graph), encoding="utf-8")
    draw(graph)


if __name__ == "__main__":
    main()
