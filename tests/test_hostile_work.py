"""A short pickle makes little work, however often it gives one value to something else."""

from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
from types import SimpleNamespace

import pytest
import torch

from analyze.checkpoints import state
from analyze.checkpoints.finding import digests, duplicates, one_run
from analyze.checkpoints.fitting import hints
from analyze.checkpoints.layouts import distributed as layout
from analyze.checkpoints.reading import read_content, read_weights
from analyze.checkpoints.torch_files.containers import containers_of
from analyze.checkpoints.torch_files.pickle_records import Record
from analyze.checkpoints.torch_files.pickled_tensors import finder, names_in_torch_files, sizes_in
from analyze.checkpoints.torch_files.pickles import load_values
from analyze.checkpoints.torch_files.plain_pickle import Machine
from analyze.checkpoints.versions import extra_states_in, versions_in
from analyze.errors import CheckpointError
from tests.hostile_files import WEIGHTS, archive, distributed


def word(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def read(body: bytes) -> object:
    machine = Machine(io.BytesIO(b"\x80\x02" + body + b"."), finder(names_in_torch_files()))
    return machine.load()


def doubled(begin: bytes, end: bytes, depth: int = 40) -> bytes:
    """A container of two, each the same container of two, and so on; it lies in the memo at 0."""
    return b"K\x01q\x000" + (begin + b"h\x00h\x00" + end + b"q\x000") * depth


DOUBLED = {
    "a key of tuples": b"}" + doubled(b"(", b"t") + b"h\x00Ns",
    "a member of tuples": b"\x8f" + doubled(b"(", b"t") + b"(h\x00\x90",
    "a key of frozen sets": b"}" + doubled(b"(", b"K\x01\x91") + b"h\x00Ns",
    "a key of an ordered dictionary": doubled(b"(", b"t") + b"ccollections\nOrderedDict\n"
    b"]h\x00N\x86a\x85R",
    "a set of a call": doubled(b"(", b"t") + b"cbuiltins\nset\n]h\x00a\x85R",
}  # fmt: skip


@pytest.mark.parametrize("case", DOUBLED)
def test_keys_within_keys_are_not_looked_into(case):
    """To be hashed once would take 2**40 steps."""
    (key,) = read(DOUBLED[case])
    assert isinstance(key, Record)


@pytest.mark.parametrize("key", [(), (1, 2), frozenset({1}), 1j, (("a",),)])
def test_keys_whose_hashes_can_be_chosen_are_no_keys(key):
    (found,) = Machine(io.BytesIO(pickle.dumps({key: 1})), finder(names_in_torch_files())).load()
    assert isinstance(found, Record)


AGAIN = {
    "arguments": (b"ctorch._dynamo.decorators\n_DimRange\n", b"(" + b"K\x01" * 50_000 + b"t"),
    "bytes of a text": (b"c_codecs\nencode\n", word("a" * 50_000) + word("latin1") + b"\x86"),
    "bytes": (
        b"cbuiltins\nbytearray\n",
        b"B" + struct.pack("<I", 50_000) + b"a" * 50_000 + b"\x85",
    ),
    "a set": (b"cbuiltins\nset\n", b"](" + b"K\x01" * 50_000 + b"e\x85"),
    "a frozen set": (b"cbuiltins\nfrozenset\n", b"](" + b"K\x01" * 50_000 + b"e\x85"),
    "counts": (
        b"ccollections\nCounter\n",
        b"}(" + b"".join(word(str(k)) + b"N" for k in range(20_000)) + b"u\x85",
    ),
    "sizes": (b"ctorch\nSize\n", b"](" + b"K\x01" * 50_000 + b"e\x85"),
}


@pytest.mark.parametrize("case", AGAIN)
def test_one_long_value_is_not_given_to_call_after_call(case):
    called, arguments = AGAIN[case]
    once = called + b"q\x000" + arguments + b"q\x010(" + b"h\x00h\x01R" * 2 + b"l"
    assert len(read(once)) == 2
    often = called + b"q\x000" + arguments + b"q\x010(" + b"h\x00h\x01R" * 1000 + b"l"
    with pytest.raises(ValueError, match="more is given to calls than the pickle holds"):
        read(often)


def test_one_long_value_is_not_the_state_of_record_after_record():
    shape = b"(K\x01(" + b"K\x01" * 50_000 + b"tN\x89C\x00tq\x000"
    array = b"cnumpy\nndarray\n)R"
    with pytest.raises(ValueError, match="more is given to calls"):
        read(b"(" + shape + (array + b"h\x00b") * 1000 + b"l")


WITHOUT_END = {
    "a device": doubled(b"](", b"e") + b"ctorch\ndevice\nh\x00\x85R",
    "a layout": doubled(b"](", b"e") + b"ctorch.serialization\n_get_layout\nh\x00\x85R",
}


@pytest.mark.parametrize("case", WITHOUT_END)
def test_texts_are_made_of_words_and_numbers_only(case):
    with pytest.raises(TypeError, match="a word that is none"):
        read(WITHOUT_END[case])


@pytest.mark.parametrize("where", ["an identity", "the list of keys"])
def test_the_key_of_a_storage_is_a_word(tmp_path, where):
    """In files from before torch 1.6, which are pickles one after the other."""
    begin = b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {}))
    identity = b"(" + word("storage") + b"ctorch\nFloatStorage\nh\x00" + word("cpu") + b"K\x01NtQ"
    content, keys = (identity, b"]") if where == "an identity" else (b"N", b"h\x00\x85")
    path = tmp_path / "step_1.pt"
    path.write_bytes(
        begin + b"".join(b"\x80\x02" + doubled(b"](", b"e") + b + b"." for b in (content, keys))
    )
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_values(path)


@pytest.mark.parametrize("sizes", [[1 << 63], [1] * 65, [1.0], [True], "1"])
def test_sizes_are_those_that_a_tensor_can_have(sizes):
    with pytest.raises(TypeError, match="sizes that are no numbers"):
        sizes_in(sizes)


# --- what is made of it


def test_a_dictionary_at_many_places_is_looked_at_once(monkeypatch):
    """Three levels of 100 names for one dictionary would be a million places."""
    inner = {"w": torch.ones(1)}
    for _ in range(3):
        inner = {f"name{k}": inner for k in range(100)}
    looked = []
    real = state.tensors_in
    monkeypatch.setattr(state, "tensors_in", lambda value: looked.append(1) or real(value))
    assert state.places(inner) == {"name0.name0.name0": 1}
    assert len(looked) == 3


def test_places_are_told_by_their_outermost_paths():
    weights = {"w": torch.ones(1)}
    content = {"a": {"b": weights}, "c": weights, "optimizer": {"d": {"w": torch.ones(1)}}}
    assert state.places(content) == {"c": 1}
    assert state.places({"k" * 1001: weights, "a": {"b": {"c": {"d": weights}}}}) == {}


def test_versions_of_many_modules_may_be_one_dictionary():
    content = torch.nn.Linear(1, 1).state_dict()
    entry = {str(k): dict.fromkeys(map(str, range(64)), 1) for k in range(64)}
    content._metadata = {f"module{k}": entry for k in range(100)}
    found = versions_in(content)
    assert found["module7"] == entry
    assert len({id(value) for value in found.values()}) == 1


class Counted(list):
    reads = 0

    def __iter__(self):
        Counted.reads += 1
        return super().__iter__()


def test_extra_states_are_looked_through_once(monkeypatch):
    shared = Counted([1, [2]])
    states = {f"m{k}._extra_state": [shared, [k]] for k in range(50)}
    states["odd._extra_state"] = [[shared], [Record("x")]]
    states["itself._extra_state"] = loop = []
    loop.append(loop)
    kept = extra_states_in({**states, "w": [Record("x")]})
    assert [*kept] == [key for key in states if key != "odd._extra_state"]
    assert Counted.reads == 1


def test_containers_are_told_also_where_they_hold_one_another():
    a, b = [Record("x")], {}
    b["a"], c = [a, b], (b,)
    marked = containers_of([c, [1]], (Record,))
    assert marked == {id(a), id(b), id(b["a"]), id(c)}


# --- metadata of distributed checkpoints, and archives within


def test_parts_of_one_tensor_are_not_those_of_all(tmp_path):
    def change(metadata):
        first, *others = metadata.state_dict_metadata.values()
        for entry in others:
            entry.chunks = first.chunks * 2

    folder = distributed(tmp_path / "step-1", change)
    with pytest.raises(CheckpointError, match="cannot be read") as error:
        read_weights(folder)
    assert "more parts of tensors than are stored" in error.value.found


@pytest.mark.parametrize("path", [("a",) * 65, ("a", ["b"]), "name", {"a": 1}])
def test_the_path_of_a_tensor_is_a_short_one_of_words(tmp_path, path):
    def change(metadata):
        metadata.planner_data = dict.fromkeys(metadata.state_dict_metadata, path)

    with pytest.raises(CheckpointError, match="cannot be read") as error:
        read_content(distributed(tmp_path / "step-1", change))
    assert "a path that is none" in error.value.found


def test_a_part_of_a_tensor_is_no_bomb(tmp_path, monkeypatch):
    folder = distributed(tmp_path / "step-1", lambda _: None)
    bomb = {"a/data.pkl": b"\x80\x02B" + struct.pack("<I", 10**6) + b"\0" * 10**6 + b"."}
    raw = archive(tmp_path / "bomb", bomb, zipfile.ZIP_DEFLATED).read_bytes()
    monkeypatch.setattr(layout, "_bytes", lambda *_: io.BytesIO(raw))
    with pytest.raises(CheckpointError) as error:
        read_weights(folder)
    assert "unpacks to more than it holds" in error.value.found
    monkeypatch.undo()
    assert torch.equal(read_weights(folder)["weight"], WEIGHTS["weight"])


# --- any number of checkpoints and tensors, each looked at a few times


def rows(count: int, **facts):
    return [
        SimpleNamespace(
            **{
                "name": f"run{chr(97 + k)}/step_{k}.pt", "step": float(k), "epoch": math.nan,
                "order": math.nan, "problem": None, "tensors": 2, **facts,
            }
        ) for k in range(count)
    ]  # fmt: skip


def counted(monkeypatch, module, name: str) -> list[object]:
    calls: list[object] = []
    original = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *a, **k: (calls.append(a), original(*a, **k))[1])
    return calls


def test_directories_that_follow_one_another_are_not_compared_in_pairs(monkeypatch):
    calls = counted(monkeypatch, one_run, "_clash")
    assert one_run.several_runs(rows(24)) is None
    assert calls == []
    assert one_run.several_runs([*rows(24), *rows(1, name="other/step_9.pt", step=9.0)])
    assert len(calls) == 1


def test_directories_of_one_epoch_are_not_compared_in_pairs(monkeypatch):
    calls = counted(monkeypatch, one_run, "_clash")
    of_one_epoch = rows(24, epoch=3.0)
    back = rows(2, epoch=1.0)[1:]  # of an earlier epoch at a later step, elsewhere
    back[0].name, back[0].step = "elsewhere/step_99.pt", 99.0
    assert one_run.several_runs([*of_one_epoch, *back]) is None
    assert calls == []


def test_stages_are_not_compared_in_pairs(monkeypatch):
    calls = counted(monkeypatch, one_run, "_clash")
    stages = rows(24)
    for k, stage in enumerate(stages):
        stage.name = f"stage{k}/step_{k}.pt"
    assert one_run.several_runs(stages) is None
    assert calls == []
    stages[9].step = 0.5  # counted anew: earlier than in the stages 1 to 8
    assert "steps 8 to 8 in stage8 and steps 0.5 to 0.5 in stage9" in str(
        one_run.several_runs(stages)
    )
    assert len(calls) == 1


def test_checkpoints_at_one_step_are_not_compared_in_pairs(monkeypatch):
    monkeypatch.setattr(digests, "digest_of", lambda checkpoint, *_: checkpoint.name)
    calls = counted(monkeypatch, duplicates, "_same_position")
    kept = duplicates._Kept(None)
    for row in rows(24, step=3.0):
        assert kept.equal_to(row) == []
        kept.add(row)
    assert calls == []
    assert kept.equal_to(kept.checkpoints[5]) == [kept.checkpoints[5]]


class Compared(str):
    """A name that counts how often it is compared."""

    count = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Compared.count += 1
        return str.__eq__(self, other)


def attempt(unknown: list[str]) -> SimpleNamespace:
    outcome = SimpleNamespace(unknown=unknown, not_loaded=[])
    return SimpleNamespace(outcome=outcome, wanted={}, saved=dict.fromkeys(unknown))


@pytest.mark.parametrize("rule", [hints._no_part, hints._old_buffers])
def test_names_that_a_model_has_not_are_not_compared_in_pairs(rule):
    Compared.count = 0
    list(rule(attempt([Compared(f"{k}.num_batches_tracked") for k in range(200)])))
    assert Compared.count < 10 * 200


@pytest.mark.parametrize(("count", "proposals"), [(3, 1), (hints.MOST_LEAVES + 1, 0)])
def test_rules_are_sought_for_a_few_kinds_of_weights(count, proposals):
    made = attempt([f"layer.w{k}_orig" for k in range(count)])
    assert len(list(hints._reparametrised(made))) == proposals
