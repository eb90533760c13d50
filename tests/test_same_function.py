"""What is measured is the function that the user's model computes, and the model stays as it was.

The engine measures copies. Each model here has something that a copy may miss: a closure over the
model, a hook, a compiled part, a cache. The oracle runs a twin that is built alike and was never
copied.
"""

from __future__ import annotations

import functools
import types
import weakref

import pytest
import torch
from torch import Tensor, nn

import analyze
from tests.small_models import Small, assert_measures, built, measured


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
