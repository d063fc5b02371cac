"""Motion autoencoder of IF-MDM, stage 1: one encoder, linear motion templates, a flow decoder at every scale.

Source: PAPER facts of IF-MDM (arXiv 2412.04000 and its authors' published model files); the linear decomposition of
motion goes back to LIA (arXiv 2203.09043).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks.base_renderer import DecoderOutput, Renderer, SourceEncoding
from lightning_modules.networks.face_view_head import FaceViewHead
from lightning_modules.networks.layers import (
    EqualConv,
    EqualLinear,
    ModulatedConv,
    ResidualDown,
    RGBHead,
    RunningNorm,
    StyledBlock,
    activate,
    upsample,
    warp,
)
from lightning_modules.networks.motion_templates import MotionTemplates
from lightning_modules.networks.mouth_painter import MouthPainter


class Encoder(nn.Module):
    """Residual pyramid from ``(B, 3, S, S)`` to a latent and the feature maps of all scales from 8 to S."""

    def __init__(self, size: int, channels: Mapping[int, int], latent_dim: int, normalise: bool) -> None:
        super().__init__()
        self.stem = EqualConv(3, channels[size], 1)
        scales = scale_list(size)  # 4, 8, ..., S
        self.blocks = nn.ModuleList(
            ResidualDown(channels[s], channels[s // 2]) for s in reversed(scales) if s > 4
        )
        self.head = EqualLinear(channels[4] * 16, latent_dim)
        self.norm = RunningNorm(latent_dim) if normalise else nn.Identity()

    def forward(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the latent ``(B, L)`` and the maps of scales 8..S, coarse to fine."""
        x = activate(self.stem(image))  # (B, C_S, S, S)
        maps = [x]
        # Halve the resolution down to (B, C_4, 4, 4), which the latent is read off.
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return self.norm(self.head(x.flatten(1)).float()), tuple(reversed(maps[:-1]))


class DecoderScale(nn.Module):
    """One scale: styled convolutions, flow and mask logits, warped source features, generated features, RGB.

    Without ``moves`` the flow is that of the scale before, upsampled; the mask is refined all the same. ``bounded`` puts the
    flow through tanh. ``published``: see `PaperRenderer`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        style_dim: int,
        rgb_input: str,
        blank: bool = False,
        moves: bool = True,
        bounded: bool = True,
        published: bool = False,
    ) -> None:
        super().__init__()
        self.styled = StyledBlock(inputs, outputs, style_dim, transposed=published)
        self.moves, self.bounded, self.published = moves, bounded, published
        self.to_flow = ModulatedConv(
            outputs, 3 if moves else 1, 1, style_dim, demodulate=False, zero=not published
        )
        self.generate = ModulatedConv(
            outputs, outputs, 1, style_dim, demodulate=not published, bias=not published
        )
        self.to_rgb = rgb_head(outputs, style_dim, blank, published)
        self.rgb_input = rgb_input

    def forward(
        self, hidden: Tensor, latent: Tensor, features: Tensor, logits: Tensor, rgb: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return hidden ``(B, C, s, s)``, accumulated flow and mask logits ``(B, 3, s, s)`` and RGB ``(B, 3, s, s)``."""
        # Features at twice the resolution; they refine the flow and mask of the scale before.
        hidden = self.styled(hidden, latent)  # (B, C, s, s)
        refined = self.to_flow(hidden, latent).float()  # (B, 3, s, s), or (B, 1, s, s) for the mask alone
        logits = upsample(logits) + (refined if self.moves else F.pad(refined, (0, 0, 0, 0, 2, 0)))
        # The source's features where the mask is 1, moved by the flow; generated ones where it is 0.
        mask = torch.sigmoid(logits[:, 2:]).to(hidden.dtype)  # (B, 1, s, s)
        masked = warp(features, limited(logits[:, :2], self.bounded)) * mask
        generated = self.generate(hidden, latent)
        hidden = masked + (generated if self.published else activate(generated)) * (1 - mask)
        # Colours are added to those of the scale before.
        seen = masked if self.rgb_input == "warp" else hidden
        return hidden, logits, upsample(rgb) + self.to_rgb(seen, latent).float()


def rgb_head(inputs: int, style_dim: int, zero: bool, published: bool) -> nn.Module:
    """What reads colours off features: the authors' layer, or a modulated convolution (ours)."""
    if published:
        return RGBHead(inputs, zero)
    return ModulatedConv(inputs, 3, 1, style_dim, demodulate=False, zero=zero)


def limited(flow: Tensor, bounded: bool) -> Tensor:
    """Flow of its logits, in half picture widths."""
    return torch.tanh(flow) if bounded else flow


GLOBAL_FLOW = 32
"""Side of the finest flow of a renderer without local flow; at most a quarter of the picture's."""
COARSE_FEATURES = 12
"""Channels of the coarse grid beside its flow."""


class CoarseGrid(nn.Module):
    """Flow and features on a grid, read off the motion of source and driving frame by two linear layers; starts as zero."""

    def __init__(self, motion_dim: int, side: int, channels: int, hidden: int = 128) -> None:
        super().__init__()
        self.side = side
        read, grid = nn.Linear(2 * motion_dim, hidden), nn.Linear(hidden, (2 + COARSE_FEATURES) * side**2)
        self.layers = nn.Sequential(read, nn.SiLU(), grid)
        self.spread = EqualConv(COARSE_FEATURES, channels, 1, bias=False)
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, source: Tensor, driving: Tensor, hidden: Tensor, logits: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Add to decoder features ``(B, C, side, side)`` and flow and mask logits ``(B, 3, side, side)``."""
        grid = self.layers(torch.cat([source, driving], dim=1))  # (B, 14 side^2)
        grid = grid.view(len(source), -1, self.side, self.side)
        flow, features = grid.split((2, COARSE_FEATURES), dim=1)
        return hidden + self.spread(features).to(hidden.dtype), logits + F.pad(flow, (0, 0, 0, 0, 0, 1))


class Refine(nn.Module):
    """Residual block of four 3x3 convolutions on the RGB output; starts as the identity (ours)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        widths = (3, hidden, hidden, hidden)
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.Conv2d(hidden, 3, 3, padding=1))
        for parameter in self.net[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, rgb: Tensor) -> Tensor:
        """Add a learned correction to ``(B, 3, S, S)``."""
        return rgb + self.net(rgb)


class PaperRenderer(Renderer):
    """Encoder, motion head, motion templates and flow decoder.

    Args:
        size: picture side S, a power of two from 16.
        channels: feature channels per scale, e.g. ``{4: 512, 8: 512, ..., S: 32}``; every scale from 4 to S.
        latent_dim: L, 512 in the paper.
        motion_dim: M, the number of motion coefficients, 20 in the paper.
        source_skip: the RGB heads paint what is added to the warped source *pixels* (ours). Starts as a copy of the
            source, which keeps a small model from collapsing; off in the paper.
        rgb_input: what the RGB heads read: ``warp``, the masked warped features (paper), or ``blend``, the warped and
            generated features (ours: the mouth's inside has nothing to be warped from).
        normalise_latent: standardise the latent by running statistics (ours: motion is found much sooner).
        face_views: width of a separate motion encoder that sees face, mouth and eyes (ours, see ``FaceViewHead``); the
            source's own motion then joins its latent through a linear layer. 0 = five linear layers on the shared encoder's
            latent (paper).
        norm: of the face views: ``batch`` or ``group``.
        coarse_flow: side of a grid that two linear layers read off the motion of source and driving frame (ours); 0 = off.
            Two of its channels are added to the flow logits of that side: they find the head's motion long before the
            convolutions do. The others, ``COARSE_FEATURES``, join the decoder's features: they say where the mouth opens
            and the lids close, which there is nothing to warp from.
        mouth_painter: width of a small network that paints the mouth's inside (ours, see ``MouthPainter``; trained where the
            batches know the mouth's box); 0 = none.
        refine_channels: hidden channels of the optional refine block (512 in the paper), 0 for none.
        bounded_flow: whether the flow of every scale goes through tanh (paper), which keeps it within half the picture.
        published: whether generated branch, RGB heads and upsampling are those of the authors' files: the generated features
            neither demodulated nor activated; RGB heads without a style, activated, from 8 px on; transposed convolutions;
            flow and masks random at the start. Else ours, which the shipped 128 px model has.
        local_flow: whether every scale refines the flow (paper); else, for comparison, those up to ``GLOBAL_FLOW`` px (a
            quarter of S, if that is less), and the finer scales use it upsampled. Masks are refined at every scale.
    """

    def __init__(
        self,
        size: int,
        channels: Mapping[int, int],
        latent_dim: int = 512,
        motion_dim: int = 20,
        source_skip: bool = False,
        rgb_input: str = "warp",
        normalise_latent: bool = False,
        face_views: int = 0,
        norm: str = "batch",
        coarse_flow: int = 0,
        mouth_painter: int = 0,
        refine_channels: int = 0,
        local_flow: bool = True,
        bounded_flow: bool = True,
        published: bool = False,
    ) -> None:
        super().__init__()
        channels = {int(k): int(v) for k, v in channels.items()}
        scales = scale_list(size)
        if missing := [s for s in scales if s not in channels]:
            raise ValueError(f"channels lack the scales {missing} of a {size} px model")
        if rgb_input not in ("warp", "blend"):
            raise ValueError(f"rgb_input is 'warp' or 'blend', got {rgb_input!r}")
        self.size, self.latent_dim, self.motion_dim = size, latent_dim, motion_dim
        self.encoder = Encoder(size, channels, latent_dim, normalise_latent)
        self.face_views, self.own_motion = face_views, None
        if face_views:
            self.motion_head: nn.Module = FaceViewHead(motion_dim, face_views, norm=norm)
            self.own_motion = EqualLinear(motion_dim, latent_dim, bias=False)
        else:
            linear = [EqualLinear(latent_dim, latent_dim) for _ in range(4)]
            self.motion_head = nn.Sequential(*linear, EqualLinear(latent_dim, motion_dim, bias=False))
        self.templates = MotionTemplates(latent_dim, motion_dim)
        self.constant = nn.Parameter(torch.randn(1, channels[4], 4, 4))
        self.first = StyledBlock(channels[4], channels[4], latent_dim, upsample=False)
        self.first_rgb = None if published else rgb_head(channels[4], latent_dim, source_skip, published)
        self.bounded_flow = bounded_flow
        self.scales = nn.ModuleList(
            DecoderScale(
                channels[s // 2],
                channels[s],
                latent_dim,
                rgb_input,
                source_skip,
                moves=local_flow or s <= min(GLOBAL_FLOW, size // 4),
                bounded=bounded_flow,
                published=published,
            )
            for s in scales[1:]
        )
        self.source_skip = source_skip
        if coarse_flow and coarse_flow not in scales[:-1]:
            raise ValueError(f"coarse_flow is 0 or one of the scales {scales[:-1]}, got {coarse_flow}")
        self.coarse_flow = coarse_flow
        self.coarse = CoarseGrid(motion_dim, coarse_flow, channels[coarse_flow]) if coarse_flow else None
        self.mouth_painter = MouthPainter(motion_dim, mouth_painter) if mouth_painter else None
        self.refine = Refine(refine_channels) if refine_channels else None
        self.required_losses = ("place",) if mouth_painter else ()

    def parts(self) -> dict[str, Sequence[nn.Module | nn.Parameter]]:
        """``outer`` (the finest scale of encoder and decoder: lifts a model to twice the size), ``decoder``, ``refine``."""
        optional = (self.coarse, self.mouth_painter, self.refine)
        coarse, painter, refine = ([part] if part is not None else [] for part in optional)
        start: list[Any] = [self.constant, self.first]
        start += [] if self.first_rgb is None else [self.first_rgb]
        parts: dict[str, Sequence[nn.Module | nn.Parameter]] = {
            "outer": [self.encoder.stem, self.encoder.blocks[0], self.scales[-1], *painter],
            "decoder": [*start, self.scales, *coarse, *painter, *refine],
        }
        return parts | {"refine": refine} if refine else parts

    def encode(self, image: Tensor) -> SourceEncoding:
        """Encode source pictures ``(B, 3, S, S)`` in [-1, 1]: everything that depends on the source alone."""
        latent, features = self.encoder(image)
        motion = self._coefficients(image if self.face_views else latent)
        own = 0.0 if self.own_motion is None else self.own_motion(motion)
        return SourceEncoding(image, motion, latent.float() + own, features)

    def motion(self, image: Tensor) -> Tensor:
        """Motion coefficients ``(B, M)`` in (-1, 1) of pictures ``(B, 3, S, S)`` in [-1, 1]."""
        return self._coefficients(image if self.face_views else self.encoder(image)[0])

    def _coefficients(self, seen: Tensor) -> Tensor:
        """Motion ``(B, M)`` in (-1, 1) of what the motion head looks at: pictures, or the shared encoder's latent."""
        return torch.tanh(self.motion_head(seen).float())

    def decode(self, source: SourceEncoding, motion: Tensor) -> DecoderOutput:
        """Render B sources (see ``encode``) in motion ``(B, M)``, coefficients about in [-1, 1]."""
        # From the source's pose to the reference, and from there by the templates to the driving pose.
        latent = source.latent + self.templates(motion)  # (B, L)
        batch = motion.shape[0]
        hidden = self.first(self.constant.expand(batch, -1, -1, -1), latent)  # (B, C_4, 4, 4)
        logits = torch.zeros(batch, 3, 4, 4, device=hidden.device)  # flow x, flow y, mask
        rgb = torch.zeros_like(logits) if self.first_rgb is None else self.first_rgb(hidden, latent).float()
        # Coarse to fine, s = 8, 16, ..., S: refine flow and mask, warp the source's features (B, C_s, s, s), add colours.
        for scale, features in zip(self.scales, source.features, strict=True):
            if self.coarse is not None and logits.shape[-1] == self.coarse_flow:
                hidden, logits = self.coarse(source.motion, motion, hidden, logits)
            hidden, logits, rgb = scale(hidden, latent, features, logits, rgb)
        # The finest flow (B, 2, S, S) moves the source's pixels, too.
        flow, mask = limited(logits[:, :2], self.bounded_flow), torch.sigmoid(logits[:, 2:])
        warped = warp(source.image, flow)
        # What is painted is added to the source's pixels; then the mouth's inside, then a last correction.
        if self.source_skip:
            rgb = warped + rgb
        places = None
        if self.mouth_painter is not None:
            rgb = self.mouth_painter(rgb, warped, flow, source.motion, motion)
            places = self.mouth_painter.centre(motion)[:, None]
        if self.refine is not None:
            rgb = self.refine(rgb)
        between_centres = (self.size - 1) / self.size  # the grid here ends at the centres of corner pixels
        return DecoderOutput(rgb, warped, between_centres * flow, mask, places)


def scale_list(size: int) -> list[int]:
    """Resolutions 4, 8, ..., ``size``.

    Raises:
        ValueError: the size is not a power of two from 16.
    """
    if size < 16 or size & (size - 1):
        raise ValueError(f"size must be a power of two from 16, got {size}")
    return [2**k for k in range(2, int(math.log2(size)) + 1)]
