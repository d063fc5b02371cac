"""The one schedule, and that stage 1 follows it batch by batch with a GAN, too."""

import functools
import time

import pytest
import torch
from lightning import LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

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


def test_where_time_is_short_the_fall_follows_it():
    shares = iter([0.0, 0.0, 0.5, 1.0, 1.0])
    found = rates(warmup_cosine(optimizer(), 1000, final_factor=0.1, elapsed=lambda: next(shares)), 4)
    assert found == pytest.approx([1.0, 1.0, 0.55, 0.1], abs=1e-3)
    shares = iter([0.0, 0.5, 1.0])
    assert rates(warmup_cosine(optimizer(), float("inf"), elapsed=lambda: next(shares)), 2) == pytest.approx(
        [1.0, 0.5]
    )


def test_a_training_of_some_seconds_ends_with_its_learning_rate(trainer):
    """With a limit of time and endless batches the rate has fallen to its end when the trainer stops."""

    class Slow(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))
            self.seen: list[float] = []

        def training_step(self, batch, index):
            time.sleep(0.02)
            self.seen.append(self.optimizers().param_groups[0]["lr"])
            return (self.weight * 0).sum()

        def configure_optimizers(self):
            return scheduled(torch.optim.SGD(self.parameters(), lr=1.0), warmup_cosine, self.trainer)

    module = Slow()
    data = DataLoader(TensorDataset(torch.zeros(4, 1)))
    trainer(max_steps=10_000, max_time={"seconds": 2}).fit(module, data)
    assert len(module.seen) < 200
    assert module.seen[0] > 0.9
    assert module.seen[-1] < 0.05
    assert module.seen == sorted(module.seen, reverse=True)


def test_the_horizon_is_the_trainers(trainer):
    made = scheduled(optimizer(), functools.partial(warmup_cosine, warmup_steps=1), trainer(max_steps=12))
    assert made["lr_scheduler"]["interval"] == "step"
    found = rates(made["lr_scheduler"]["scheduler"], 13)
    assert found[1] == 1
    assert found[12] == pytest.approx(0, abs=1e-9)
    assert "lr_scheduler" not in scheduled(optimizer(), None, trainer())
