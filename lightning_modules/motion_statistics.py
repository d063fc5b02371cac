"""Stage 2: trains the motion-statistics estimator on motion windows."""

from collections.abc import Callable, Iterable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from datamodules.batches import MotionWindowBatch
from lightning_modules.learning_rate import Scheduler, scheduled
from lightning_modules.networks.motion_basis import MotionBasis
from lightning_modules.networks.processes import shared_count
from lightning_modules.networks.statistics_estimator import (
    StatisticsEstimator,
    StatisticsMixture,
    window_statistics,
)


class MotionStatisticsModule(L.LightningModule):
    """Negative log-likelihood, scores, optimizer and logging of the motion-statistics estimator.

    Likelihoods are logged in nats per dimension of the network's ``target``.

    Args:
        network: The estimator.
        basis: Motion basis; statistics are measured in its coordinates.
        optimizer: Partial optimizer that takes the parameters.
        scheduler: Partial learning-rate schedule; None keeps the learning rate.
    """

    def __init__(
        self,
        network: StatisticsEstimator,
        basis: MotionBasis,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Scheduler | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["network", "basis", "optimizer", "scheduler"])
        self.network, self.basis = network, basis
        self._optimizer, self._scheduler = optimizer, scheduler

    def configure_optimizers(self) -> Any:
        """The optimizer and the learning-rate schedule."""
        optimizer = self._optimizer(self.network.parameters())
        return scheduled(optimizer, self._scheduler, self.trainer)

    def measure(self, batch: MotionWindowBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean, std, source motion and hint of a batch in basis coordinates, each ``(B, M)``."""
        motion = self.basis.encode(batch.motion)
        mean, std = window_statistics(motion, batch.valid)
        return mean, std, self.basis.encode(batch.source_motion), motion[:, 0]

    def predict(self, batch: MotionWindowBatch) -> StatisticsMixture:
        """Distribution of the statistics of every window of a batch."""
        return self.network(
            batch.audio,
            batch.appearance,
            self.basis.encode(batch.source_motion),
            self.basis.encode(batch.motion[:, 0]),
            torch.stack(window_statistics(self.basis.encode(batch.previous.nan_to_num())), dim=1),
            batch.has_previous,
        )

    @torch.no_grad()
    def on_train_start(self) -> None:
        """Fits the target moments and std quantiles on one pass over the training windows."""
        loader, data = self.trainer.train_dataloader, self.trainer.datamodule  # type: ignore[attr-defined]
        if self.trainer.global_step > 0 or loader is None:
            return
        if (
            data is not None
        ):  # a loader with workers that stay is used up by a second pass, and the first epoch were empty
            loader = data.train_dataloader()
        measured = [self.measure(self.transfer_batch_to_device(batch, self.device, 0)) for batch in loader]
        found = torch.stack([torch.cat(values) for values in zip(*measured, strict=True)])  # (4, N, M)
        if self.trainer.world_size > 1:
            gathered = self.all_gather(found)  # (ranks, 4, N, M)
            assert isinstance(gathered, Tensor)
            found = gathered.transpose(0, 1).flatten(1, 2)
        self.network.fit(*found)

    def training_step(self, batch: MotionWindowBatch, batch_idx: int) -> Tensor:
        """Negative log-likelihood; windows count by their share of valid frames."""
        target = self.network.target(*self.measure(batch))
        nll = -self.predict(batch).log_prob(target) / target.shape[-1]
        weight = batch.valid.to(nll).mean(dim=1)
        loss = (weight * nll).sum() / shared_count(weight.sum(), least=1e-6)
        self.log_dict({"train/loss": loss.detach(), "train/nll": loss.detach()}, batch_size=len(nll))
        return loss

    def validation_step(self, batch: MotionWindowBatch, batch_idx: int) -> None:
        """Likelihood and CRPS, beside those of the unconditional Gaussian, and calibration.

        ``val/pit_error`` is the mean distance of the sorted PIT values from uniform ones (0 = calibrated).
        """
        target = self.network.target(*self.measure(batch))
        predicted, baseline = self.predict(batch), self.network.unconditional().expand(len(target))
        scale = self.network.target_scale
        figures = {}
        for name, mixture in (("", predicted), ("_unconditional", baseline)):
            generator = torch.Generator().manual_seed(batch_idx)
            figures[f"val/nll{name}"] = -mixture.log_prob(target).mean() / target.shape[-1]
            figures[f"val/crps{name}"] = (mixture.crps(target, generator=generator) / scale).mean()
        figures["val/loss"] = figures["val/nll"]
        figures["val/pit_error"] = pit_error(predicted.cdf(target))
        self.log_dict(figures, batch_size=len(target), sync_dist=True)


def pit_error(values: Tensor) -> Tensor:
    """Mean distance between sorted PIT values ``(N, D)`` in [0, 1] and the quantiles of a uniform distribution.

    Near 0 for calibrated values and large N, 0.5 when all values are equal to one end.
    """
    ranks = (torch.arange(len(values), device=values.device) + 0.5) / len(values)
    return (values.sort(dim=0).values - ranks.unsqueeze(-1)).abs().mean()
