"""What is on paper: pages and figures as PDF, read and drawn by PDFium."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def opened(pdf: bytes) -> Iterator[Any]:
    """The document."""
    document = pytest.importorskip("pypdfium2").PdfDocument(pdf)
    yield document
    document.close()


def texts(pdf: bytes) -> list[str]:
    """The words of each page, with one blank between them."""
    with opened(pdf) as document:
        return [" ".join(page.get_textpage().get_text_range().split()) for page in document]


def cut_off(pdf: bytes) -> list[str]:
    """The characters of all pages that do not lie on their page as a whole."""
    found = []
    with opened(pdf) as document:
        for page in document:
            (width, height), words = page.get_size(), page.get_textpage()
            for k in range(words.count_chars()):
                left, bottom, right, top = words.get_charbox(k)
                if left < 0 or bottom < 0 or right > width or top > height:
                    found.append(words.get_text_range(k, 1))
    return found
