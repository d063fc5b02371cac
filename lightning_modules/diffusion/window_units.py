"""Motion windows in units of their own mean and standard deviation: a sample then has the statistics that are asked for.

Ours. As tokens beside noisy motion (the paper's way) statistics tell a network little: at high noise the std says nothing
about the data, at low noise the data shows it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

FLOOR = 0.1
"""Smallest unit, in basis coordinates: what moves less is noise, and stays small."""
JOINED = 8
"""Frames over which a window is bent to go on from those before it."""
OWN_STEP = 2 / 3
"""Share of a window's own first step in that which joins it to the frame before; the rest is the last step before. Neither
will do alone: the last step before knows of no blink that begins, and the prediction is of another place."""
LEAST = 0.5
"""Share of the std that a window's own frames have at least, where the frame before takes up most of what was asked for."""


class WindowUnits(NamedTuple):
    """Origin and unit of each dimension of a window.

    Attributes:
        mean: ``(B, 1, M)`` mean over the frame before and the window, basis coordinates.
        unit: ``(B, 1, M)`` its std, at least ``FLOOR``.
        spread: ``(B, 1, M)`` its std in these units, at most 1.
        standardised: whether the network sees motion in these units; else they are what it is brought to.
    """

    mean: Tensor
    unit: Tensor
    spread: Tensor
    standardised: bool = True

    @classmethod
    def of(cls, mean: Tensor, std: Tensor, standardised: bool = True) -> "WindowUnits":
        """Those of windows with such statistics, both ``(B, M)``."""
        unit = std.clamp(min=FLOOR)
        return cls(mean[:, None], unit[:, None], (std / unit)[:, None], standardised)

    def seen(self, motion: Tensor) -> Tensor:
        """Motion ``(B, T, M)`` as a network sees it: in these units, or, of one that knows none, as it is."""
        return self.encode(motion) if self.standardised else motion

    def unseen(self, motion: Tensor) -> Tensor:
        """Inverse of ``seen``."""
        return self.decode(motion) if self.standardised else motion

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


def going_on(motion: Tensor, before: Tensor, units: WindowUnits | None) -> Tensor:
    """A predicted window ``(B, T, M)`` that goes on from the frames before it and has the statistics asked for.

    Args:
        motion: ``(B, T, M)`` as the network sees it.
        before: ``(B, P, M)`` likewise, NaN where not known. If there are two or more the window's first step is one between
            theirs and its own (``OWN_STEP``), in each dimension as long as they are: two that disagree would make a shorter
            one, at which heads rest. What that moves falls to nothing over ``JOINED`` frames.
        units: of the window; None: it keeps the statistics that it has.
    """
    if before.shape[1] > 1:
        last, own = before[:, -1:] - before[:, -2:-1], motion[:, 1:2] - motion[:, :1]
        step = torch.lerp(last.abs(), own.abs(), OWN_STEP).copysign(torch.lerp(last, own, OWN_STEP))
        gap = (before[:, -1:] + step - motion[:, :1]).nan_to_num()
        fading = torch.cos(torch.linspace(0, torch.pi / 2, JOINED + 1, device=motion.device)[:-1]).square()
        motion = torch.cat([motion[:, :JOINED] + fading[:, None] * gap, motion[:, JOINED:]], dim=1)
    if units is None:
        return motion
    if units.standardised:
        return units.fitted(motion, before[:, -1:])
    return units.decode(units.fitted(units.encode(motion), units.encode(before[:, -1:])))
