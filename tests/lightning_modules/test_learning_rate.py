"""The one schedule, and that stage 1 follows it batch by batch with a GAN, too."""

import functools

import pytest
import torch
from torch import nn

from lightning_modules.learning_rate import scheduled, warmup_cosine


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)


def rates(scheduler, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(scheduler.get_last_lr()[0] / 2)
        scheduler.optimizer.step()
        scheduler.step()
    return found


def test_the_learning_rate_rises_then_falls_to_its_share():
    found = rates(warmup_cosine(optimizer(), 101, warmup_steps=9, final_factor=0.05), 120)
    assert found[0] == pytest.approx(0.1)
    assert found[9] == pytest.approx(1.0)
    assert found[55] == pytest.approx(0.525, abs=0.01)
    assert found[101] == found[119] == pytest.approx(0.05)
    assert rates(warmup_cosine(optimizer(), float("inf"), warmup_steps=1), 3) == [0.5, 1.0, 1.0]


def test_the_horizon_is_the_trainers(trainer):
    made = scheduled(optimizer(), functools.partial(warmup_cosine, warmup_steps=1), trainer(max_steps=12))
    assert made["lr_scheduler"]["interval"] == "step"
    found = rates(made["lr_scheduler"]["scheduler"], 13)
    assert found[1] == 1
    assert found[12] == pytest.approx(0, abs=1e-9)
    assert "lr_scheduler" not in scheduled(optimizer(), None, trainer())
