"""Models whose calls depend on which examples are in a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.cases.case import CLASSES, EXAMPLES, Case, images
from tests.cases.routing import Experts


class DroppedMask(nn.Module):
    """Attention that drops its mask where no example of the batch is padded, as transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 6)
        self.query, self.key, self.value = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.gate = nn.Parameter(torch.randn(6))
        self.head = nn.Linear(6, CLASSES)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.embed(ids)
        scores = self.query(x) @ self.key(x).transpose(1, 2)
        if not bool(mask.all()):
            scores = scores.masked_fill(mask[:, None] == 0, -1e4)
        y = scores.softmax(2) @ self.value(x) * self.gate
        return self.head(torch.tanh(y[:, 0]))


class ToTheLongest(nn.Module):
    """A loop over time that ends with the longest example of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 5)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 5)
        for t in range(int(length.max())):
            new = self.cell(x[:, t], state)
            state = torch.where((t < length)[:, None], new, state)
        return self.head(state)


class EarlyExit(nn.Module):
    """Leaves out a layer where all examples of the batch are done, and another one's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)
        self.scale = nn.Parameter(torch.randn(5))
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        done = x[:, :1] > 0
        y = torch.tanh(self.first(x))
        if not bool(done.all()):
            y = torch.where(done, y, torch.tanh(self.second(y)) * self.scale)
            y = torch.where(done, y, torch.tanh(self.first(y)))
        return self.head(y)


def padding(length: int, used: list[int]) -> Tensor:
    """A mask that is one at the used positions of each example."""
    return (torch.arange(length) < torch.tensor(used)[:, None]).long()


CASES = [
    Case("dropped-mask", DroppedMask, lambda: {
        "ids": torch.randint(9, (EXAMPLES, 4)), "mask": padding(4, [4, 4, 4, 2, 4, 4, 1])},
        {"embed.weight": "embedding", "query.weight": "linear", "value.bias": "linear",
         "gate": "mul", "head.weight": "linear"}),
    Case("dropped-mask-mostly-padded", DroppedMask, lambda: {
        "ids": torch.randint(9, (EXAMPLES, 4)), "mask": padding(4, [4, 3, 4, 2, 4, 3, 1])},
        {"embed.weight": "embedding", "query.weight": "linear", "gate": "mul"}),
    Case("to-the-longest", ToTheLongest, lambda: {
        "x": torch.randn(EXAMPLES, 4, 3), "length": torch.tensor([2, 2, 1, 4, 4, 3, 1])},
        {"cell.weight_ih": "linear", "cell.weight_hh": "linear", "cell.bias_hh": "linear"}),
    Case("experts-skipped", lambda: Experts(skipping=True), images(5),
         {"router.weight": "linear", "experts.0.0.weight": "linear, rows traced",
          "head.weight": "linear"}),
    Case("experts-of-tokens-skipped", lambda: Experts(True, True), images(2, 5),
         {"router.weight": "linear", "experts.0.0.weight": "linear, rows traced",
          "head.weight": "linear"}),
    Case("early-exit", EarlyExit, lambda: torch.cat((
        torch.tensor([1.0, 1.0, 1.0, -1.0, 1.0, 1.0, -1.0])[:, None],
        torch.randn(EXAMPLES, 4)), 1),
        {"first.weight": "linear", "second.weight": "linear", "scale": "mul"}),
]  # fmt: skip
