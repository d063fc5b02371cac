"""A trained motion autoencoder at work: portraits in, frames out. Inference alone; Lightning is not imported."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.errors import UserError
from datamodules.media.pictures import to_pixels
from lightning_modules.networks.base_renderer import Renderer, SourceEncoding


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
    def motion_of(self, frames: Tensor, batch_size: int = 16) -> Tensor:
        """Raw motion ``(T, M)`` of frames ``(T, 3, H, W)`` float32 in [-1, 1]."""
        chunks = (_resized(chunk.to(self.device), self.size) for chunk in frames.split(batch_size))
        return torch.cat([self.autoencoder.motion(chunk) for chunk in chunks])

    @torch.inference_mode()
    def render(self, source: SourceEncoding, motion: Tensor, batch_size: int = 8) -> Iterator[np.ndarray]:
        """Render frames uint8 ``(S, S, 3)``, as large as the source, in raw motion ``(T, M)``, one after the other."""
        for chunk in motion.to(self.device).split(batch_size):
            decoded = self.autoencoder.decode(source.expand(len(chunk)), chunk)
            yield from to_pixels(decoded.frame)


def _resized(image: Tensor, size: int) -> Tensor:
    """Resize ``(B, 3, H, W)`` to ``size`` with antialiased bicubic interpolation; a no-op where it fits."""
    if image.shape[-2:] == (size, size):
        return image
    resized = F.interpolate(image, size=(size, size), mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(-1, 1)
