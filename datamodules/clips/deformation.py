"""Deforms frame pairs: place and shape of the face, alike in all frames of a pair, and how they were photographed.

From few heads many: a face that is wider, tilted or nearer to the edge moves as the one that it was made of.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.batches import POSE_NAMES, FramePairBatch
from datamodules.media.pictures import through_jpeg, to_float, to_uint8

TURN_DEGREES = 7.0
"""Standard deviation of the rotation in the picture, as of all that follows."""
ZOOM_LOG = 0.08
SHIFT = 0.025
"""Of picture widths."""
BEND = 0.012
"""Of the displacement of the points of a coarse grid, in picture widths."""
BENDS = 5
"""Points of that grid along a side."""
INVERSIONS = 8
"""Steps in which places are followed through the deformation; a fifth of the remaining way is left by each at most."""
NOISE = 0.03
"""Largest standard deviation of the noise, of the value range [-1, 1]."""
BLUR = 1.2
"""Largest standard deviation of the blur in pixels."""
QUALITIES = (35, 95)
"""JPEG."""


class Deformation:
    """A smooth map of the picture: where each of its places is taken from.

    Args:
        angle: rotation in degrees; positive turns what is seen clockwise.
        zoom: factor of what is seen.
        shift: ``(2,)`` x, y of what is seen, in picture widths.
        bends: ``(2, n, n)`` displacements x, y of a grid over the picture, in picture widths.
    """

    def __init__(self, angle: float, zoom: float, shift: Tensor, bends: Tensor) -> None:
        self.angle = angle
        radians = math.radians(angle)
        turn = torch.tensor([
            [math.cos(radians), math.sin(radians)],
            [-math.sin(radians), math.cos(radians)],
        ])  # fmt: skip
        self.turn, self.shift, self.bends = turn / zoom, shift, bends[None]

    @classmethod
    def draw(cls, generator: np.random.Generator) -> "Deformation":
        """A random one."""
        bends = torch.as_tensor(generator.normal(0, BEND, (2, BENDS, BENDS))).float()
        shift = torch.as_tensor(generator.normal(0, SHIFT, 2)).float()
        angle, zoom = generator.normal(0, TURN_DEGREES), generator.normal(0, ZOOM_LOG)
        return cls(float(np.clip(angle, -15, 15)), math.exp(float(np.clip(zoom, -0.12, 0.25))), shift, bends)

    def origin(self, places: Tensor) -> Tensor:
        """Where places ``(..., 2)`` x, y in [0, 1] of the deformed picture are taken from."""
        return (places - 0.5 - self.shift) @ self.turn.t() + 0.5 + self._bent(places)

    def image(self, places: Tensor) -> Tensor:
        """Where places ``(..., 2)`` of the picture before are found in the deformed one: the inverse of `origin`."""
        back = torch.linalg.inv(self.turn)
        found = (places - 0.5) @ back.t() + 0.5 + self.shift
        for _ in range(INVERSIONS):
            found = (places - 0.5 - self._bent(found)) @ back.t() + 0.5 + self.shift
        return found

    def _bent(self, places: Tensor) -> Tensor:
        grid = (2 * places.reshape(1, 1, -1, 2) - 1).nan_to_num()
        found = F.grid_sample(self.bends, grid, mode="bicubic", padding_mode="border", align_corners=True)
        return found[0, :, 0].t().reshape(places.shape)

    def pictures(self, frames: Tensor) -> Tensor:
        """Frames ``(N, C, S, S)`` deformed; beyond the edge the picture is mirrored."""
        side = frames.shape[-1]
        centres = (torch.arange(side) + 0.5) / side
        places = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1)
        grid = (2 * self.origin(places) - 1).expand(len(frames), -1, -1, -1)
        mode = "bicubic" if side > 64 else "bilinear"
        return F.grid_sample(frames, grid, mode=mode, padding_mode="reflection", align_corners=False)

    def boxes(self, boxes: Tensor) -> Tensor:
        """The boxes ``(N, 4)`` round those of before; zeros, which are unknown ones, stay."""
        corners = self.image(boxes[:, [[0, 1], [2, 1], [0, 3], [2, 3]]])  # (N, 4, 2)
        around = torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)
        return torch.where((boxes != 0).any(dim=1, keepdim=True), around, boxes)

    def pose(self, pose: Tensor, centre: np.ndarray, spread: np.ndarray) -> Tensor:
        """``POSE_NAMES`` ``(N, 8)``, as (value - centre) / spread: the head tilts and is elsewhere in the picture."""
        if not pose.shape[-1]:
            return pose
        changed = pose.clone()
        roll, x = POSE_NAMES.index("roll"), POSE_NAMES.index("shift_x")
        changed[:, roll] += self.angle / float(spread[roll])
        here = slice(x, x + 2)  # shift_x, shift_y
        low, size = torch.as_tensor(centre[here]), torch.as_tensor(spread[here])
        changed[:, here] = (self.image(pose[:, here] * size + low) - low) / size
        return changed


def deform_pair(
    pair: FramePairBatch, deformation: Deformation, centre: np.ndarray, spread: np.ndarray
) -> FramePairBatch:
    """A pair, without a batch axis, deformed alike in all its frames, with all that is known of it.

    ``centre`` and ``spread`` are those of the pose, see `Deformation.pose`.
    """
    frames = deformation.pictures(torch.stack([pair.source, pair.driving, pair.shown])).clamp(-1, 1)
    person = pair.person
    if person.shape[-1]:
        person = deformation.pictures(person[None])[0]  # NaN stays NaN
    landmarks = torch.where(pair.landmarks.isfinite(), deformation.image(pair.landmarks), torch.nan)
    outside = ((landmarks < 0) | (landmarks > 1)).any(dim=-1)
    return pair._replace(
        source=frames[0],
        driving=frames[1],
        shown=frames[2],
        regions=deformation.boxes(pair.regions),
        landmarks=landmarks,
        visible=torch.where(outside, 0.0, pair.visible),
        pose=deformation.pose(pair.pose, centre, spread),
        person=person,
    )


def degrade_pair(pair: FramePairBatch, generator: np.random.Generator) -> FramePairBatch:
    """A pair, without a batch axis, as from a worse camera: blurred alike; what motion is read off is noisy, too."""
    frames = torch.stack([pair.source, pair.driving, pair.shown])
    frames = _blurred(frames, generator.uniform(0, BLUR))
    seed = int(generator.integers(2**31))
    source = torch.Generator("cpu").manual_seed(seed)  # the same on every device
    noise = torch.randn(frames[2].shape, generator=source, device="cpu").to(frames.device)
    shown = frames[2] + generator.uniform(0, NOISE) * noise
    return pair._replace(source=frames[0], driving=frames[1], shown=_coded(shown, generator))


def _blurred(frames: Tensor, sigma: float) -> Tensor:
    """Frames ``(N, 3, S, S)`` under a Gaussian of 7 pixels; sums of shifted frames, faster here than a convolution."""
    taps = torch.exp(-0.5 * (torch.arange(-3, 4) / max(sigma, 1e-3)) ** 2)
    taps = taps / taps.sum()
    for axis, sides in ((-1, (3, 3, 0, 0)), (-2, (0, 0, 3, 3))):
        padded = F.pad(frames, sides, mode="replicate")
        side = frames.shape[axis]
        frames = torch.zeros_like(frames)
        for start, weight in enumerate(taps.tolist()):
            frames.add_(padded.narrow(axis, start, side), alpha=weight)
    return frames


def _coded(frame: Tensor, generator: np.random.Generator) -> Tensor:
    """A frame ``(3, S, S)`` through JPEG."""
    levels = to_uint8(frame).permute(1, 2, 0).cpu().numpy()
    return to_float(through_jpeg(levels, int(generator.integers(*QUALITIES)))).to(frame.device)
