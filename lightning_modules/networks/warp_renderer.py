"""Renderer that moves the portrait's own pixels, whatever their resolution, and paints only what is hidden in them.

Ours. A small network at one size says where each pixel comes from, which of them belong to the person, what of it all can be
seen, and what is to be painted; frames are made at the portrait's size, which costs no further convolution.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks.base_renderer import DecoderOutput, Renderer, SourceEncoding
from lightning_modules.networks.disguise import disguised
from lightning_modules.networks.face_view_head import FaceViewHead
from lightning_modules.networks.flow_network import FlowNetwork
from lightning_modules.networks.layers import ModulatedNormConv, blurred, resized, warp_by_centres
from lightning_modules.networks.motion_templates import MotionTemplates
from lightning_modules.networks.processes import normal_like, uniform_like
from lightning_modules.networks.region_painter import (
    REST,
    WINDOWS,
    Patch,
    Places,
    RegionPainter,
    beside_eyes,
    each_region,
    region_corners,
    region_names,
    region_windows,
)
from lightning_modules.networks.source_pyramid import SourcePyramid, filled, without_holes
from lightning_modules.networks.windows import cut_windows, paste_windows, warp_windows

FOLD = 4
"""Side of the squares of pixels that are folded into channels for the trunk."""
BLUR = 8
"""Side of the squares of the network's pixels whose mean colour paint starts from."""
SURE = 0.005
"""How near to 0 and 1 a share counts where painters add to its logit."""


class _Moved(NamedTuple):
    """What both motions and the portrait's features say before anything is moved.

    Attributes:
        motions: ``(B, 2 M)`` of source and frame.
        style: ``(B, D)`` what modulates all convolutions.
        flow: ``(B, 2, s, s)``, s a quarter of the network's size, in half pictures.
        logits: ``(B, 1, s, s)`` of what it can show.
        shown: ``(B, 1, s, s)`` that, 0..1; without occlusion all.
        moving: ``(B, 32, s, s)`` features of the flow.
    """

    motions: Tensor
    style: Tensor
    flow: Tensor
    logits: Tensor
    shown: Tensor
    moving: Tensor


class WarpRenderer(Renderer):
    """Motion encoder, linear motion templates, flow with occlusion, a trunk that paints, painters of mouth and eyes.

    A portrait of ``size`` or of a multiple of it is rendered at its own size.

    Args:
        size: side S at which the network looks, a multiple of 64.
        width: channels of the trunk, a multiple of 8.
        blocks: residual blocks of the trunk.
        latent_dim: L of the appearance latent.
        motion_dim: M, number of motion coefficients.
        face_views: width of the motion encoder, see `FaceViewHead`.
        factors: how many coefficients are of the face, the mouth and the eyes, each seen in its own view alone; empty: all
            are of all views.
        known_features: whether mouth and eyes are read off features of a network that knows photographs, see `FaceViewHead`.
        style_dim: size of the vector that modulates all convolutions.
        painters: channels of the painters of mouth and eyes, a multiple of 8; 0 = none.
        detail: 1 or 2: how many times as fine as the network looks it paints, which costs next to nothing.
        occlusion: whether paint takes the place of what the flow can't show; else, for comparison, it is added to it.
        person: whether the background stays where it is in the portrait; else, for comparison, the flow moves it, too.
        disguise: in training, how far the pictures that motion is read off change in colour, light and texture, each by
            itself, from 0 to 1 (see `disguised`).
        input_noise: largest std, in training, of noise on all that the network looks at, where pictures are in [-1, 1]: it is
            to go by shapes, not by how smooth a drawn skin is. The pixels that it moves stay clean.
    """

    largest_factor = 8
    moves_pixels = True
    outlined = ("flow",)

    def __init__(
        self,
        size: int = 256,
        width: int = 64,
        blocks: int = 2,
        latent_dim: int = 512,
        motion_dim: int = 20,
        face_views: int = 24,
        factors: Sequence[int] = (),
        known_features: bool = False,
        style_dim: int = 128,
        painters: int = 48,
        detail: int = 1,
        occlusion: bool = True,
        person: bool = True,
        input_noise: float = 0.0,
        disguise: float = 0.0,
    ) -> None:
        super().__init__()
        if size % 64:
            raise ValueError(f"size must be a multiple of 64, got {size}")
        if detail not in (1, 2):
            raise ValueError(f"detail must be 1 or 2, got {detail}")
        self.size, self.latent_dim, self.motion_dim, self.detail = size, latent_dim, motion_dim, detail
        self.occlusion, self.person = occlusion, person
        self.input_noise, self.disguise = input_noise, disguise
        self.motion_head = FaceViewHead(motion_dim, face_views, 96, "group", factors, known_features)
        self.source = SourcePyramid(latent_dim, fine=16, middle=64, coarse=64)
        self.own_motion = nn.Linear(motion_dim, latent_dim, bias=False)
        self.templates = MotionTemplates(latent_dim, motion_dim)
        self.style = nn.Sequential(
            nn.Linear(latent_dim + 2 * motion_dim, style_dim),
            nn.SiLU(),
            nn.Linear(style_dim, style_dim),
            nn.SiLU(),
        )
        self.flow = FlowNetwork(motion_dim, 64, style_dim)
        self.enter = ModulatedNormConv(64 + 32 + 2 * 3 * FOLD**2, width, style_dim)
        self.trunk = nn.ModuleList(ModulatedNormConv(width, width, style_dim) for _ in range(2 * blocks))
        self.rise = nn.Conv2d(width, 64, 3, padding=1)  # shuffled to 16 channels at half the size
        self.paint = nn.Conv2d(32, 5 * (2 * detail) ** 2, 3, padding=1)  # of colours, alpha and person
        for parameter in self.paint.parameters():
            nn.init.zeros_(parameter)
        self.places = Places(motion_dim, latent_dim) if painters else None
        self.painters = nn.ModuleDict()
        for name in WINDOWS if painters else ():
            self.painters[name] = RegionPainter(
                style_dim + len(REST), painters, 2 * motion_dim + len(REST), detail, name == "eye"
            )
        self.required_losses = ("place",) if painters else ()

    def encode(self, image: Tensor) -> SourceEncoding:
        """Encode source pictures ``(B, 3, k S, k S)`` in [-1, 1]: everything that depends on the source alone."""
        seen = self._seen(image)
        looked_at = self._noised(seen)
        latent, maps, stood = self.source(looked_at)
        motion = self.motion(seen)
        own: tuple[Tensor, ...] = ()
        if self.places is not None:
            own = tuple(
                one
                for _, one in region_windows(
                    self._noised(image), self.places(motion, latent), self.size, self.detail
                )
            )
        # What stands behind the person, where it can be seen, and a guess of the rest.
        behind = image
        if self.person:
            edge = F.max_pool2d(stood, 3, 1, 1)  # hair and seams are the person's, too
            behind = filled(image, resized((1 - 2 * edge).clamp(min=0), image.shape[-1]))
        features = (seen, (behind, self._seen(behind)), stood, *maps, latent, own)
        return SourceEncoding(image, motion, latent + self.own_motion(motion), features)

    def motion(self, image: Tensor) -> Tensor:
        """Motion coefficients ``(B, M)`` in (-1, 1) of pictures ``(B, 3, k S, k S)`` in [-1, 1]."""
        seen = self._noised(self._seen(image))
        if self.training and self.disguise:
            seen = disguised(seen, self.disguise)
        return torch.tanh(self.motion_head(seen).float())

    def _noised(self, pictures: Tensor) -> Tensor:
        """Pictures ``(B, n, h, w)``; in training with noise of pixels and of spots, in each of a strength of its own."""
        if not self.training or not self.input_noise:
            return pictures
        maps, *sides = pictures.shape[1:]
        spots = normal_like(pictures, maps, *(-(-side // 4) for side in sides))
        spots = F.interpolate(spots, sides, mode="bilinear", align_corners=False)
        strength = self.input_noise * uniform_like(pictures, 1, 1, 1)
        return pictures + strength * (normal_like(pictures, maps, *sides) + spots)

    def _seen(self, image: Tensor) -> Tensor:
        """The picture at the network's size.

        Raises:
            ValueError: its side is no multiple of that.
        """
        if image.shape[-1] % self.size:
            raise ValueError(f"a portrait of {image.shape[-1]} px is no multiple of {self.size}")
        return image if image.shape[-1] == self.size else F.interpolate(image, (self.size,) * 2, mode="area")

    def decode(self, source: SourceEncoding, motion: Tensor) -> DecoderOutput:
        """Render B sources in motion ``(B, M)``, coefficients about in [-1, 1], at the size of their pictures."""
        seen, (whole_behind, behind), stood, *maps, latent, own = source.features
        size, whole = self.size, source.image.shape[-1]
        motions, style, coarse_flow, logits, shown, moving = self._moved(source, motion)
        warped = warp_by_centres(seen, resized(coarse_flow, size), "bicubic").clamp(-1, 1)
        change, alpha, person = self._painted((warped, behind), maps[:2], coarse_flow, shown, moving, style)
        colours = torch.tanh(change)
        places = self._placed(motion, latent)
        if self.occlusion:  # near the colours that are there, so that no face's are far off
            colours = (resized(blurred(warped, BLUR), change.shape[-1]) + colours).clamp(-1, 1)
            if places is not None:
                alpha = beside_eyes(alpha, places, size)
            alpha = torch.sigmoid(resized(logits, alpha.shape[-1]) + alpha)
        else:
            alpha = torch.ones_like(alpha)
        # The frame at the portrait's size.
        colours, alpha = resized(colours, whole), resized(alpha, whole)
        mask = resized(without_holes(torch.sigmoid(person)), whole) if self.person else None
        flow = self._swayed(coarse_flow, motions, places, whole)
        warped = warp_by_centres(source.image.float(), flow, "bicubic").clamp(-1, 1)
        frame = self._composed(warped, colours, alpha, whole_behind, mask)
        # Mouth and eyes, painted more finely.
        if places is not None:
            patches = self._patches(places, own, torch.cat([frame, warped, 1 - alpha], dim=1), style, motions)
            windows = [one for patch in patches for one in patch.at(whole // size)]
            for corners, change, share, added in windows:
                cut = partial(cut_windows, corners=corners, sides=change.shape[-2:])
                flow = flow if added is None else paste_windows(flow, cut(flow) + added, corners)
                colours = paste_windows(colours, cut(colours) + change, corners)
                if self.occlusion:
                    before = torch.logit(cut(alpha), SURE)
                    less = torch.sigmoid(before) - torch.sigmoid(before - share)
                    alpha = paste_windows(alpha, (cut(alpha) - less).clamp(0, 1), corners)
            for corners, change, _, added in windows:
                cut = partial(cut_windows, corners=corners, sides=change.shape[-2:])
                if added is not None:
                    moved = warp_windows(source.image.float(), cut(flow), corners).clamp(-1, 1)
                    warped = paste_windows(warped, moved, corners)
                there = None if mask is None else cut(mask)
                figure = self._composed(cut(warped), cut(colours), cut(alpha), cut(whole_behind), there)
                frame = paste_windows(frame, figure, corners)
        return DecoderOutput(frame, warped, flow, alpha, places, mask, shown, stood)

    def outline(self, source: SourceEncoding, motion: Tensor) -> DecoderOutput:
        """The flow at the network's size, without what painters see of eyes, and what it shows; the moved pixels as frame."""
        seen, _, stood, *_, latent, _ = source.features
        motions, _, coarse_flow, _, shown, _ = self._moved(source, motion)
        places = self._placed(motion, latent)
        flow = self._swayed(coarse_flow, motions, places, self.size)
        warped = warp_by_centres(seen, flow)
        return DecoderOutput(warped, warped, flow, None, places, None, shown, stood)

    def _placed(self, motion: Tensor, latent: Tensor) -> Tensor | None:
        """Where mouth and eyes are, ``(B, 3, 2)``, or None without painters."""
        return None if self.places is None else self.places(motion, latent)

    def _swayed(self, flow: Tensor, motions: Tensor, places: Tensor | None, whole: int) -> Tensor:
        """The whole flow ``(B, 2, whole, whole)``, with that of lips and lids at their places."""
        flow, factor = resized(flow, whole), whole // self.size
        if places is None:
            return flow
        kinds = zip(
            self.painters.values(), region_corners(places, self.size), region_names(motions), strict=True
        )
        for painter, (corners, sides), which in kinds:
            sides = [factor * side for side in sides]
            added = cast(RegionPainter, painter).swayed(each_region(motions, which), sides)
            added = added.unflatten(0, which.shape[:2])
            for k in range(added.shape[1]):  # one after the other: two may overlap
                at = factor * corners[:, k : k + 1]
                flow = paste_windows(flow, cut_windows(flow, at, sides) + added[:, k : k + 1], at)
        return flow

    def _moved(self, source: SourceEncoding, motion: Tensor) -> _Moved:
        coarse = source.features[-3]  # before the latent and the own windows
        motions = torch.cat([source.motion, motion], dim=1).float()
        style = self.style(torch.cat([source.latent + self.templates(motion), motions], dim=1))
        flow, logits, moving = self.flow(motions, coarse, style, self.size // 4)
        shown = torch.sigmoid(logits) if self.occlusion else torch.ones_like(logits)
        return _Moved(motions, style, flow, logits, shown, moving)

    def _painted(
        self,
        pictures: Sequence[Tensor],
        maps: Sequence[Tensor],
        flow: Tensor,
        shown: Tensor,
        moving: Tensor,
        style: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Change of colours ``(B, 3, d S, d S)`` with the detail d, alpha and person ``(B, 1, d S, d S)``, unbounded.

        It sees the features ``maps``, moved, how far they can be seen, and the ``pictures``: the portrait's pixels as they
        were moved and, of the background, as they are.
        """
        fine, middle = maps
        half = fine.shape[-1]
        pixels = F.pixel_unshuffle(self._noised(torch.cat(list(pictures), dim=1)), FOLD)
        x = self.enter(torch.cat([warp_by_centres(middle, flow) * shown, moving, pixels], dim=1), style)
        for first, second in zip(self.trunk[::2], self.trunk[1::2], strict=True):
            x = x + second(first(x, style), style)
        x = F.pixel_shuffle(self.rise(x), 2)
        x = torch.cat([x, warp_by_centres(fine, resized(flow, half)) * resized(shown, half)], dim=1)
        found = F.pixel_shuffle(self.paint(F.silu(x)).float(), 2 * self.detail)
        change, alpha, person = found.split((3, 1, 1), dim=1)
        return change, alpha, person

    def _composed(
        self, warped: Tensor, colours: Tensor, alpha: Tensor, behind: Tensor, person: Tensor | None
    ) -> Tensor:
        """Frame ``(B, 3, s, s)``: the person, moved and painted, before the background; or all of the portrait so."""
        figure = colours + alpha * (warped - colours) if self.occlusion else warped + colours
        return figure if person is None else behind + person * (figure - behind)

    def _patches(
        self, places: Tensor, own: Sequence[Tensor], now: Tensor, style: Tensor, motions: Tensor
    ) -> list[Patch]:
        """What is to be added at the mouth and at the eyes, from the portrait's own windows and what is there so far.

        ``now`` ``(B, 7, k S, k S)``: the frame so far, the moved pixels, what is painted.
        """
        patches = []
        seen = zip(
            WINDOWS,
            own,
            region_windows(now, places, self.size, self.detail),
            region_names(style),
            strict=True,
        )
        for name, mine, (corners, windows), which in seen:
            pictures, hidden = windows.split((6, 1), dim=2)
            pictures = self._noised(pictures.flatten(1, 2)).view_as(pictures)
            looked_at = torch.cat([mine, pictures, hidden], dim=2).flatten(0, 1)
            paint, flow = self.painters[name](
                looked_at, each_region(style, which), each_region(motions, which)
            )
            flow = None if flow is None else flow.unflatten(0, which.shape[:2])
            patches.append(Patch(corners, paint.unflatten(0, which.shape[:2]), flow, self.detail))
        return patches

    def latent_parts(self) -> Sequence[nn.Module]:
        """Motion encoder and source pyramid: flow and painters may learn on."""
        return [self.motion_head, self.source, self.own_motion]

    def parts(self) -> dict[str, Any]:
        """``flow``: what moves pixels; ``paint``: trunk and mouth's painter. Eyes stay as all losses have taught them."""
        moves: list[nn.Module] = [self.flow]
        paints: list[nn.Module] = [self.enter, self.trunk, self.rise, self.paint]
        if self.painters:
            mouth = cast(RegionPainter, self.painters["mouth"])
            moves.append(mouth.sway)
            paints.extend(one for one in mouth.children() if one is not mouth.sway)
        return {"flow": moves, "paint": paints}
