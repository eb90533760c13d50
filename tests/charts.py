"""What a reader sees and does in the charts of a page."""

from __future__ import annotations


def drawn(page, name: str) -> str:
    """What a chart consists of, without what stands at the pointer."""
    return page.inner_html(f"#{name}")


def changed(page, before: dict[str, str]) -> set[str]:
    """Which charts are other ones than before."""
    return {name for name, html in before.items() if drawn(page, name) != html}


def printed(value: float) -> str:
    """A number as the page's script prints it: three significant digits."""
    return f"{value:#.3g}" if value < 100 else f"{value:,.0f}"


def point_at(page, chart: str, row: int, column: int, rows: int, columns: int) -> str:
    """Move to a cell of a heat map; the words that appear."""
    image = page.locator(f"#{chart} image")
    image.scroll_into_view_if_needed()
    box = image.bounding_box()
    x = box["x"] + (column + 0.5) * box["width"] / columns
    y = box["y"] + (row + 0.5) * box["height"] / rows
    page.mouse.move(x - 1, y - 1)
    page.mouse.move(x, y)
    page.wait_for_selector(f"#{chart} [aria-label=tip] text")
    return page.text_content(f"#{chart} [aria-label=tip]")
