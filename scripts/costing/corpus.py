"""The calls that are measured: those of whole models, of which some are only judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from analyze.gradients.data.example_axes import ExampleAxis
from analyze.gradients.forms import OuterProducts
from analyze.gradients.rules import RULES, Call
from analyze.gradients.rules.weights import Weight
from scripts.benchmarking.workloads import CLASSES, WORKLOADS, Transformer

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
Layout = tuple[tuple[int, ...], tuple[int, ...]]  # shape and stride


@dataclass(frozen=True)
class Shapes:
    """A call of a layer by what its time depends on.

    ``options`` are those of a convolution: stride, padding, dilation, groups; a linear layer has
    none.
    """

    function: str  # of torch.nn.functional
    x: Layout
    dy: Layout
    weight: tuple[int, ...]
    options: tuple[Any, ...] = ()

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Shapes:
        """The call of what ``as_values`` gave."""
        return cls(**{name: _tuples(value) for name, value in values.items()})

    def as_values(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    def form(self, filled: bool) -> OuterProducts:
        """The form that the rule makes of the call, of random numbers or of any."""
        x, dy = (_tensor(layout, filled) for layout in (self.x, self.dy))
        rule, weight = RULES[getattr(F, self.function)], torch.empty(self.weight)
        arguments = rule.bind((x, weight, None, *self.options), {})
        axis, wanted = ExampleAxis(0), frozenset({"weight"})
        call = Call(
            rule, rule.functions[0], (), {}, arguments, {"weight": Weight(weight, {})},
            {"input": axis}, axis, wanted,
        )  # fmt: skip
        form = rule.forms(call, dy)["weight"]
        assert isinstance(form, OuterProducts)
        return form


@dataclass(frozen=True)
class Model:
    """A model whose calls are measured; speeds are ``fitted`` to it, or judged by it."""

    name: str
    build: Callable[[], nn.Module]
    batch: int
    image: int = 0  # pixels of a side; 0 for sequences
    tokens: int = 0
    fitted: bool = True

    def calls(self) -> list[Shapes]:
        """The calls of a forward and backward pass, in the order in which gradients come."""
        torch.manual_seed(0)
        model, inputs = self.build().eval(), self._inputs()
        seen: list[Shapes] = []
        for module in model.modules():
            if isinstance(module, (*CONVOLUTIONS, nn.Linear)):
                module.register_forward_hook(_noting(seen))
        output = model(inputs)
        output.backward(torch.ones_like(output))
        return seen

    def _inputs(self) -> Tensor:
        if self.image:
            return torch.randn(self.batch, 3, self.image, self.image)
        return torch.randint(2048, (self.batch, self.tokens))


def _noting(seen: list[Shapes]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    """A forward hook that has the call noted once its gradient comes."""

    def on_forward(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, weight, function = _layout(inputs[0]), module.weight, "linear"
        options: tuple[Any, ...] = ()
        assert isinstance(weight, Tensor)
        if isinstance(module, CONVOLUTIONS):
            options = (module.stride, module.padding, module.dilation, module.groups)
            function = f"conv{len(module.kernel_size)}d"

        def on_gradient(dy: Tensor) -> None:
            seen.append(Shapes(function, x, _layout(dy), tuple(weight.shape), options))

        output.register_hook(on_gradient)

    return on_forward


def _layout(tensor: Tensor) -> Layout:
    return tuple(tensor.shape), tensor.stride()


def _tensor(layout: Layout, filled: bool) -> Tensor:
    tensor = torch.empty_strided(*layout)
    return tensor.normal_() if filled else tensor


def _tuples(value: Any) -> Any:
    """Lists, as JSON has them, to tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _of_torchvision(name: str, batch: int, image: int, fitted: bool = True) -> Model:
    build = getattr(torchvision.models, name)
    return Model(f"{name} {image} px", lambda: build(num_classes=CLASSES), batch, image, 0, fitted)


def _of_timm(name: str, batch: int, image: int, fitted: bool = True, **options: Any) -> Model:
    def build() -> nn.Module:
        import timm

        return timm.create_model(name, num_classes=CLASSES, **options)

    return Model(f"{name} {image} px", build, batch, image, 0, fitted)


MODELS = [
    *(Model(w.name, w.build, w.batch, w.image, w.tokens) for w in WORKLOADS["cpu"]),
    _of_torchvision("resnet18", 64, 32),
    _of_torchvision("vgg11_bn", 8, 64),
    _of_torchvision("mobilenet_v2", 32, 96),
    _of_torchvision("resnext50_32x4d", 16, 64),
    _of_torchvision("shufflenet_v2_x1_0", 32, 64),
    _of_timm("vit_tiny_patch16_224", 64, 64, img_size=64),
    _of_timm("mixer_s32_224", 8, 224),
    Model("small GPT-2", lambda: Transformer(2048, 192, 3, 3, 64), 32, tokens=64),
    _of_timm("convnext_atto", 16, 64),
    _of_torchvision("resnet18", 8, 112),
    _of_torchvision("resnet34", 32, 64, fitted=False),
    _of_torchvision("regnet_y_400mf", 32, 64, fitted=False),
    _of_torchvision("regnet_x_800mf", 32, 64, fitted=False),
    _of_torchvision("convnext_tiny", 16, 64, fitted=False),
    _of_torchvision("densenet121", 16, 64, fitted=False),
    _of_torchvision("efficientnet_b0", 32, 64, fitted=False),
    _of_torchvision("swin_t", 16, 64, fitted=False),
    _of_torchvision("mnasnet1_0", 32, 64, fitted=False),
    _of_torchvision("squeezenet1_1", 32, 64, fitted=False),
    _of_timm("deit_small_patch16_224", 8, 128, fitted=False, img_size=128),
    _of_timm("resnetv2_50", 16, 96, fitted=False),
    _of_timm("poolformer_s12", 16, 96, fitted=False),
    _of_timm("resmlp_12_224", 32, 64, fitted=False, img_size=64),
]
