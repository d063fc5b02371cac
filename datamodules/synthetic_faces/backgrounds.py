"""Backgrounds: soft gradients, out-of-focus lights, a textured wall, a window."""

import numpy as np
from scipy.ndimage import gaussian_filter

from datamodules.synthetic_faces.colours import from_hex, mix, noise
from datamodules.synthetic_faces.geometry import smoothstep
from datamodules.synthetic_faces.identity import Identity


def paint_background(person: Identity, size: int) -> np.ndarray:
    """The picture behind the head, ``(size, size, 3)`` in linear light; the same scene at every size."""
    rng = np.random.default_rng(person.seed + 1)
    fine = 256
    y, x = np.meshgrid((np.arange(fine) + 0.5) / fine, (np.arange(fine) + 0.5) / fine, indexing="ij")
    first, second = from_hex(person.background_colour), from_hex(person.background_colour_2)
    angle = rng.uniform(0, 2 * np.pi)
    t = 0.5 + 0.6 * ((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle))
    picture = mix(first, second, smoothstep(0.0, 1.0, t)[..., None])
    glow = np.exp(-(((x - 0.5) / 0.45) ** 2) - ((y - 0.45) / 0.5) ** 2)
    picture = picture * (0.86 + 0.18 * glow)[..., None]
    if person.background == "bokeh":
        picture = _lights(picture * 0.8, x, y, rng)
    elif person.background == "wall":
        picture = _wall(picture, x, y, rng)
    elif person.background == "window":
        picture = _window(picture, x, y, rng)
    picture = np.clip(picture, 0, 1) ** 2
    grid = np.linspace(0, fine, size + 1)
    total = np.zeros((fine + 1, fine + 1, 3))
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
    for _ in range(int(rng.integers(10, 22))):
        cx, cy, radius = rng.uniform(0, 1), rng.uniform(0, 0.9), rng.uniform(0.025, 0.085)
        colour = mix(np.array([1.0, 0.85, 0.6]), rng.uniform(0.4, 1.0, 3), rng.uniform(0, 0.7))
        disc = smoothstep(radius * 1.12, radius * 0.9, np.hypot(x - cx, y - cy))
        picture = mix(picture, colour, (disc * rng.uniform(0.10, 0.38))[..., None])
    return gaussian_filter(picture, (2, 2, 0))


def _wall(picture: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    texture = 0.03 * noise(rng, x.shape, 12) + 0.03 * noise(rng, x.shape, 50)
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
