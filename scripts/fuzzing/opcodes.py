"""Pickles by opcode: grown from nothing, made of an honest one, or few bytes that ask for much."""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from random import Random

from analyze.checkpoints.layouts.distributed import RECORDS
from analyze.checkpoints.torch_files.pickled_tensors import KINDS, PLAIN, names_in_torch_files
from scripts.fuzzing.chance import REALS, number, spoilt, word

KNOWN = (*names_in_torch_files(), *RECORDS, *PLAIN, *(f"torch.{kind}Storage" for kind in KINDS))
DTYPES = (
    "torch.float32",
    "torch.int64",
    "torch.qint8",
    "torch.bits8",
    "torch.complex64",
    "torch.bool",
)
# Names that hold no data, whatever the reader makes of them.
EVIL = (
    "posix.system", "os.system", "builtins.eval", "builtins.exec", "builtins.getattr",
    "builtins.open",
    "__builtin__.eval", "importlib.import_module", "subprocess.Popen", "torch.load",
    "torch.hub.load",
    "torch.storage._load_from_bytes", "torch.onnx", "torch._dynamo", "torch._inductor",
    "torch.jit.load",
    "torch.serialization.load", "torch.ops.load_library", "torch._utils._import_dotted_name",
    "numpy.load",
    "numpy.core.multiarray.fromfile", "operator.attrgetter", "functools.partial",
    "copyreg._reconstructor",
    "types.CodeType", "types.FunctionType", "marshal.loads", "pickle.loads", "webbrowser.open",
    "analyze.errors.InputError", "analyze.checkpoints.torch_files.plain_pickle.Machine",
    "pathlib.Path.unlink",
    "torch.nn.modules.linear.Linear", "torch.distributed._shard.sharded_tensor.api.ShardedTensor",
    "code.interact", "pty.spawn", "ctypes.CDLL", "socket.socket", "shutil.rmtree",
    "nobody.Nothing", ".", "a.b.c",
)  # fmt: skip
ATTRIBUTES = ("__class__", "__hash__", "__eq__", "__dict__", "__reduce__", "keys", "items", "shape",
              "_metadata", "state", "name", "take", "suffix", "step")  # fmt: skip
TEXTS = ("weight", "bias", "state_dict", "model", "optimizer", "epoch", "global_step", "storage",
"cpu",
         "0", "module.weight", "ema", "_extra_state", "layer._extra_state", "callbacks",
         "loops")  # fmt: skip
DEEPEST = 6
MOST_GROWN = 200_000  # bytes


def text(value: str) -> bytes:
    """A text as protocol 2 writes it."""
    content = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(content)) + content


def named(name: str) -> bytes:
    """A class or function."""
    module, _, last = name.rpartition(".")
    return b"c" + module.encode() + b"\n" + last.encode() + b"\n"


def grown(draw: Random) -> bytes:
    """A pickle of values, calls and states that are drawn; most of it is well formed."""
    body = b"".join(_value(draw, 0) + draw.choice((b"", b"0")) for _ in range(draw.randrange(3)))
    return b"\x80\x02" + body + _dictionary(draw, 0) + b"."


def changed(pickled: bytes, draw: Random) -> bytes:
    """An honest pickle with opcodes left out, doubled, moved, or others put between them."""
    parts = _parts(pickled)
    if len(parts) < 2 or draw.random() < 0.05:
        return spoilt(pickled, draw)
    for _ in range(1 + int(draw.expovariate(0.5))):
        at = draw.randrange(len(parts))
        way = draw.randrange(7)
        if way == 0:
            del parts[at]
        elif way == 1:
            parts.insert(at, parts[draw.randrange(len(parts))])
        elif way == 2:
            other = draw.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        elif way == 3:
            parts.insert(at, _value(draw, DEEPEST - 2))
        elif way == 4:
            parts[at] = _value(draw, DEEPEST - 1)
        elif way == 5:
            parts[at] = _same_kind(parts[at], draw)
        else:
            parts.insert(at, bytes([draw.randrange(256)]))
        if not parts:
            break
    return b"".join(parts)


def _parts(pickled: bytes) -> list[bytes]:
    """The opcodes of a pickle with their arguments; one part where it is none."""
    try:
        places = [place for _, _, place in pickletools.genops(pickled) if place is not None]
    except Exception:  # a corpus has broken ones too
        return [pickled]
    return [pickled[a:b] for a, b in zip(places, [*places[1:], len(pickled)], strict=True)]


def _same_kind(part: bytes, draw: Random) -> bytes:
    """A number for a number, a name for a name, a text for a text."""
    code = part[:1]
    if code in b"KMJ\x8aIL":
        return _number(draw)
    if code == b"c":
        return named(_name(draw))
    if code in b"X\x8cUT":
        return text(_text(draw))
    return bytes([draw.randrange(256)])


def _name(draw: Random) -> str:
    return draw.choice(draw.choice((KNOWN, KNOWN, DTYPES, EVIL)))


def _text(draw: Random) -> str:
    return draw.choice(TEXTS) if draw.random() < 0.7 else word(draw)


def _number(draw: Random) -> bytes:
    value = draw.randrange(9) if draw.random() < 0.5 else number(draw)
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    content = value.to_bytes(17, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def _scalar(draw: Random) -> bytes:
    way = draw.randrange(10)
    if way < 3:
        return _number(draw)
    if way < 6:
        return text(_text(draw))
    if way == 6:
        return b"G" + struct.pack(">d", draw.choice(REALS))
    if way == 7:
        content = draw.randbytes(draw.choice((0, 1, 8, 8, 64)))
        return b"C" + bytes([len(content)]) + content
    if way == 8:
        return draw.choice(
            (
                b"N",
                b"\x88",
                b"\x89",
                b")",
                b"]",
                b"}",
                b"I1\n",
                b"F1e400\n",
                b"S'a'\n",
                b"V\\u0041\n",
            )
        )
    return b"h" + bytes([draw.randrange(4)])


def _value(draw: Random, depth: int) -> bytes:
    if depth >= DEEPEST or draw.random() < 0.3:
        return _scalar(draw)
    make = draw.choice((_dictionary, _list, _tuple, _call, _call, _call, _tensor, _set, _stated))
    made = make(draw, depth + 1)
    return made + (b"q" + bytes([draw.randrange(4)]) if draw.random() < 0.2 else b"")


def _several(draw: Random, depth: int, most: int = 5) -> bytes:
    return b"".join(_value(draw, depth) for _ in range(draw.randrange(most)))


def _dictionary(draw: Random, depth: int) -> bytes:
    entries = (
        (text(_text(draw)) if draw.random() < 0.8 else _value(draw, depth + 1))
        + _value(draw, depth + 1)
        for _ in range(draw.randrange(5))
    )
    return b"}(" + b"".join(entries) + b"u"


def _list(draw: Random, depth: int) -> bytes:
    return b"](" + _several(draw, depth) + b"e"


def _tuple(draw: Random, depth: int) -> bytes:
    return b"(" + _several(draw, depth) + b"t"


def _set(draw: Random, depth: int) -> bytes:
    return b"\x8f(" + _several(draw, depth) + b"\x90"


def _call(draw: Random, depth: int) -> bytes:
    """A call by any of the opcodes that call."""
    name, arguments = named(_name(draw)), _tuple(draw, depth)
    way = draw.randrange(8)
    if way == 0:
        module, _, last = _name(draw).rpartition(".")
        return b"(" + _several(draw, depth) + b"i" + module.encode() + b"\n" + last.encode() + b"\n"
    if way == 1:
        return b"(" + name + _several(draw, depth) + b"o"
    if way == 2:
        return name + arguments + draw.choice((b"}", b"}X\x01\x00\x00\x00aK\x01s")) + b"\x92"
    if way == 3:
        return name + arguments + b"\x81"
    return name + arguments + b"R"


def _stated(draw: Random, depth: int) -> bytes:
    """A value that is given a state, perhaps one of slots."""
    state = _dictionary(draw, depth)
    if draw.random() < 0.5:
        attribute = text(draw.choice(ATTRIBUTES))
        state = b"(" + draw.choice((b"N", state)) + b"}" + attribute + _scalar(draw) + b"st"
    made = (
        draw.choice((_call, _call, _value))(draw, depth)
        if draw.random() < 0.9
        else named(_name(draw))
    )
    return made + state + b"b"


def _tensor(draw: Random, _depth: int) -> bytes:
    """A tensor of a storage of the file, with sizes and strides that may lead out of it."""
    kind = draw.choice([*KINDS]) if draw.random() < 0.5 else "Float"
    key, count = draw.choice(("0", "0", "1", "9")), _number(draw)
    storage = (
        b"(" + text("storage") + named(f"torch.{kind}Storage") + text(key) + text("cpu") + count
    )
    sizes = [
        b"(" + b"".join(_number(draw) for _ in range(draw.choice((1, 1, 2, 3)))) + b"t"
        for _ in "ab"
    ]
    build = draw.choice(
        ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter")
    )
    rest = (b"\x89" + named("collections.OrderedDict") + b")R") if build.endswith("v2") else b""
    if build.endswith("v3"):
        rest = b"\x89N" + named(draw.choice(DTYPES))
    return (
        named(f"torch._utils.{build}")
        + b"("
        + storage
        + b"tQ"
        + _number(draw)
        + sizes[0]
        + sizes[1]
        + rest
        + b"tR"
    )


# --- a few bytes that ask for much: something is made once, remembered, and used again and again

_ORDERED, _SET = named("collections.OrderedDict"), named("builtins.set")


def _pairs(draw: Random) -> bytes:
    pairs = b"".join(
        b"K\x01" + b"J" + struct.pack("<i", k) + b"\x86" for k in range(draw.choice((3, 5000)))
    )
    return b"](" + pairs + b"e"


LARGE: dict[str, Callable[[Random], bytes]] = {
    "list": _pairs,
    "text": lambda draw: text("a" * draw.choice((10, 100_000))),
    "bytes": lambda draw: b"B" + struct.pack("<I", 80_000) + bytes(80_000),
    "tuple": lambda draw: b"(" + b"K\x01" * draw.choice((2, 20_000)) + b"t",
    "name": lambda draw: named(_name(draw)),
    "empty": lambda draw: draw.choice((b")", b"]", b"}", b"\x8f")),
    "number": lambda draw: b"\x8b" + struct.pack("<I", 50_000) + b"\x7f" * 50_000,
}
AGAIN: tuple[bytes, ...] = (
    b"h\x00h\x01\x85R", b"h\x00h\x01\x85R0", b"h\x00)R", b"h\x00h\x01\x86",
    b"h\x01h\x01h\x01\x87q\x01",
    b"(h\x01h\x01h\x01h\x01h\x01h\x01h\x01h\x01tq\x01", b"\x85", b"](", b"]", b"}", b"\x8f",
    b"(", b"N", b"U\x01a",
    b"h\x01", b"2", b"}h\x01Ns", b"\x8f(h\x01\x90", b"h\x00(h\x01K\x01tR", b"h\x00h\x01\x81",
    b"}(h\x01K\x01h\x01K\x02u", b"(h\x01h\x01d", b"(h\x01l", b"(h\x01\x91",
    b"c_codecs\nencode\nh\x01\x85R0",
    b"G\x00\x00\x00\x00\x00\x00\x00\x01", b"cbuiltins\ncomplex\nK\x01K\x02\x86R",
)  # fmt: skip


def amplified(draw: Random) -> bytes:
    """A few steps, again and again: on what is remembered, one within the other, side by side."""
    called = draw.choice((_ORDERED, _SET, *(named(draw.choice(KNOWN)) for _ in range(3))))
    large = draw.choice(list(LARGE.values()))(draw)
    again = draw.choice(AGAIN)
    times = draw.choice((8, 30, 30, 2000, 2000, max(1, MOST_GROWN // len(again))))
    end = draw.choice((b"", b"0", b"t", b"e", b"u", b"R", b"\x85"))
    return (
        b"\x80\x02" + called + b"q\x000" + large + b"q\x010}" + text("w") + b"]"
        + (b"(" if end in (b"t", b"e", b"u") else b"") + again * times + end + b"s."
    )  # fmt: skip


def any_pickle(draw: Random, honest: bytes) -> bytes:
    """A pickle made in one of these ways."""
    way = draw.random()
    if way < 0.45:
        return grown(draw)
    return changed(honest, draw) if way < 0.9 else amplified(draw)
