"""A trained motion autoencoder at work: portraits in, frames out. Inference alone; Lightning is not imported."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.errors import UserError
from datamodules.media.pictures import to_pixels
from lightning_modules.generation.landmark_warps import with_lids_shut
from lightning_modules.networks.base_renderer import DecoderOutput, Renderer, SourceEncoding

USUAL_SIZE = 256
"""Side of the frames in pixels where nobody says another and the model can."""
RIM = 1 / 32
"""Share of the side round the person that a pasted frame brings along."""


class Reenactor(nn.Module):
    """Stage 1 put to use: what depends on the portrait is computed once, every frame from its motion alone.

    Args:
        autoencoder: Stage 1, in evaluation mode.
    """

    def __init__(self, autoencoder: Renderer) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    @property
    def size(self) -> int:
        """Side of the frames in pixels."""
        return self.autoencoder.size

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.autoencoder.parameters()).device

    @property
    def sizes(self) -> list[int]:
        """Sides of the frames that can be rendered, the network's own first."""
        return [self.size * factor for factor in range(1, self.autoencoder.largest_factor + 1)]

    @property
    def usual_size(self) -> int:
        """Side of the frames where nobody says another: 256 pixels, or what is rendered next to that."""
        return self.size_for(USUAL_SIZE)

    def size_for(self, wanted: float) -> int:
        """Smallest side that can be rendered of at least so many pixels, else the largest."""
        return next((one for one in self.sizes if one >= wanted), self.sizes[-1])

    @torch.inference_mode()
    def prepare_source(self, image: Tensor, size: int | None = None) -> SourceEncoding:
        """Encode a portrait, framed as training clips are.

        Args:
            image: ``(1, 3, H, W)`` or ``(3, H, W)`` float32 in [-1, 1].
            size: Side of the frames, one of ``sizes``; None: the network's own.

        Raises:
            UserError: This model doesn't render frames of that size.
        """
        if size is not None and size not in self.sizes:
            known = ", ".join(map(str, self.sizes))
            raise UserError(f"--size {size}: this model renders frames of {known} pixels")
        image = image[None] if image.ndim == 3 else image
        return self.autoencoder.encode(_resized(image.to(self.device), self.size if size is None else size))

    @torch.inference_mode()
    def motion_of(self, frames: Tensor, batch_size: int = 16, size: int | None = None) -> Tensor:
        """Raw motion ``(T, M)`` of frames ``(T, 3, H, W)`` float32 in [-1, 1], looked at as sources of a size.

        That is one of ``sizes``; None: the frames' own where it is one of them, else the network's.
        """
        if size is None:
            size = frames.shape[-1] if frames.shape[-1] in self.sizes else self.size
        chunks = (_resized(chunk.to(self.device), size) for chunk in frames.split(batch_size))
        return torch.cat([self.autoencoder.motion(chunk) for chunk in chunks])

    @torch.inference_mode()
    def render(self, source: SourceEncoding, motion: Tensor, batch_size: int = 8) -> Iterator[np.ndarray]:
        """Render frames uint8 ``(S, S, 3)``, as large as the source, in raw motion ``(T, M)``, one after the other.

        Lids that are drawn down are open where the eyes are as they mostly are in this motion: give it whole.
        """
        for decoded in self._decoded(source, motion, batch_size):
            yield from to_pixels(decoded.frame)

    @torch.inference_mode()
    def render_covers(
        self, source: SourceEncoding, motion: Tensor, batch_size: int = 8
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Frames as of `render`, each with its cover: what of it is to be put into a larger picture.

        Covers are float32 ``(S, S)`` in [0, 1], 1 where the person is or was in the portrait, falling to 0 in the background;
        None of a renderer that doesn't tell the person.
        """
        before = self.autoencoder.decode(source, source.motion).person
        for decoded in self._decoded(source, motion, batch_size):
            if decoded.person is None or before is None:
                covers: Any = [None] * len(decoded.frame)
            else:
                covers = _widened(torch.maximum(decoded.person, before))[:, 0].cpu().numpy()
            yield from zip(to_pixels(decoded.frame), covers, strict=True)

    def lids_shut(self, motion: Tensor) -> Tensor | None:
        """To which share ``(T,)`` lids are shut in raw motion ``(T, M)``; None where that isn't known."""
        return None

    def _decoded(self, source: SourceEncoding, motion: Tensor, batch_size: int) -> Iterator[DecoderOutput]:
        """The portrait in raw motion ``(T, M)``, batch by batch, its lids drawn down as far as they are shut."""
        motion = motion.to(self.device)
        shut = self.lids_shut(motion) if source.eyes else None
        for start in range(0, len(motion), batch_size):
            part = slice(start, start + batch_size)
            many = source.expand(len(motion[part]))
            if shut is not None and bool(shut[part].any()):
                many = many._replace(image=with_lids_shut(source.image, source.eyes, shut[part]))
            yield self.autoencoder.decode(many, motion[part])


def _widened(person: Tensor) -> Tensor:
    """Shares of the person ``(B, 1, S, S)`` with a rim of ``RIM`` round it, in which they fall to nothing."""
    side = person.shape[-1]
    reach = max(1, round(RIM * side))
    low = F.interpolate(person.float(), (max(1, side // reach),) * 2, mode="area")
    wide = F.max_pool2d((2 * low).clamp(max=1), 3, 1, 1)
    soft = F.interpolate(wide, (side, side), mode="bilinear", align_corners=False)
    return torch.maximum(soft, person.float())


def _resized(image: Tensor, size: int) -> Tensor:
    """Resize ``(B, 3, H, W)`` to ``size`` with antialiased bicubic interpolation; a no-op where it fits."""
    if image.shape[-2:] == (size, size):
        return image
    resized = F.interpolate(image, size=(size, size), mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(-1, 1)
