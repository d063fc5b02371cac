"""The interface of renderers: what stage 1 trains, and what latents, losses and generation may ask of it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn


class SourceEncoding(NamedTuple):
    """What is computed once per source picture.

    Attributes:
        image: ``(B, 3, S, S)`` float32 in [-1, 1].
        motion: ``(B, M)`` the source's own motion coefficients in (-1, 1).
        latent: ``(B, L)`` appearance latent; it carries the way from the source's own pose to the reference.
        features: maps of the scales 8, 16, ..., S, each ``(B, C_s, s, s)``; another renderer keeps here what it needs, as
            tensors with the batch first or nested tuples of them.
        eyes: where its lids are, see `lightning_modules.generation.landmark_warps`; empty where nobody looked.
    """

    image: Tensor
    motion: Tensor
    latent: Tensor
    features: tuple[Any, ...]
    eyes: tuple[Any, ...] = ()

    def expand(self, batch: int) -> "SourceEncoding":
        """One source repeated to a batch, without copying."""

        def expanded(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value.expand(batch, *value.shape[1:])
            return tuple(expanded(item) for item in value)

        return SourceEncoding(*map(expanded, self[:4]))._replace(eyes=self.eyes)


class DecoderOutput(NamedTuple):
    """A rendered frame and how it was made: all that losses and callbacks see of a renderer.

    Attributes:
        frame: ``(B, 3, S, S)``, about [-1, 1] (not clamped).
        warped: ``(B, 3, S, S)`` source pixels moved by the finest flow; None of a renderer that moves none.
        flow: ``(B, 2, S, S)`` backward flow at full size in half picture widths (2 = S pixels); None of a renderer without.
        mask: ``(B, 1, S, S)`` share taken from the warped source, 0..1; None of a renderer without one.
        places: ``(B, R, 2)`` where the first R of ``REGION_NAMES`` (the mouth, or the eyes, too) are thought to be, x, y in
            [0, 1]; None of a renderer that doesn't look.
        person: ``(B, 1, S, S)`` share of the person, 0..1, beside the background; None of a renderer that doesn't tell.
        shown: ``(B, 1, s, s)`` how far the flow can show what is there, 0..1, before anything is looked at more closely;
            None of a renderer that doesn't tell.
        stood: ``(B, 1, s, s)`` share of the person in the portrait; None of a renderer that doesn't tell.
    """

    frame: Tensor
    warped: Tensor | None = None
    flow: Tensor | None = None
    mask: Tensor | None = None
    places: Tensor | None = None
    person: Tensor | None = None
    shown: Tensor | None = None
    stood: Tensor | None = None


class Renderer(nn.Module, ABC):
    """Portrait and motion to frame. A module, so that code that is given one may move, freeze and save it, too.

    Attributes:
        size: picture side S.
        motion_dim: number of motion coefficients M.
        latent_dim: size L of the appearance latent.
        required_losses: names of the losses without which a part of it learns nothing.
        largest_factor: portraits of up to so many times S, by whole numbers, are rendered at their own size.
        moves_pixels: whether frames are made of the pixels of the source's image alone, and of paint.
        outlined: parts (see ``parts``) that learn nothing from what ``outline`` leaves out.
    """

    size: int
    motion_dim: int
    latent_dim: int
    required_losses: tuple[str, ...] = ()
    largest_factor: int = 1
    moves_pixels: bool = False
    outlined: tuple[str, ...] = ()

    @abstractmethod
    def encode(self, image: Tensor) -> SourceEncoding:
        """Encode source pictures ``(B, 3, S, S)``, or larger, in [-1, 1]: everything that depends on the source alone."""

    @abstractmethod
    def motion(self, image: Tensor) -> Tensor:
        """Motion coefficients ``(B, M)`` in (-1, 1) of pictures ``(B, 3, S, S)`` in [-1, 1]."""

    @abstractmethod
    def decode(self, source: SourceEncoding, motion: Tensor) -> DecoderOutput:
        """Render B sources in motion ``(B, M)``, coefficients about in [-1, 1]."""

    def outline(self, source: SourceEncoding, motion: Tensor) -> DecoderOutput:
        """What ``decode`` paints over, where that is cheaper: the flow at size S and what it can show, no mask."""
        return self.decode(source, motion)

    def latent_parts(self) -> Sequence[nn.Module]:
        """All that motion and appearance latent depend on: while it stays, so does what was learnt of latents."""
        return [self]

    def parts(self) -> dict[str, Sequence[nn.Module | nn.Parameter]]:
        """Parts that can be trained alone, by name; ``all`` need not be named."""
        return {}

    def forward(self, source: Tensor, driving: Tensor) -> DecoderOutput:
        """Render ``source (B, 3, S, S)`` in the motion of ``driving (B, 3, S, S)``; both in [-1, 1]."""
        return self.decode(self.encode(source), self.motion(driving))
