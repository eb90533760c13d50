"""Pickles are data: whatever their opcodes say, no class is handed out, changed or called."""

from __future__ import annotations

import collections
import io
import os
import pathlib
import pickle
import struct

import pytest
import torch

from analyze.checkpoints.finding.discovery import find
from analyze.checkpoints.reading import read_content, read_weights
from analyze.checkpoints.torch_files import plain_pickle
from analyze.checkpoints.torch_files.pickle_records import Record
from analyze.checkpoints.torch_files.pickled_values import names
from analyze.checkpoints.torch_files.pickles import load_values
from analyze.checkpoints.torch_files.plain_pickle import Machine, Name, UnknownNameError
from analyze.errors import CheckpointError
from tests.hostile_files import WEIGHTS, archive, distributed


def word(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def torch_file(path, pickled: bytes):
    return archive(path, {"a/data.pkl": pickled, "a/version": b"3\n", "a/byteorder": b"little"})


def state_of(made: bytes, attribute: str, value: bytes) -> bytes:
    """What is made gets a state of attributes, by slots."""
    return b"\x80\x02" + made + b"N}" + word(attribute) + value + b"s\x86b."


POISON = {
    "a path's suffix": state_of(b"cpathlib\nPosixPath\n", "suffix", word(".part")),
    "a record's hash": state_of(
        b"ctorch.distributed.checkpoint.metadata\nMetadataIndex\n", "__hash__", b"N"
    ),
    "an ordered dictionary's class": state_of(b"ccollections\nOrderedDict\n", "keys", b"N"),
    "the class of tensors": state_of(b"ctorch\nTensor\n", "shape", b"N"),
    "a function": state_of(b"ctorch._utils\n_rebuild_tensor_v2\n", "__code__", b"N"),
    "options": state_of(b"cargparse\nNamespace\n", "__init__", b"N"),
    "an array": state_of(b"cnumpy\nndarray\n", "take", b"N"),
}


def attributes() -> list[object]:
    from torch.distributed.checkpoint import metadata

    kinds = (pathlib.PurePosixPath, metadata.MetadataIndex, collections.OrderedDict, torch.Tensor)
    return [dict(vars(kind)) for kind in kinds] + [dict(vars(Record)), dict(vars(Machine))]


@pytest.mark.parametrize("where", ["torch", "metadata"])
@pytest.mark.parametrize("case", POISON)
def test_no_class_is_changed(tmp_path, case, where):
    if where == "torch":
        path = torch_file(tmp_path / "step_1.pt", POISON[case])
    else:
        path = distributed(tmp_path / "step-1", lambda _: None)
        (path / ".metadata").write_bytes(POISON[case])
    before = attributes()
    with pytest.raises(CheckpointError):
        read_weights(path)
    assert attributes() == before


def test_methods_of_a_dictionary_stay_and_its_versions_are_kept(tmp_path):
    state = torch.nn.Linear(3, 2).state_dict()
    state.items_saved = 3
    torch.save(state, tmp_path / "step_1.pt")
    found = load_values(tmp_path / "step_1.pt")
    assert type(found) is collections.OrderedDict
    assert vars(found) == {"_metadata": state._metadata}
    evil = b"\x80\x02ccollections\nOrderedDict\n)R}" + word("items") + b"Nsb."
    torch_file(tmp_path / "step_2.pt", evil)
    assert vars(load_values(tmp_path / "step_2.pt")) == {}


def test_names_are_words_and_records_hold_what_was_saved():
    found = Machine(
        io.BytesIO(pickle.dumps(pathlib.PurePosixPath("a/b"), 4)),
        lambda name: Name(name, lambda *words: Record(name, *words)),
    ).load()
    assert (found.name, found.arguments) == ("pathlib.PurePosixPath", ("a", "b"))


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_of_pickles_is_read(protocol):
    content = {
        "numbers": [0, 255, 65535, -1, 1 << 40, -(1 << 70), 1.5, True, None, 10**30],
        "texts": ["a", "é" * 300, "x" * 70000, "a'b\n"], "bytes": b"ab" * 200, "twice": [[1], [1]],
        "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)), "set": {1, "a"}, 7: {},
    }  # fmt: skip
    content["twice"][1] = content["twice"][0]
    known = names()
    found = Machine(io.BytesIO(pickle.dumps(content, protocol)), known.__getitem__).load()
    assert found == content
    assert found["twice"][0] is found["twice"][1]


BOUNDED = {
    "a slow codec": b"c_codecs\nencode\n(" + word("\u4e00" * 10) + word("punycode") + b"tR",
    "a codec of code": b"c_codecs\nencode\n(" + word("ab") + word("rot13") + b"tR",
    "a memo of any size": b"Nr\xff\xff\xff\xff",
    "places that collide": b"Np%d\n" % ((1 << 61) - 1 << 3),
    "a name that a few bytes ask for again": word("torch") + word("A" * 999 + "Tensor") + b"\x93",
    "bytes of any size": b"B\xff\xff\xff\x7f",
    "bytes of any size, 8": b"\x8e" + struct.pack("<Q", 1 << 62),
    "a key that collides": b"}\x8a\x09" + ((1 << 61) - 1 << 3).to_bytes(9, "little") + b"Ns",
    "an instance": b"(ios\nsystem\n",
    "a call of a word": word("os.system") + b")R",
    "a class of texts": b"(" + word("os") + b"o",
    "an extension": b"\x82\x01",
    "a buffer elsewhere": b"\x97",
    "a list of itself": b"]q\x00h\x00a" + b"h\x00h\x00s",
}


@pytest.mark.parametrize("case", BOUNDED)
def test_what_would_hang_fill_memory_or_run_is_damage(tmp_path, case):
    body = b"\x80\x02}" + word("x") + BOUNDED[case] + b"s."
    path = torch_file(tmp_path / "step_1.pt", body)
    if case == "a memo of any size":  # a place in a dictionary
        assert load_values(path) == {"x": None}
        return
    with pytest.raises(CheckpointError) as error:
        read_content(path)
    assert error.value.what in (
        "the checkpoint file cannot be read",
        "the checkpoint file is a pickle that would run code, so it was not opened",
    )


@pytest.mark.parametrize("kind", ["collections\nOrderedDict", "builtins\nset"])
def test_what_calls_make_again_is_counted_as_memory(monkeypatch, kind):
    """One list given to many calls would make a dictionary of each."""
    monkeypatch.setattr(plain_pickle, "MEMORY_SPARE", 1 << 18)
    pairs = b"](" + b"".join(b"K%cN\x86" % k for k in range(64)) + b"e"
    calls = b"\x80\x02c" + kind.encode() + b"\nq\x00" + pairs + b"\x85q\x01"
    read = [
        Machine(io.BytesIO(calls + b"](" + b"h\x00h\x01R" * count + b"e."), names().__getitem__)
        for count in (3, 500)
    ]
    assert len(read[0].load()) == 3
    with pytest.raises(ValueError, match="too many objects"):
        read[1].load()


def rebuilt(storage: str, count: int, offset: int, size: tuple, stride: tuple) -> bytes:
    identity = b"(" + word("storage") + f"ctorch\n{storage}\n".encode() + word("0") + word("cpu")
    identity += b"J" + struct.pack("<i", count) + b"tQ"
    made = b"ctorch._utils\n_rebuild_tensor\n(" + identity
    offset_, size_, stride_ = (pickle.dumps(v, 2)[2:-1] for v in (offset, size, stride))
    return b"\x80\x02}" + word("w") + made + offset_ + size_ + stride_ + b"tRs."


CLAIMS = {
    "a storage larger than its entry": ("FloatStorage", 99, 0, (2,), (1,)),
    "below zero": ("FloatStorage", -1, 0, (2,), (1,)),
    "beyond the storage": ("FloatStorage", 2, 1, (2,), (1,)),
    "before the storage": ("FloatStorage", 2, -1, (2,), (1,)),
    "a stride that leaves it": ("FloatStorage", 2, 0, (2,), (9,)),
    "a stride below zero": ("FloatStorage", 2, 1, (2,), (-1,)),
    "sizes below zero": ("FloatStorage", 2, 0, (-2,), (1,)),
    "a size that overflows": ("FloatStorage", 2, 0, (1 << 62, 1 << 62), (1, 1)),
    "sizes without strides": ("FloatStorage", 2, 0, (1, 2), (1,)),
}


@pytest.mark.parametrize("case", CLAIMS)
def test_tensors_lie_within_their_storages(tmp_path, case):
    path = tmp_path / "step_1.pt"
    entries = {"a/data/0": b"\0" * 8, "a/version": b"3\n"}
    archive(path, {"a/data.pkl": rebuilt(*CLAIMS[case]), **entries})
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_weights(path)
    archive(path, {"a/data.pkl": rebuilt("FloatStorage", 2, 0, (2,), (1,)), **entries})
    assert torch.equal(read_weights(path)["w"], torch.zeros(2))


def test_an_unknown_name_is_none():
    def unknown(name: str):
        raise UnknownNameError(name)

    with pytest.raises(UnknownNameError, match=r"posix\.system"):
        Machine(io.BytesIO(b"cposix\nsystem\n."), unknown).load()


def test_weights_are_read_and_not_mapped(tmp_path):
    """A file that is cut off while it is mapped would end the program."""
    from analyze.checkpoints.layouts.table import open_checkpoint
    from analyze.checkpoints.state import kinds_of_weights

    content = {"w": torch.randn(200, 300), "b": torch.randn(3)}
    for name in ("step_1.pt", "step_1.safetensors"):
        path = tmp_path / name
        torch.save(content, path)
        if name.endswith("safetensors"):
            from safetensors.torch import save_file

            save_file(content, path)
        weights = read_weights(path)
        opened = open_checkpoint(path)
        kept = kinds_of_weights(opened.state).model
        with path.open("r+b") as file:
            file.truncate(1000)
        assert torch.equal(weights["w"], content["w"])
        with pytest.raises(CheckpointError, match="cannot be read"):
            opened.load(kept)


def test_tensors_that_share_values_go_on_to_do_so(tmp_path):
    whole = torch.randn(300, 200)
    torch.save({"a": whole, "b": whole[:100], "c": whole.t()}, tmp_path / "step_1.pt")
    read = read_weights(tmp_path / "step_1.pt")
    assert {t.untyped_storage().data_ptr() for t in read.values()} == {read["a"].data_ptr()}
    assert torch.equal(read["b"], whole[:100])
    assert torch.equal(read["c"], whole.t())


@pytest.mark.parametrize("dtype", [torch.complex64, torch.bool, torch.int8, torch.bfloat16])
def test_kinds_of_numbers_keep_theirs(tmp_path, dtype):
    tensor = torch.randn(100, 300).to(dtype)
    content = {"w": tensor, "c": tensor.conj() if dtype.is_complex else tensor}
    for legacy in (False, True):
        torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
        read = read_weights(tmp_path / "a.pt")
        assert all(torch.equal(read[name], content[name]) for name in content)
        assert read["w"].dtype == dtype


def test_parts_of_a_distributed_tensor_make_it_up(tmp_path):
    """Where a part is missing, or two lie upon each other, memory of no meaning would be read."""

    def shifted(metadata):
        entry = metadata.state_dict_metadata["model.weight"]
        entry.size = torch.Size([2, 3])
        entry.chunks[0].sizes = torch.Size([2, 2])

    with pytest.raises(CheckpointError, match="cannot be read") as error:
        read_weights(distributed(tmp_path / "step-1", shifted))
    assert "parts that do not make up model.weight [2, 3]" in error.value.found
    folder = distributed(tmp_path / "step-2", lambda _: None)
    assert torch.equal(read_weights(folder)["weight"], WEIGHTS["weight"])


@pytest.mark.parametrize("name", [".metadata", "__0_0.distcp", "meta.pt"])
def test_pipes_in_a_checkpoint_are_not_waited_for(tmp_path, name):
    folder = distributed(tmp_path / "run" / "step-1", lambda _: None)
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    (found,) = find(tmp_path / "run").checkpoints
    assert found.problem is not None
