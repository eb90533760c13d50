"""Norms over batch, instance, group and layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.cases.case import CLASSES, Case, Flat, images


class Unused(nn.Module):
    """A parameter never used, and one whose gradient is only rounding (a bias before a norm)."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(3, 3)
        self.inner = nn.Conv1d(1, 4, 1)
        self.norm = nn.GroupNorm(4, 4)
        self.head = nn.Linear(20, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.norm(self.inner(x[:, None]))).flatten(1))


CASES = [
    Case("batch-norm-1d", lambda: Flat(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), width=6),
         images(5), {"body.1.weight": "batch_norm", "body.1.bias": "batch_norm"}),
    Case("batch-norm-2d", lambda: Flat(nn.BatchNorm2d(3), nn.Tanh(), width=36), images(3, 4, 3),
         {"body.0.weight": "batch_norm"}),
    Case("batch-norm-3d", lambda: Flat(nn.BatchNorm3d(2), nn.Tanh(), width=16),
         images(2, 2, 2, 2), {"body.0.weight": "batch_norm"}),
    Case("batch-norm-no-affine", lambda: Flat(
        nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False), nn.Tanh(), width=27),
        images(3, 3, 3), {"body.0.weight": "conv2d"}),
    Case("instance-norm", lambda: Flat(nn.InstanceNorm2d(3, affine=True), nn.Tanh(), width=36),
         images(3, 4, 3), {"body.0.weight": "instance_norm", "body.0.bias": "instance_norm"}),
    Case("instance-norm-tracked", lambda: Flat(
        nn.InstanceNorm1d(3, affine=True, track_running_stats=True), nn.Tanh(), width=12),
        images(3, 4), {"body.0.weight": "instance_norm"}),
    Case("layer-norm", lambda: Flat(nn.LayerNorm(6), nn.Tanh(), width=18), images(3, 6),
         {"body.0.weight": "layer_norm", "body.0.bias": "layer_norm"}),
    Case("layer-norm-2-axes", lambda: Flat(nn.LayerNorm((3, 6)), nn.Tanh(), width=36),
         images(2, 3, 6), {"body.0.weight": "layer_norm"}),
    Case("layer-norm-no-bias", lambda: Flat(nn.LayerNorm(6, bias=False), nn.Tanh(), width=6),
         images(6), {"body.0.weight": "layer_norm"}),
    Case("layer-norm-no-affine", lambda: Flat(
        nn.Linear(6, 6), nn.LayerNorm(6, elementwise_affine=False), nn.Tanh(), width=6),
        images(6), {"body.0.weight": "linear"}),
    Case("layer-norm-eps", lambda: Flat(nn.LayerNorm(6, eps=0.5), nn.Tanh(), width=6), images(6),
         {"body.0.weight": "layer_norm"}),
    Case("group-norm", lambda: Flat(nn.GroupNorm(2, 6), nn.Tanh(), width=24), images(6, 2, 2),
         {"body.0.weight": "group_norm", "body.0.bias": "group_norm"}),
    Case("rms-norm", lambda: Flat(nn.RMSNorm(6), nn.Tanh(), width=18), images(3, 6),
         {"body.0.weight": "rms_norm"}),
    Case("unused", Unused, images(5), {"spare.weight": "never used"}),
]  # fmt: skip
