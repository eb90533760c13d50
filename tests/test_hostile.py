"""Files made to do harm: refused or neutralised; none runs code, none writes outside the output."""

from __future__ import annotations

import argparse
import collections
import contextlib
import datetime
import io
import json
import os
import pickle
import struct
import tomllib
import types
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from safetensors.torch import save as as_safetensors
from safetensors.torch import save_file

from analyze.checkpoints.finding.discovery import find
from analyze.checkpoints.finding.series import remarks
from analyze.checkpoints.options import ReadingOptions
from analyze.checkpoints.reading import read_content, read_weights
from analyze.errors import CheckpointError, InputError
from tests.conftest import assert_input_error, assert_three_facts, call, small_weights
from tests.hostile_files import WEIGHTS, Calls, archive

pytestmark = pytest.mark.usefixtures("pages_only")


def header(content: object, data: bytes = b"", size: int | None = None) -> bytes:
    """A safetensors file with a header of one's own."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def tensor(start: int, end: int, shape=(2, 3), dtype="F32") -> dict:
    return {"weight": {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}}


SAFETENSORS = {
    "a header larger than the file": header(b"{}", size=1 << 40),
    "a header of 2**64 - 1 bytes": header(b"{}", size=2**64 - 1),
    "offsets beyond the file": header(tensor(0, 24), b"\0" * 8),
    "offsets the wrong way round": header(tensor(24, 0), b"\0" * 24),
    "offsets that leave a hole": header(tensor(8, 32), b"\0" * 32),
    "overlapping tensors": header(
        {"a": tensor(0, 24)["weight"], "b": tensor(8, 32)["weight"]}, b"\0" * 32
    ),
    "a shape that overflows": header(tensor(0, 24, (2**40, 2**40)), b"\0" * 24),
    "a shape that is not the size": header(tensor(0, 24, (200, 300)), b"\0" * 24),
    "a dtype of nobody": header(tensor(0, 24, dtype="X9"), b"\0" * 24),
    "no JSON": header(b"\xff\xfe" * 20),
    "deep JSON": header(b'{"a":' * 100_000),
    "a list": header(b"[]"),
}


@pytest.mark.parametrize("case", SAFETENSORS)
def test_false_safetensors(tmp_path, case):
    path = tmp_path / "step_1.safetensors"
    path.write_bytes(SAFETENSORS[case])
    with pytest.raises(CheckpointError, match="cannot be read") as error:
        read_weights(path)
    assert_three_facts(str(error.value))


# --- zip archives


def test_a_zip_bomb_is_not_opened(tmp_path, monkeypatch):
    good = tmp_path / "good.pt"
    torch.save(WEIGHTS, good)
    with zipfile.ZipFile(good) as file:
        content = {name: file.read(name) for name in file.namelist()}
    content["good/data/9"] = b"\0" * 50_000_000
    bomb = archive(tmp_path / "step_1.pt", content, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 1_000_000
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the bomb was opened"))
    with pytest.raises(CheckpointError, match="unpacks to more than it holds") as error:
        read_content(bomb)
    assert "50" in error.value.found
    assert_three_facts(str(error.value))


def test_compressed_tensors_are_not_read_as_they_stand(tmp_path):
    """Of random numbers, so that compression saves nothing and nothing is claimed."""
    good, packed = tmp_path / "good.pt", tmp_path / "packed.pt"
    torch.save({"weight": torch.randn(200, 30)}, good)
    with zipfile.ZipFile(good) as file:
        content = {name: file.read(name) for name in file.namelist()}
    archive(packed, content, zipfile.ZIP_DEFLATED)
    for read in (read_content, read_weights):
        with pytest.raises(CheckpointError, match="tensors in the checkpoint file are compr") as e:
            read(packed)
    assert e.value.found == f"good/data/0 in {packed}"
    archive(packed, content)
    assert torch.equal(read_weights(packed)["weight"], read_weights(good)["weight"])


def test_entries_that_claim_the_same_bytes(tmp_path):
    """Central directory entries that point to one file, as the best bombs do."""
    path = archive(tmp_path / "step_1.pt", {"x/data.pkl": b"\0" * 5000, "x/version": b"3\n"})
    raw = path.read_bytes()
    start = raw.index(b"PK\x01\x02")
    entry = raw[start : raw.index(b"PK\x01\x02", start + 4)]
    end = raw.index(b"PK\x05\x06")
    body = raw[:start] + entry * 40
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 40, 40, len(entry) * 40, start, 0)
    assert end
    path.write_bytes(body + tail)
    with pytest.raises(CheckpointError, match="unpacks to more than it holds"):
        read_content(path)


def test_names_in_a_zip_lead_nowhere(tmp_path):
    inside = tmp_path / "run"
    inside.mkdir()
    archive(inside / "step_1.pt", {"../../evil": b"x", "/etc/evil": b"x", "a/data.pkl": b"\x80"})
    with pytest.raises(InputError):
        read_content(inside / "step_1.pt")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["run", "step_1.pt"]


# --- pickles


class Deep:
    def __reduce__(self):
        return (os.system, ("true",))


HARMLESS = {
    "options": argparse.Namespace(lr=0.1),
    "simple namespace": types.SimpleNamespace(lr=0.1),
    "numpy float": np.float64(0.5),
    "numpy integer": np.int32(5),
    "numpy truth": np.bool_(True),
    "numpy array": np.arange(6.0).reshape(2, 3),
    "numpy words": np.array(["a", "b"]),
    "path": Path("runs/mine"),
    "pure path": PurePosixPath("runs/mine"),
    "ordered": collections.OrderedDict(a=1),
    "counts": collections.Counter("aab"),
    "default": collections.defaultdict(list, {"a": [1]}),
    "date": datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC),
    "span": datetime.timedelta(seconds=3),
    "slice": slice(1, 2),
    "range": range(3),
    "frozen set": frozenset({1, 2}),
    "complex": 1j,
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("case", HARMLESS)
def test_values_that_trainers_save_are_read(tmp_path, case, legacy):
    path = tmp_path / "step_1.pt"
    content = {"model": WEIGHTS, "extra": HARMLESS[case]}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    before = set(map(str, torch.serialization.get_safe_globals()))
    assert torch.equal(read_weights(path)["weight"], WEIGHTS["weight"])
    after = set(map(str, torch.serialization.get_safe_globals()))
    assert after == before  # allowed for the length of one call


def test_torch_is_one_without_the_known_holes_of_its_reader():
    """CVE-2025-32434 and CVE-2026-24747, closed in 2.6 and 2.10."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    needed = next(
        word for word in tomllib.loads(text)["project"]["dependencies"] if word.startswith("torch>")
    )
    assert tuple(map(int, needed.removeprefix("torch>=").split("."))) >= (2, 10)


REFUSED = {
    "os.system": Calls(os.system, "touch {marker}"),
    "eval": Calls(eval, "open('{marker}', 'w')"),
    "exec": Calls(exec, "open('{marker}', 'w')"),
    "open": Calls(open, "{marker}", "w"),
    "getattr": Calls(getattr, os.path.join, "__globals__"),
    "numpy load": Calls(np.fromfile, "{marker}"),
    "partial": Calls(__import__("functools").partial, os.system),
    "torch.load": Calls(torch.load, "{marker}"),
    "pickle in pickle": Calls(pickle.loads, pickle.dumps(Deep())),
    "inside numpy": np.array([Deep()], dtype=object),
    "inside options": argparse.Namespace(x=Deep()),
    "inside a default": collections.defaultdict(os.getcwd),
}


def filled(evil: object, marker: Path) -> object:
    if isinstance(evil, Calls):
        function, arguments = evil.call
        words = [a.format(marker=marker) if isinstance(a, str) else a for a in arguments]
        return Calls(function, *words)
    return evil


@pytest.mark.parametrize("case", REFUSED)
def test_code_is_refused_by_name(tmp_path, case):
    marker, path = tmp_path / "marker", tmp_path / "step_1.pt"
    torch.save({"model": WEIGHTS, "x": filled(REFUSED[case], marker)}, path)
    with pytest.raises(CheckpointError, match="would run code") as error:
        read_weights(path)
    assert " asks for " in error.value.found
    assert "--trust-pickle" in error.value.fix
    assert not marker.exists()


def test_trust_is_the_users_word_and_never_a_fallback(tmp_path):
    marker, run = tmp_path / "marker", tmp_path / "run"
    run.mkdir()
    evil = Calls(Path.touch, marker)
    torch.save({"model": WEIGHTS, "x": evil}, run / "step_1.pt")
    (refused,) = find(run).checkpoints
    assert refused.problem is not None
    assert call("scan", str(run)).exit_code == 0
    assert not marker.exists()
    (trusted,) = find(run, reading=ReadingOptions(trust_pickle=True)).checkpoints
    assert (trusted.problem, trusted.format) == (None, "torch, trusted pickle")
    assert marker.exists()


def test_a_run_card_cannot_trust(tiny):
    tiny.card("[run]\ntrust_pickle = 'true'")
    assert call("scan", str(tiny.path)).exit_code == 3


# --- index files, links, names

INDICES = {
    "above": {"weight": "../secret.safetensors"},
    "absolute": {"weight": "/etc/passwd"},
    "below": {"weight": "below/secret.safetensors"},
    "backslash": {"weight": "..\\secret.safetensors"},
    "null": {"weight": "a\0b"},
    "itself": {"weight": ""},
    "dots": {"weight": ".."},
    "a number": {"weight": 3},
    "nothing": {},
    "no table": ["weight"],
    "a link": {"weight": "link.safetensors"},
}


@pytest.mark.parametrize("case", INDICES)
def test_an_index_leads_nowhere(tmp_path, case):
    folder = tmp_path / "run" / "checkpoint-1"
    (folder / "below").mkdir(parents=True)
    for place in (tmp_path / "run", folder / "below"):
        save_file(WEIGHTS, place / "secret.safetensors")
    (folder / "link.safetensors").symlink_to(tmp_path / "run" / "secret.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": INDICES[case]}))
    with pytest.raises(CheckpointError, match="index of the checkpoint is not understood") as error:
        read_weights(folder)
    assert_three_facts(str(error.value))


@pytest.mark.parametrize("name", ["a\ud800", "\udfff.safetensors", "x" * 5000])
def test_a_part_whose_name_no_file_can_have_is_missing(tmp_path, name):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"weight": name}}))
    with pytest.raises(CheckpointError, match="parts of the checkpoint are missing"):
        read_weights(tmp_path)
    (found,) = find(tmp_path).checkpoints
    assert "parts of the checkpoint are missing" in str(found.problem)


def test_a_part_that_is_a_link_in_a_circle(tmp_path):
    (tmp_path / "circle.safetensors").symlink_to("circle.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"weight": "circle.safetensors"}}))
    with pytest.raises(CheckpointError, match="parts of the checkpoint are missing") as error:
        read_weights(tmp_path)
    assert error.value.found.startswith("no circle.safetensors")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "null", "3"])
def test_sidecars_that_are_no_records_leave_the_step_to_the_name(tmp_path, text):
    folder = tmp_path / "checkpoint-1"
    folder.mkdir()
    save_file(WEIGHTS, folder / "model.safetensors")
    (folder / "trainer_state.json").write_text(text)
    (found,) = find(tmp_path).checkpoints
    assert (found.problem, found.step) == (None, 1)


def test_a_broken_sidecar_beside_several_checkpoints_is_told(tmp_path):
    for name in ("a", "b"):
        save_file(WEIGHTS | {"bias": torch.full((1,), ord(name))}, tmp_path / f"{name}.safetensors")
    (tmp_path / "trainer_state.json").write_text("{")
    found = find(tmp_path).checkpoints
    assert [(c.name, c.problem) for c in found] == [
        ("a.safetensors", None),
        ("b.safetensors", None),
    ]
    assert any("the trainer_state.json beside it cannot be read" in text for text in remarks(found))


def test_links_out_of_the_run_are_left_alone(tmp_path):
    secret, run = tmp_path / "secret", tmp_path / "run"
    secret.mkdir()
    run.mkdir()
    torch.save(WEIGHTS, secret / "step_9.pt")
    torch.save(WEIGHTS, run / "step_1.pt")
    (run / "step_2.pt").symlink_to(secret / "step_9.pt")
    (run / "more").symlink_to(secret)
    (run / "step_3.pt").symlink_to(run / "gone.pt")
    found = find(run)
    assert [c.name for c in found.checkpoints] == ["step_1.pt"]
    assert {one.name: one.why.split(", to")[0] for one in found.left_out} == {
        "more": "a link out of the run's directory",
        "step_2.pt": "a link out of the run's directory",
        "step_3.pt": "a link to nothing",
    }


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    torch.save(WEIGHTS, tmp_path / "step_1.pt")
    os.mkfifo(tmp_path / "step_2.pt")
    assert [c.name for c in find(tmp_path).checkpoints] == ["step_1.pt"]


NAMES = ["a\x1b[31mred_1.pt", "line\nbreak_2.pt", "<script>alert(1)<&>_3.pt", "\u202egnp_4.pt"]


def test_names_do_nothing_to_terminal_or_page(tiny, tmp_path):
    for seed, name in enumerate(NAMES):
        torch.save(small_weights(seed), tiny.path / name)
        (tiny.path / f"broken{name}").write_bytes(b"")
    scanned = call("scan", str(tiny.path))
    run = tiny.run()
    assert (scanned.exit_code, run.exit_code) == (0, 4), run.stderr
    page = tmp_path / "page"
    assert call("report", str(tiny.output), "--output", str(page)).exit_code == 0
    html = (page / "index.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in html
    shown = scanned.stdout + run.stderr + call("show", str(tiny.output)).stdout
    for part in ("red_1.pt", "break_2.pt", "alert(1)", "gnp_4.pt"):
        assert part in scanned.stdout, "not looked at"
        assert part in run.stderr, "not looked at"
        assert part in html, "not looked at"
    for character in ("\x1b", "\u202e"):
        assert character not in shown
        assert character not in html
    assert not any(line.startswith("break_2") for line in shown.splitlines())


@pytest.mark.parametrize("monitor", ["\x1b[31m\nloss", torch.ones(2), 3, "m" * 1000])
def test_names_of_metrics_do_nothing_to_the_terminal(tiny, monitor):
    kept = {"monitor": monitor, "best_k_models": {"a": torch.tensor(1.0)}}
    content = {"state_dict": small_weights(0), "callbacks": {"ModelCheckpoint": kept}}
    torch.save(content, tiny.path / "step_10.pt")
    result = call("scan", str(tiny.path))
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    warned = [line for line in result.stdout.splitlines() if "of Lightning's" in line]
    assert len(warned) == isinstance(monitor, str)
    assert all(len(line) < 300 for line in warned)


def test_names_of_tensors_do_nothing_to_the_terminal(tiny):
    torch.save({"\x1b[31mw": torch.ones(1)}, tiny.path / "step_10.pt")
    result = tiny.run()
    assert result.exit_code == 4
    assert "\x1b" not in result.stderr
    assert r"\x1b[31mw" in result.stderr


def test_nothing_is_written_beside_the_output(tiny):
    before = {p: p.stat().st_mtime_ns for p in tiny.path.rglob("*")}
    assert tiny.run().exit_code == 0
    assert {p: p.stat().st_mtime_ns for p in tiny.path.rglob("*")} == before
    assert {p.name for p in tiny.path.parent.iterdir()} == {
        "run", "probes.safetensors", "out.h5", "out.h5.units",
    }  # fmt: skip


# --- whatever else a file may be


def torch_bytes(legacy: bool) -> bytes:
    buffer = io.BytesIO()
    content = {"model": WEIGHTS, "step": 3, "args": argparse.Namespace(lr=np.float64(0.1))}
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


SEEDS = {
    "step_1.safetensors": as_safetensors(WEIGHTS),
    "step_1.pt": torch_bytes(legacy=False),
    "step_1.pth": torch_bytes(legacy=True),
}


@pytest.mark.parametrize("name", SEEDS)
def test_damage_of_any_kind_is_a_clear_error(tmp_path, monkeypatch, name):
    monkeypatch.setattr("analyze.checkpoints.finding.discovery.PAUSE", 0)
    hypothesis = pytest.importorskip("hypothesis")
    from hypothesis import strategies as st

    path, seed = tmp_path / name, SEEDS[name]
    changes = st.lists(
        st.tuples(st.integers(0, len(seed) - 1), st.binary(min_size=1, max_size=9)), max_size=6
    )

    @hypothesis.settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @hypothesis.given(changes=changes, cut=st.integers(0, len(seed)), tail=st.binary(max_size=20))
    def damaged(changes, cut, tail):
        data = bytearray(seed)
        for place, new in changes:
            data[place : place + len(new)] = new
        path.write_bytes(bytes(data[:cut] if cut % 3 == 0 else data) + tail)
        try:
            read = read_weights(path)
        except InputError as error:
            assert_three_facts(str(error))
        else:
            assert all(isinstance(t, torch.Tensor) for t in read.values())
        with contextlib.suppress(InputError):  # nothing else may be raised
            find(tmp_path)

    damaged()


def test_pickles_of_any_opcodes_are_a_clear_error(tmp_path):
    hypothesis = pytest.importorskip("hypothesis")
    import pickletools

    from hypothesis import strategies as st

    path = tmp_path / "step_1.pt"
    codes = [op.code.encode("latin-1") for op in pickletools.opcodes]
    piece = st.one_of(
        st.sampled_from(codes), st.binary(max_size=6),
        st.sampled_from([b"cos\nsystem\n", b"cbuiltins\neval\n", b"cnumpy\ndtype\n"]),
    )  # fmt: skip

    @hypothesis.settings(max_examples=300, deadline=None, derandomize=True, database=None)
    @hypothesis.given(pieces=st.lists(piece, max_size=25), zipped=st.booleans())
    def any_pickle(pieces, zipped):
        content = b"\x80\x02" + b"".join(pieces) + b"."
        if zipped:
            archive(path, {"a/data.pkl": content, "a/version": b"3\n", "a/byteorder": b"little"})
        else:
            path.write_bytes(content)
        try:
            read_content(path)
        except InputError as error:
            assert_three_facts(str(error))

    any_pickle()


def test_a_run_that_is_a_link_in_a_circle(tiny):
    loop = tiny.path / "loop"
    loop.symlink_to(loop)
    for options in ([], ["--probes", str(loop), "--model", "builtin:small_mlp"]):
        run = str(tiny.path if options else loop)
        assert_input_error(call("run", run, *options), "missing", "loop")
    listing = tiny.path.parent / "list.csv"
    listing.write_text("checkpoint,step\nloop,1\n")
    result = call("scan", str(tiny.path), "--manifest", str(listing))
    assert_input_error(result, "no 'loop'")


def test_links_in_a_circle_are_left_out(tmp_path):
    torch.save(WEIGHTS, tmp_path / "step_1.pt")
    (tmp_path / "step_2.pt").symlink_to("step_3.pt")
    (tmp_path / "step_3.pt").symlink_to("step_2.pt")
    found = find(tmp_path)
    assert [c.name for c in found.checkpoints] == ["step_1.pt"]
    assert {o.name: o.why for o in found.left_out} == dict.fromkeys(
        ["step_2.pt", "step_3.pt"], "a link to nothing"
    )
