"""What is measured is the function that the user's model computes, and the model stays as it was.

The engine measures copies. Each model here has something that a copy may miss: a closure over the
model, a hook, a compiled part, a cache. The oracle runs a twin that is built alike and was never
copied.
"""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import analyze
from tests import oracle
from tests.agreement import assert_agrees

EXAMPLES = 6
SETTINGS = {
    "precision": "float64", "folds": 1, "batch_norm": "saved", "device": "cpu", "batch_size": 4,
}  # fmt: skip


class Small(nn.Module):
    """Two layers, and a parameter between them that the models below use in odd ways."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 5), nn.Linear(5, 3)
        self.scale = nn.Parameter(torch.rand(5) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.first(x)))


def built(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return build().double()


def examples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(EXAMPLES, 4, generator=generator).double(), torch.arange(EXAMPLES) % 3


def measured(model: nn.Module, **settings):
    return analyze.measure(model, analyze.ProbeSet(*examples()), **(SETTINGS | settings))


def assert_measures(build, alike=None) -> None:
    """The model's numbers are the oracle's of a twin, or of one that computes the same plainly."""
    tree = measured(built(build))
    twin = built(alike or build)
    assert_agrees(tree, oracle.statistics(twin, *examples(), [0] * EXAMPLES, 1, copied=False))


# --- closures, hooks and other ways to hold the model


def hook_that_closes_over_the_model():
    model = Small()
    model.first.register_forward_hook(lambda module, args, output: output * model.scale)
    return model


def pre_hook_that_closes_over_the_model():
    model = Small()
    model.head.register_forward_pre_hook(lambda module, args: (args[0] * model.scale,))
    return model


def lambda_attribute():
    model = Small()
    model.between = lambda x: x * model.scale
    model.forward = lambda x: model.head(model.between(model.first(x)))
    return model


def forward_replaced_around_a_bound_method():
    model = Small()
    old = model.first.forward
    model.first.down, model.first.up = nn.Linear(4, 2), nn.Linear(2, 5)

    @functools.wraps(old)
    def forward(x):
        return old(x) + model.first.up(model.first.down(x))

    model.first.forward = forward
    return model


def partial_as_forward():
    model = Small()
    model.forward = functools.partial(lambda self, x: self.head(self.first(x) * self.scale), model)
    return model


def method_of_a_closure():
    model = Small()

    def forward(self, x):
        return self.head(self.first(x) * model.scale)

    model.forward = types.MethodType(forward, model)
    return model


def default_argument_that_is_the_model():
    model = Small()
    model.forward = lambda x, model=model: model.head(model.first(x) * model.scale)
    return model


def functions_in_a_list():
    model = Small()
    model.steps = [lambda x: model.first(x) * model.scale, torch.tanh, model.head.forward]
    model.forward = lambda x: functools.reduce(lambda value, step: step(value), model.steps, x)
    return model


class _Scaled(nn.Module):
    def __init__(self, owner: nn.Module) -> None:
        super().__init__()
        self.owner = weakref.ref(owner)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.owner().scale


def weak_reference_to_the_owner():
    model = Small()
    model.between = _Scaled(model)
    model.forward = types.MethodType(lambda self, x: self.head(self.between(self.first(x))), model)
    return model


class _Hook:
    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __call__(self, module, args, output):
        return output * self.model.scale


def object_as_hook():
    model = Small()
    model.first.register_forward_hook(_Hook(model))
    return model


def features_saved_by_a_hook():
    model = Small()
    features = {}
    model.first.register_forward_hook(lambda module, args, output: features.update(last=output))

    def forward(x):
        model.first(x)
        return model.head(features["last"] * model.scale)

    model.forward = forward
    return model


GLOBAL: nn.Module


def hook_that_names_a_global():
    global GLOBAL  # noqa: PLW0603  as in a notebook
    GLOBAL = Small()
    GLOBAL.first.register_forward_hook(lambda module, args, output: output * GLOBAL.scale)
    return GLOBAL


def scaled_by_global(output: Tensor) -> Tensor:
    return output * GLOBAL.scale


def hook_that_calls_a_function_that_names_a_global():
    global GLOBAL  # noqa: PLW0603
    GLOBAL = Small()
    GLOBAL.first.register_forward_hook(lambda module, args, output: scaled_by_global(output))
    return GLOBAL


@pytest.mark.parametrize(
    "build",
    [hook_that_closes_over_the_model, pre_hook_that_closes_over_the_model, lambda_attribute,
     forward_replaced_around_a_bound_method, partial_as_forward, method_of_a_closure,
     default_argument_that_is_the_model, functions_in_a_list, weak_reference_to_the_owner,
     object_as_hook, features_saved_by_a_hook, hook_that_names_a_global,
     hook_that_calls_a_function_that_names_a_global],
)  # fmt: skip
def test_what_holds_the_model_holds_the_copy(build):
    assert_measures(build)


class _ReadsGlobal(Small):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x) * GLOBAL.scale)


class _CopiesToItself(Small):
    def __deepcopy__(self, memo):
        return self


def reads_a_global():
    global GLOBAL  # noqa: PLW0603
    GLOBAL = _ReadsGlobal()
    return GLOBAL


def table_by_id():
    model = Small()
    factors = {id(model.first): 3.0}
    model.first.register_forward_hook(lambda m, args, output: output * factors.get(id(m), 1.0))
    return model


@pytest.mark.parametrize(
    ("build", "found"),
    [(reads_a_global, r"scale, by _ReadsGlobal.forward \(test_same_function.py"),
     (_CopiesToItself, "its copy has the very scale"),
     (table_by_id, "another output of Small")],
)  # fmt: skip
def test_a_copy_that_is_another_function_is_refused_by_name(build, found):
    with pytest.raises(analyze.InputError, match=found):
        measured(built(build))


# --- what outlives a pass


class _Keeps(Small):
    """Keeps what it computed from a parameter where ``place`` says."""

    def __init__(self) -> None:
        super().__init__()
        self.nested: dict[str, dict[str, Tensor]] = {"of": {}}
        self.state = types.SimpleNamespace()

    def forward(self, x: Tensor) -> Tensor:
        if not self.nested["of"]:
            self.nested["of"]["scale"] = self.scale * 2
        if not hasattr(self.state, "shift"):
            self.state.shift = self.scale.exp()
        return self.head(self.first(x) * self.nested["of"]["scale"] + self.state.shift)


class _KeepsNothing(Small):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x) * (self.scale * 2) + self.scale.exp())


def keeps_in_a_closure():
    model, kept, shift = Small(), {}, None

    def forward(x):
        nonlocal shift
        if shift is None:
            kept["scale"], shift = model.scale * 2, model.scale.exp()
        return model.head(model.first(x) * kept["scale"] + shift)

    model.forward = forward
    return model


@pytest.mark.parametrize("build", [_Keeps, keeps_in_a_closure])
def test_what_a_pass_keeps_is_forgotten(build):
    assert_measures(build, alike=_KeepsNothing)


class _InstallsHooks(Small):
    """At the first pass, and remembers that in an attribute, as transformers 5 does."""

    installed = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.installed:
            self.first.register_forward_hook(lambda module, args, output: output * self.scale)
            self.register_buffer("shift", torch.ones(5).to(x), persistent=False)
            self.installed = True
        return self.head(self.first(x) + self.shift)


class _Counts(Small):
    """Warms up: its first pass has another factor than the second."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return self.head(self.first(x) * self.scale / self.passes)


class _CountsNothing(Small):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x) * self.scale)


def test_hooks_are_set_back_with_the_attributes_that_remember_them():
    assert_measures(_InstallsHooks)


def test_buffers_that_passes_change_are_set_back():
    assert_measures(_Counts, alike=_CountsNothing)


class _KeepsForAll(Small):
    @functools.lru_cache  # noqa: B019
    def doubled(self) -> Tensor:
        return self.scale * 2

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x) * self.doubled())


def test_what_is_kept_outside_of_the_modules_is_refused_by_name():
    with pytest.raises(analyze.InputError, match="computed from scale in an earlier pass"):
        measured(built(_KeepsForAll))


@pytest.mark.parametrize("build", [_Keeps, _InstallsHooks, _Counts, keeps_in_a_closure])
def test_the_model_keeps_nothing_of_being_measured(build):
    model = built(build)
    model.train()
    model.head.eval()
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    values = {name: value.clone() for name, value in model.state_dict().items()}
    measured(model)
    assert model.training
    assert not model.head.training
    for name, module in model.named_modules():
        assert vars(module).keys() == before[name].keys()
        assert not module._forward_hooks
    assert model.state_dict().keys() == values.keys()
    assert all(torch.equal(values[name], value) for name, value in model.state_dict().items())
    if isinstance(model, _Keeps):
        assert not model.nested["of"]
        assert not vars(model.state)


# --- compiled, pruned and reparametrised modules


class _Scales(Small):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.first(x)) * self.scale)


class _CompiledMethod(Small):
    @torch.compile(backend="eager")
    def between(self, x: Tensor) -> Tensor:
        return torch.tanh(x) * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.between(self.first(x)))


def compiled_forward():
    model = Small()
    model.forward = torch.compile(model.forward, backend="eager")
    return model


def compiled_model():
    return torch.compile(Small(), backend="eager")


def compiled_in_place():
    model = Small()
    model.compile(backend="eager")
    return model


def compiled_part():
    model = Small()
    model.first = torch.compile(model.first, backend="eager")
    return model


@pytest.mark.parametrize(
    ("build", "alike"),
    [(compiled_forward, Small), (compiled_in_place, Small), (_CompiledMethod, _Scales)],
)
def test_compiled_models_are_measured_as_they_were_written(build, alike):
    assert_measures(build, alike)


@pytest.mark.parametrize("build", [compiled_model, compiled_part])
def test_compiled_parts_are_measured_as_they_were_written(build):
    assert_measures(build)


def pruned():
    model = Small()
    prune.l1_unstructured(model.first, "weight", 0.5)
    prune.ln_structured(model.head, "weight", 0.4, n=2, dim=0)
    prune.random_unstructured(model.head, "weight", 0.2)  # a container of both
    return model


def pruned_and_run():
    model = pruned().double()
    model(examples()[0])
    return model


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("build", [pruned, pruned_and_run])
def test_pruned_models(build):
    assert_measures(build)


def test_a_run_of_a_pruned_model(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "pruned.py").write_text(
        "from tests.test_same_function import pruned\n\n\ndef net():\n    return pruned()\n"
    )
    model = built(pruned)
    torch.save(model.state_dict(), tmp_path / "run" / "step_1.pt")
    tree = analyze.run(
        tmp_path / "run", model=f"{tmp_path / 'pruned.py'}:net",
        probes=analyze.ProbeSet(*examples()), output=tmp_path / "out.h5",
        **(SETTINGS | {"batch_size": 4}),
    )  # fmt: skip
    assert_agrees(tree, oracle.statistics(model, *examples(), [0] * EXAMPLES, 1, copied=False))


# --- transforms and gradients inside of forward


class _ForOne(Small):
    """Written for one example."""

    def one(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.first(x)) * self.scale)

    def forward(self, x: Tensor) -> Tensor:
        return torch.vmap(self.one)(x)


class _Ensemble(nn.Module):
    """Members as an axis of the weights, and a head that is used as any other."""

    def __init__(self) -> None:
        super().__init__()
        self.members = nn.Parameter(torch.randn(3, 4, 5))
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.vmap(lambda weight: torch.tanh(x @ weight))(self.members).mean(0))


class _Tangent(Small):
    def forward(self, x: Tensor) -> Tensor:
        return torch.func.jvp(super().forward, (x,), (torch.ones_like(x),))[1] * self.scale.sum()


class _Slope(Small):
    def forward(self, x: Tensor) -> Tensor:
        slope = torch.func.grad(lambda z: (torch.tanh(self.first(z)) * self.scale).sum())(x)
        return self.head(torch.cat([slope, x[:, :1]], 1))


class _Force(Small):
    """Needs gradients in forward without asking for them, as training has them anyway."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_(True)
        energy = (torch.tanh(self.first(x)) * self.scale).sum()
        force = torch.autograd.grad(energy, x, create_graph=True)[0]
        return self.head(torch.cat([force, x[:, :1]], 1))


class _NormalisedForce(Small):
    """Through a batch norm, whose rule gives its input's gradient with those of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_(True)
        energy = (torch.tanh(self.norm(self.first(x))) * self.scale).sum()
        force = torch.autograd.grad(energy, x, create_graph=True)[0]
        return self.head(torch.cat([force, x[:, :1]], 1))


class _Curvature(Small):
    """Gradients of gradients, as networks that solve differential equations take them."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_(True)
        value = super().forward(x)
        slope = torch.autograd.grad(value.sum(), x, create_graph=True)[0]
        return value + torch.autograd.grad(slope[:, 0].sum(), x, create_graph=True)[0][:, :3]


@pytest.mark.filterwarnings("ignore:`torch.jit")  # which torch.func.jvp imports
@pytest.mark.parametrize(
    "build", [_ForOne, _Ensemble, _Tangent, _Slope, _Force, _NormalisedForce, _Curvature]
)
def test_transforms_and_gradients_inside_of_forward(build):
    assert_measures(build)


def test_only_what_is_differentiated_inside_is_measured_one_at_a_time():
    parameters = measured(built(_Force))["parameters"].to_dataset()
    methods = dict(zip(parameters.parameter.values, parameters.method.values, strict=True))
    assert methods["head.weight"] == "linear"
    assert methods["first.weight"] == "one at a time"


class _Members(nn.Module):
    """An ensemble as torch's own tutorial builds it: stacked weights and a form without values."""

    def __init__(self) -> None:
        super().__init__()
        members = [nn.Linear(4, 3) for _ in range(3)]
        stacked, _ = torch.func.stack_module_state(members)
        self.stacked = nn.ParameterDict({k: nn.Parameter(v.detach()) for k, v in stacked.items()})
        form = nn.Linear(4, 3).to("meta")
        self.one = lambda weights, x: torch.func.functional_call(form, weights, (x,))

    def forward(self, x: Tensor) -> Tensor:
        outputs = torch.vmap(self.one, in_dims=(0, None))(dict(self.stacked), x)
        return torch.tanh(outputs).mean(0)


def test_an_ensemble_of_stacked_members():
    assert_measures(_Members)


def test_parameters_without_values_are_refused_by_name():
    model = _Members()
    model.form = nn.Linear(4, 3, device="meta")
    with pytest.raises(analyze.InputError, match=r"form\.weight, form\.bias on the meta device"):
        measured(model)


class _WithoutGraph(Small):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(x)


class _ForceInTraining(Small):
    def forward(self, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_(True)
        energy = super().forward(x).sum()
        return torch.autograd.grad(energy, x, create_graph=self.training)[0][:, :3]


class _ReadsByNumpy(Small):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * float(self.scale.numpy().sum())


@pytest.mark.parametrize(
    ("build", "message", "fix"),
    [(_WithoutGraph, "output has no gradient", "no_grad"),
     (_ForceInTraining, "output has no gradient", "create_graph=True"),
     (_ReadsByNumpy, "with gradients on, its forward pass fails", "numpy")],
)  # fmt: skip
def test_a_forward_without_gradients_is_refused(build, message, fix):
    with pytest.raises(analyze.InputError, match=message) as caught:
        measured(built(build))
    assert fix in caught.value.fix


# --- frozen, shared and merged parameters


class _Frozen(Small):
    """Three frozen parameters: one counts passes, one is read by NumPy, one is a layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.count = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.factor = nn.Parameter(torch.tensor(3.0), requires_grad=False)
        self.order = nn.Parameter(torch.arange(5).flip(0), requires_grad=False)
        self.first.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        self.count.add_(1)
        value = self.first(x)[:, self.order] * self.scale * float(self.factor.numpy())
        return self.head(value / self.count)


class _NotFrozen(Small):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).flip(1) * self.scale * 3.0)


def test_frozen_parameters_count_unless_forward_needs_them_frozen():
    model = built(_Frozen)
    tree = measured(model)
    expected = oracle.statistics(built(_NotFrozen), *examples(), [0] * EXAMPLES, 1)
    assert_agrees(tree, expected)
    assert "left out, as they are frozen" in tree.attrs["provenance"]
    assert float(model.count) == 0.0


class _Shared(nn.Module):
    """One block under three names, and parameters that only vmap measures."""

    def __init__(self) -> None:
        super().__init__()
        block = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        self.blocks = nn.ModuleList([block] * 3)
        self.scale = nn.Parameter(torch.rand(4))
        self.memory = nn.LSTM(4, 4, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        x = (x.flip(0) * self.scale).flip(0)
        return self.head(self.memory(x[:, None].flip(0))[0][:, 0].flip(0))


def test_a_module_of_several_names_beside_vmap():
    assert_measures(_Shared)


class _Merges(Small):
    """LoRA that adds its product to the weight in eval mode, and takes it away in training."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.randn(5, 2))
        self.merged = False

    def train(self, mode: bool = True):
        super().train(mode)
        if mode == self.merged:
            self.first.weight.data += (-1 if mode else 1) * self.up @ self.down
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        value = self.first(x) if self.merged else self.first(x) + x @ self.down.T @ self.up.T
        return self.head(torch.tanh(value))


def test_what_is_merged_in_eval_mode_is_measured_so_and_noted():
    model = built(_Merges)
    weight = model.first.weight.detach().clone()
    tree = measured(model)
    twin = built(_Merges)
    assert_agrees(tree, oracle.statistics(twin, *examples(), [0] * EXAMPLES, 1, copied=False))
    assert "measured as eval() leaves them" in tree.attrs["provenance"]
    assert torch.equal(model.first.weight, weight)
    assert not model.merged


def test_hooks_on_parameters_are_noted_and_left_alone():
    model = built(Small)
    model.first.weight.register_hook(lambda gradient: gradient * 2)
    tree = measured(model)
    assert_agrees(tree, oracle.statistics(built(Small), *examples(), [0] * EXAMPLES, 1))
    assert "hooks on parameters" in tree.attrs["provenance"]
    assert model.first.weight._backward_hooks
