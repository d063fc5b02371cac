"""Trains a SyncNet: five frames and their own sound belong together, sound from elsewhere doesn't.

The result judges lip sync where the public SyncNet does not apply. It is never used as a loss of a generator.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from datamodules.batches import SYNC_FRAMES, SyncWindowBatch
from datamodules.errors import UserError
from lightning_modules.learning_rate import Scheduler, scheduled
from lightning_modules.networks.processes import own_items, whole_batch
from metrics.judges.syncnet import CEPSTRA_SHAPE, SyncNet, window_cepstra

Loss = Literal["infonce", "contrastive"]
STEEPEST = 100.0
"""Largest factor before the distances: without a bound it can grow until the loss is a step (Radford et al. 2021)."""


@dataclass(frozen=True)
class Comparison:
    """What a batch shows, of which every loss is made.

    Attributes:
        own: ``(B, B)`` distances from the lips of each window (rows) to the own sound of each (columns).
        other: ``(B, B)`` distances from the lips of each window to the other sound of each clip.
        cepstra_error: Scalar, share of the variance of the sounds' cepstra that a linear layer doesn't read off the features,
            sum of both branches.
    """

    own: Tensor
    other: Tensor
    cepstra_error: Tensor


class SyncNetModule(L.LightningModule):
    """Losses, scores, optimizer and logging of a SyncNet that learns from sync windows.

    What counts is to tell the own sound of five frames from other sound of the same clip. Sound of other clips (under DDP:
    of this process), the batch's negatives, can be told by whose voice it is and counts as little as ``negatives_weight``
    says: together with the other it helps, alone it teaches voices. As the judge compares by Euclidean distance, so do the
    losses.

    Telling them is hard to begin with: lips are few of the pixels, and a loss of distances teaches nothing until both
    branches have found something in common. An auxiliary task gives them that: one linear layer, which is no part of the
    judge, reads the cepstra of the sound off the features of either branch.

    Args:
        network: The network.
        optimizer: Partial optimizer that takes the parameters.
        scheduler: Partial learning-rate schedule; None keeps the learning rate.
        loss: ``infonce``: cross-entropy over minus the distances times a learned factor (van den Oord et al. 2018, equation
            4; among the batch's negatives both ways, Radford et al. 2021). ``contrastive``: squared
            distance of what belongs together, squared lack of ``margin`` of what does not (Hadsell et al. 2006; SyncNet's
            own).
        margin: Distance that ``contrastive`` asks for.
        negatives_weight: Weight of the loss against the sounds of the batch's other clips.
        cepstra_weight: Weight of the squared error of the cepstra.
        augment: Whether training clips are mirrored, recoloured, blurred and made louder or softer, and looked at in a region
            a little off the network's.

    Raises:
        UserError: There is no such loss.
    """

    def __init__(
        self,
        network: SyncNet,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Scheduler | None = None,
        loss: Loss = "infonce",
        margin: float = 10.0,
        negatives_weight: float = 0.3,
        cepstra_weight: float = 1.0,
        augment: bool = False,
    ) -> None:
        super().__init__()
        if loss not in (known := get_args(Loss)):
            raise UserError(f"loss {loss!r} of the sync expert is unknown; choose one of {', '.join(known)}")
        self.save_hyperparameters(ignore=["network", "optimizer", "scheduler"])
        self.network = network
        self.log_factor = nn.Parameter(torch.zeros(()), requires_grad=loss == "infonce")
        cepstra = CEPSTRA_SHAPE[0] * SYNC_FRAMES
        self.cepstra_readout = nn.Linear(network.features, cepstra).requires_grad_(cepstra_weight > 0)
        self.standardise = nn.BatchNorm1d(cepstra, affine=False)
        self._optimizer, self._scheduler = optimizer, scheduler

    def configure_optimizers(self) -> Any:
        """The optimizer and the learning-rate schedule."""
        optimizer = self._optimizer(p for p in self.parameters() if p.requires_grad)
        return scheduled(optimizer, self._scheduler, self.trainer)

    def compare(self, batch: SyncWindowBatch, region: Sequence[float] | None = None) -> Comparison:
        """Run a batch through both branches; ``region``: of the frames, None for the network's own."""
        cepstra = window_cepstra(torch.cat([batch.waveform, batch.other]))  # (2B, 1, 13, 20)
        lip = self.network.lip_features(self.network.view((batch.frames + 1) * 127.5, region))  # (B, D)
        # One pass, so that batch norm sees both sounds alike.
        audio = self.network.audio_features(cepstra)  # (2B, D)
        own, other = F.pairwise_distance(lip[:, None], audio[None]).chunk(2, dim=1)
        means = cepstra[:, 0].unflatten(2, (SYNC_FRAMES, -1)).mean(3)  # (2B, 13, 5)
        target = self.standardise(means.flatten(1))  # (2B, 65)
        error = F.mse_loss(self.cepstra_readout(lip), target[: len(lip)])
        error = error + F.mse_loss(self.cepstra_readout(audio), target)
        return Comparison(own, other, error)

    def contrast(self, seen: Comparison) -> Tensor:
        """Loss of a batch without the auxiliary task."""
        mine, same = seen.own.diagonal(), seen.other.diagonal()
        negatives = self.hparams["negatives_weight"]
        if self.hparams["loss"] == "contrastive":
            margin = self.hparams["margin"]
            loss = contrastive_loss(mine, same, margin)
            elsewhere = ~torch.eye(len(mine), dtype=torch.bool, device=mine.device)
            # Lips of one clip, sound of another.
            foreign = torch.cat([seen.own[elsewhere], seen.other[elsewhere]])
            return loss + negatives * contrastive_loss(mine, foreign, margin) if negatives else loss
        factor = self.log_factor.exp().clamp(max=STEEPEST)
        loss = F.softplus(factor * (mine - same)).mean()  # cross-entropy between the two
        return loss + negatives * info_nce(seen.own, seen.other, factor) if negatives else loss

    def training_step(self, batch: SyncWindowBatch, batch_idx: int) -> Tensor:
        """Loss of a batch."""
        augment = self.hparams["augment"]
        region = jitter_region(self.network.region) if augment else None
        seen = self.compare(augment_windows(batch) if augment else batch, region)
        loss = self.contrast(seen) + self.hparams["cepstra_weight"] * seen.cepstra_error
        figures = {"train/loss": loss, "train/untold": seen.cepstra_error, "train/accuracy": accuracy(seen)}
        self.log_dict({k: v.detach() for k, v in figures.items()}, batch_size=len(batch.frames))
        return loss

    def validation_step(self, batch: SyncWindowBatch, batch_idx: int) -> None:
        """Loss without the auxiliary task, and how often the own sound lies nearer than the clip's other (chance: 0.5)."""
        seen = self.compare(batch)
        figures = {"val/loss": self.contrast(seen), "val/untold": seen.cepstra_error}
        figures["val/accuracy"] = accuracy(seen)
        self.log_dict(figures, batch_size=len(batch.frames), sync_dist=True)


def info_nce(own: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """Cross-entropy of picking the own sound among the batch's 2B sounds, and the own lips among its B, averaged.

    Distances ``(B, B)`` are as in `Comparison`; ``factor`` is the scalar before them, > 0.
    """
    target = torch.arange(len(own), device=own.device)
    to_sound = F.cross_entropy(-factor * torch.cat([own, other], dim=1), target)
    to_lips = F.cross_entropy(-factor * own.T, target)
    return (to_sound + to_lips) / 2


def contrastive_loss(pairs: Tensor, negatives: Tensor, margin: float) -> Tensor:
    """Half the mean squared distance of pairs ``(N,)``, half the mean squared lack of margin of negatives ``(M,)``.

    No negatives count as far enough.
    """
    lack = (margin - negatives).clamp(min=0).square()
    return (pairs.square().mean() + (lack.mean() if len(lack) else 0)) / 2


def accuracy(seen: Comparison) -> Tensor:
    """Share of windows whose own sound lies nearer than the other one of their clip; a draw counts half."""
    mine, same = seen.own.diagonal().detach(), seen.other.diagonal().detach()
    return ((mine < same).float() + (mine == same).float() / 2).mean()


def augment_windows(batch: SyncWindowBatch) -> SyncWindowBatch:
    """Change what lip sync does not depend on: side, colours, sharpness, loudness. Alike in all frames of a window."""
    frames = batch.frames
    count, device = whole_batch(len(frames)), frames.device

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return own_items(torch.empty(count, *shape, device=device).uniform_(low, high))

    frames = torch.where(draw(0, 1, 1, 1, 1, 1) < 0.5, frames.flip(-1), frames)
    frames = frames * draw(0.9, 1.1, 1, 1, 1, 1) * draw(0.94, 1.06, 1, 3, 1, 1) + draw(-0.1, 0.1, 1, 1, 1, 1)
    gain = 10 ** (draw(-8, 8, 1) / 20)
    waveform, other = ((sound * gain).clamp(-1, 1) for sound in (batch.waveform, batch.other))
    share = float(torch.empty(()).uniform_(0.4, 2.0))  # one for the batch; above 1 nothing is lost
    return SyncWindowBatch(_blurred(frames.clamp(-1, 1), share), waveform, other, batch.distance)


def jitter_region(region: Sequence[float]) -> list[float]:
    """A region like this one, moved by up to 0.02 of the frame and up to 5 % smaller or larger, within the frame."""
    left, top, right, bottom = region
    across, down, scale = torch.empty(3).uniform_(-1, 1).tolist()
    middle = ((left + right) / 2 + 0.02 * across, (top + bottom) / 2 + 0.02 * down)
    half = ((right - left) / 2 * (1 + 0.05 * scale), (bottom - top) / 2 * (1 + 0.05 * scale))
    corners = (middle[0] - half[0], middle[1] - half[1], middle[0] + half[0], middle[1] + half[1])
    return [min(max(corner, 0.0), 1.0) for corner in corners]


def _blurred(frames: Tensor, share: float) -> Tensor:
    """Frames ``(B, T, 3, S, S)`` with the detail of so large a share of their size."""
    if share >= 1:
        return frames
    size = frames.shape[-1]
    small = F.interpolate(frames.flatten(0, 1), round(size * share), mode="bilinear", antialias=True)
    return F.interpolate(small, size, mode="bilinear").unflatten(0, frames.shape[:2])
