"""Smooth profiles that shapes and paint are made of."""

import numpy as np


def falloff(distance: np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """Gaussian bell: 1 at distance 0, 1/e at ``width``."""
    return np.exp(-((distance / width) ** 2))


def bump(x: np.ndarray, y: np.ndarray, cx: float, cy: float | np.ndarray, sx: float, sy: float) -> np.ndarray:
    """Gaussian bell of height 1 at ``(cx, cy)``, 1/e at ``sx`` and ``sy`` from there."""
    return np.exp(-(((x - cx) / sx) ** 2) - ((y - cy) / sy) ** 2)


def smoothstep(low: float | np.ndarray, high: float | np.ndarray, x: np.ndarray) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, smooth between; ``low > high`` turns it round."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
