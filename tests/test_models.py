"""Model specs: what they build, what they refuse, and what a user's own file may do wrong."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import nn

from analyze.errors import InputError
from analyze.models.building import build_model
from analyze.specs.model import ModelSpec
from analyze.specs.spec import Spec
from tests.conftest import assert_input_error

FACTORY = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width=5):
        super().__init__()
        self.hidden = nn.Linear(12, width)
        self.fc = nn.Linear(width, 3)

    def forward(self, x):
        return self.fc(self.hidden(x).relu())

def build(width=5):
    return Net(width)
"""


def built(text: str) -> nn.Module:
    return build_model(ModelSpec.parse(text))


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ("a", "a", {}),
        ("a?n=3&rate=0.5&on=true&off=False&word=gelu", "a",
         {"n": 3, "rate": 0.5, "on": True, "off": False, "word": "gelu"}),
        ("a?x=&y=null&z=[1]", "a", {"x": "", "y": "null", "z": "[1]"}),
    ],
)  # fmt: skip
def test_a_spec_has_scalar_arguments(text, name, arguments):
    spec = Spec.parse(text)
    assert (spec.name, spec.arguments) == (name, arguments)
    assert [type(v) for v in spec.arguments.values()] == [type(v) for v in arguments.values()]


@pytest.mark.parametrize(
    ("text", "kind", "outputs"),
    [
        ("builtin:small_mlp?in_features=12&width=5&num_classes=3", "SmallMLP", 3),
        ("builtin:small_resnet?width=2", "SmallResNet", 10),
        ("builtin:small_inception?width=2&num_classes=4", "SmallInception", 4),
        ("torchvision:squeezenet1_1?num_classes=7", "SqueezeNet", 7),
    ],
)
def test_registered_models(text, kind, outputs):
    model = built(text)
    assert type(model).__name__ == kind
    last = [p for p in model.parameters() if p.dim() == 1][-1]
    assert len(last) == outputs


@pytest.mark.parametrize(
    ("norm", "kind", "biases"), [("batch", "BatchNorm2d", 1), ("group", "GroupNorm", 1),
                                 ("none", "Identity", 10)],
)  # fmt: skip
def test_the_norm_of_a_small_resnet(norm, kind, biases):
    """Every convolution is followed by one; without a norm it has a bias, as the output has."""
    model = built(f"builtin:small_resnet?width=6&norm={norm}")
    modules = [*model.named_modules()]
    after = [m for name, m in modules if "bn" in name or name.endswith("shortcut.1")]
    assert {type(m).__name__ for m in after} == {kind}
    layers = [m for _, m in modules if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert sum(m.bias is not None for m in layers) == biases
    assert len(after) == len(layers) - 1


def test_branches_of_a_small_inception_see_the_same_image_side_by_side():
    model = built("builtin:small_inception?width=3").eval()
    x = torch.rand(2, 3, 7, 7)
    expected = [branch(x) for branch in model.block1.children()]
    assert [len(y[0]) for y in expected] == [3] * 4
    assert torch.equal(model.block1(x), torch.cat(expected, 1))
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_a_model_is_the_same_whenever_it_is_built():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second = (built("builtin:small_mlp?width=2").state_dict() for _ in range(2))
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
def test_timm_models():
    assert built("timm:resnet10t?num_classes=4").get_classifier().out_features == 4


def test_timm_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(InputError, match="timm is not installed") as error:
        built("timm:resnet18")
    assert error.value.fix == "pip install timm"


REFUSED = {
    "resnet18": ("not a model spec", "torchvision:NAME"),
    "": ("not a model spec", "builtin:NAME"),
    ":build": ("not a model spec", "FILE.py:FACTORY"),
    "model.py:": ("not a model spec", "FILE.py:FACTORY"),
    "builtin:small_mpl": ("unknown builtin model", "like small_mlp"),
    "builtin:x": ("unknown builtin model", "small_mlp, small_resnet"),
    "torchvision:resnet19": ("unknown torchvision model", "resnet18"),
    "torchvision:resnet18?weights=DEFAULT": ("asks for weights", "nothing is downloaded"),
    "torchvision:fcn_resnet50?weights_backbone=DEFAULT": ("asks for weights", "downloaded"),
    "timm:resnet18?pretrained=true": ("asks for weights", "nothing is downloaded"),
    "timm:resnet18?pretrained_cfg=x": ("asks for weights", "nothing is downloaded"),
    "timm:resnet18?checkpoint_path=/tmp/x": ("asks for weights", "nothing is downloaded"),
    "builtin:small_mlp?depth=2": ("not take these arguments", "num_classes=10, in_features=784"),
    "builtin:small_mlp?width=wide": ("not take these arguments", "width=128"),
    "builtin:small_mlp?width=-1": ("cannot be built", "width=128"),
    "builtin:small_resnet?norm=layer": ("cannot be built", "norm='batch'"),
    "builtin:small_mlp?width=3&width=4": ("argument is given twice", "each argument once"),
    "gone.py:build": ("Python file is missing", "FILE.py:FACTORY"),
    "no_such_package_here:build": ("package cannot be imported", "FILE.py:FACTORY"),
    ".relative:build": ("package cannot be imported", "FILE.py:FACTORY"),
    "json:no_such_function": ("no such factory", "one of "),
    "json.decoder:JSONDecoder": ("gives no model", "torch.nn.Module"),
}


@pytest.mark.parametrize("text", REFUSED)
def test_specs_that_are_refused(text):
    what, expected = REFUSED[text]
    with pytest.raises(InputError, match=what) as error:
        built(text)
    assert expected in error.value.expected
    assert text.rpartition(":")[0] in error.value.found
    assert error.value.fix


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
@pytest.mark.parametrize("text", ["timm:hf-hub:a/b", "timm:local-dir:x", "timm:hf_hub:a/b"])
def test_timm_names_that_would_load_are_unknown_models(text):
    with pytest.raises(InputError, match="unknown timm model"):
        built(text)


def test_a_model_from_the_users_file(tiny):
    path = tiny.path.parent / "model.py"
    path.write_text(FACTORY)
    assert tiny.run("--model", f"{path}:build", "--checkpoints", ":1").exit_code == 0
    assert (
        tiny.run("--model", f"{path}:Net?width=5", "--checkpoints", ":1", "--restart").exit_code
        == 0
    )
    wrong = tiny.run("--model", f"{path}:build?width=6", "--restart")
    assert_input_error(wrong, "hidden.weight [5, 12]", "where they are hidden.weight [6, 12]")


def test_a_file_may_import_its_neighbour(tmp_path):
    (tmp_path / "my_net_for_a_test.py").write_text(FACTORY)
    (tmp_path / "model.py").write_text("from my_net_for_a_test import build as make\n")
    path = list(__import__("sys").path)
    assert type(built(f"{tmp_path / 'model.py'}:make")).__name__ == "Net"
    assert __import__("sys").path == path


@pytest.mark.parametrize(("name", "fix"), [("biuld_net", "build_net"), ("Resnet50", "FACTORY")])
def test_only_a_name_that_is_close_is_proposed(tmp_path, name, fix):
    (tmp_path / "model.py").write_text("def helper(): pass\ndef build_net(): pass\n")
    with pytest.raises(InputError, match="no such factory") as error:
        built(f"{tmp_path / 'model.py'}:{name}")
    assert error.value.expected == "one of helper, build_net"
    assert error.value.fix == f"--model {tmp_path / 'model.py'}:{fix}"


MISTAKES = {
    "syntax": ("def build(:\n", "cannot be imported", "SyntaxError: invalid syntax (model.py, li"),
    "import": ("import no_such_thing\n", "cannot be imported", "no_such_thing' (model.py, line 1)"),
    "exception": ("x = 1\nx['a']\n", "cannot be imported", "(model.py, line 2)"),
    "no factory": ("def make(): pass\n", "no such factory", "no 'build'"),
    "nothing": ("x = 1\n", "no such factory", "no 'build'"),
    "no module": ("def build(): return 3\n", "gives no model", "returned int"),
    "a module": (
        "from torch import nn\nbuild = nn.Linear(2, 2)\n",
        "names a module, not what makes",
        "is a Linear",
    ),
    "raises": ("def build():\n  raise ValueError('w')\n", "cannot be built", "w (model.py, line 2"),
    "arguments": ("def build(width): pass\n", "not take these arguments", "'width'"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_in_the_users_file(tiny, case):
    text, what, found = MISTAKES[case]
    path = tiny.path.parent / "model.py"
    path.write_text(text)
    assert_input_error(tiny.run("--model", f"{path}:build"), what, found, str(path))
