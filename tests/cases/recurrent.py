"""Recurrent layers and cells, sequences packed, padded and sorted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.cases.case import CLASSES, EXAMPLES, Case, images


class Sequence(nn.Module):
    """A recurrent layer over the input, its last output and its last state."""

    def __init__(self, kind: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.inner = kind(4, 5, **options)
        self.batch_first = options.get("batch_first", False)
        y, state = self.inner(torch.zeros(2, 3, 4))
        state = state[0] if isinstance(state, tuple) else state
        self.head = nn.Linear(y.shape[-1] + state.shape[0] * state.shape[2], CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y, state = self.inner(x if self.batch_first else x.transpose(0, 1))
        state = state[0] if isinstance(state, tuple) else state
        last = y[:, -1] if self.batch_first else y[-1]
        return self.head(torch.cat((last, state.transpose(0, 1).flatten(1)), 1))


class Cells(nn.Module):
    """Recurrent cells in a loop of the model's own, with learned initial states."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTMCell(4, 5), nn.GRUCell(5, 3, bias=False)
        self.start = nn.Parameter(torch.randn(1, 5))
        self.head = nn.Linear(3, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        state = self.start.expand(len(x), -1), x.new_zeros(len(x), 5)
        y = x.new_zeros(len(x), 3)
        for at in x.unbind(1):
            state = self.lstm(at, state)
            y = self.gru(state[0], y)
        return self.head(y)


class PackedSequence(nn.Module):
    """Sequences of different length packed into one; a layer sees the packed rows as well."""

    def __init__(self, kind: type[nn.RNNBase] = nn.LSTM, **options: Any) -> None:
        super().__init__()
        self.inner = kind(4, 5, **options)
        width = 5 if not options.get("proj_size") else options["proj_size"]
        width *= 2 if options.get("bidirectional") else 1
        self.rows = nn.Sequential(nn.Linear(width, 6), nn.LayerNorm(6))
        self.head = nn.Linear(6 + width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        lengths = 1 + (x[:, :, 0] > 0).sum(1).clamp(max=x.shape[1] - 1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False
        )
        y, state = self.inner(packed)
        state = state[0] if isinstance(state, tuple) else state
        last = state[-1] if not self.inner.bidirectional else torch.cat((state[-2], state[-1]), 1)
        rows = nn.utils.rnn.PackedSequence(self.rows(y.data), *y[1:])
        padded = nn.utils.rnn.pad_packed_sequence(rows, batch_first=True)[0]
        return self.head(torch.cat((torch.tanh(padded).sum(1), last), 1))


class SortedByLength(nn.Module):
    """Sorts its batch by length, as people do before they pack it, and sorts back at the end."""

    def __init__(self, packed: bool) -> None:
        super().__init__()
        self.packed = packed
        self.embed = nn.Embedding(9, 4)
        self.inner = nn.GRU(4, 5, batch_first=True)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, ids: Tensor, length: Tensor) -> Tensor:
        length, order = torch.sort(length, descending=True)
        x = torch.tanh(self.embed(ids[order]))
        if self.packed:
            rows = nn.utils.rnn.pack_padded_sequence(x, length.cpu(), batch_first=True)
            last = self.inner(rows)[1][0]
        else:
            y, _ = self.inner(x)
            last = y.gather(1, (length - 1)[:, None, None].expand(-1, 1, 5))[:, 0]
        return self.head(last)[torch.argsort(order)]


CASES = [
    Case("lstm", lambda: Sequence(nn.LSTM, batch_first=True), images(3, 4),
         {"inner.weight_ih_l0": "linear", "inner.weight_hh_l0": "linear",
          "inner.bias_hh_l0": "linear"}),
    Case("lstm-all-options", lambda: Sequence(
        nn.LSTM, num_layers=2, bidirectional=True, proj_size=3, dropout=0.5), images(3, 4),
        {"inner.weight_hr_l1_reverse": "linear", "inner.weight_ih_l1": "linear"}),
    Case("lstm-no-bias", lambda: Sequence(nn.LSTM, bias=False), images(3, 4),
         {"inner.weight_hh_l0": "linear"}),
    Case("gru", lambda: Sequence(nn.GRU, num_layers=2, batch_first=True), images(3, 4),
         {"inner.weight_hh_l1": "linear", "inner.bias_ih_l0": "linear"}),
    Case("rnn", lambda: Sequence(nn.RNN, bidirectional=True), images(3, 4),
         {"inner.weight_hh_l0_reverse": "linear"}),
    Case("rnn-relu", lambda: Sequence(nn.RNN, nonlinearity="relu"), images(3, 4),
         {"inner.weight_hh_l0": "linear"}),
    Case("cells", Cells, images(3, 4),
         {"lstm.weight_hh": "linear", "gru.weight_ih": "linear", "start": "expand"}),
    Case("packed-sequence", PackedSequence, images(3, 4),
         {"inner.weight_hh_l0": "linear, rows traced", "inner.bias_ih_l0": "linear, rows traced",
          "rows.0.weight": "linear, rows traced", "rows.1.weight": "layer_norm, rows traced",
          "head.weight": "linear, rows traced"}),
    Case("packed-lstm-all-options", lambda: PackedSequence(
        num_layers=2, bidirectional=True, proj_size=3), images(4, 4),
        {"inner.weight_hr_l1_reverse": "linear, rows traced",
         "inner.weight_ih_l1": "linear, rows traced", "head.weight": "linear, rows traced"}),
    Case("packed-gru", lambda: PackedSequence(nn.GRU, bidirectional=True), images(4, 4),
         {"inner.weight_hh_l0_reverse": "linear, rows traced"}),
    *(Case(f"sorted-by-length-{name}", lambda packed=packed: SortedByLength(packed), lambda: {
        "ids": torch.randint(9, (EXAMPLES, 4)), "length": torch.tensor([4, 4, 4, 4, 4, 3, 4])},
        {"embed.weight": "embedding, rows traced", "inner.weight_hh_l0": "linear, rows traced",
         "head.weight": "linear, rows traced"})
      for name, packed in (("packed", True), ("padded", False))),
]  # fmt: skip
