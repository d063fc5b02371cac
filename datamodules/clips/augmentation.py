"""Augmentation: colour and side of frame pairs, alike for both frames; the voice of log-mel sound."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.batches import POSE_NAMES, FramePairBatch
from datamodules.media.audio import MEL_BANDS

LUMA = (0.299, 0.587, 0.114)
BRIGHTNESS = 0.12
"""Largest shift, as a share of the value range."""
CONTRAST = 0.25
SATURATION = 0.4
HUE_DEGREES = 12.0
CHANNEL_GAIN = 0.08
GAMMA_LOG = 0.3
FLIP_PROBABILITY = 0.5
MIRRORED = ("yaw", "roll", "shift_x")
"""Members of ``POSE_NAMES`` that a mirror turns round."""
THROAT_STRETCH = 0.06
"""Standard deviation of the change of scale of the mel axis: the length of the vocal tract (Jaitly and Hinton, ICML 2013)."""
THROAT_SHIFT = 1.5
"""Standard deviation in mel bands."""
TONE = 0.25
"""Standard deviation of the change of tone at five places of the mel axis, in units of ``log_mel``."""
HISS = 0.07
TELEPHONE_SHARE = 0.1
TELEPHONE = (7, 57)
"""First and last mel band of what a telephone lets through, 300 to 3,400 Hz; the others are as quiet as can be."""


def hue_matrix(degrees: float) -> Tensor:
    """``(3, 3)`` rotation of RGB about the grey axis (Rodrigues' formula)."""
    angle = math.radians(degrees)
    third, root = 1.0 / 3.0, math.sqrt(1.0 / 3.0)
    identity = torch.eye(3)
    cross = torch.tensor([[0.0, -root, root], [root, 0.0, -root], [-root, root, 0.0]])
    return math.cos(angle) * identity + math.sin(angle) * cross + (1 - math.cos(angle)) * third


def saturation_matrix(factor: float) -> Tensor:
    """``(3, 3)`` matrix that moves colours away from (factor > 1) or towards (< 1) their grey."""
    grey = torch.tensor(LUMA).expand(3, 3)
    return factor * torch.eye(3) + (1 - factor) * grey


def change_colours(frames: Tensor, generator: np.random.Generator) -> Tensor:
    """Change brightness, contrast, saturation, hue, white balance and gamma of ``(N, 3, H, W)`` in [-1, 1], alike in all."""
    draw = generator.uniform
    gains = torch.as_tensor(draw(1 - CHANNEL_GAIN, 1 + CHANNEL_GAIN, 3)).float()
    matrix = hue_matrix(draw(-HUE_DEGREES, HUE_DEGREES)) @ saturation_matrix(
        draw(1 - SATURATION, 1 + SATURATION)
    )
    contrast, brightness = draw(1 - CONTRAST, 1 + CONTRAST), draw(-BRIGHTNESS, BRIGHTNESS)
    gamma = math.exp(draw(-GAMMA_LOG, GAMMA_LOG))
    matrix = gains[:, None] * matrix * contrast
    changed = torch.einsum("ij,njhw->nihw", matrix, frames)  # contrast acts about mid-grey, which is 0 here
    changed = ((changed + 1) / 2 + brightness).clamp(0, 1)
    return changed.pow(gamma) * 2 - 1


def mirror(pair: FramePairBatch) -> FramePairBatch:
    """A pair, without a batch axis, mirrored left to right.

    The boxes of the two eyes change places, landmarks keep theirs; yaw, roll and sideways shift change their sign. What is
    unknown stays so.
    """
    x0, y0, x1, y1 = pair.regions[[0, 2, 1]].unbind(-1)
    mirrored = torch.stack([1 - x1, y0, 1 - x0, y1], dim=-1)
    known = (pair.regions[[0, 2, 1]] != 0).any(dim=-1, keepdim=True)
    pose = pair.pose
    if pose.shape[-1]:
        pose = pose * torch.tensor([-1.0 if name in MIRRORED else 1.0 for name in POSE_NAMES])
    return pair._replace(
        source=pair.source.flip(-1),
        driving=pair.driving.flip(-1),
        shown=pair.shown.flip(-1),
        regions=torch.where(known, mirrored, torch.zeros(())),
        landmarks=torch.stack([1 - pair.landmarks[..., 0], pair.landmarks[..., 1]], dim=-1),
        pose=pose,
        person=pair.person.flip(-1),
    )


def augment_pair(pair: FramePairBatch, generator: np.random.Generator) -> FramePairBatch:
    """Change both frames of a pair, without a batch axis, alike, so that only the motion differs between them.

    The frame whose motion is read has colours of its own, unless it is just the driving one.
    """
    if generator.random() < FLIP_PROBABILITY:
        pair = mirror(pair)
    source, driving = change_colours(torch.stack([pair.source, pair.driving]), generator)
    own = torch.equal(pair.shown, pair.driving)
    shown = driving if own else change_colours(pair.shown[None], generator)[0]
    return pair._replace(source=source, driving=driving, shown=shown)


def blur_background(frames: Tensor, person: Tensor, kernel: int) -> Tensor:
    """Frames ``(N, 3, S, S)`` blurred by a Gaussian of ``kernel`` pixels (odd) where the person does not cover them.

    ``person``: ``(N, s, s)`` share of each pixel; the frames of a mask that is not known stay as they are.
    """
    from torchvision.transforms.functional import gaussian_blur

    mask = F.interpolate(person.nan_to_num(1.0)[:, None], frames.shape[-2:], mode="bilinear")
    return torch.where(mask > 0.5, frames, gaussian_blur(frames, [kernel, kernel]))


def change_voice(mel: Tensor, generator: np.random.Generator) -> Tensor:
    """Log-mel sound as if by another throat, through another microphone or a telephone: alike at all moments but for hiss.

    ``mel`` is ``(N, D)`` of `log_mel`, or more of its columns in a row: D is a multiple of 80.
    """
    bands = mel.unflatten(1, (-1, MEL_BANDS))
    axis = np.arange(MEL_BANDS)
    place = axis * (1 + generator.normal(0, THROAT_STRETCH)) + generator.normal(0, THROAT_SHIFT)
    place = place.clip(0, MEL_BANDS - 1)
    low = place.astype(int).clip(max=MEL_BANDS - 2)
    share = torch.from_numpy(place - low).float()
    moved = (1 - share) * bands[..., low] + share * bands[..., low + 1]
    tone = np.interp(axis, np.linspace(0, MEL_BANDS - 1, 5), generator.normal(0, TONE, 5))
    hiss = torch.from_numpy(generator.normal(0, HISS, bands.shape)).float()
    moved = moved + torch.from_numpy(tone).float()
    if generator.random() < TELEPHONE_SHARE:
        heard = (torch.arange(MEL_BANDS) >= TELEPHONE[0]) & (torch.arange(MEL_BANDS) <= TELEPHONE[1])
        moved = torch.where(heard, moved, moved.amin())
    return (moved + hiss).flatten(1)
