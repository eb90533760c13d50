"""What pages may say: texts of templates that depend on results, and of the code behind them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from jinja2 import Environment, nodes

import analyze

HOME = Path(analyze.__file__).parent
FEWEST = 3  # words of a text that says something
WORD = re.compile("[A-Za-z]{2,}")


def plain(html: str) -> str:
    """The words of HTML, without tags, scripts and style."""
    html = re.sub("<script.*?</script>|<style>.*?</style>", " ", html, flags=re.DOTALL)
    return " ".join(re.sub("<[^>]*>", " ", html).replace("&nbsp;", " ").split())


def conditional(template: str) -> list[str]:
    """The texts of a template that stand on the page under a condition only, as it has them."""
    tree = Environment().parse((HOME / template).read_text(encoding="utf-8"))
    found = [_own(branch) for branch in _branches(tree)]
    for choice in tree.find_all(nodes.CondExpr):
        for side in filter(None, (choice.expr1, choice.expr2)):
            constants = [side] if isinstance(side, nodes.Const) else side.find_all(nodes.Const)
            found += [str(one.value) for one in constants]
    return _told(plain(text) for text in found)


def _branches(tree: nodes.Template) -> Iterator[list[nodes.Node]]:
    for one in tree.find_all(nodes.If):
        yield from filter(None, (one.body, one.else_))  # an elif is an If of its own
    for one in tree.find_all(nodes.For):
        if one.else_:
            yield one.else_


def _own(parts: Iterable[nodes.Node]) -> str:
    """The text of a branch, without that of branches inside."""
    texts = []
    for part in parts:
        if isinstance(part, nodes.TemplateData):
            texts.append(part.data)
        elif isinstance(part, nodes.Output):
            texts.append(_own(part.nodes))
        elif isinstance(part, nodes.For | nodes.CallBlock):
            texts.append(_own(part.body))
        elif not isinstance(part, nodes.If):
            texts.append(" ")
    return "".join(texts)


def spoken(module: str) -> list[str]:
    """The texts of a module but for docstrings and errors; ``{}`` where values stand in them."""
    tree = ast.parse((HOME / module).read_text(encoding="utf-8"))
    silent: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise):
            silent |= set(ast.walk(node))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            silent.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            silent |= set(node.values)
    texts = []
    for node in ast.walk(tree):
        if node in silent:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = (str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values)
            texts.append("".join(parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
    return _told(texts)


def _told(texts: Iterable[str]) -> list[str]:
    return [text for text in texts if len(WORD.findall(text)) >= FEWEST and " " in text]
