"""Moves lips and lids by a finer flow that motion alone says, and paints what a shut mouth or lid hides.

Ours. Mouth and eyes are looked at in windows that go along with them on whole pixels, so that teeth and iris are at about
the same place in every frame and nothing is resampled.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks.face_windows import USUAL
from lightning_modules.networks.layers import ModulatedNormConv, full_precision, upsample
from lightning_modules.networks.windows import cut_windows, fading, paste_windows, window_corners

BLOCKS = 4
"""Residual convolutions at a quarter of the resolution."""
PLATE, PLATE_FEATURES = 12, 8
"""Side and channels of the features that motion alone says, stretched over the window."""
SEEN = 3 + 3 + 3 + 1
"""Channels that are looked at: windows of the portrait, of the frame, of the portrait's moved pixels, of what is painted."""
SWAY = 64
"""Width of the layers behind what motion alone says of flow and of the painted share."""
REST = tuple(place[:2] for place in USUAL)
"""Where a framed face usually has its mouth, left and right eye (the person's), x, y in [0, 1]."""
WINDOWS = {"mouth": (0.25, 0.375), "eye": (0.125, 0.1875)}
"""Height and width of the painters' windows in picture widths: 64 x 96 and 32 x 48 pixels at 256."""


class Places(nn.Module):
    """Where the parts of the face are: linear in motion and appearance; taught by their boxes alone."""

    def __init__(self, motion_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.of_motion = nn.Linear(motion_dim, 2 * len(REST))
        self.of_face = nn.Linear(latent_dim, 2 * len(REST), bias=False)
        nn.init.zeros_(self.of_motion.weight)
        nn.init.zeros_(self.of_face.weight)
        with torch.no_grad():
            self.of_motion.bias.copy_(torch.tensor(REST).flatten())

    def forward(self, motion: Tensor, latent: Tensor) -> Tensor:
        """Centres ``(B, 3, 2)`` of mouth, left and right eye, x, y in [0, 1]."""
        with full_precision(motion.device):
            found = self.of_motion(motion.float()) + self.of_face(latent.float())
        return found.view(-1, len(REST), 2)


def region_corners(places: Tensor, size: int) -> list[tuple[Tensor, list[int]]]:
    """Corners ``(B, n, 2)`` and sides of the windows of the mouth and of the eyes about places ``(B, 3, 2)``.

    They are those at the network's side ``size``.
    """
    found = []
    for shares, centres in zip(WINDOWS.values(), places.split((1, 2), dim=1), strict=True):
        sides = [max(round(share * size / 4), 1) * 4 for share in shares]
        found.append((window_corners(centres, sides, size), sides))
    return found


def region_windows(pictures: Tensor, places: Tensor, size: int, detail: int) -> list[tuple[Tensor, Tensor]]:
    """Corners, see `region_corners`, and windows ``(B, n, C, d h, d w)``, d the ``detail``, of ``(B, C, k size, k size)``."""
    found, factor = [], pictures.shape[-1] // size
    for corners, sides in region_corners(places, size):
        windows = cut_windows(pictures, factor * corners, [factor * side for side in sides])
        mode = {"mode": "area"} if factor > detail else {"mode": "bilinear", "align_corners": False}
        fitting = F.interpolate(windows.flatten(0, 1), [detail * side for side in sides], **mode)
        found.append((corners, fitting.unflatten(0, windows.shape[:2])))
    return found


def beside_eyes(logits: Tensor, places: Tensor, size: int) -> Tensor:
    """Logits ``(B, 1, d size, d size)`` of what the trunk says is shown, 0 at eyes: they are their painter's alone.

    What it has seen covered in drawn eyes it would cover in photographs' a little, always: a veil of skin.
    """
    factor = logits.shape[-1] // size
    _, (corners, sides) = region_corners(places, size)
    for at in (factor * corners).split(1, dim=1):
        eye = cut_windows(logits, at, [factor * side for side in sides])
        logits = paste_windows(logits, eye * (1 - fading(eye.shape[-2:], eye.device)), at)
    return logits


def region_names(like: Tensor) -> tuple[Tensor, ...]:
    """Vectors ``(B, n, 3)`` that say which window it is, for B rows, of the mouth and of the eyes."""
    return torch.eye(len(REST), device=like.device).expand(len(like), -1, -1).split((1, 2), dim=1)


def each_region(said: Tensor, which: Tensor) -> Tensor:
    """Vectors ``(B, D)`` for each of n windows, ``(B n, D + 3)``, with ``which`` ``(B, n, 3)`` it is."""
    return torch.cat([said[:, None].expand(*which.shape[:2], -1), which], dim=2).flatten(0, 1)


class RegionPainter(nn.Module):
    """What is to be added to flow, paint and its share in windows of one kind: a U-Net of three levels, modulated by motion.

    The mouth's flow is not the U-Net's: what looks at pictures learns from them that lips had better stay near. Where a lid
    goes motion alone doesn't tell. Paint goes on from what the whole frame's trunk makes of the window: a painter whose paint
    were laid over the trunk's, by a cover of its own, would be worse than that at first, be covered up, and never learn.

    Args:
        style_dim: size of the vector that says motion, and which of several alike windows this is.
        width: channels at the network's resolution, a multiple of 8; below it there are twice as many.
        motion_dim: size of the vector that says motion and window alone: what flow and share follow on any face.
        detail: pixels that are looked at and painted along each side of one of the network's.
        moves: whether what is seen says flow, too.
    """

    def __init__(
        self, style_dim: int, width: int, motion_dim: int, detail: int = 1, moves: bool = False
    ) -> None:
        super().__init__()
        self.detail = detail
        self.sway, self.opening = (
            nn.Sequential(nn.Linear(motion_dim, SWAY), nn.SiLU(), nn.Linear(SWAY, maps * PLATE**2))
            for maps in (2, 1)
        )
        self.plate = nn.Linear(style_dim, PLATE_FEATURES * PLATE**2)
        self.fine = ModulatedNormConv(SEEN * detail**2 + PLATE_FEATURES, width, style_dim)
        self.middle = ModulatedNormConv(width, 2 * width, style_dim, stride=2)
        self.coarse = ModulatedNormConv(2 * width, 2 * width, style_dim, stride=2)
        self.blocks = nn.ModuleList(ModulatedNormConv(2 * width, 2 * width, style_dim) for _ in range(BLOCKS))
        self.up = ModulatedNormConv(4 * width, 2 * width, style_dim)
        self.rise = ModulatedNormConv(3 * width, width, style_dim)
        outputs = 4 * detail**2 + 2 * moves  # of colours and share; flow
        self.paint = nn.Conv2d(width, outputs, 3, padding=1)
        for parameter in (
            *self.sway[-1].parameters(),
            *self.opening[-1].parameters(),
            *self.paint.parameters(),
        ):
            nn.init.zeros_(parameter)

    def forward(self, window: Tensor, style: Tensor, motions: Tensor) -> tuple[Tensor, Tensor | None]:
        """Change of colours, in (-1, 1), and of the logit of the painted share, ``(N, 3 + 1, d h, d w)``, and flow.

        All, the flow ``(N, 2, h, w)`` in half pictures where it moves, are 0 at the edges.

        Args:
            window: ``(N, 10, d h, d w)`` see ``SEEN``, in [-1, 1], d the detail; h and w are multiples of four.
            style: ``(N, D)``.
            motions: ``(N, M)``.
        """
        opening = _stretched(_plate(self.opening, motions), window.shape[2:])
        window = F.pixel_unshuffle(window, self.detail)  # (N, 10 d^2, h, w)
        plate = _stretched(self.plate(style).view(-1, PLATE_FEATURES, PLATE, PLATE), window.shape[2:])
        fine = self.fine(torch.cat([window, plate.to(window.dtype)], dim=1), style)  # (N, W, h, w)
        middle = self.middle(fine, style)  # (N, 2 W, h / 2, w / 2)
        hidden = self.coarse(middle, style)  # (N, 2 W, h / 4, w / 4)
        for block in self.blocks:
            hidden = hidden + block(hidden, style)
        hidden = self.up(torch.cat([middle, upsample(hidden)], dim=1), style)
        found = self.paint(self.rise(torch.cat([fine, upsample(hidden)], dim=1), style)).float()
        found, flow = found.split((4 * self.detail**2, found.shape[1] - 4 * self.detail**2), dim=1)
        change, share = F.pixel_shuffle(found, self.detail).split((3, 1), dim=1)
        paint = torch.cat([torch.tanh(change), share + opening], dim=1) * fading(
            change.shape[2:], change.device
        )
        return paint, flow * fading(flow.shape[2:], flow.device) if flow.shape[1] else None

    def swayed(self, motions: Tensor, sides: Sequence[int]) -> Tensor:
        """Flow ``(N, 2, h, w)`` in half pictures that motion ``(N, M)`` says, 0 at the edges."""
        flow = _stretched(_plate(self.sway, motions), sides)
        return flow * fading(flow.shape[2:], flow.device)


def _plate(layers: nn.Module, motions: Tensor) -> Tensor:
    """Maps ``(N, C, 12, 12)`` of motion ``(N, M)``."""
    return layers(motions.float()).unflatten(1, (-1, PLATE, PLATE))


def _stretched(maps: Tensor, sides: Sequence[int]) -> Tensor:
    """Maps ``(N, C, h, w)`` bilinearly at other sides."""
    return F.interpolate(maps, list(sides), mode="bilinear", align_corners=False)


class Patch(NamedTuple):
    """What is added to what moves and paints n windows of one kind in each picture.

    Attributes:
        corners: ``(B, n, 2)`` int64 first row and column, in the network's pixels.
        paint: ``(B, n, 3 + 1, d h, d w)`` of the colours of the paint, and of the logit of the painted share.
        flow: ``(B, n, 2, h, w)`` in half pictures, or None.
        detail: d.
    """

    corners: Tensor
    paint: Tensor
    flow: Tensor | None
    detail: int

    def at(self, factor: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
        """Corners, colours, share, flow of one window after the other, as two may overlap, in ``factor`` times the size."""
        sides = [factor * side // self.detail for side in self.paint.shape[-2:]]
        paint, flow = (
            None if maps is None else _stretched(maps.flatten(0, 1), sides).unflatten(0, maps.shape[:2])
            for maps in (self.paint, self.flow)
        )
        assert paint is not None
        for k, corners in enumerate((factor * self.corners).split(1, dim=1)):
            change, share = paint[:, k : k + 1].split((3, 1), dim=2)
            yield corners, change, share, None if flow is None else flow[:, k : k + 1]
