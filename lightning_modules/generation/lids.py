"""Lids that shut on photographs: the skin above an eye is drawn down over it, by where the landmarker sees its lids.

Ours. A renderer that knows drawn heads alone brings lids of photographs down by a third. What it moves are the portrait's
pixels, so it is enough to hand it a portrait whose eyes are as far shut as its motion says.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.assets import MissingAssetError
from datamodules.faces.landmarks import MissingLibraryError, measure_landmarks
from datamodules.media.pictures import to_pixels

UPPER = (33, 246, 161, 160, 159, 158, 157, 173, 133), (263, 466, 388, 387, 386, 385, 384, 398, 362)
LOWER = (33, 7, 163, 144, 145, 153, 154, 155, 133), (263, 249, 390, 373, 374, 380, 381, 382, 362)
BROW = (46, 53, 52, 65, 55), (276, 283, 282, 295, 285)
"""Landmarks of MediaPipe along the edge of the upper lid and of the lower one, from corner to corner, and under the brow."""
SKIN = 0.85
"""Share of the skin between upper lid and brow that is drawn down; what is nearer to the brow stays."""
LEAST_SKIN = 0.1
"""Height of that skin at least, in widths of the eye: brows that hang low are drawn along."""
COVERED = 1.1
"""How far down skin comes over eyes that are shut, in heights of the eye: the lids' edges are seen a little within it."""
OPEN, SHUT = 0.5, 3.0
"""Where lids begin to be drawn, and where they are shut: units of the basis' coordinate of the eyes above its median.

Lids that shut are about 4 from there; how open an eye is otherwise varies by half a unit.
"""


class Eye(NamedTuple):
    """One eye of a portrait of S px: maps ``(h, w)`` over a window about it, all heights in pixels down from its corners.

    Attributes:
        left: Of the window, in pixels.
        top: Likewise.
        height: ``(h, w)`` of the pixel itself.
        brow: ``(h, w)`` where the skin that is drawn down begins.
        upper: ``(h, w)`` of the upper lid's edge.
        gap: ``(h, w)`` between the edges of both lids; 0 beside the eye.
        down: ``(2,)`` which way in the picture is down.
    """

    left: int
    top: int
    height: Tensor
    brow: Tensor
    upper: Tensor
    gap: Tensor
    down: Tensor


def find_lids(portrait: Tensor, picture: Tensor) -> tuple[Eye, ...]:
    """Both eyes of a portrait ``(1, 3, H, W)`` or ``(3, H, W)`` in [-1, 1], for ``picture (1, 3, S, S)``, the same at S px.

    None where the landmarker sees no face, or is not installed.
    """
    try:
        seen = measure_landmarks([to_pixels(portrait.reshape(-1, *portrait.shape[-2:]))])
    except (MissingAssetError, MissingLibraryError):
        return ()
    if not seen.found[0]:
        return ()
    points = picture.shape[-1] * seen.landmarks[0, :, :2].astype(np.float64)
    eyes = (_eye(points, picture, *parts) for parts in zip(UPPER, LOWER, BROW, strict=True))
    return tuple(eye for eye in eyes if eye is not None)


def how_far_shut(eyes: Tensor) -> Tensor:
    """Share ``(T,)`` in [0, 1] to which lids are shut at coordinates ``(T,)`` of the eyes, most of which are open ones."""
    return ((eyes - eyes.median() - OPEN) / (SHUT - OPEN)).clamp(0, 1)


def with_lids_shut(picture: Tensor, eyes: tuple[Eye, ...], shares: Tensor) -> Tensor:
    """Pictures ``(T, 3, S, S)`` of a portrait ``(1, 3, S, S)`` whose lids are shut to ``shares (T,)``."""
    pictures = picture.repeat(len(shares), 1, 1, 1)
    size = picture.shape[-1]
    for eye in eyes:
        (h, w), share = eye.height.shape, shares[:, None, None]
        window = slice(eye.top, eye.top + h), slice(eye.left, eye.left + w)
        edge = eye.upper + share * COVERED * eye.gap  # (T, h, w) of the upper lid as far as it has come down
        stretched = (eye.upper - eye.brow) / (edge - eye.brow)
        rise = (eye.height - eye.brow) * (
            stretched - 1
        )  # from where in the portrait each pixel of the skin comes
        rows, columns = torch.meshgrid(
            torch.arange(h, device=picture.device) + eye.top + 0.5,
            torch.arange(w, device=picture.device) + eye.left + 0.5,
            indexing="ij",
        )
        places = torch.stack([columns, rows], dim=-1) + rise[..., None] * eye.down
        skin = F.grid_sample(
            picture.expand(len(shares), -1, -1, -1),
            2 * places / size - 1,
            mode="bicubic",
            padding_mode="border",
            align_corners=False,
        )
        covered = (edge - eye.height + 0.5).clamp(0, 1) * (eye.height > eye.brow) * (eye.gap > 0)
        pictures[:, :, *window] = torch.lerp(pictures[:, :, *window], skin, covered[:, None])
    return pictures.clamp(-1, 1)


def _eye(
    points: np.ndarray, picture: Tensor, upper: tuple[int, ...], lower: tuple[int, ...], brow: tuple[int, ...]
) -> Eye | None:
    """The eye with such landmarks, ``points (478, 2)`` in pixels of the picture; None where it lies outside of it."""
    size = picture.shape[-1]
    left, right = sorted((points[upper[0]], points[upper[-1]]), key=lambda corner: float(corner[0]))
    width = float(np.linalg.norm(right - left))
    if width < 1:
        return None
    along = (right - left) / width
    down = np.array([-along[1], along[0]])
    outline = points[[*upper, *lower, *brow]]
    low, high = np.floor(outline.min(axis=0)) - 2, np.ceil(outline.max(axis=0)) + 2
    low, high = low.clip(0, size).astype(int), high.clip(0, size).astype(int)
    if (high - low < 2).any():
        return None
    rows, columns = np.mgrid[low[1] : high[1], low[0] : high[0]] + 0.5
    pixels = np.stack([columns, rows], axis=-1) - left
    across, height = pixels @ along, pixels @ down

    def heights(indices: tuple[int, ...]) -> np.ndarray:
        spots = sorted(((spot - left) @ along, (spot - left) @ down) for spot in points[list(indices)])
        return np.interp(across, *np.array(spots).T)

    edge = heights(upper)
    gap = (heights(lower) - edge).clip(min=0) * ((across > 0) & (across < width))
    skin = SKIN * (edge - heights(brow)).clip(min=LEAST_SKIN * width)
    maps = (torch.from_numpy(one).to(picture) for one in (height, edge - skin, edge, gap, down))
    return Eye(int(low[0]), int(low[1]), *maps)
