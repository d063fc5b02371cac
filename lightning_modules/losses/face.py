"""Losses that know a face: its landmarks, the box of its mouth, its pose. Ours; the paper's stage 1 is self-supervised."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.batches import POSE_NAMES, REGION_NAMES, FramePairBatch
from lightning_modules.losses.base import LossTerm, RenderedPairs
from lightning_modules.losses.reconstruction import box_masks, gradient_l1, pyramid_l1
from lightning_modules.networks.processes import shared_count

MOUTH = REGION_NAMES.index("mouth")


class LandmarkLoss(LossTerm):
    """Error of the backward flow at landmarks: where the driving frame has one, it must point to the source's.

    Points pull the flow from any distance, where pixels only do so within an edge's width.
    """

    needs = ("flow",)

    def forward(self, pairs: RenderedPairs, batch: FramePairBatch) -> Tensor | None:
        """Mean in half picture widths over the points known in both frames, 0 where none is; None for data without points."""
        if not batch.landmarks.shape[2]:
            return None
        flow = pairs.decoded.flow  # (B, 2, S, S)
        assert flow is not None
        known = batch.landmarks.isfinite().all(dim=-1).all(dim=1)  # (B, L)
        landmarks = torch.where(known[:, None, :, None], batch.landmarks, 0.5)
        # From [0, 1] of the picture's edges to corner-aligned pixel centres in [-1, 1], as the flow has them.
        size = flow.shape[-1]
        grid = (2 * (landmarks * size - 0.5) / (size - 1) - 1).to(flow)
        source, driving = grid.unbind(1)  # each (B, L, 2)
        found = F.grid_sample(
            flow, driving[:, None], align_corners=True, padding_mode="border"
        )  # (B, 2, 1, L)
        error = (found[:, :, 0].transpose(1, 2) - (source - driving)).abs().mean(dim=-1)  # (B, L)
        return torch.where(known, error, 0.0).sum() / shared_count(known.sum(), least=1)


class MouthLoss(LossTerm):
    """L1 and edge loss inside the mouth's box alone, a mean over the frames with one.

    Args:
        weight: factor in the sum.
        levels: resolutions of the L1: at lower ones a mouth is a few pixels.
        edges: share of the edge loss in it.
    """

    def __init__(self, weight: float = 1.0, levels: int = 2, edges: float = 0.5) -> None:
        super().__init__(weight)
        self.levels, self.edges = levels, edges

    def forward(self, pairs: RenderedPairs, batch: FramePairBatch) -> Tensor:
        """The term without its weight; 0 where no frame has a box."""
        frame, target = pairs.decoded.frame, batch.driving
        mouth = inside_weights(batch.regions[:, MOUTH], target.shape[-1])
        share_with_box = shared_count(mouth.amax(dim=(1, 2, 3)).sign().mean(), least=1 / len(mouth))
        error = pyramid_l1(frame, target, mouth, self.levels)
        error = error + self.edges * gradient_l1(frame, target, mouth)
        return error / share_with_box


class MouthPlaceLoss(LossTerm):
    """Error with which a renderer reads the place of the mouth off the motion; it teaches the motion encoder, too."""

    def forward(self, pairs: RenderedPairs, batch: FramePairBatch) -> Tensor | None:
        """See ``centre_l1``; None with a renderer that doesn't look for the mouth."""
        centre = pairs.decoded.mouth_centre
        return None if centre is None else centre_l1(centre, batch.regions[:, MOUTH])


class PoseLoss(LossTerm):
    """Squared error with which a linear layer of its own reads pose, lips and lids off the motion coefficients.

    A small model finds motion sooner by it. Unknown values count nothing.

    Args:
        motion_dim: number of motion coefficients.
        weight: factor in the sum.
    """

    def __init__(self, motion_dim: int, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.readout = nn.Linear(motion_dim, len(POSE_NAMES))

    def forward(self, pairs: RenderedPairs, batch: FramePairBatch) -> Tensor | None:
        """Mean over the known values of source and driving frames; None where the data know no pose."""
        if not batch.pose.shape[-1]:
            return None
        both = torch.stack([pairs.source.motion, pairs.motion], dim=1)  # (B, 2, M)
        known = batch.pose.isfinite()  # (B, 2, 8)
        error = torch.where(known, self.readout(both) - batch.pose.nan_to_num(), 0.0).square()
        return error.sum() / shared_count(known.sum(), least=1)


def inside_weights(boxes: Tensor, size: int) -> Tensor:
    """Map ``(B, 1, size, size)``, 0 outside boxes ``(B, 4)``, of mean 1; all 0 where no pixel's centre is in the box."""
    weights = box_masks(boxes[:, None], size)
    return weights / weights.mean(dim=(2, 3), keepdim=True).clamp(min=1 / size**2)


def centre_l1(found: Tensor, boxes: Tensor) -> Tensor:
    """Mean absolute distance of points ``(B, 2)`` from the centres of boxes ``(B, 4)``, both in [0, 1]; 0 without boxes.

    Boxes of zero area count nothing.
    """
    known = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    low, high = torch.where(known[:, None], boxes, 0.0).split(2, dim=1)
    error = (found - (low + high) / 2).abs().mean(dim=1)
    return torch.where(known, error, 0.0).sum() / shared_count(known.sum(), least=1)
