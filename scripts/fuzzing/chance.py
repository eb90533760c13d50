"""Ways to spoil bytes and texts that know nothing of a format."""

from __future__ import annotations

import struct
from random import Random

NUMBERS = (
    0, 1, 2, 7, 127, 128, 255, 256, 65535, 65536, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32,
    (1 << 53) + 1, (1 << 60) - 1, 1 << 61, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 10**30, -1, -2,
    -(1 << 31), -(1 << 63), 10**9, 10**12,
)  # fmt: skip
REALS = (0.0, -0.0, 1.5, 1e-320, 1e308, -1e308, float("inf"), float("-inf"), float("nan"))
WORDS = (
    "", " ", ".", "..", "/", "a", "all", "None", "nan", "-1", "1e999", "0x10", "10k", "=1+1",
    "@SUM(A1)",
    "-cmd|x", "\tx", "_", "__", "_hidden", "__class__", "__reduce__", "__proto__", "../secret",
    "../../secret",
    "/etc/passwd", "~/secret", "C:\\secret", "file:///etc/passwd", "http://127.0.0.1:9/x", "a/b/c",
    "a\\b", "x" * 300, "ä" * 100, "\u202egnp.exe", "\u2066\u2069", "\x1b[31m",
    "\x1b]0;owned\x07", "\r\n", "\0",
    "\x9b31m", "\x7f", "$x^$", r"$\frac{1}{", r"\usepackage", "<script>alert(7)</script>",
    "</script>",
    "'\"", "{{7*7}}", "{0.__class__}", "%s%n", "💥", "\ud800", "é", "a" * 70000,
    "*", "[", "a,b", "a\nb", "a\tb",
    "step_1.pt", "model.safetensors", "config.json", "module.", "....", ".".join("a" * 200),
)  # fmt: skip


def number(draw: Random) -> int:
    """A number at an edge, or a small one."""
    return draw.choice(NUMBERS) if draw.random() < 0.6 else draw.randint(-300, 300)


def word(draw: Random) -> str:
    """A text that means trouble somewhere, or some characters."""
    if draw.random() < 0.8:
        return draw.choice(WORDS)
    return "".join(
        chr(draw.choice((draw.randrange(32, 127), draw.randrange(0x3000)))) for _ in range(9)
    )


def spoilt(content: bytes, draw: Random) -> bytes:
    """Bytes with a few changes: flipped, set, cut, doubled, swapped, or a number at an edge."""
    data = bytearray(content)
    for _ in range(1 + int(draw.expovariate(0.6))):
        _change(data, draw)
    return bytes(data)


def _change(data: bytearray, draw: Random) -> None:
    if not data:
        data += draw.randbytes(draw.randrange(1, 40))
        return
    at, length = draw.randrange(len(data)), draw.randrange(1, 1 + min(64, len(data)))
    way = draw.randrange(9)
    if way == 0:
        data[at] ^= 1 << draw.randrange(8)
    elif way == 1:
        data[at] = draw.choice((0, 1, 255, 127, 128, 10, 34, 92, draw.randrange(256)))
    elif way == 2:
        del data[at : at + length]
    elif way == 3:
        data[at:at] = data[at : at + length] * draw.choice((1, 2, 50))
    elif way == 4:
        del data[at:]
    elif way == 5:
        other = draw.randrange(len(data))
        data[at : at + length], data[other : other + length] = (
            data[other : other + length], data[at : at + length],
        )  # fmt: skip
    elif way == 6:
        form = draw.choice(("<I", "<Q", "<H", ">I", ">Q"))
        limit = (1 << 8 * struct.calcsize(form)) - 1
        data[at : at + struct.calcsize(form)] = struct.pack(form, number(draw) & limit)
    elif way == 7:
        data += draw.randbytes(draw.randrange(1, 100))
    else:
        data[at:at] = word(draw).encode("utf-8", "surrogatepass")[:200]
