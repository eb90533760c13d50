"""Tables of wrong labels as programs and people save them, in whatever order and encoding."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from analyze.checkpoints.finding.discovery import find
from analyze.checkpoints.options import ReadingOptions
from analyze.errors import InputError
from analyze.probes import read_probes
from analyze.probes.freezing.data import Examples, examples_of
from analyze.probes.freezing.noise import Labels, labels_of
from analyze.probes.freezing.tables import as_table, read_csv, read_json, read_words, typed
from tests.checkpoint_files import save, weights
from tests.conftest import assert_three_facts, call
from tests.data_sources import folder_of_images

N = 12
TARGETS = np.arange(N) % 4
MASK = np.arange(N) % 3 == 1
WRONG = np.flatnonzero(MASK).tolist()


def labels(noise: str, ids: np.ndarray | None = None) -> Labels:
    return labels_of(Examples("data", TARGETS, lambda rows: [], ids=ids), [noise])


def refusal(noise: str, ids: np.ndarray | None = None) -> str:
    with pytest.raises(InputError) as caught:
        labels(noise, ids)
    assert_three_facts(f"Error: {caught.value}")
    return str(caught.value)


def marked(noise: str, ids: np.ndarray | None = None) -> list[int]:
    """The positions of the examples that count as corrupted."""
    return np.flatnonzero(labels(noise, ids).state == 1).tolist()


@pytest.fixture(autouse=True)
def _own_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


ORDER = np.random.default_rng(1).permutation(N).tolist()


def lines(header: str, row: Callable[[int], str], end: str = "\n") -> str:
    """A table whose rows stand in another order."""
    return end.join([*([header] if header else []), *map(row, ORDER)]) + end


def bit(k: int) -> int:
    return int(MASK[k])


TABLES = {
    "pandas": ("csv", lines(",wrong", lambda k: f"{k},{MASK[k]}")),
    "pandas, saved again": ("csv", lines("Unnamed: 0,wrong", lambda k: f"{k},{MASK[k]}")),
    "an id": ("csv", lines("id,wrong", lambda k: f"{k},{bit(k)}")),
    "an index that stands last": ("csv", lines("wrong,Index", lambda k: f"{bit(k)},{k}.0")),
    "lines of Windows": ("csv", lines("id,wrong", lambda k: f"{k},{bit(k)}", "\r\n")),
    "semicolons": ("csv", lines("id;wrong", lambda k: f"{k};{bit(k)}")),
    "tabs": ("tsv", lines("id\twrong", lambda k: f"{k}\t{bit(k)}")),
    "quotes": ("csv", lines('"id","wrong"', lambda k: f'"{k}","{MASK[k]}"')),
    "spaces": ("csv", lines("id, wrong", lambda k: f"{k}, {bit(k)}")),
    "yes and no": ("csv", lines("id,wrong", lambda k: f"{k},{'yes' if MASK[k] else 'No'}")),
    "written by R": ("csv", lines('"wrong"', lambda k: f'"{k}",{str(MASK[k]).upper()}')),
    "line numbers and ids": (
        "csv", ",id,wrong\n" + "".join(f"{r},{k},{bit(k)}\n" for r, k in enumerate(ORDER))),
    "JSON by id": ("json", json.dumps({str(k): bool(MASK[k]) for k in ORDER})),
    "JSON records by id": ("json", json.dumps({str(k): {"wrong": bit(k)} for k in ORDER})),
    "JSON columns by id": ("json", json.dumps({"wrong": {str(k): bit(k) for k in ORDER}})),
    "JSON columns": ("json", json.dumps({"id": ORDER, "wrong": [bit(k) for k in ORDER]})),
    "JSON records": ("json", json.dumps([{"id": k, "wrong": bit(k)} for k in ORDER])),
    "JSON lines": ("jsonl", lines("", lambda k: json.dumps({"idx": k, "wrong": bit(k)}))),
    "JSON split": ("json", json.dumps(
        {"columns": ["wrong"], "index": ORDER, "data": [[bit(k)] for k in ORDER]})),
}  # fmt: skip

ENCODINGS = {
    "utf-8": lambda text: text.encode(),
    "utf-8 with a mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16 the other way": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "utf-32": lambda text: text.encode("utf-32"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("case", TABLES)
def test_rows_are_taken_by_the_column_that_says_whose_they_are(case, encoding):
    ending, text = TABLES[case]
    Path(f"m.{ending}").write_bytes(ENCODINGS[encoding](text))
    found = labels(f"mask:m.{ending}")
    assert np.flatnonzero(found.state == 1).tolist() == WRONG
    (fact,) = found.facts
    assert f"of {N} in another place than they stand" in fact


def test_arrays_beside_their_ids():
    values = MASK[ORDER]
    np.savez("m.npz", index=np.array(ORDER), wrong=values)
    torch.save({"index": torch.tensor(ORDER), "wrong": torch.from_numpy(values)}, "m.pt")
    torch.save({k: int(MASK[k]) for k in ORDER}, "by_id.pt")
    np.save("m.npy", np.array(list(zip(ORDER, values, strict=True)),
                              dtype=[("id", "i8"), ("wrong", "?")]))  # fmt: skip
    for name in ("m.npz", "m.pt", "by_id.pt", "m.npy"):
        assert marked(f"mask:{name}") == WRONG, name


def test_all_kinds_are_aligned():
    rows = [(k, (k + 1) % 4) for k in ORDER]
    Path("t.csv").write_text("id,label\n" + "".join(f"{k},{label}.0\n" for k, label in rows))
    np.testing.assert_array_equal(labels("true_labels:t.csv").true, (np.arange(N) + 1) % 4)
    np.testing.assert_array_equal(labels("noisy_labels:t.csv").given, (np.arange(N) + 1) % 4)
    text = ",is_label_issue,label_score,given_label\n"
    text += "".join(f"{k},{MASK[k]},0.5,{TARGETS[k]}\n" for k in ORDER)
    Path("c.csv").write_text(text)
    assert marked("cleanlab:c.csv") == WRONG


IDS = np.arange(N) * 10 + 5


def test_ids_of_the_data_go_before_positions():
    Path("m.csv").write_text(lines("id,wrong", lambda k: f"{IDS[k]},{bit(k)}"))
    assert marked("mask:m.csv", IDS) == WRONG
    Path("p.csv").write_text(lines(",wrong", lambda k: f"{k},{bit(k)}"))
    assert marked("mask:p.csv", IDS) == WRONG  # positions, as pandas writes them
    Path("i.txt").write_text("\n".join(str(IDS[k]) for k in WRONG))
    assert marked("indices:i.txt", IDS) == WRONG


def test_what_may_be_ids_or_positions_is_refused_until_it_is_said():
    ids = np.roll(np.arange(N), 1)
    Path("m.csv").write_text(lines("id,wrong", lambda k: f"{k},{bit(k)}"))
    Path("i.txt").write_text("\n".join(map(str, WRONG)))
    by_id = sorted(np.flatnonzero(np.isin(ids, WRONG)).tolist())
    for noise in ("mask:m.csv", "indices:i.txt"):
        assert "ids of the data as well as positions" in refusal(noise, ids)
        assert f"--noise '{noise}?by=id' or '?by=position'" in refusal(noise, ids)
        assert marked(f"{noise}?by=id", ids) == by_id
        assert marked(f"{noise}?by=position", ids) == WRONG


def test_the_user_may_say_which_column_it_is_or_that_none_is():
    Path("m.csv").write_text(lines("number,wrong", lambda k: f"{k},{bit(k)}"))
    assert "?column= one of" in refusal("mask:m.csv")
    assert marked("mask:m.csv?id=number") == WRONG
    as_they_stand = [r for r, k in enumerate(ORDER) if MASK[k]]
    Path("i.csv").write_text(lines("id,wrong", lambda k: f"{k + 500},{bit(k)}"))
    assert marked("mask:i.csv?by=order") == as_they_stand


@pytest.mark.parametrize("write", ["{}", "{}.png", "train/img_{:04d}"])
@pytest.mark.parametrize("numbered", [False, True], ids=["", "line numbers of pandas"])
def test_positions_in_a_column_of_any_name_are_not_passed_over(write, numbered):
    rows = [f"{r},{write.format(k)},{bit(k)}" for r, k in enumerate(ORDER)]
    text = "\n".join([",image,wrong", *rows])
    if not numbered:
        text = "\n".join(line.partition(",")[2] for line in text.splitlines())
    Path("m.csv").write_text(text)
    told = refusal("mask:m.csv?column=wrong")
    assert "column 'image', which counts the examples from 0 in another order" in told
    assert "'mask:m.csv?column=wrong&id=image' or '?column=wrong&by=order'" in told
    assert marked("mask:m.csv?column=wrong&id=image") == WRONG
    as_they_stand = [r for r, k in enumerate(ORDER) if MASK[k]]
    assert marked("mask:m.csv?column=wrong&by=order") == as_they_stand


def test_numbers_from_one_are_no_positions_and_an_order_that_would_be_wrong_is_not_proposed():
    for name, form in (("uid", "{}"), ("file", "img_{}.png")):
        rows = "".join(f"{form.format(k + 1)},{bit(k)}\n" for k in ORDER)
        Path("m.csv").write_text(f"{name},wrong\n{rows}")
        told = refusal("mask:m.csv?column=wrong")
        assert "counts the examples from 1 in another order" in told
        assert "id=" not in told
    for form in ("{}", "img_{}.png"):
        rows = [f"{form.format(k + 1)},{bit(k)}" for k in range(N)]
        Path("m.csv").write_text("\n".join(["id,wrong", *rows]))
        assert "'mask:m.csv?by=order'" in refusal("mask:m.csv")
        assert marked("mask:m.csv?by=order") == WRONG
        Path("m.csv").write_text("\n".join(["id,wrong", *(rows[k] for k in ORDER)]))
        assert "by=order" not in refusal("mask:m.csv")
    Path("m.json").write_text(json.dumps({f"{k}.png": bit(k) for k in ORDER}))
    assert "'mask:m.json?id='" in refusal("mask:m.json")
    assert marked("mask:m.json?id=") == WRONG


def test_positions_in_order_are_no_reason_to_ask():
    Path("m.csv").write_text("image,wrong\n" + "".join(f"{k}.png,{bit(k)}\n" for k in range(N)))
    assert marked("mask:m.csv?column=wrong") == WRONG


def test_positions_are_found_among_the_numbers_of_a_file_name():
    for form in ("cat_2/{}.png", "img_2020_{:03d}_v2.png", "{}_224x224.png"):
        Path("m.csv").write_text(
            lines("path,wrong", lambda k, form=form: f"{form.format(k)},{bit(k)}")
        )
        said = refusal("mask:m.csv?column=wrong")
        assert "column 'path', which counts the examples from 0 in another order" in said
        assert marked("mask:m.csv?column=wrong&id=path") == WRONG


def test_a_column_may_be_called_as_a_value_is_written():
    for name in ("true", "False", "None", "1", "1e3", "null", "nan"):
        Path("m.csv").write_text(lines(f"id,{name},other", lambda k: f"{k},{bit(k)},7"))
        assert marked(f"mask:m.csv?column={name}") == WRONG, name


def test_labels_of_the_data_that_stand_in_another_order_beside_the_true_ones_tell():
    given, true = np.arange(40) % 4, np.where(np.arange(40) % 5, np.arange(40) % 4, 0)
    examples = Examples("data", given, lambda rows: [])
    order = np.random.default_rng(2).permutation(40).tolist()
    for rows, header in ((order, "given,real"), (range(40), "given,real"), (order, "fold,real")):
        text = "\n".join([header, *(f"{given[k]},{true[k]}" for k in rows)])
        Path("m.csv").write_text(text + "\n")
        if rows is order and header.startswith("given"):
            with pytest.raises(
                InputError, match="'given', the labels of the data in another order"
            ):
                labels_of(examples, ["true_labels:m.csv?column=real"])
        else:  # a column that is not called labels may have any order
            labels_of(examples, ["true_labels:m.csv?column=real"])
    labels_of(examples, ["true_labels:m.csv?column=real&by=order"])


def test_labels_without_a_wrong_one_are_told():
    np.save("same.npy", TARGETS)
    for kind in ("noisy_labels", "true_labels"):
        assert "equal, all 12: no label is corrupted" in " ".join(labels(f"{kind}:same.npy").facts)
    np.save("other.npy", np.where(MASK, 0, TARGETS))
    assert "equal" not in " ".join(labels("true_labels:other.npy").facts)


CLEAN_ONES = {
    "mask:m.csv?column=is_clean": ("id,is_clean\n", lambda k: f"{k},{1 - bit(k)}\n"),
    "mask:m.csv": ("correct\n", lambda k: f"{1 - bit(k)}\n"),
    "mask:clean_mask.txt": ("", lambda k: f"{1 - bit(k)}\n"),
    "indices:clean-ids.txt": ("", lambda k: "" if MASK[k] else f"{k}\n"),
}


@pytest.mark.parametrize("noise", CLEAN_ONES)
def test_what_is_named_as_the_clean_ones_is_asked_about(noise):
    header, row = CLEAN_ONES[noise]
    Path(noise.partition(":")[2].partition("?")[0]).write_text(header + "".join(map(row, range(N))))
    apart = "&" if "?" in noise else "?"
    assert f"{noise}{apart}corrupted=0'" in refusal(noise)
    assert marked(f"{noise}{apart}corrupted=0") == WRONG
    assert marked(f"{noise}{apart}corrupted=1") == [k for k in range(N) if k not in WRONG]
    assert "0 or 1" in refusal(f"{noise}{apart}corrupted=2")


@pytest.mark.parametrize(
    "name",
    ["pristine", "valid", "label_ok", "trusted", "isClean", "annotators-agree", "is_original",
     "good", "not_noisy", "no_label_errors", "unchanged", "unflipped", "noise_free", "kept",
     "nonNoisy"],
)  # fmt: skip
def test_the_clean_ones_have_many_names(name):
    Path("m.csv").write_text(lines(f"id,{name}", lambda k: f"{k},{1 - bit(k)}"))
    assert f"the name '{name}', as of the clean ones" in refusal(f"mask:m.csv?column={name}")


def test_names_of_both_or_of_the_corrupted_ones_are_taken_as_they_are():
    names = ("clean_or_noisy", "cleanlab_issues", "incorrect", "changed", "is_mislabeled",
             "invalid", "disagree", "untrusted", "noise", "known_bad", "trueNoise",
             "goods")  # fmt: skip
    for name in names:
        np.save(f"{name}.npy", MASK)
        assert marked(f"mask:{name}.npy") == WRONG, name


REFUSED = {
    "missing": ("m.csv", "id,wrong\n" + "".join(f"{k},1\n" for k in range(2, N)),
                "10 rows by ids of column 'id', 2 ids missing (0, 1), in m.csv"),
    "unknown": ("m.csv", "id,wrong\n" + "".join(f"{k + 1},1\n" for k in range(N)),
                "1 id missing (0) and 1 id unknown (12)"),
    "twice": ("m.csv", "id,wrong\n3,1\n" + "".join(f"{k},1\n" for k in range(N)),
              "ids of column 'id' 3 more than once"),
    "keys twice": ("m.json", '{"3": 1, "3": 0}', "the key '3' twice"),
    "words": ("m.csv", "id,wrong\n" + "".join(f"img{k}.png,1\n" for k in range(N)),
              "ids of column 'id' such as 'img0.png'"),
    "a line of sums": ("m.csv", "id,wrong\n" + "".join(f"{k},1\n" for k in range(N)) + "total,1\n",
                       "ids of column 'id' such as 'total'"),
    "two columns of ids": ("m.csv", "id,index,wrong\n" + "".join(f"{k},{k},1\n" for k in range(N)),
                           "columns id, index, any of which"),
    "two orders": ("m.csv", ",id,wrong\n" + "".join(f"{(k + 3) % N},{k},1\n" for k in range(N)),
                   "a first column without a name, which differ"),
    "no header": ("m.csv", "".join(f"{k},1\n" for k in range(N)), "2 columns and no header"),
    "a lost header": ("m.csv", "0\n" + "1\n" * N, f"[{N + 1}]"),
    "ragged": ("m.csv", "id,wrong\n1,0\n2\n3,1\n", "line 3 has 1 cells, the first 2"),
    "two separators": ("m.csv", "a;b,c\n1;2,3\n", "columns by ',' and by ';' as well"),
    "two columns of one name": ("m.csv", "a,a\n1,2\n", "two columns 'a'"),
    "empty cells": ("m.csv", "id,wrong\n" + "".join(f"{k},\n" for k in range(N)), "with ''"),
    "no numbers": ("m.csv", "id,wrong\n" + "".join(f"{k},nan\n" for k in range(N)), "with nan"),
    "null": ("m.json", json.dumps([None] * N), "with null"),
    "null and a table": ("m.json", json.dumps([None, {"a": 1}] * (N // 2)), "with null"),
    "null and words": ("m.json", json.dumps([None, "{0.__class__}"] * (N // 2)), "with null"),
    "columns of a list": ("m.txt", "0 1\n1 0\n", "several words in a line"),
    "another encoding": ("m.csv", codecs.BOM_UTF16_LE[:0] + "id,wrong\n".encode("utf-16-le"),
                         "not in UTF-8"),
    "other records": ("m.json", '[{"id": 1}, {"index": 2}]', "record 2 has other keys"),
    "numbers in and out": ("m.json", '{"0": {"1": 1}}', "either may be the ids"),
    "lengths": ("m.json", json.dumps({"id": list(range(N)), "wrong": [1]}), "and 1 of 'wrong'"),
    "no such column": ("m.csv?id=number", "id,wrong\n0,1\n", "no column 'number'"),
    "no such order": ("m.csv?by=name", "id,wrong\n0,1\n", "?by=name"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_that_is_not_sure_is_refused(case):
    name, content, told = REFUSED[case]
    content = content.encode() if isinstance(content, str) else content
    Path(name.partition("?")[0]).write_bytes(content)
    assert told in refusal(f"mask:{name}")


LISTS = {
    "a mark": ("i.csv", codecs.BOM_UTF8 + b"1\r\n4\r\n7\r\n10\r\n"),
    "a mark, words": ("i.txt", codecs.BOM_UTF8 + b"1\n4\n7\n10\n"),
    "a header": ("i.csv", b"index\n1\n4\n7\n10\n"),
    "scores beside": ("i.csv", b"index,score\n10,0.1\n4,0.2\n1,0.3\n7,0.5\n"),
    "line numbers of pandas": ("i.csv", b",wrong\n0,1\n1,4\n2,7\n3,10\n"),
    "one line": ("i.txt", b"1, 4, 7, 10"),
    "floats of numpy": ("i.txt", b"# wrong\n1.0e+00\n4.0e+00\n7.0e+00\n1.0e+01\n"),
    "floats in one column": ("i.csv", b"1.0\n4.0\n7.0\n10.0\n"),
    "named": ("i.json", b'{"wrong": [1, 4, 7, 10]}'),
    "words": ("i.json", b'["1", "4", "7", "10"]'),
}


@pytest.mark.parametrize("case", LISTS)
def test_lists_of_examples(case):
    name, content = LISTS[case]
    Path(name).write_bytes(content)
    assert marked(f"indices:{name}") == WRONG


def test_a_table_by_id_is_no_list():
    Path("i.json").write_text(json.dumps({"3": 1, "5": 4}))
    assert "--noise mask:i.json" in refusal("indices:i.json")


def test_numbers_are_read_as_they_are_written():
    assert typed(["1", "-1", "3.0"]).tolist() == [1, -1, 3]
    assert typed(["1_2", "3"]).dtype.kind == "U"  # Python would read 12
    assert typed(["TRUE", "false"]).tolist() == [True, False]
    assert as_table({"a": torch.tensor([1, 2])})["a"].tolist() == [1, 2]


def test_any_table_in_any_order_and_encoding_gives_the_same_subset():
    hypothesis = pytest.importorskip("hypothesis")
    from hypothesis import strategies as st

    truth = st.sampled_from([("True", "False"), ("1", "0"), ("yes", "no"), ("1.0", "0.0")])

    @hypothesis.settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @hypothesis.given(
        order=st.permutations(range(N)), encode=st.sampled_from(sorted(ENCODINGS)),
        name=st.sampled_from(["", "id", "Index", "sample_id"]), truth=truth,
        separator=st.sampled_from([",", ";", "\t"]), end=st.sampled_from(["\n", "\r\n"]),
        quote=st.sampled_from(["", '"']), mask=st.lists(st.booleans(), min_size=N, max_size=N),
        last=st.booleans(),
    )  # fmt: skip
    def check(order, encode, name, truth, separator, end, quote, mask, last):
        rows = [(name, "wrong"), *((str(k), truth[not mask[k]]) for k in order)]
        cells = [reversed(row) if last and name else row for row in rows]
        text = end.join(separator.join(f"{quote}{c}{quote}" for c in row) for row in cells)
        Path("t.csv").write_bytes(ENCODINGS[encode](text))
        assert marked("mask:t.csv") == [k for k in range(N) if mask[k]]
        listed = [str(k) for k in order if mask[k]]
        Path("t.txt").write_bytes(ENCODINGS[encode](end.join(listed)))
        assert sorted(read_words(Path("t.txt")).tolist()) == [k for k in range(N) if mask[k]]

    check()


def test_any_text_is_a_table_or_a_refusal():
    hypothesis = pytest.importorskip("hypothesis")
    from hypothesis import strategies as st

    text = st.text(alphabet='01a_.,;\t|"\n\r -"{}[]:#é', max_size=40)

    @hypothesis.settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @hypothesis.given(text=text, encode=st.sampled_from(sorted(ENCODINGS)))
    def check(text, encode):
        for name in ("t.csv", "t.txt", "t.json", "t.jsonl"):
            Path(name).write_bytes(ENCODINGS[encode](text))
            try:
                labels(f"mask:{name}")
            except InputError:
                continue
            found = {"t.csv": read_csv, "t.txt": read_words}.get(name, read_json)(Path(name))
            assert np.size(found) >= 1

    check()


FILES = tuple(f"images/{'ab'[k % 2]}/{k}.png" for k in range(N))


def test_examples_by_the_names_of_their_files():
    data = Examples("folder:images", TARGETS, lambda rows: [], files=FILES)
    rows = [(FILES[k].removeprefix("images/"), k) for k in ORDER]
    Path("m.csv").write_text("filename,wrong\n" + "".join(f"{f},{bit(k)}\n" for f, k in rows))
    Path("m.json").write_text(json.dumps({f"{k}.png": bool(MASK[k]) for k in ORDER}))
    Path("i.txt").write_text("\n".join(FILES[k] for k in ORDER if MASK[k]))
    for noise in ("mask:m.csv", "mask:m.json", "indices:i.txt"):
        assert np.flatnonzero(labels_of(data, [noise]).state == 1).tolist() == WRONG
    Path("u.txt").write_text("13.png\n")
    with pytest.raises(InputError, match=r"no file of the data for 13[.]png"):
        labels_of(data, ["indices:u.txt"])
    Path("t.json").write_text('{"1.png": 1}')
    twice = Examples("folder:images", TARGETS, lambda rows: [], files=("a/1.png", "b/1.png"))
    with pytest.raises(InputError, match=r"several files of the data for 1[.]png"):
        labels_of(twice, ["mask:t.json"])


def test_the_files_of_an_image_folder():
    folder_of_images(Path("images"), sizes=((8, 8), (8, 8)))
    files = examples_of("folder:images").files
    assert len(files) == 4
    Path("m.json").write_text(json.dumps({files[2]: 1} | dict.fromkeys(files[:2] + files[3:], 0)))
    options = [
        "--data",
        "folder:images",
        "--mean",
        "0.5",
        "--std",
        "0.25",
        "--noise",
        "mask:m.json",
    ]
    assert call("probes", "build", "p.safetensors", *options).exit_code == 0
    probes = read_probes(Path("p.safetensors"))
    assert [probes.subset_names[code] for code in probes.subset] == [
        "clean", "clean", "corrupted", "clean",
    ]  # fmt: skip


def test_the_command_tells_that_rows_were_moved():
    np.savez("data.npz", inputs=np.zeros((N, 2), np.float32), targets=TARGETS)
    Path("m.csv").write_text(TABLES["pandas"][1])
    result = call("probes", "build", "p.safetensors", "--data", "data.npz", "--noise", "mask:m.csv")
    assert result.exit_code == 0, result.stderr
    assert "rows taken by ids of the first column, which has no name" in result.stdout


def test_ids_of_the_data_are_as_many_as_its_examples():
    np.savez("data.npz", inputs=np.zeros((N, 2), np.float32), targets=TARGETS, id=np.arange(N + 1))
    result = call("probes", "build", "p.safetensors", "--data", "data.npz")
    assert result.exit_code == 3
    assert f"id {N + 1}" in result.stderr


def test_a_manifest_saved_by_excel(tmp_path):
    save(tmp_path / "run" / "a.pt", weights(1))
    path = tmp_path / "list.csv"
    path.write_bytes(codecs.BOM_UTF8 + b"checkpoint,step\r\na.pt,7\r\n")
    (only,) = find(tmp_path / "run", reading=ReadingOptions(manifest=path)).checkpoints
    assert only.step == 7


def test_a_table_of_nothing_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty.json").write_text("{}")
    for kind in ("mask", "indices", "true_labels", "cifar_n"):
        with pytest.raises(InputError, match="does not fit the data"):
            labels(f"{kind}:empty.json")
