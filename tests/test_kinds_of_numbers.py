"""Complex numbers, truth values, integers and mixed precisions: measured as what they are."""

from __future__ import annotations

import copy
import json
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.amp.autocast_mode import autocast as imported_by_name
from torch.nn import functional as F

import analyze
from analyze.errors import InputError
from analyze.gradients.numbers import refuse_quantised
from analyze.gradients.step.conditions import measuring
from analyze.probes import read_probes, write_probes
from tests import oracle

COUNT = 6
ENTER = imported_by_name.__enter__


class Middle(nn.Module):
    """Something between two layers, with parameters of its own."""

    def __init__(self, function: Callable[..., Tensor], **parameters: Tensor) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 8), nn.Linear(8, 4)
        self.function = function
        for name, values in parameters.items():
            setattr(self, name, nn.Parameter(values))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self, torch.tanh(self.first(x))))


def seeded(function: Callable[..., Tensor], **parameters: Tensor) -> Middle:
    torch.manual_seed(0)
    return Middle(function, **parameters)


def examples() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(COUNT, 6), torch.randint(0, 4, (COUNT,))


def measured(model: nn.Module, inputs: Any = None, targets: Any = None, **options: Any) -> Any:
    """One cell, the statistics as saved, on the CPU."""
    if inputs is None:
        inputs, targets = examples()
    options = {"folds": 1, "batch_norm": "saved", "device": "cpu", "batch_size": 4} | options
    return analyze.measure(model, analyze.ProbeSet(inputs, targets), **options)


def error(tree: Any, expected: oracle.Statistics) -> float:
    """Largest relative error of a parameter's squared norms and of its sum's."""
    found = tree["parameters"].to_dataset().isel(checkpoint=0)
    assert set(found.parameter.values) == set(expected.gram)
    errors = []
    for name in found.parameter.values:
        own = found.sel(parameter=name)
        errors.append(oracle.relative_error(own.gradient_sqnorm, expected.squared_norms[name]))
        errors.append(oracle.scaled_gram_error(own.gradient_gram.values, expected.gram[name]))
    return max(errors)


def truth(model: nn.Module, inputs: Any = None, targets: Any = None) -> oracle.Statistics:
    if inputs is None:
        inputs, targets = examples()
    return oracle.statistics(model, inputs, targets, [0] * COUNT, 1)


def told(tree: Any) -> str:
    return " | ".join(json.loads(tree.attrs["provenance"])["warnings"])


def spectrum(h: Tensor) -> Tensor:
    return torch.fft.fft(h)


def real(z: Tensor) -> Tensor:
    return torch.cat([z.real[..., :4], z.imag[..., 1:5]], -1)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(2))


def by_sign(model: Any, h: Tensor) -> Tensor:
    """Control flow that depends on the example: no rule and no vmap can follow."""
    z = spectrum(h)
    return torch.stack([real(z[k] * model.w) if h[k, 0] > 0 else h[k] for k in range(len(h))])


COMPLEX = {
    "multiplied": (lambda m, h: real(spectrum(h) * m.w), {"w": drawn(8)}),
    "conjugated": (lambda m, h: real(spectrum(h) * m.w.conj()), {"w": drawn(8)}),
    "both": (lambda m, h: real(spectrum(h) * m.w.conj() + spectrum(h) ** 2 * m.w), {"w": drawn(8)}),
    "adjoint": (lambda m, h: real(spectrum(h) @ m.w.mH), {"w": drawn(8, 8)}),
    "linear": (
        lambda m, h: real(F.linear(spectrum(h), m.w, m.b)),
        {"w": drawn(8, 8), "b": drawn(8)},
    ),
    "real-parts": (
        lambda m, h: F.linear(h, torch.view_as_real(m.w).flatten(1)),
        {"w": drawn(8, 4)},
    ),
    "real-and-imaginary": (lambda m, h: h * m.w.real + (m.w.imag * h).tanh(), {"w": drawn(8)}),
    "of-pairs": (
        lambda m, h: real(spectrum(h) * torch.view_as_complex(m.w)),
        {"w": torch.view_as_real(drawn(8))},
    ),
    "of-two": (
        lambda m, h: real(spectrum(h) * torch.complex(m.u, m.v)),
        {"u": drawn(8).real, "v": drawn(8).imag},
    ),
    "real-scale": (lambda m, h: real(spectrum(h) * m.u), {"u": drawn(8).real}),
    "parts": (lambda m, h: real(spectrum(h) * m.w[1] + m.w[0]), {"w": drawn(3, 8)}),
    "convolution": (
        lambda m, h: real(F.conv1d(spectrum(h)[:, None], m.w, padding=1).sum(1)),
        {"w": drawn(2, 1, 3)},
    ),
    "derived": (lambda m, h: real(spectrum(h) * (0.1 * m.w).exp()), {"w": drawn(8)}),
    "one-at-a-time": (by_sign, {"w": drawn(8)}),
}


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_gradients_are_those_of_both_parts(name):
    function, parameters = COMPLEX[name]
    model = seeded(function, **parameters)
    tree = measured(model, precision="float64")
    assert error(tree, truth(model)) < 1e-9
    for key, values in parameters.items():
        assert torch.equal(getattr(model, key).data, values)


def test_products_between_cells_are_real_parts_of_inner_products():
    model = seeded(*COMPLEX["multiplied"][:1], **COMPLEX["multiplied"][1])
    inputs, targets = examples()
    probes = analyze.ProbeSet(inputs, targets, ["a", "b", "b"] * 2)
    tree = analyze.measure(model, probes, folds=1, device="cpu", precision="float64")
    expected = oracle.statistics(model, inputs, targets, [0, 1, 1] * 2, 2)
    found = tree["parameters"].to_dataset().isel(checkpoint=0).sel(parameter="w").gradient_gram
    assert oracle.scaled_gram_error(found.values, expected.gram["w"]) < 1e-9


class Pooled(nn.Module):
    """Means over what is not padding: of ``~1``, which is -2, the mean is another."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(9, 8), nn.Linear(8, 4)
        self.kinds: list[torch.dtype] = []

    def forward(self, ids: Tensor, pad: Tensor) -> Tensor:
        assert (ids.dtype, pad.dtype) == (torch.int64, torch.bool)
        kept = (~pad)[..., None]
        return self.head((self.embed(ids) * kept).sum(1) / kept.sum(1))


@pytest.mark.parametrize("through_a_file", [False, True])
@pytest.mark.parametrize("kind", [np.int64, np.int8, np.uint16])
def test_truth_values_stay_and_integers_are_int64(tmp_path: Path, through_a_file, kind):
    torch.manual_seed(0)
    ids, pad = (
        torch.randint(0, 9, (COUNT, 5)),
        torch.arange(5) >= torch.arange(1, COUNT + 1)[:, None],
    )
    targets = torch.arange(COUNT) % 4
    model = Pooled()
    expected = truth(model, {"ids": ids, "pad": pad}, targets)
    probes = analyze.ProbeSet({"ids": ids.numpy().astype(kind), "pad": pad}, targets)
    if through_a_file:
        write_probes(tmp_path / "p.safetensors", probes)
        probes = read_probes(tmp_path / "p.safetensors")
    tree = analyze.measure(model, probes, folds=1, device="cpu", precision="float64")
    assert error(tree, expected) < 1e-9


class OfWaves(nn.Module):
    """Takes complex numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.head = nn.Parameter(drawn(6)), nn.Linear(12, 4)

    def forward(self, z: Tensor) -> Tensor:
        return self.head(torch.view_as_real(z * self.w).flatten(1))


@pytest.mark.parametrize("through_a_file", [False, True])
def test_complex_inputs_stay_complex(tmp_path: Path, through_a_file):
    torch.manual_seed(0)
    model, inputs, targets = OfWaves(), drawn(COUNT, 6).conj(), torch.arange(COUNT) % 4
    probes = analyze.ProbeSet(inputs, targets)
    if through_a_file:
        write_probes(tmp_path / "p.safetensors", probes)
        probes = read_probes(tmp_path / "p.safetensors")
    tree = analyze.measure(model, probes, folds=1, device="cpu", precision="float64")
    assert error(tree, truth(model, inputs, targets)) < 1e-9


def test_what_a_file_or_torch_cannot_hold_is_refused(tmp_path: Path):
    probes = analyze.ProbeSet(np.ones((4, 2), np.complex128), np.arange(4))
    with pytest.raises(InputError, match="complex128"):
        write_probes(tmp_path / "p.safetensors", probes)
    with pytest.raises(InputError, match="targets: complex64"):
        analyze.ProbeSet(np.ones((4, 2)), np.ones(4, np.complex64))
    with pytest.raises(InputError, match="not finite"):
        analyze.ProbeSet(np.full((4, 2), complex(0, np.nan)), np.arange(4))
    if np.dtype(np.longdouble).itemsize > 8:
        with pytest.raises(InputError, match="inputs: float"):
            analyze.ProbeSet(np.ones((4, 2), np.longdouble), np.arange(4))


def test_complex_outputs_need_a_loss_that_takes_them(tmp_path: Path):
    class Wave(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(6, 4, dtype=torch.complex64)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(torch.complex(x, x.sin()))

    torch.manual_seed(0)
    model = Wave()
    with pytest.raises(InputError, match="output is complex"):
        measured(model)
    own = tmp_path / "own.py"
    own.write_text("def power(output, target):\n    return (output - 1j).abs().square().sum(1)\n")
    tree = measured(model, loss=f"{own}:power", precision="float64")
    inputs, targets = examples()
    expected = oracle.statistics(
        model, inputs, targets, [0] * COUNT, 1, loss=lambda o, t: (o - 1j).abs().square().sum()
    )
    assert error(tree, expected) < 1e-9


def product(model: Any, h: Tensor) -> Tensor:
    """What all that follow are without their casts."""
    return h @ model.w


def within(context: Callable[[], Any]) -> Callable[[Any, Tensor], Tensor]:
    def function(model: Any, h: Tensor) -> Tensor:
        with context():
            return product(model, h).float()

    return function


def switched_on(model: Any, h: Tensor) -> Tensor:
    torch.set_autocast_enabled("cpu", True)
    return product(model, h).float()


class OnceCast(torch.autograd.Function):
    """A custom function that follows autocast in both passes."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")
    def forward(ctx: Any, h: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(h, w)
        return h @ w

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
        h, w = ctx.saved_tensors
        return dy @ w.T, h.T @ dy


LOW = torch.bfloat16
AUTOCAST = {
    "with": within(lambda: torch.autocast("cpu", dtype=LOW)),
    "by-name": within(lambda: imported_by_name("cpu", torch.float16)),
    "decorator": torch.autocast("cpu", dtype=LOW)(lambda m, h: product(m, h).float()),
    "switch": switched_on,
    "custom-function": torch.autocast("cpu", dtype=LOW)(
        lambda m, h: OnceCast.apply(h, m.w).float()
    ),
    "in-an-outer-one": lambda m, h: within(lambda: torch.autocast("cpu", enabled=False))(
        m, within(lambda: torch.autocast("cpu", dtype=LOW))(m, h)
    ) @ torch.linalg.inv(m.w),
}  # fmt: skip
FIXED = {
    "half": lambda m, h: (h.half() @ m.w.half()).float(),
    "to": lambda m, h: (h.to(LOW) @ m.w.to(dtype=LOW)).to(torch.float32),
    "type": lambda m, h: (h.type("torch.HalfTensor") @ m.w.type(torch.float16)).type_as(h),
    "zeros": lambda m, h: ((torch.zeros(8, dtype=LOW) + h.bfloat16()) @ m.w.bfloat16()).float(),
    "sum": lambda m, h: (h[:, :, None] * m.w).sum(1, dtype=torch.float16).to(h.dtype),
}


@pytest.mark.parametrize(
    ("name", "precision"),
    [*((name, "float32") for name in (*AUTOCAST, *FIXED)), ("with", "float64"), ("to", "float64")],
)
def test_lower_precisions_inside_are_off_and_told(name, precision):
    w = torch.randn(8, 8, generator=torch.Generator().manual_seed(3))
    model = seeded((AUTOCAST | FIXED)[name], w=w)
    tree = measured(model, precision=precision)
    expected = truth(seeded(product, w=w))
    assert error(tree, expected) < (1e-9 if precision == "float64" else 1e-5)
    wanted = "autocast in Middle is off" if name in AUTOCAST else "Middle casts to "
    assert wanted in told(tree)
    assert not torch.is_autocast_enabled("cpu")


def test_a_measurement_within_autocast_is_as_one_without():
    model = seeded(product, w=drawn(8, 8).real)
    with torch.autocast("cpu", dtype=LOW):
        tree = measured(model)
        assert torch.is_autocast_enabled("cpu")
    assert error(tree, truth(model)) < 1e-5


def test_autocast_is_back_when_the_last_of_several_threads_is_done():
    begun, end = threading.Event(), threading.Event()

    def other() -> None:
        with measuring():
            begun.set()
            end.wait(20)

    thread = threading.Thread(target=other)
    with measuring():
        thread.start()
        assert begun.wait(20)
    with torch.autocast("cpu", dtype=LOW):
        assert not torch.is_autocast_enabled("cpu")
        end.set()
        thread.join()
        assert imported_by_name.__enter__ is ENTER
    with torch.autocast("cpu", dtype=LOW):
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")


FLOAT32_ALONE = {
    "layer-norm": (
        lambda m, h: F.layer_norm(h.float(), (8,), m.w.float()).to(h.dtype),
        lambda m, h: F.layer_norm(h, (8,), m.w),
        (8,),
    ),
    "made-there": (
        lambda m, h: h + F.linear(torch.zeros(len(h), 8).fill_(0.5), m.w),
        lambda m, h: h + F.linear(torch.full_like(h, 0.5), m.w),
        (8, 8),
    ),
    "of-integers": (
        lambda m, h: h + F.linear((h > 0).long() / 4, m.w),
        lambda m, h: h + F.linear((h > 0).to(h.dtype) / 4, m.w),
        (8, 8),
    ),
    "attribute": (
        lambda m, h: F.linear(h, torch.eye(8).flip(0)) @ m.w,
        lambda m, h: h.flip(1) @ m.w,
        (8, 8),
    ),
}


@pytest.mark.parametrize(
    ("name", "precision"),
    [*((name, "float32") for name in FLOAT32_ALONE), ("made-there", "float64")],
)
def test_models_that_name_float32_are_proven_in_float64(name, precision):
    function, plain, shape = FLOAT32_ALONE[name]
    w = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    tree = measured(seeded(function, w=w), precision=precision)
    bound = 1e-9 if precision == "float64" else 1e-5
    assert error(tree, truth(seeded(plain, w=w))) < bound
    assert json.loads(tree.attrs["provenance"])["proof"]["precision"] == "float64"


def test_a_model_that_insists_on_float32_is_proven_in_it():
    def insisting(model: Any, h: Tensor) -> Tensor:
        assert h.dtype == torch.float32
        return product(model, h)

    w = drawn(8, 8).real
    tree = measured(seeded(insisting, w=w))
    assert error(tree, truth(seeded(product, w=w))) < 1e-5
    assert json.loads(tree.attrs["provenance"])["proof"]["precision"] == "float32"


def test_what_has_no_backward_pass_in_float64_is_proven_in_float32():
    def quantising(model: Any, h: Tensor) -> Tensor:
        return torch._fake_quantize_learnable_per_tensor_affine(
            h, model.s, torch.zeros(1), 0, 255, 1.0
        )

    model = seeded(quantising, s=torch.tensor([0.05]))
    inputs, targets = examples()
    tree = measured(model)
    expected = oracle.statistics(model, inputs, targets, [0] * COUNT, 1, dtype=torch.float32)
    assert error(tree, expected) < 1e-4


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_models_of_other_precisions_lose_none(kind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).to(kind)
    tree = measured(model)
    assert error(tree, truth(model)) < (1e-12 if kind == torch.float64 else 1e-5)
    assert ("weights are float64" in told(tree)) == (kind == torch.float64)
    assert {p.dtype for p in model.parameters()} == {kind}


class MixedHead(nn.Module):
    """Layers of two precisions, and the casts between them."""

    def __init__(self, head: torch.dtype) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 8), nn.Linear(8, 4, dtype=head)
        self.kind = head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.first(x)).to(self.kind)).float()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_models_of_mixed_precisions_run_through(kind):
    torch.manual_seed(0)
    model = MixedHead(kind)
    plain = copy.deepcopy(model)
    plain.kind = torch.float64
    assert error(measured(model), truth(plain)) < 1e-5


def test_a_float64_buffer_keeps_its_digits():
    class SinceThen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(6, 4)
            self.register_buffer("start", torch.tensor(1.6e9 + 0.125, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return self.head((x.double() + 1.6e9 - self.start).to(self.head.weight.dtype))

    torch.manual_seed(0)
    model = SinceThen()
    assert error(measured(model), truth(model)) < 1e-5


def test_parameters_that_are_no_numbers_with_gradients_are_left_as_they_are():
    class Permuted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.order = nn.Parameter(torch.randperm(6), requires_grad=False)
            self.kept = nn.Parameter(torch.arange(6) > 1, requires_grad=False)
            self.codes = nn.Parameter(torch.arange(-12, 12, dtype=torch.int8).view(4, 6), False)
            self.scale = nn.Parameter(torch.rand(4, 1))

        def forward(self, x: Tensor) -> Tensor:
            x = (x[:, self.order] * self.kept).masked_fill(~self.kept, 0.5)
            return F.linear(x, self.codes * self.scale)

    torch.manual_seed(0)
    model = Permuted()
    tree = measured(model, precision="float64")
    assert error(tree, truth(model)) < 1e-9
    assert "integers or truth values have no gradient: order, kept, codes are not" in told(tree)


def test_quantised_models_are_refused_by_name():
    class Codes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.codes = nn.Parameter(torch.ones(4, 6, dtype=torch.int8), requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.codes.to(x.dtype))

    with pytest.raises(InputError, match=r"codes \(int8\)"):
        measured(Codes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would have another package do this
        packed = torch.ao.quantization.quantize_dynamic(
            nn.Sequential(nn.Tanh(), nn.Linear(6, 4)), {nn.Linear}
        )
    with pytest.raises(InputError, match=r"1 \(Linear\)"):
        measured(packed)
    refuse_quantised(nn.Sequential(nn.Linear(2, 2), torch.ao.nn.quantized.FloatFunctional()))
