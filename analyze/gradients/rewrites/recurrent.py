"""Recurrent layers, a step at a time: LSTM, GRU and simple RNN, and their cells.

Torch's own kernels use all weights inside one call, and on a GPU have no backward pass in eval
mode. The input's projection is one linear layer over all steps; the hidden state's is one call a
step, whose uses of the weight add up with their cross terms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

State = tuple[Tensor, ...]


class Weights(NamedTuple):
    """The weights of one direction of one layer, by torch's names."""

    w_ih: Tensor
    w_hh: Tensor
    b_ih: Tensor | None = None
    b_hh: Tensor | None = None
    w_hr: Tensor | None = None  # the projection of the hidden state

    def of_input(self, x: Tensor) -> Tensor:
        """The gates' share of the input, ``[N, gates]``."""
        return F.linear(x, self.w_ih, self.b_ih)

    def of_state(self, state: State) -> Tensor:
        """The gates' share of the hidden state, ``[N, gates]``."""
        return F.linear(state[0], self.w_hh, self.b_hh)


Step = Callable[[Tensor, State, Weights], State]  # projected input and old state to the new one


def _lstm_step(x: Tensor, state: State, weights: Weights) -> State:
    i, f, g, o = (x + weights.of_state(state)).chunk(4, -1)
    cell = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    hidden = torch.sigmoid(o) * torch.tanh(cell)
    return (hidden if weights.w_hr is None else F.linear(hidden, weights.w_hr)), cell


def _gru_step(x: Tensor, state: State, weights: Weights) -> State:
    x_reset, x_update, x_new = x.chunk(3, -1)
    h_reset, h_update, h_new = weights.of_state(state).chunk(3, -1)
    reset, update = torch.sigmoid(x_reset + h_reset), torch.sigmoid(x_update + h_update)
    new = torch.tanh(x_new + reset * h_new)
    return (new + update * (state[0] - new),)


def _rnn_step(
    activation: Callable[[Tensor], Tensor], x: Tensor, state: State, weights: Weights
) -> State:
    return (activation(x + weights.of_state(state)),)


def _layer(
    step: Step, x: Tensor, state: State, weights: Weights, backwards: bool
) -> tuple[Tensor, State]:
    """One direction of one layer, ``[T, N, D]`` to ``[T, N, H]`` and the last state."""
    projected = weights.of_input(x).unbind(0)
    outputs = []
    for at in reversed(projected) if backwards else projected:
        state = step(at, state, weights)
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
    layer = partial(_layer, step)
    y, ends = _stacked(layer, x, hidden, params, has_biases, num_layers, bidirectional)
    return y.transpose(0, 1) if batch_first else y, *ends


def _stacked(
    one_layer: Callable[..., tuple[Tensor, State]],
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
            w_ih, w_hh, *others = params[k * each : (k + 1) * each]
            weights = Weights(w_ih, w_hh, *others if has_biases else (None, None, *others))
            start = tuple(s[k] for s in states)
            y, end = one_layer(x, start, weights, backwards=direction == 1)
            outputs.append(y)
            last.append(end)
        x = torch.cat(outputs, -1) if directions > 1 else outputs[0]
    return x, tuple(torch.stack(values) for values in zip(*last, strict=True))


def _packed_layer(
    step: Step, sizes: Sequence[int], x: Tensor, state: State, weights: Weights, backwards: bool
) -> tuple[Tensor, State]:
    """One direction of one layer over packed sequences, ``[R, D]`` to ``[R, H]``.

    Step t has the first ``sizes[t]`` sequences, the longest first: forwards the shorter ones end
    one after the other, backwards they begin. The calls are the same whichever do.
    """
    projected = weights.of_input(x).split([*sizes])
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
        state = step(at, state, weights)
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
    layer = partial(_packed_layer, step, sizes)
    y, ends = _stacked(layer, data, hidden, params, has_biases, num_layers, bidirectional)
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
    weights = Weights(w_ih, w_hh, b_ih, b_hh)
    new = step(weights.of_input(input), state, weights)
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
