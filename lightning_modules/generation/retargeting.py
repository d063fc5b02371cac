"""Motion of one face for another: how far its pose, its lips and its lids are from where that face rests.

Ours. The change since the first frame is the usual way (FOMM's relative motion); of lips and lids it goes wrong where the
first frame has open lips or shut lids: then the portrait's would never close, or never open.
"""

import torch
from torch import Tensor

from lightning_modules.networks.motion_basis import MotionBasis

SHUT_LIPS = 0.05
"""Share of a video's frames whose lips count as shut, or as far shut as they ever are."""


def relative_motion(motion: Tensor, own: Tensor) -> Tensor:
    """The change of motion ``(T, M)`` since its first frame, added to a portrait's own ``(1, M)``; within [-1, 1]."""
    return (motion - motion[:1] + own).clamp(-1, 1)


def retargeted_motion(motion: Tensor, own: Tensor, basis: MotionBasis) -> Tensor:
    """As `relative_motion`, but lips and lids from where each of the two faces has them shut or at rest.

    The driver's shut lips shut the portrait's, though it shows teeth; its lids are counted from how they usually are, which
    is open, whatever they do in the first frame. Without blocks of mouth and eyes in the basis it is the plain change.

    Args:
        motion: ``(T, M)`` raw motion of the driver.
        own: ``(1, M)`` raw motion of the portrait.
        basis: tells head, mouth and eyes apart.

    Returns:
        ``(T, M)`` within [-1, 1].
    """
    driver, portrait = basis.encode(motion), basis.encode(own)
    moved = driver - driver[:1] + portrait
    if (mouth := basis.blocks.get("mouth")) is not None:
        moved[:, mouth] = _lips(driver[:, mouth], portrait[:, mouth], basis.closed[mouth])
    if (eyes := basis.blocks.get("eyes")) is not None:
        moved[:, eyes] = driver[:, eyes] - driver[:, eyes].median(dim=0).values + portrait[:, eyes]
    return basis.decode(moved).clamp(-1, 1)


def _lips(driver: Tensor, portrait: Tensor, closed: Tensor) -> Tensor:
    """Mouth coordinates ``(T, m)``; ``closed (m,)`` are the usual ones of shut lips, and the mean of all lips is 0."""
    opening = -closed / closed.norm().clamp_min(1e-6)  # the way that lips open
    along, own = (driver - closed) @ opening, (portrait - closed) @ opening  # (T,), (1,)
    shut = torch.quantile(along, SHUT_LIPS)
    # Width and smile change by what the driver's do; the opening counts from both faces' shut lips.
    aside = driver - along[:, None] * opening
    kept = portrait - own[:, None] * opening
    how_far = own.clamp(max=0) + along - shut
    return aside - aside[:1] + kept + how_far[:, None] * opening
