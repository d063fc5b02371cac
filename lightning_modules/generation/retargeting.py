"""Motion of one face for another: how far its pose, its lips and its lids are from where that face rests.

Where a landmarker sees the driver, lips, lids, and the turns and place of the head go by what it sees.

Ours. The change since the first frame is the usual way (FOMM's relative motion); of lips and lids it goes wrong where the
first frame has open lips or shut lids: then the portrait's would never close, or never open.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.networks.motion_basis import MotionBasis

SHUT_LIPS = 0.05
"""Share of a video's frames whose lips count as shut, or as far shut as they ever are."""
SPEECH_SPREAD = 0.8
"""Std along the way that lips open, in the basis' coordinates, below which a driver's count as read too small.

In the training clips it is about 1; of thirty people, whose measured lips moved 0.7 times as far as those, the motion encoder
of the shipped model, which knows drawn heads alone, read 0.5.
"""
A_WORD = 0.2
"""Spread that lips must have at least to count as ones that speak: what is read of still ones has some, too."""
SHUT_LIDS = 4.0
"""How far lids that shut are from their median, in the basis' coordinates: blinks last a sixteenth of the time."""
A_BLINK = 1.5
"""How far from their median lids must get at least to count as ones that shut."""
MOST_GAIN = 1.6
"""Lips and lids of a driver are at most so many times enlarged."""
LIP_UNIT = 0.075
"""Opening of the inner lips, in distances of the outer eye corners, that is one unit on the way that lips open.

Photographs open theirs by 0.06 to 0.1 for it, less behind a broad smile; drawn lips have a std of 0.063, which is 1 in the
basis' coordinates.
"""
SHUT_SCORE = 0.5
"""MediaPipe's score of a blink at which lids count as shut."""
USUAL_LIDS, LEAST_BLINK = 0.3, 0.25
"""Share of frames whose lids are more open than usual ones, and the least rise of the score from there to shut ones."""
WIDE_OPEN = -0.2
"""How far lids are opened beyond their usual state at most, as a share of the way to shut ones."""
TRIAL, FARTHEST = 1.0, 5.0
"""By how much of a coordinate of the head a portrait is turned to see what that does, and at most by a driver."""
LEAST_TURN = 0.7
"""Degrees of rotation by one coordinate that count as motion of the head."""
PLACE = 0.3
"""Degrees that a hundredth of the picture's side counts as much as: the shipped renderer hardly shifts a face unturned."""


class SeenFace(NamedTuple):
    """What the landmarker sees of a driver's face, which it knows of photographs as the motion encoder may not.

    Attributes:
        lip_opening: ``(T,)`` gap of the inner lips over the distance of the outer eye corners.
        blink: ``(T,)`` MediaPipe's score, 0 open .. 1 shut.
        pose: ``(T, 5)`` rotation of the head in degrees, and where the face's middle is in hundredths of the picture's side.
    """

    lip_opening: Tensor
    blink: Tensor
    pose: Tensor


def relative_motion(motion: Tensor, own: Tensor) -> Tensor:
    """The change of motion ``(T, M)`` since its first frame, added to a portrait's own ``(1, M)``; about within [-1, 1]."""
    return (motion - motion[:1] + own).clamp(-1, 1)


def retargeted_motion(
    motion: Tensor, own: Tensor, basis: MotionBasis, seen: SeenFace | None = None
) -> Tensor:
    """As `relative_motion`, but lips and lids from where each of the two faces has them shut or at rest.

    The driver's shut lips shut the portrait's, though it shows teeth; its lids are counted from how they usually are, which
    is open, whatever they do in the first frame. How far lips open and lids shut is what the landmarker has seen. Where it
    hasn't looked it is what the motion encoder reads, which of faces unlike the training clips' is too small: lips that open
    less than in the speech of those, and lids that don't quite shut, are enlarged to do so, by ``MOST_GAIN`` at most.
    Without blocks of mouth and eyes in the basis it is the plain change.

    Args:
        motion: ``(T, M)`` raw motion of the driver.
        own: ``(1, M)`` raw motion of the portrait.
        basis: tells head, mouth and eyes apart.
        seen: of the driver.

    Returns:
        ``(T, M)``, about within [-1, 1]: a bent basis goes to 1.06.
    """
    driver, portrait = basis.encode(motion), basis.encode(own)
    moved = driver - driver[:1] + portrait
    if (mouth := basis.blocks.get("mouth")) is not None:
        opening = None if seen is None else seen.lip_opening.to(moved) / LIP_UNIT
        moved[:, mouth] = _lips(driver[:, mouth], portrait[:, mouth], basis.closed[mouth], opening)
    if (eyes := basis.blocks.get("eyes")) is not None:
        moved[:, eyes] = portrait[:, eyes] + (
            _lids_read(driver[:, eyes])
            if seen is None
            else basis.shutting * _lids_seen(seen.blink.to(moved))[:, None]
        )
    return basis.coefficients(moved)


def trial_turns(own: Tensor, basis: MotionBasis) -> Tensor:
    """Motion ``(2 h, M)`` of a portrait, whose own is ``(1, M)``, turned by each of h coordinates of the head, then back."""
    head = basis.blocks["head"]
    steps = TRIAL * torch.eye(basis.motion_dim, device=own.device)[head]
    return basis.coefficients(basis.encode(own) + torch.cat([steps, -steps]))


def turned_as_seen(motion: Tensor, own: Tensor, basis: MotionBasis, pose: Tensor, trials: Tensor) -> Tensor:
    """Motion ``(T, M)`` with a head that moves from the portrait's own ``(1, M)`` as the driver's from its first frame.

    By least squares over rotation and place.

    Args:
        motion: what else moves.
        own: the portrait's.
        basis: with a block of the head.
        pose: ``(T, 5)`` of the driver, see `SeenFace`.
        trials: ``(2 h, 5)`` what the portrait shows by `trial_turns`, all of it known.
    """
    head = basis.blocks["head"]
    forth, back = trials.to(motion).chunk(2)
    weights = torch.ones(5).to(motion)
    weights[3:] = PLACE
    turns = weights * (forth - back) / (2 * TRIAL)  # (h, 5) of a step
    smooth = weights * _smoothed(pose.to(motion))
    # Coordinates that hardly move the portrait are asked for no more than they can give.
    ridge = LEAST_TURN**2 * torch.eye(len(turns)).to(turns)
    steps = (smooth - smooth[:1]) @ turns.t() @ torch.linalg.inv(turns @ turns.t() + ridge)
    farthest = steps.abs().amax(dim=1, keepdim=True).clamp_min(1e-6)
    coordinates = basis.encode(motion)
    # Shortened as a whole: coordinates lie across the axes, and one cut off by itself would turn a nod aside.
    coordinates[:, head] = basis.encode(own)[:, head] + steps * (FARTHEST / farthest).clamp(max=1)
    return basis.coefficients(coordinates)


def _smoothed(curves: Tensor) -> Tensor:
    """Curves ``(T, C)``, each frame a mean of it and its neighbours: landmarks of a still head tremble."""
    padded = torch.cat([curves[:1], curves, curves[-1:]])
    return 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]


def _lips(driver: Tensor, portrait: Tensor, closed: Tensor, seen: Tensor | None) -> Tensor:
    """Mouth coordinates ``(T, m)``; ``closed (m,)`` are the usual ones of shut lips, and the mean of all lips is 0.

    ``seen (T,)`` is how far lips are open, in these units; None: as far as the coordinates say.
    """
    opening = -closed / closed.norm().clamp_min(1e-6)  # the way that lips open
    along, own = (driver - closed) @ opening, (portrait - closed) @ opening  # (T,), (1,)
    # Width and smile change by what the driver's do; the opening counts from both faces' shut lips.
    aside = driver - along[:, None] * opening
    kept = portrait - own[:, None] * opening
    if seen is None:
        seen = _enlarging(along.std(correction=0), SPEECH_SPREAD, A_WORD) * along
    how_far = own.clamp(max=0) + seen - torch.quantile(seen, SHUT_LIPS)
    return aside - aside[:1] + kept + how_far[:, None] * opening


def _lids_seen(blink: Tensor) -> Tensor:
    """How far lids are from where they usually are, ``(T,)`` in the basis' coordinates, by scores ``(T,)``."""
    usual = torch.quantile(blink, USUAL_LIDS)
    return SHUT_LIDS * ((blink - usual) / (SHUT_SCORE - usual).clamp_min(LEAST_BLINK)).clamp(WIDE_OPEN, 1)


def _lids_read(eyes: Tensor) -> Tensor:
    """The same by coordinates ``(T, e)``."""
    away = eyes - eyes.median(dim=0).values
    return _enlarging(away.abs().max(), SHUT_LIDS, A_BLINK) * away


def _enlarging(found: Tensor, wanted: float, least: float) -> Tensor:
    """Factor from 1 to ``MOST_GAIN`` that brings a value to the one wanted; 1 for values below the least that counts."""
    gain = (wanted / found.clamp_min(1e-6)).clamp(1, MOST_GAIN)
    return torch.where(found < least, torch.ones_like(gain), gain)
