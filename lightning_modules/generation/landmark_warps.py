"""Lids and lips that shut on photographs: the portrait's own skin is drawn over its eyes and teeth.

Ours. A renderer that knows drawn heads alone brings lids of photographs down by a third, and hardly any lips over the teeth
of a smile. What it moves are the portrait's pixels: it is enough to hand it a portrait whose lips are shut and whose eyes are
as far shut as its motion says, by where MediaPipe sees both.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor
from torch.nn import functional as F

from datamodules.assets import MissingAssetError
from datamodules.faces.landmarks import MissingLibraryError, measure_landmarks
from datamodules.media.pictures import to_pixels

# Landmarks along the edges of lids and, inside, of lips, from corner to corner; and under the brows.
UPPER_LID = (33, 246, 161, 160, 159, 158, 157, 173, 133), (263, 466, 388, 387, 386, 385, 384, 398, 362)
LOWER_LID = (33, 7, 163, 144, 145, 153, 154, 155, 133), (263, 249, 390, 373, 374, 380, 381, 382, 362)
BROW = (46, 53, 52, 65, 55), (276, 283, 282, 295, 285)
UPPER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_LIP = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
NOSE, CHIN = 2, 152
"""Landmarks between which skin is drawn over the teeth: under the nose, and the lowest of the face."""
SKIN, SHORT_SKIN, LEAST_SKIN = 0.85, 0.7, 0.1
"""Height of the skin above the upper lid that is drawn down: as a share of the way to the brow; behind glasses, whose rims
are not to be drawn along, in heights of the eye; and at least in widths of the eye."""
RIM = 0.17
"""How much darker, as a share of the brightest skin there, a line between lid and brow is that counts as a rim of glasses."""
COVERED = 1.1
"""How far down skin comes over eyes that are shut, in heights of the eye: the lids' edges are seen a little within it."""
OPEN, SHUT = 0.5, 3.0
"""Where lids begin to be drawn, and where they are shut: units of the basis' coordinate of the eyes above its median.

Lids that shut are about 4 from there; how open an eye is otherwise varies by half a unit.
"""
PARTED = 0.06
"""Widest gap of the lips, in widths of the mouth, that is left as it is."""
MEETING = 0.4
"""Where in that gap the lips meet, from the upper one down: the lower one moves more."""
OVERLAP = 0.03
"""How much of each lip's edge is left out where they meet, in widths of the mouth: teeth show a little beyond the gap."""
SMOOTH = 0.05
"""Std of the Gaussian along the mouth by which the gap is smoothed, in widths of it: beyond the corners skin moves, too."""


class Eye(NamedTuple):
    """One eye of a portrait of S px: maps ``(h, w)`` over a window about it, all heights in pixels down from its corners.

    Attributes:
        left: Of the window, in pixels.
        top: Likewise.
        pixels: ``(h, w, 2)`` places of the pixels in the picture, x and y.
        height: ``(h, w)`` of the pixel itself.
        top_skin: ``(h, w)`` where the skin that is drawn down begins.
        upper: ``(h, w)`` of the upper lid's edge.
        gap: ``(h, w)`` between the edges of both lids; 0 beside the eye.
        down: ``(2,)`` which way in the picture is down.
    """

    left: int
    top: int
    pixels: Tensor
    height: Tensor
    top_skin: Tensor
    upper: Tensor
    gap: Tensor
    down: Tensor


def find_points(portrait: Tensor) -> np.ndarray | None:
    """Landmarks ``(478, 2)`` in [0, 1] of a portrait ``(1, 3, H, W)`` or ``(3, H, W)`` in [-1, 1].

    None where MediaPipe sees no face, or is not installed.
    """
    try:
        seen = measure_landmarks([to_pixels(portrait.reshape(-1, 3, *portrait.shape[-2:])[0])])
    except (MissingAssetError, MissingLibraryError):
        return None
    return seen.landmarks[0, :, :2].astype(np.float64) if seen.found[0] else None


def eyes_at(points: np.ndarray, picture: Tensor) -> tuple[Eye, ...]:
    """The eyes of a ``picture (1, 3, S, S)`` of a face with such landmarks ``(478, 2)`` in [0, 1]; none outside of it."""
    points = points * picture.shape[-1]
    glasses = any(_dark_line(points, picture, *lines) > RIM for lines in zip(UPPER_LID, BROW, strict=True))
    lids = zip(UPPER_LID, LOWER_LID, BROW, strict=True)
    found = (_eye(points, picture, *lines, glasses) for lines in lids)
    return tuple(eye for eye in found if eye is not None)


def how_far_shut(eyes: Tensor) -> Tensor:
    """Share ``(T,)`` in [0, 1] to which lids are shut at coordinates ``(T,)`` of the eyes, most of which are open ones."""
    return ((eyes - eyes.median() - OPEN) / (SHUT - OPEN)).clamp(0, 1)


def with_lids_shut(picture: Tensor, eyes: tuple[Eye, ...], shares: Tensor) -> Tensor:
    """Pictures ``(T, 3, S, S)`` of a portrait ``(1, 3, S, S)`` whose lids are shut to ``shares (T,)``."""
    pictures = picture.repeat(len(shares), 1, 1, 1)
    for eye in eyes:
        (h, w), share = eye.height.shape, shares[:, None, None]
        window = slice(eye.top, eye.top + h), slice(eye.left, eye.left + w)
        edge = eye.upper + share * COVERED * eye.gap  # (T, h, w) of the upper lid as far as it has come down
        stretched = (eye.upper - eye.top_skin) / (edge - eye.top_skin)
        # From where in the portrait each pixel of the skin comes.
        rise = (eye.height - eye.top_skin) * (stretched - 1)
        skin = _sampled(picture.expand(len(shares), -1, -1, -1), eye.pixels + rise[..., None] * eye.down)
        covered = (edge - eye.height + 0.5).clamp(0, 1) * (eye.height > eye.top_skin) * (eye.gap > 0)
        pictures[:, :, *window] = torch.lerp(pictures[:, :, *window], skin, covered[:, None])
    return pictures.clamp(-1, 1)


def with_lips_shut(portrait: Tensor, points: np.ndarray) -> Tensor:
    """A portrait ``(1, 3, H, W)`` with landmarks ``(478, 2)`` in [0, 1] whose lips are drawn together, or are shut already.

    Skin between nose and mouth is drawn down, that between mouth and chin up. A mouth that is wide open stays odd.
    """
    height, width = portrait.shape[-2:]
    points = points * (width, height)
    rows, columns = np.mgrid[:height, :width] + 0.5
    pixels = np.stack([columns, rows], axis=-1)
    line = _Line.between(points[UPPER_LIP[0]], points[UPPER_LIP[-1]])
    if line is None:
        return portrait
    across, down = line.of(pixels)
    # The edges of the lips, and the gap, along the mouth and beside it.
    spots, step = np.linspace(-0.3 * line.width, 1.3 * line.width, 321, retstep=True)
    upper, lower = (line.heights(points[list(lip)], spots) for lip in (UPPER_LIP, LOWER_LIP))
    gap = (lower - upper).clip(min=0) * ((spots > 0) & (spots < line.width))
    if gap.max() < PARTED * line.width:
        return portrait
    gap = np.maximum(gap, gaussian_filter1d(gap, SMOOTH * line.width / step))
    upper, gap = (np.interp(across, spots, one) for one in (upper, gap))
    meet, left_out = upper + MEETING * gap, OVERLAP * line.width * gap / gap.max()
    least = LEAST_SKIN * line.width
    nose = np.minimum(line.of(points[NOSE])[1], upper - least)
    chin = np.maximum(line.of(points[CHIN])[1], upper + gap + least)
    above = nose + (down - nose) * (upper - left_out - nose) / (meet - nose)
    below = chin - (chin - down) * (chin - upper - gap - left_out) / (chin - meet)
    skin = (down > nose) & (down < chin)
    moved = np.where(skin, np.where(down < meet, above, below) - down, 0.0)
    places = torch.from_numpy(pixels + moved[..., None] * line.down)[None].to(portrait)
    return _sampled(portrait, places).clamp(-1, 1)


def _sampled(pictures: Tensor, places: Tensor) -> Tensor:
    """Pictures ``(T, 3, H, W)`` at places ``(T, h, w, 2)``, x and y in pixels."""
    size = torch.tensor(pictures.shape[:1:-1], device=pictures.device)
    grid = (2 * places / size - 1).to(pictures.dtype)
    return F.grid_sample(pictures, grid, mode="bicubic", padding_mode="border", align_corners=False)


class _Line(NamedTuple):
    """The line between the corners of an eye or a mouth, and what lies across and below it, in pixels."""

    left: np.ndarray
    along: np.ndarray
    down: np.ndarray
    width: float

    @classmethod
    def between(cls, one: np.ndarray, other: np.ndarray) -> "_Line | None":
        """None of corners that are one."""
        left, right = (one, other) if one[0] < other[0] else (other, one)
        width = float(np.linalg.norm(right - left))
        if width < 1:
            return None
        along = (right - left) / width
        return cls(left, along, np.array([-along[1], along[0]]), width)

    def of(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How far places ``(..., 2)`` are from its left end, along it and below it, ``(...)``."""
        return (places - self.left) @ self.along, (places - self.left) @ self.down

    def heights(self, points: np.ndarray, across: np.ndarray) -> np.ndarray:
        """How far below it a curve through ``points (N, 2)`` is at ``across (...)``."""
        places = sorted(zip(*self.of(points), strict=True))
        return np.interp(across, *np.array(places).T)


def _eye(
    points: np.ndarray,
    picture: Tensor,
    upper: tuple[int, ...],
    lower: tuple[int, ...],
    brow: tuple[int, ...],
    glasses: bool,
) -> Eye | None:
    """The eye with such landmarks, ``points (478, 2)`` in pixels of the picture; None where it lies outside of it."""
    line = _Line.between(points[upper[0]], points[upper[-1]])
    if line is None:
        return None
    outline = points[[*upper, *lower, *brow]]
    low, high = np.floor(outline.min(axis=0)) - 2, np.ceil(outline.max(axis=0)) + 2
    low, high = (end.clip(0, picture.shape[-1]).astype(int) for end in (low, high))
    if (high - low < 2).any():
        return None
    rows, columns = np.mgrid[low[1] : high[1], low[0] : high[0]] + 0.5
    pixels = np.stack([columns, rows], axis=-1)
    across, height = line.of(pixels)
    edge, other, under = (line.heights(points[list(one)], across) for one in (upper, lower, brow))
    gap = (other - edge).clip(min=0) * ((across > 0) & (across < line.width))
    skin = SHORT_SKIN * gap.max() if glasses else SKIN * (edge - under)
    top = edge - np.maximum(skin, LEAST_SKIN * line.width)
    maps = (torch.from_numpy(one).to(picture) for one in (pixels, height, top, edge, gap, line.down))
    return Eye(int(low[0]), int(low[1]), *maps)


def _dark_line(points: np.ndarray, picture: Tensor, upper: tuple[int, ...], brow: tuple[int, ...]) -> float:
    """How much darker the darkest line along the upper lid, on the way to the brow, is than what lies on either side of it.

    As a share of what is brightest there; of lid and picture as of `_eye`.
    """
    line = _Line.between(points[upper[0]], points[upper[-1]])
    if line is None:
        return 0.0
    across, way = np.linspace(0.2, 0.8, 40) * line.width, np.linspace(0.15, 1, 40)[:, None]
    edge, under = (line.heights(points[list(one)], across) for one in (upper, brow))
    skin = max(SKIN * float((edge - under).mean()), LEAST_SKIN * line.width)
    places = line.left + across[:, None] * line.along + (edge - way * skin)[..., None] * line.down
    seen = _sampled(picture, torch.from_numpy(places)[None].to(picture))[0].mean(dim=(0, 2)) + 1
    brightest = torch.minimum(seen.cummax(0).values, seen.flip(0).cummax(0).values.flip(0))
    return float((brightest - seen).max() / seen.max().clamp_min(1e-6))
