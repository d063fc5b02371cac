"""Backgrounds: gradients, blurred lights, a textured wall, a window, shelves of books, leaves; larger than the picture."""

from functools import partial

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from datamodules.synthetic_faces.identity import Identity
from datamodules.synthetic_faces.mesh.profiles import bump, smoothstep
from datamodules.synthetic_faces.paint.colours import from_hex, mix, noise

FINE = 256  # cells of the painted scene along the picture's side
BEYOND = 44  # cells painted beyond each side: enough for moves of 0.06, zooms of 0.1 and rolls of 3 degrees at once
OVERSAMPLING = 2  # samples of the canvas per pixel of the picture


class Backdrop:
    """The scene behind a person, seen by a camera that may move, in square frames of ``size`` pixels."""

    def __init__(self, person: Identity, size: int, device: torch.device) -> None:
        self.size = size
        m = self._margin = BEYOND * size * OVERSAMPLING // FINE  # samples
        canvas = paint_background(person, size * OVERSAMPLING, m)
        picture = canvas[m:-m, m:-m].reshape(size, OVERSAMPLING, size, OVERSAMPLING, 3).mean(axis=(1, 3))
        on_device = partial(torch.as_tensor, dtype=torch.float32, device=device)
        self._canvas, self._still = (on_device(scene).permute(2, 0, 1) for scene in (canvas, picture))

    def pictures(self, moves: np.ndarray) -> Tensor:
        """The background of each frame ``(3, T, S, S)`` in linear light; ``T`` is 1 where the camera rests."""
        moving = np.flatnonzero((moves != np.eye(2, 3)).any(axis=(1, 2)))
        if not len(moving):
            return self._still[:, None]
        result = self._still[:, None].repeat(1, len(moves), 1, 1)
        side = self._canvas.shape[-1]
        scale = self.size * OVERSAMPLING * 2 / side
        centre = (torch.arange(self.size, device=self._still.device, dtype=torch.float32) + 0.5) / self.size
        for t in moving.tolist():  # one by one: the bits do not depend on the other frames
            turn = np.linalg.inv(moves[t, :, :2]) * scale
            offset = 2 * self._margin / side - 1 - turn @ moves[t, :, 2]
            maps = zip(turn.tolist(), offset.tolist(), strict=True)
            grid = torch.stack([centre * x + (centre * y + o)[:, None] for (x, y), o in maps], dim=-1)
            result[:, t] = F.grid_sample(
                self._canvas[None], grid[None], padding_mode="border", align_corners=False
            )[0]
        return result


def paint_background(person: Identity, size: int, margin: int) -> np.ndarray:
    """The scene behind the head in linear light, ``(size + 2 margin, size + 2 margin, 3)``, the same at every size.

    There are ``size`` samples along the picture's side and ``margin`` beyond each, up to ``BEYOND * size // FINE``.
    """
    rng = np.random.default_rng(person.seed + 1)
    place = (np.arange(-BEYOND, FINE + BEYOND) + 0.5) / FINE
    y, x = np.meshgrid(place, place, indexing="ij")
    first, second = from_hex(person.background_colour), from_hex(person.background_colour_2)
    angle = rng.uniform(0, 2 * np.pi)
    t = 0.5 + 0.6 * ((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle))
    picture = mix(first, second, smoothstep(0.0, 1.0, t)[..., None])
    glow = bump(x, y, 0.5, 0.45, 0.45, 0.5)
    picture = picture * (0.86 + 0.18 * glow)[..., None]
    if person.background == "bokeh":
        picture = _lights(picture * 0.8, x, y, rng)
    elif person.background == "wall":
        picture = _wall(picture, x, y, rng)
    elif person.background == "window":
        picture = _window(picture, x, y, rng)
    elif person.background == "shelves":
        picture = _shelves(picture, x, y, rng)
    elif person.background == "leaves":
        picture = _leaves(picture, x, y, rng)
    picture = np.clip(picture, 0, 1) ** 2
    grid = BEYOND + np.arange(-margin, size + margin + 1) * (FINE / size)
    total = np.zeros((len(place) + 1, len(place) + 1, 3))
    total[1:, 1:] = picture.cumsum(0).cumsum(1)
    return _box(total, grid)


def _box(total: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Means over boxes between ``edges`` of a picture given by its summed-area table."""
    low = np.clip(np.floor(edges).astype(int), 0, total.shape[0] - 2)
    share = edges - low
    rows = total[low] * (1 - share)[:, None, None] + total[low + 1] * share[:, None, None]
    both = rows[:, low] * (1 - share)[None, :, None] + rows[:, low + 1] * share[None, :, None]
    area = (edges[1] - edges[0]) ** 2
    return (both[1:, 1:] - both[:-1, 1:] - both[1:, :-1] + both[:-1, :-1]) / area


def _lights(picture: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    low, high = x.min(), x.max()
    count = int(rng.integers(10, 22))
    for i in range(round(count * (high - low) ** 2)):
        inside = i < count
        cx, cy = (rng.uniform(0, 1), rng.uniform(0, 0.9)) if inside else rng.uniform(low, high, 2)
        radius = rng.uniform(0.025, 0.085)
        colour = mix(np.array([1.0, 0.85, 0.6]), rng.uniform(0.4, 1.0, 3), rng.uniform(0, 0.7))
        disc = smoothstep(radius * 1.12, radius * 0.9, np.hypot(x - cx, y - cy))
        share = rng.uniform(0.10, 0.38)
        if inside or max(abs(cx - 0.5), abs(cy - 0.5)) > 0.5 + radius:  # those added lie beyond the picture
            picture = mix(picture, colour, (disc * share)[..., None])
    return gaussian_filter(picture, (2, 2, 0))


def _wall(picture: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    side = len(x) / FINE
    texture = 0.03 * noise(rng, x.shape, round(12 * side)) + 0.03 * noise(rng, x.shape, round(50 * side))
    kind = rng.integers(3)
    if kind == 1:
        texture = texture - 0.10 * (np.abs(((x * 7) % 1.0) - 0.5) > 0.47)
    elif kind == 2:
        row = np.floor(y * 12)
        texture = texture - 0.09 * (((y * 12) % 1.0 < 0.09) | ((x * 6 + 0.5 * (row % 2)) % 1.0 < 0.045))
    return gaussian_filter(picture * (1 + texture)[..., None], (1.2, 1.2, 0))


def _window(picture: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    left = rng.uniform(0.0, 0.25) if rng.random() < 0.5 else rng.uniform(0.62, 0.8)
    wide, sky = rng.uniform(0.25, 0.35), np.array([0.93, 0.96, 1.0])
    pane = (x > left) & (x < left + wide) & (y > 0.06) & (y < 0.72)
    bar = (np.abs(x - left - wide / 2) < 0.012) | (np.abs(y - 0.36) < 0.012)
    light = gaussian_filter((pane & ~bar).astype(float), 5)
    shelf = gaussian_filter(((y > 0.76) & (y < 0.80)).astype(float), 3) * 0.3
    return mix(mix(picture, sky, 0.75 * light[..., None]), picture * 0.5, shelf[..., None])


def _shelves(picture: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of books of all colours and heights, a little out of focus."""
    high = rng.uniform(0.14, 0.24)
    row = np.floor(y / high).astype(int)
    inside = y / high - row
    wood = picture * rng.uniform(0.35, 0.8)
    result = np.broadcast_to(wood, picture.shape).copy()
    low, end = x.min(), x.max()
    for number in range(row.min(), row.max() + 1):
        widths = rng.uniform(0.012, 0.045, 160)
        borders = low + np.cumsum(widths)
        borders = borders[borders < end]
        colours = np.clip(
            rng.uniform(0.1, 0.85, (len(borders) + 1, 1)) + rng.normal(0, 0.08, (len(borders) + 1, 3)), 0, 1
        )
        tops = rng.uniform(0.05, 0.35, len(borders) + 1)
        band = rng.uniform(0.3, 0.8, len(borders) + 1)
        here = row == number
        book = np.searchsorted(borders, x[here])
        edges = np.concatenate([[low], borders, [end]])
        across = (x[here] - edges[book]) / (edges[book + 1] - edges[book])
        shade = 0.75 + 0.5 * across * (1 - across) + 0.25 * (np.abs(inside[here] - band[book]) < 0.05)
        shown = (inside[here] > tops[book]) & (inside[here] < 0.93)
        result[here] = np.where(shown[:, None], colours[book] * shade[:, None], result[here] * 0.6)
    return gaussian_filter(np.clip(result, 0, 1), (rng.uniform(0.8, 3.0),) * 2 + (0,))


def _leaves(picture: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Leaves in light and shadow, from blurred to nearly sharp."""
    side = len(x) / FINE
    fields = [noise(rng, x.shape, round(cells * side)) for cells in (4, 14, 40, 90)]
    light = np.clip(
        0.45 + 0.22 * fields[0] + 0.18 * fields[1] + 0.16 * fields[2] + 0.10 * fields[3], 0.02, 1.3
    )
    green = np.array([0.32, 0.46, 0.18]) * rng.uniform(0.7, 1.3, 3)
    autumn = np.array([0.55, 0.38, 0.16])
    colour = mix(green, autumn, np.clip(0.3 * fields[1] + rng.uniform(-0.3, 0.6), 0, 1)[..., None])
    sky = smoothstep(1.0, 1.5, 0.45 + 0.5 * fields[1] + 0.3 * fields[2])[..., None] * rng.uniform(0, 0.8)
    leaves = mix(colour * light[..., None], np.array([0.85, 0.92, 0.95]), sky)
    blur = rng.uniform(0.7, 4.0)
    return gaussian_filter(np.clip(mix(leaves, picture, 0.15), 0, 1), (blur, blur, 0))
