"""Recurrent layers, a step at a time: LSTM, GRU and simple RNN, and their cells.

Torch's own kernels use all weights inside one call, and on a GPU have no backward pass in eval
mode. The input's projection is one linear layer over all steps; the hidden state's is one call a
step, whose uses of the weight add up with their cross terms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# step(projected input [N, gates], state, recurrent weight, its bias) -> new state
State = tuple[Tensor, ...]
Step = Callable[[Tensor, State, Tensor, Tensor | None, Tensor | None], State]


def _lstm_step(
    x: Tensor, state: State, weight: Tensor, bias: Tensor | None, projection: Tensor | None
) -> State:
    i, f, g, o = (x + F.linear(state[0], weight, bias)).chunk(4, -1)
    cell = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    hidden = torch.sigmoid(o) * torch.tanh(cell)
    return (hidden if projection is None else F.linear(hidden, projection)), cell


def _gru_step(
    x: Tensor, state: State, weight: Tensor, bias: Tensor | None, projection: Tensor | None
) -> State:
    x_reset, x_update, x_new = x.chunk(3, -1)
    h_reset, h_update, h_new = F.linear(state[0], weight, bias).chunk(3, -1)
    reset, update = torch.sigmoid(x_reset + h_reset), torch.sigmoid(x_update + h_update)
    new = torch.tanh(x_new + reset * h_new)
    return (new + update * (state[0] - new),)


def _rnn_step(
    activation: Callable[[Tensor], Tensor],
    x: Tensor,
    state: State,
    weight: Tensor,
    bias: Tensor | None,
    projection: Tensor | None,
) -> State:
    return (activation(x + F.linear(state[0], weight, bias)),)


def _layer(step: Step, x: Tensor, state: State, weights: Sequence[Tensor], biased: bool,
           backwards: bool) -> tuple[Tensor, State]:  # fmt: skip
    """One direction of one layer, ``[T, N, D]`` to ``[T, N, H]`` and the last state."""
    w_ih, w_hh, *others = weights
    b_ih, b_hh = (others[0], others[1]) if biased else (None, None)
    projection = others[2 * biased] if len(others) > 2 * biased else None
    projected = F.linear(x, w_ih, b_ih).unbind(0)
    outputs = []
    for at in reversed(projected) if backwards else projected:
        state = step(at, state, w_hh, b_hh, projection)
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if backwards else outputs), state


def _stack_of_layers(
    step: Step,
    input: Tensor,  # noqa: A002 - torch's name
    hidden: Tensor | Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool = False,
) -> tuple[Tensor, ...]:
    """Torch's recurrent functions for input of one length; output, then the last states."""
    x = input.transpose(0, 1) if batch_first else input
    one = partial(_layer, step)
    y, ends = _stacked(one, x, hidden, params, has_biases, num_layers, bidirectional)
    return y.transpose(0, 1) if batch_first else y, *ends


def _stacked(
    one: Callable[..., tuple[Tensor, State]],
    x: Tensor,
    hidden: Tensor | Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    bidirectional: bool,
) -> tuple[Tensor, State]:
    """Layer upon layer, each in one or both directions: output, then the last states."""
    states = (hidden,) if isinstance(hidden, Tensor) else tuple(hidden)
    directions = 2 if bidirectional else 1
    each = len(params) // (num_layers * directions)
    last: list[State] = []
    for layer in range(num_layers):
        outputs = []
        for direction in range(directions):
            k = layer * directions + direction
            weights = params[k * each : (k + 1) * each]
            start = tuple(s[k] for s in states)
            y, end = one(x, start, weights, has_biases, backwards=direction == 1)
            outputs.append(y)
            last.append(end)
        x = torch.cat(outputs, -1) if directions > 1 else outputs[0]
    return x, tuple(torch.stack(values) for values in zip(*last, strict=True))


def _packed_layer(step: Step, sizes: Sequence[int], x: Tensor, state: State,
                  weights: Sequence[Tensor], biased: bool, backwards: bool
                  ) -> tuple[Tensor, State]:  # fmt: skip
    """One direction of one layer over packed sequences, ``[R, D]`` to ``[R, H]``.

    Step t has the first ``sizes[t]`` sequences, the longest first: forwards the shorter ones end
    one after the other, backwards they begin. The calls are the same whichever do.
    """
    w_ih, w_hh, *others = weights
    b_ih, b_hh = (others[0], others[1]) if biased else (None, None)
    projection = others[2 * biased] if len(others) > 2 * biased else None
    projected = F.linear(x, w_ih, b_ih).split([*sizes])
    outputs, ended, start = [], [], state
    if backwards:
        state = tuple(s[: sizes[-1]] for s in start)
    for at in reversed(projected) if backwards else projected:
        if backwards:
            begun = (first[len(s) : len(at)] for s, first in zip(state, start, strict=True))
            state = tuple(map(torch.cat, zip(state, begun, strict=True)))
        else:
            ended.append(tuple(s[len(at) :] for s in state))
            state = tuple(s[: len(at)] for s in state)
        state = step(at, state, w_hh, b_hh, projection)
        outputs.append(state[0])
    ends = zip(state, *reversed(ended), strict=True)
    return torch.cat(outputs[::-1] if backwards else outputs), tuple(map(torch.cat, ends))


def _packed_stack_of_layers(
    step: Step,
    data: Tensor,
    batch_sizes: Tensor,
    hidden: Tensor | Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
) -> tuple[Tensor, ...]:
    """Torch's recurrent functions for packed sequences; output, then the last states.

    Steps without any sequence follow up to a power of two, so that the number of calls is one of
    few, whatever the longest sequence of a batch is.
    """
    sizes = batch_sizes.tolist()
    sizes += [0] * (2 ** (len(sizes) - 1).bit_length() - len(sizes))
    one = partial(_packed_layer, step, sizes)
    y, ends = _stacked(one, data, hidden, params, has_biases, num_layers, bidirectional)
    return y, *ends


def _cell(
    step: Step,
    input: Tensor,  # noqa: A002 - torch's name
    hidden: Tensor | Sequence[Tensor],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor | State:
    """Torch's cells: one step; an LSTM's state is a pair."""
    state = (hidden,) if isinstance(hidden, Tensor) else tuple(hidden)
    new = step(F.linear(input, w_ih, b_ih), state, w_hh, b_hh, None)
    return new[0] if isinstance(hidden, Tensor) else new


_STEPS: dict[str, Step] = {
    "lstm": _lstm_step,
    "gru": _gru_step,
    "rnn_tanh": partial(_rnn_step, torch.tanh),
    "rnn_relu": partial(_rnn_step, torch.relu),
}

RECURRENT: dict[Callable[..., Any], Callable[..., Any]] = {
    **{getattr(torch, name): partial(_stack_of_layers, step) for name, step in _STEPS.items()},
    **{getattr(torch, f"{name}_cell"): partial(_cell, step) for name, step in _STEPS.items()},
}

PACKED: dict[Callable[..., Any], Callable[..., Any]] = {
    getattr(torch, name): partial(_packed_stack_of_layers, step) for name, step in _STEPS.items()
}


def takes_packed_sequences(function: Callable[..., Any], args: Sequence[Any]) -> bool:
    """Whether a recurrent function got sequences of different length packed into one.

    The lengths come second then, so that the weights are the fourth argument, not the third.
    """
    return function in PACKED and len(args) > 3 and isinstance(args[3], list | tuple)
