"""One training, from a seed: SGD with momentum, no augmentation, no weight decay."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cross_entropy

from analyze.models.building import build_model
from analyze.specs.model import ModelSpec
from scripts.studying.design import (
    BATCH_SIZE,
    EPOCHS,
    IMAGES,
    MEASURED_STEPS,
    MOMENTUM,
    STEPS,
    Training,
)
from scripts.studying.images import Examples


@dataclass(frozen=True)
class Course:
    """How a training went: loss and accuracy over each epoch, on its batches in training mode."""

    loss: list[float]
    accuracy: list[float]


def train(training: Training, examples: Examples, folder: Path) -> Course:
    """Train, and save the weights at each of ``MEASURED_STEPS`` into ``folder``.

    The learning rate falls linearly to 0.
    """
    torch.manual_seed(training.seed)
    generator = torch.Generator().manual_seed(training.seed)
    model = build_model(ModelSpec.parse(training.network.model))
    initialise(model, training.network.he)
    model.train()
    x = (torch.from_numpy(examples.training.pixels).float() / 255 - examples.mean) / examples.std
    y = torch.from_numpy(examples.given)
    rate = training.network.learning_rate
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=MOMENTUM)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / STEPS)
    step, course = 0, Course([], [])
    _save(model, folder, step)
    for _ in range(EPOCHS):
        total, correct = 0.0, 0
        for rows in torch.randperm(IMAGES, generator=generator).split(BATCH_SIZE):
            optimizer.zero_grad()
            output = model(x[rows])
            loss = cross_entropy(output, y[rows])
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            total += loss.item() * len(rows)
            correct += int((output.argmax(1) == y[rows]).sum())
            if step in MEASURED_STEPS:
                _save(model, folder, step)
        course.loss.append(total / IMAGES)
        course.accuracy.append(correct / IMAGES)
    return course


def initialise(model: nn.Module, he: bool) -> None:
    """Draw weights anew, by torch's seed: a model that is built by its spec is always the same."""
    for module in model.modules():
        reset = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()
        if he and isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


def _save(model: nn.Module, folder: Path, step: int) -> None:
    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / f"step_{step:04d}.safetensors")
