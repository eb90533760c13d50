"""What is typed wrongly in the first quarter of an hour: the message has what to type instead."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
import torch

import analyze
from analyze.__main__ import main as program
from analyze.specs.run_card import read_run_card
from tests.conftest import SPEC, assert_input_error, call, make_run

CODE = """
import torch

import analyze
from torch import nn
from torch.utils.data import TensorDataset

class Net(nn.Module):
    pass

def make(width=5):
    return Net()

def arrays():
    return torch.zeros(240, 2), torch.zeros(240).long()

def train_set():
    return TensorDataset(torch.randn(240, 2), torch.arange(240) % 4)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory, measured):
    """A run, results with their units, code and labels, side by side; not to be changed."""
    folder = tmp_path_factory.mktemp("first mistakes")
    make_run(folder)
    shutil.copy(measured.output, folder / "out.h5")
    shutil.copytree(f"{measured.output}.units", folder / "out.h5.units")
    (folder / "net.py").write_text(CODE)
    labels = np.arange(240) % 4
    labels[::5] = 0
    np.save(folder / "from_one.npy", labels + 1)
    np.save(folder / "unknown.npy", np.where(labels == 3, np.nan, labels))
    np.save(folder / "one_hot.npy", np.eye(4)[labels])
    (folder / "header.txt").write_text("label\n" + "\n".join(map(str, labels)))
    (folder / "words.csv").write_text("label\n" + "\n".join(f"class_{k}" for k in labels))
    (folder / "late.h5.units").mkdir()
    keys = folder / "keys"
    keys.mkdir()
    for step in range(2):
        torch.save({"inner": {"a.weight": torch.full((2,), step)}}, keys / f"step_{step}.pt")
    return folder


BUILD = ["probes", "build", "new.safetensors", "--data"]
NOISE = [*BUILD, "net.py:train_set", "--noise"]
RUN = ["run", "run", "--probes", "probes.safetensors"]
# What is typed, and what stands after "to fix".
TYPED = {
    "labels under a header": ([*NOISE, "true_labels:header.txt"], "name the file .csv"),
    "labels from 1": ([*NOISE, "true_labels:from_one.npy"], "numpy.save('labels.npy', labels - 1)"),
    "given labels from 1": ([*NOISE, "noisy_labels:from_one.npy"], "labels - 1), then --noise noi"),
    "labels that are names": ([*NOISE, "true_labels:words.csv"], "CLASSES.index(label)"),
    "labels with NaN": ([*NOISE, "true_labels:unknown.npy"], "nan_to_num(labels, nan=-1)"),
    "labels as vectors": ([*NOISE, "true_labels:one_hot.npy"], "labels.argmax(1)"),
    "arrays for a data set": ([*BUILD, "net.py:arrays"], "TensorDataset(inputs, targets)"),
    "a data set's capitals": ([*BUILD, "torchvision:FashionMnist"], "torchvision:FashionMNIST?roo"),
    "a file for a model": ([*RUN, "--model", "net.py"], "--model net.py:Net"),
    "a name for a model": ([*RUN, "--model", "resnet18"], "--model torchvision:resnet18, timm:re"),
    "a misspelt class": ([*RUN, "--model", "net.py:Nett"], "--model net.py:Net\n"),
    "a call for a spec": ([*RUN, "--model", "net.py:make(16)"], "'net.py:make?ARGUMENT=VALUE'"),
    "data for probes": (["run", "run", "--probes", "net.py:train_set"], "--data net.py:train_set"),
    "results for probes": (["probes", "show", "out.h5"], "analyze probes build FILE --data SPEC"),
    "weights at a key": (["scan", "keys"], "where the weights are: --weights-key inner\n"),
    "units for results": (["report", "out.h5.units"], "out.h5 in its place"),
    "a run that has not ended": (["report", "late.h5"], "analyze status late.h5; a run that"),
    "a misspelt subset": (["show", "out.h5", "--subset", "corupted"], "--subset corrupted\n"),
    "a misspelt layer": (["show", "out.h5", "--layer", "hiden"], "--layer hidden\n"),
    "a misspelt column": (["show", "out.h5", "--sort", "m_coherance"], "--sort m_coherence\n"),
    "a misspelt checkpoint": (["show", "out.h5", "--layers", "--checkpoint", "step9.pt"],
                              "--checkpoint step_9.pt\n"),
    "units for status": (["status", "out.h5.units"], "analyze status out.h5\n"),
    "a run for status": (["status", "run"], "analyze status run.h5\n"),
    "a checkpoint for init": (["init", "keys/step_0.pt"], "analyze init keys\n"),
}  # fmt: skip


@pytest.mark.parametrize("case", TYPED)
def test_the_message_has_what_to_type(place, monkeypatch, case):
    monkeypatch.chdir(place)
    typed, fix = TYPED[case]
    result = call(*typed)
    assert_input_error(result)
    assert fix in result.stderr.partition("to fix:")[2]
    assert not (place / "new.safetensors").exists()


def test_probes_that_are_still_to_be_made(tiny):
    tiny.card(f'[run]\nmodel = "{SPEC}"\n')
    made_by = "analyze probes build FILE --data SPEC (SPEC is data.npz, FILE.py:DATASET or"
    assert_input_error(call("check", str(tiny.path)), "no --probes", made_by)


# What stands in a card, and what is to stand there.
CARDS = {
    'modle = "builtin:small_mlp"': 'model = "builtin:small_mlp"',
    'weights-key = "net"': 'weights_key = "net"',
    'layers = "stem"': 'layers = ["stem"]',
    'max_probes = "50"': "max_probes = 50",
    'step_regex = "it(?P<step>\\d+)"': "step_regex = 'it(?P<step>\\d+)'",
}


@pytest.mark.parametrize("line", CARDS)
def test_a_line_of_the_card_is_said_as_it_should_be_and_is_right_then(tiny, line):
    tiny.card(f"[run]\n{line}\n")
    result = call("check", str(tiny.path))
    assert_input_error(result, "the run card is not understood")
    fix = result.stderr.partition("to fix:")[2].strip()
    assert fix.endswith(CARDS[line])
    tiny.card(f"[run]\n{CARDS[line]}\n")
    assert read_run_card(tiny.path) != read_run_card(tiny.path.parent)


@pytest.mark.parametrize("line", ["folds = 5", "learning_rate = 0.1"])
def test_what_a_card_does_not_have_has_a_place_elsewhere(tiny, line):
    tiny.card(f"[run]\n{line}\n")
    assert_input_error(call("check", str(tiny.path)), "go below a line [training]", "--folds 5")


def test_a_card_may_begin_with_a_byte_order_mark(tiny):
    tiny.card('\ufeff[run]\nname = "from an editor of Windows"\n')
    assert read_run_card(tiny.path).name == "from an editor of Windows"


def test_labels_that_are_only_other_ones_are_taken(place, monkeypatch, tmp_path):
    """All labels redrawn, or shifted around the end: no other way of counting explains them."""
    monkeypatch.chdir(place)
    labels = np.arange(240) % 4
    for name, other in {
        "redrawn": np.random.default_rng(0).integers(0, 4, 240),
        "turned": (labels + 1) % 4,
        "one more class": np.where(np.arange(240) % 3 == 0, 4, labels),
    }.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(other.tolist()))
        output = str(tmp_path / f"{name}.safetensors")
        data = ["--data", "net.py:train_set", "--noise", f"true_labels:{path}"]
        assert call("probes", "build", output, *data).exit_code == 0, name


@pytest.fixture(scope="module")
def results(measured):
    return analyze.open_results(measured.output)


# What is called wrongly in Python, and what is to be typed.
CALLED = {
    "a class for a model": (lambda _: analyze.measure(torch.nn.Linear, DATA),
                            "analyze.measure(Linear(...), probes)"),
    "a file for probes": (lambda _: analyze.measure(torch.nn.Linear(2, 3), "p.safetensors"),
                          "analyze.probes.read_probes('p.safetensors')"),
    "a tree to open": (analyze.open_results, "what analyze.run returns"),
    "nothing to open": (lambda _: analyze.open_results(None), 'open_results("half_noise.h5")'),
    "a tree's status": (analyze.status, 'analyze.status("half_noise.h5")'),
}  # fmt: skip
READERS = {
    "plot": analyze.plot, "show": analyze.show, "report": analyze.report, "to_csv": analyze.to_csv,
    "examples": analyze.examples, "compare": lambda tree: analyze.compare([tree, tree]),
    "titles": analyze.figures.titles,
}  # fmt: skip
DATA = (torch.ones(4, 2), torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize("case", CALLED)
def test_a_wrong_call_has_what_to_type(results, case):
    wrong, fix = CALLED[case]
    with pytest.raises(analyze.InputError) as caught:
        wrong(results)
    assert fix in caught.value.fix


@pytest.mark.parametrize("reader", READERS)
def test_readers_of_results_take_whole_ones_only(results, reader, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for part in (results["layers"], results["network"].copy()):
        with pytest.raises(analyze.InputError, match="a part of results"):
            READERS[reader](part)
    for other, fix in (([results], "analyze.concat(trees)"), (3, "open_results(")):
        with pytest.raises(analyze.InputError) as caught:
            READERS[reader](other)
        assert fix in caught.value.fix
    assert not list(tmp_path.iterdir())


def test_a_misspelt_function_is_known_by_those_like_it():
    with pytest.raises(AttributeError) as caught:
        analyze.mesure  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("mesure", analyze)


def test_ctrl_c_while_the_program_starts_leaves_no_traceback(monkeypatch, capsys):
    def interrupted(name, *_, **__):
        raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "analyze.cli")
    monkeypatch.setattr("builtins.__import__", interrupted)
    with pytest.raises(SystemExit) as ended:
        program()
    monkeypatch.undo()
    assert (ended.value.code, capsys.readouterr().err) == (130, "Stopped.\n")
