"""Motion windows in units of their own mean and standard deviation: a sample then has the statistics that are asked for.

Ours. As tokens beside noisy motion (the paper's way) statistics tell a network little: at high noise the std says nothing
about the data, at low noise the data shows it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

FLOOR = 0.1
"""Smallest unit, in basis coordinates: what moves less is noise, and stays small."""
LEAST = 0.5
"""Share of the std that a window's own frames have at least, where the frame before takes up most of what was asked for."""


class WindowUnits(NamedTuple):
    """Origin and unit of each dimension of a window.

    Attributes:
        mean: ``(B, 1, M)`` mean over the frame before and the window, basis coordinates.
        unit: ``(B, 1, M)`` its std, at least ``FLOOR``.
        spread: ``(B, 1, M)`` its std in these units, at most 1.
    """

    mean: Tensor
    unit: Tensor
    spread: Tensor

    @classmethod
    def of(cls, mean: Tensor, std: Tensor) -> "WindowUnits":
        """Those of windows with such statistics, both ``(B, M)``."""
        unit = std.clamp(min=FLOOR)
        return cls(mean[:, None], unit[:, None], (std / unit)[:, None])

    def encode(self, motion: Tensor) -> Tensor:
        """Motion ``(B, T, M)`` in these units."""
        return (motion - self.mean) / self.unit

    def decode(self, motion: Tensor) -> Tensor:
        """Inverse of ``encode``."""
        return self.mean + self.unit * motion

    def fitted(self, motion: Tensor, before: Tensor) -> Tensor:
        """The window nearest by scale and shift that has these statistics together with the frame before it.

        Args:
            motion: ``(B, T, M)`` in these units.
            before: ``(B, 1, M)`` the frame before, likewise. Where it is further from the mean than this std allows, the std
                comes out larger.
        """
        frames = motion.shape[1]
        # Over 1 + T frames the mean is to be 0 and the squares T spread^2; the frame before is what it is.
        asked = frames * self.spread.square()
        left = torch.maximum(asked - before.square() * (1 + 1 / frames), LEAST**2 * asked)
        centred = motion - motion.mean(dim=1, keepdim=True)
        squares = centred.square().sum(dim=1, keepdim=True)
        return (left / squares.clamp(min=1e-6)).sqrt() * centred - before / frames
