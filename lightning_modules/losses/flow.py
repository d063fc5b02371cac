"""Losses that teach a flow what pixels alone would take long to say: where points go, what is hidden, what is the person."""

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.batches import FramePairBatch
from lightning_modules.losses.base import LossTerm, RenderedPairs
from lightning_modules.losses.reconstruction import box_masks
from lightning_modules.networks.processes import shared_count


class LandmarkLoss(LossTerm):
    """Error of the backward flow at points that both frames show: where the driving one has it, it must lead to the source's.

    Points of which it is not known whether something hides them count, too.

    Points pull the flow from any distance, where pixels only do so within an edge's width.

    Args:
        weight: factor in the sum.
        region_gain: extra weight of points in the boxes of mouth and eyes: lips and lids are few of them.
        shape: weight beside it of the error of the points in a box about that of their mean, so that lips that part count
            although the whole mouth isn't where it should be.
    """

    needs = ("flow",)
    outlines = True

    def __init__(self, weight: float = 1.0, region_gain: float = 0.0, shape: float = 0.0) -> None:
        super().__init__(weight)
        self.region_gain, self.shape = region_gain, shape

    def forward(self, pairs: RenderedPairs, batch: FramePairBatch) -> Tensor | None:
        """Mean in half picture widths over the points seen in both frames, 0 where none is; None for data without points."""
        if not batch.landmarks.shape[2]:
            return None
        flow = pairs.decoded.flow  # (B, 2, S, S)
        assert flow is not None
        known = (batch.landmarks.isfinite().all(dim=-1) & (batch.visible != 0)).all(dim=1)  # (B, L)
        landmarks = torch.where(known[:, None, :, None], batch.landmarks, 0.5)
        source, driving = (2 * landmarks - 1).to(flow).unbind(1)  # each (B, L, 2), in half picture widths
        found = _at_points(flow, driving).transpose(1, 2)  # (B, L, 2)
        error = found - (source - driving)
        inside = _in_boxes(landmarks[:, 1], batch.regions) & known[:, None]  # (B, R, L)
        weights = known * (1 + self.region_gain * inside.any(dim=1))
        loss = (weights * error.abs().mean(dim=-1)).sum() / shared_count(weights.sum(), least=1)
        if not self.shape:
            return loss
        share = inside / inside.sum(dim=-1, keepdim=True).clamp(min=1)
        beside = (error[:, None] - (share @ error)[:, :, None]).abs().mean(dim=-1)  # (B, R, L)
        return loss + self.shape * (inside * beside).sum() / shared_count(inside.sum(), least=1)


class OcclusionLoss(LossTerm):
    """Cross-entropy of what a renderer thinks that the flow can show and, where it paints, of the share not painted.

    At points that the driving frame shows it is to be all where the source shows the point, too, and nothing where it hides
    it: what can be moved, such as lips, is not painted.

    Args:
        weight: factor in the sum.
        region_gain: extra weight of points in the boxes of mouth and eyes: of an open mouth's inside there are a dozen.
    """

    needs = ("shown",)
    outlines = True

    def __init__(self, weight: float = 1.0, region_gain: float = 0.0) -> None:
        super().__init__(weight)
        self.region_gain = region_gain

    def forward(self, pairs: RenderedPairs, batch: FramePairBatch) -> Tensor | None:
        """Mean over the points of which that is known, 0 where it is of none; None for data without points."""
        if not batch.landmarks.shape[2]:
            return None
        taken, maps = pairs.decoded.mask, pairs.decoded.shown
        assert maps is not None
        if taken is not None:
            maps = torch.cat([taken, F.interpolate(maps, taken.shape[-2:], mode="bilinear")], dim=1)
        before, seen = batch.visible.unbind(1)  # each (B, L)
        known = batch.landmarks.isfinite().all(dim=-1).all(dim=1) & (seen == 1) & before.isfinite()
        driving = torch.where(known[..., None], batch.landmarks[:, 1], 0.5)
        error = _cross_entropy(_at_points(maps.float(), 2 * driving - 1), before.nan_to_num()[:, None]).mean(
            dim=1
        )
        weights = known * (1 + self.region_gain * _in_boxes(driving, batch.regions).any(dim=1))
        return (weights * error).sum() / shared_count(weights.sum(), least=1)


class PersonLoss(LossTerm):
    """Cross-entropy of a renderer's masks of the person in the driving frame and, if it tells that, in the portrait."""

    needs = ("person",)

    def forward(self, pairs: RenderedPairs, batch: FramePairBatch) -> Tensor | None:
        """Mean over the pixels of the known masks; None for data without masks."""
        side = batch.person.shape[-1]
        if not side:
            return None
        errors = []
        for found, target in zip(
            (pairs.decoded.stood, pairs.decoded.person), batch.person.unbind(1), strict=True
        ):
            if found is None:
                continue
            if found.shape[-1] < side:
                target = F.interpolate(target[:, None], found.shape[-2:], mode="area")[:, 0]
            share = F.interpolate(found.float(), target.shape[-2:], mode="area")[:, 0]
            known = target.isfinite()
            error = torch.where(known, _cross_entropy(share, target.nan_to_num()), 0.0)
            errors.append(error.sum() / shared_count(known.sum(), least=1))
        return torch.stack(errors).mean()


class FoldLoss(LossTerm):
    """How far a flow is from smooth, and how far it folds: the portrait must not be turned inside out.

    Args:
        weight: factor in the sum.
        margin: of what a unit of area of the frame must at least take of the portrait's.
        smoothness: weight of the differences of neighbours beside the folds.
        side: at which the flow is looked at.
        region_share: of its weight in the boxes of mouth and eyes: lips that part and lids that shut are not smooth.
    """

    needs = ("flow",)
    outlines = True

    def __init__(
        self,
        weight: float = 1.0,
        margin: float = 0.1,
        smoothness: float = 0.1,
        side: int = 64,
        region_share: float = 1.0,
    ) -> None:
        super().__init__(weight)
        self.margin, self.smoothness, self.side = margin, smoothness, side
        self.region_share = region_share

    def forward(self, pairs: RenderedPairs, batch: FramePairBatch) -> Tensor:
        """Mean over the pixels, each term 0 for a flow that moves the whole picture."""
        flow = pairs.decoded.flow
        assert flow is not None
        if flow.shape[-1] > self.side:
            flow = F.interpolate(flow, (self.side, self.side), mode="area")
        pixels = flow * (flow.shape[-1] / 2)
        across = pixels[..., :-1, 1:] - pixels[..., :-1, :-1]  # (B, 2, s - 1, s - 1)
        down = pixels[..., 1:, :-1] - pixels[..., :-1, :-1]
        area = (1 + across[:, 0]) * (1 + down[:, 1]) - across[:, 1] * down[:, 0]
        inside = box_masks(batch.regions, flow.shape[-1]).amax(dim=1)[..., :-1, :-1]  # (B, s - 1, s - 1)
        rough = (across.square() + down.square()).mean(dim=1)
        cost = F.relu(self.margin - area) + self.smoothness * rough
        return ((1 - (1 - self.region_share) * inside) * cost).mean()


def _at_points(maps: Tensor, points: Tensor) -> Tensor:
    """Maps ``(B, C, S, S)`` at points ``(B, L, 2)`` in half picture widths: ``(B, C, L)``; the border repeats."""
    found = F.grid_sample(maps, points[:, None].to(maps), align_corners=False, padding_mode="border")
    return found[:, :, 0]


def _in_boxes(points: Tensor, regions: Tensor) -> Tensor:
    """Which of the points ``(B, L, 2)`` lie in which of the boxes ``(B, R, 4)``: ``(B, R, L)``."""
    low, high = regions[:, :, None].split(2, dim=-1)  # (B, R, 1, 2)
    at = points[:, None]  # (B, 1, L, 2)
    return ((at > low) & (at < high)).all(dim=-1)


def _cross_entropy(share: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of shares in [0, 1], in full precision; bounded, as shares may reach 0 and 1."""
    share = share.float().clamp(1e-4, 1 - 1e-4)
    return -(target * share.log() + (1 - target) * (1 - share).log())
