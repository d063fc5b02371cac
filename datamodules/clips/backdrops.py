"""Other backgrounds for frame pairs: what surrounds a person must not tell where the person ends.

From few painted scenes many: a piece of any other picture, enlarged, turned and in other colours, behind both frames alike.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.batches import FramePairBatch
from datamodules.clips.augmentation import change_colours

PIECE = (0.15, 0.7)
"""Side of the piece, as a share of the picture that it is cut from."""
EDGE = (0.35, 0.65)
"""Shares of the person in a pixel of the coarse mask between which the edge lies in the picture."""


def draw_backdrop(frame: Tensor, generator: np.random.Generator) -> Tensor:
    """A piece of a frame ``(3, S, S)`` in [-1, 1], enlarged to its size, perhaps mirrored, in colours of its own."""
    size = frame.shape[-1]
    side = max(4, round(generator.uniform(*PIECE) * size))
    top, left = generator.integers(size - side + 1, size=2)
    piece = frame[None, :, top : top + side, left : left + side]
    piece = F.interpolate(piece, (size, size), mode="bicubic", align_corners=False).clamp(-1, 1)
    piece = piece.flip(-1) if generator.random() < 0.5 else piece
    turned = piece.transpose(-1, -2) if generator.random() < 0.5 else piece
    return change_colours(turned, generator)[0].roll(int(generator.integers(3)), dims=0)


def replace_background(pair: FramePairBatch, backdrop: Tensor) -> FramePairBatch:
    """A pair, without a batch axis, whose source and driving frame have another background ``(3, S, S)``.

    So has the frame whose motion is read where it is the driving one. A pair of which the person is not known stays as it is.
    """
    if not pair.person.shape[-1] or not pair.person.isfinite().all():
        return pair
    size, (low, high) = pair.source.shape[-1], EDGE
    mask = F.interpolate(pair.person[:, None], (size, size), mode="bicubic", align_corners=False)
    mask = ((mask - low) / (high - low)).clamp(0, 1)
    frames = torch.stack([pair.source, pair.driving])
    source, driving = backdrop + mask * (frames - backdrop)
    own = torch.equal(pair.shown, pair.driving)
    return pair._replace(source=source, driving=driving, shown=driving if own else pair.shown)
