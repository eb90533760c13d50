"""What a torch file may hold besides plain tensors: numpy's values, sparse tensors and others."""

from __future__ import annotations

import struct
import subprocess
import sys

import numpy as np
import pytest
import torch

from analyze.checkpoints.finding.discovery import find
from analyze.checkpoints.fitting.fit import fit
from analyze.checkpoints.reading import read_content, read_weights
from analyze.errors import CheckpointError
from tests.hostile_files import WEIGHTS, archive


def test_numbers_of_numpy_are_read_as_numbers(tmp_path):
    content = {"model": WEIGHTS, "global_step": np.int64(300), "epoch": np.float32(1.5)}
    torch.save(content, tmp_path / "step_1.pt")
    read = read_content(tmp_path / "step_1.pt").position
    assert (read.step, read.epoch) == (300, 1.5)


def test_arrays_of_numpy_keep_type_order_and_shape(tmp_path):
    from analyze.checkpoints.torch_files.pickled_values import with_arrays
    from analyze.checkpoints.torch_files.pickles import load_values

    arrays = {
        "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "other order": np.arange(3, dtype=">i4"),
        "none": np.zeros((0, 2), np.float16),
        "truth": np.array([True, False]),
        "words": np.array(["a", "bc"]),
        "one": np.array(2.5),
    }
    torch.save(arrays, tmp_path / "a.pt")
    read = with_arrays(load_values(tmp_path / "a.pt"))
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array, strict=True)
    torch.save({"x": np.array([None])}, tmp_path / "b.pt")
    with pytest.raises(ValueError, match="not of numbers"):
        with_arrays(load_values(tmp_path / "b.pt"))


# What numpy's own unpickling makes of these: elements that are read from any address; numbers
# whose disposal fails; a list of two thousand million numbers.


def word(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def numpy_type(code: str, flags: int) -> bytes:
    state = word("<") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + struct.pack("<ci", b"J", flags)
    return b"cnumpy\ndtype\n(" + word(code) + b"\x89\x88tR(K\x03" + state + b"tb"


def numpy_array(code: str, flags: int) -> bytes:
    content = b"U\x08" + b"\x41" * 8
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85U\x01btR"
        b"(K\x01K\x01\x85" + numpy_type(code, flags) + b"\x89" + content + b"tb"
    )


def called(name: str, argument: bytes) -> bytes:
    return b"cbuiltins\n" + name.encode() + b"\n" + argument + b"\x85R"


CORRUPTING = {
    "objects that deny it": numpy_array("O8", 0),
    **{f"{n} of objects": called(n, numpy_array("O8", 0)) for n in ("set", "list", "str", "dict")},
    "numbers that say objects": numpy_array("f8", 1),
    "a list of a range": called("list", called("range", b"J\xff\xff\xff\x7f")),
}


READING = """
import sys
from pathlib import Path
from analyze.checkpoints.torch_files.pickles import load_values
from analyze.errors import CheckpointError

for path in sys.argv[1:]:
    try:
        said = list(load_values(Path(path)))
    except CheckpointError as error:
        said = error.what
    print(said, flush=True)
"""


def test_pickles_that_corrupt_memory(tmp_path):
    """In a process of their own: a crash is no exception, and ends it before the last of them."""
    paths = []
    for k, value in enumerate(CORRUPTING.values()):
        body = b"\x80\x02}" + word("x") + value + b"s."
        parts = {"a/data.pkl": body, "a/version": b"3\n"}
        paths.append(str(archive(tmp_path / f"{k}.pt", parts)))
    done = subprocess.run(
        [sys.executable, "-c", READING, *paths], capture_output=True, text=True, check=False
    )
    said = dict(zip(CORRUPTING, done.stdout.splitlines(), strict=False))
    assert (done.returncode, done.stderr) == (0, ""), said
    assert said.keys() == CORRUPTING.keys()
    assert set(said.values()) <= {"['x']", "the checkpoint file cannot be read"}


# --- tensors that are no plain ones

NESTED = [torch.ones(2), torch.ones(3)]
ODD = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "nested": lambda: torch.nested.nested_tensor(NESTED),
    "ragged": lambda: torch.nested.nested_tensor(NESTED, layout=torch.jagged),
    "without values": lambda: torch.empty(3, device="meta"),
    "bits": lambda: torch.ones(3, dtype=torch.uint8).view(torch.bits8),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
}


@pytest.mark.filterwarnings("ignore")  # torch's, of what is deprecated or in beta
@pytest.mark.parametrize("case", ODD)
def test_tensors_that_are_no_plain_ones(tmp_path, case):
    content = {"model": {**WEIGHTS, "weight": ODD[case]()}, "step": ODD[case]()}
    for name in ("step_1.pt", "last.pt"):  # so that they are compared
        torch.save(content, tmp_path / name)
    checkpoints = find(tmp_path).checkpoints
    assert [c.name for c in checkpoints] == ["step_1.pt", "last.pt"]
    with pytest.raises(CheckpointError, match="not plain weights") as error:
        fit(torch.nn.Linear(3, 2), read_weights(checkpoints[0].path), "step_1.pt", "linear")
    kind = {"ragged": "nested", "bits": "torch.bits8"}.get(case, case)
    assert error.value.found == f"weight ({kind}) in step_1.pt"
    assert "to_dense()" in error.value.fix


def test_tensors_that_claim_any_size(tmp_path):
    content = {"weight": torch.ones(1).expand(10**6, 10**6), "bias": torch.zeros(2)}
    for name in ("step_1.pt", "last.pt"):
        torch.save(content, tmp_path / name)
    assert len(find(tmp_path).checkpoints) == 2
    with pytest.raises(CheckpointError, match="does not fit") as error:
        fit(torch.nn.Linear(3, 2), read_weights(tmp_path / "step_1.pt"), "step_1.pt", "linear")
    assert "weight [1000000, 1000000]" in error.value.found


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.bfloat16, torch.float16])
def test_numbers_of_few_bits_are_weights(tmp_path, dtype):
    torch.save({n: t.to(dtype) for n, t in WEIGHTS.items()}, tmp_path / "step_1.pt")
    model = torch.nn.Linear(3, 2)
    fit(model, read_weights(tmp_path / "step_1.pt"), "step_1.pt", "linear")
    assert torch.equal(model.weight, WEIGHTS["weight"])
