"""Losses that know a face: the boxes of its mouth and eyes, its pose. Ours; the paper's stage 1 is self-supervised."""

import torch
from torch import Tensor, nn

from datamodules.batches import POSE_NAMES, REGION_NAMES, FramePairBatch
from lightning_modules.losses.base import LossTerm, RenderedPairs
from lightning_modules.losses.reconstruction import box_masks, gradient_l1, pyramid_l1
from lightning_modules.networks.processes import shared_count

FACE_NAMES = ("lip_opening", "lip_width", "blink")
"""Those of ``POSE_NAMES`` that are not of the head as a whole."""
MOUTH = REGION_NAMES.index("mouth")


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


class PlaceLoss(LossTerm):
    """Error with which a renderer reads the places of mouth and eyes off the motion; it teaches the motion encoder, too."""

    outlines = True

    def forward(self, pairs: RenderedPairs, batch: FramePairBatch) -> Tensor | None:
        """See ``centre_l1``; None with a renderer that doesn't look for them."""
        places = pairs.decoded.places
        if places is None:
            return None
        return centre_l1(places.flatten(0, 1), batch.regions[:, : places.shape[1]].flatten(0, 1))


class PoseLoss(LossTerm):
    """Squared error with which a linear layer of its own reads pose, lips and lids off the motion coefficients.

    A small model finds motion sooner by it. Unknown values count nothing.

    Args:
        motion_dim: number of motion coefficients.
        weight: factor in the sum.
        face_gain: weight of lips and lids, where that of the head's pose is 1: they move few pixels.
    """

    outlines = True
    gains: Tensor

    def __init__(self, motion_dim: int, weight: float = 1.0, face_gain: float = 1.0) -> None:
        super().__init__(weight)
        self.readout = nn.Linear(motion_dim, len(POSE_NAMES))
        gains = torch.tensor([face_gain if name in FACE_NAMES else 1.0 for name in POSE_NAMES])
        self.register_buffer("gains", gains, persistent=False)

    def forward(self, pairs: RenderedPairs, batch: FramePairBatch) -> Tensor | None:
        """Mean over the known values of source and driving frames, under gains; None where the data know no pose."""
        if not batch.pose.shape[-1]:
            return None
        both = torch.stack([pairs.source.motion, pairs.motion], dim=1)  # (B, 2, M)
        known = batch.pose.isfinite()  # (B, 2, 8)
        error = torch.where(known, self.readout(both) - batch.pose.nan_to_num(), 0.0).square() * self.gains
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
