"""Colours (sRGB as floats in [0, 1]) and noise for the painters."""

import numpy as np

from datamodules.synthetic_faces.identity import SKIN_ANCHORS, Identity


def from_hex(colour: str) -> np.ndarray:
    """``#rrggbb`` as three floats."""
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.float64) / 255


def mix(a: np.ndarray, b: np.ndarray, share: np.ndarray | float) -> np.ndarray:
    """``a`` with ``share`` of ``b``."""
    return a * (1 - share) + b * share


def skin_colour(person: Identity) -> np.ndarray:
    """The skin's base colour."""
    anchors = np.array(SKIN_ANCHORS) / 255
    place = np.clip(person.skin_tone, 0, 1) * (len(anchors) - 1)
    base = np.array([np.interp(place, np.arange(len(anchors)), anchors[:, i]) for i in range(3)])
    return np.clip(base * (1 + np.array([-0.015, 0.018, -0.03]) * person.skin_warmth), 0, 1)


def natural_lip(person: Identity) -> np.ndarray:
    """The lips' colour: lipstick, or the skin's own, redder and a little darker."""
    if person.lip_colour:
        return from_hex(person.lip_colour)
    skin = skin_colour(person)
    return mix(skin * np.array([0.93, 0.66, 0.66]), np.array([0.74, 0.34, 0.35]), 0.30)


def noise(rng: np.random.Generator, shape: tuple[int, ...], cells: int) -> np.ndarray:
    """Smooth noise of about unit range with ``cells`` cells along the first axis."""
    ratio = shape[1] / shape[0]
    small = rng.normal(size=(cells + 2, max(int(cells * ratio), 1) + 2))
    along_rows = _spline(small, shape[0])
    return 1.4 * _spline(along_rows.T, shape[1]).T


def _spline(values: np.ndarray, count: int) -> np.ndarray:
    """Cubic B-spline ``(count, C)`` through the control values ``(N, C)``: no seams at the cells' borders."""
    place = (np.arange(count) + 0.5) / count * (len(values) - 1)
    first = place.astype(int)
    t = (place - first)[:, None]
    weights = ((1 - t) ** 3, 4 - 6 * t**2 + 3 * t**3, 1 + 3 * t + 3 * t**2 - 3 * t**3, t**3)
    result = np.zeros((count, values.shape[1]))
    for shift, weight in zip((-1, 0, 1, 2), weights, strict=True):
        result = result + weight / 6 * values[np.clip(first + shift, 0, len(values) - 1)]
    return result
