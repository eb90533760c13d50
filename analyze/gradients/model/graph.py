"""Autograd's graph."""

from __future__ import annotations

from typing import Any


def nodes_of_graph(top: Any) -> dict[Any, None]:
    """A node and all that come before it, in the order in which they are met; none of None."""
    nodes: dict[Any, None] = {}
    waiting = [] if top is None else [top]
    while waiting:
        node = waiting.pop()
        if node not in nodes:
            nodes[node] = None
            waiting += [child for child, _ in node.next_functions if child is not None]
    return nodes
