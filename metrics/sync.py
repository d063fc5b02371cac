"""Lip sync by a SyncNet: distance (LSE-D), confidence (LSE-C) and offset of sound against lips, as its authors' script.

Sign: here a positive offset means that the sound comes late, as everywhere in this project. The published script prints
``vshift - argmin`` as its "AV offset", which is positive where the sound comes early: `SyncResult.published_offset`.
Both distance and confidence are blind to a constant shift, so the offset belongs beside them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.signal import medfilt
from torch import Tensor
from torch.nn import functional as F

from datamodules.batches import SAMPLES_PER_FRAME, SYNC_FRAMES
from metrics.checks import as_uint8, check_sound
from metrics.judges.mfcc import MFCC, MfccSettings
from metrics.judges.syncnet import SyncNet, clip_cepstra
from metrics.precision import single_precision

SHORTEST = SYNC_FRAMES + 1
"""Frames without which nothing is left to compare: the last five begin no window."""

_EPS = 1e-6  # torch's pairwise_distance adds it to every difference
_BLOCK = 32
_ROWS = 16 * _BLOCK  # at a time: bounds the memory of long clips


@dataclass(frozen=True)
class SyncSettings:
    """How lips and sound are compared."""

    reach: int = 15  # frames to either side that they are shifted against each other, >= 1
    minimum_frames: int = 100  # of a clip: the published tracker keeps no shorter one (LatentSync: 50)


@dataclass(frozen=True)
class FaceCropSettings:
    """How faces are cut out for the public SyncNet, as its authors' script does."""

    size: int = 224  # side of the crops in pixels
    scale: float = 0.40  # that the crop goes beyond half the box, to the sides once and below twice
    median: int = 13  # frames that the track is smoothed over
    most_unseen: int = 25  # frames in a row without a face that end the track
    grey: int = 110  # outside the picture, 0..255


@dataclass(frozen=True)
class SyncResult:
    """How well lips and sound of one clip fit."""

    offset: int  # frames by which the sound comes late (negative: early) where lips and sound fit best
    distance: float  # LSE-D, the mean distance of the features at that offset; the lower the better
    confidence: float  # LSE-C, median over the offsets minus ``distance``; the higher the better
    curve: np.ndarray  # (2 reach + 1,) float64 mean distance at the offsets -reach .. reach

    @property
    def published_offset(self) -> int:
        """The "AV offset" that the published script prints: positive where the sound comes early."""
        return -self.offset


def offsets_and_distances(lip: Tensor, audio: Tensor, settings: SyncSettings = SyncSettings()) -> SyncResult:
    """Compare features ``(T, D)`` of lips and sound at every offset; sound beyond the ends counts as zeros.

    Raises:
        ValueError: No features, or not as many of both.

    Source: Chung and Zisserman 2016, section 4.1; Euclidean distance with 1e-6 added to every difference.
    """
    if lip.shape != audio.shape or lip.ndim != 2 or not len(lip):
        raise ValueError(
            f"lips and sound need features (T, D) alike, got {tuple(lip.shape)}, {tuple(audio.shape)}"
        )
    reach = settings.reach
    if reach < 1:
        raise ValueError(f"reach {reach} leaves no offsets to choose from")
    padded = F.pad(audio, (0, 0, reach, reach))
    total = torch.zeros(2 * reach + 1, dtype=torch.float64, device=lip.device)
    for start in range(0, len(lip), _ROWS):
        lips = lip[start : start + _ROWS]
        total += _banded_distances(lips, padded[start : start + len(lips) + 2 * reach]).sum(0)
    curve = (total / len(lip)).cpu()
    best = int(curve.argmin())
    distance = float(curve[best])
    return SyncResult(best - reach, distance, float(curve.median()) - distance, curve.numpy())


def _banded_distances(lips: Tensor, sounds: Tensor) -> Tensor:
    """Distance ``(t, w)`` float64 from row i of the lips ``(t, D)`` to rows i .. i + w - 1 of sounds ``(t + w - 1, D)``.

    All against all within blocks of rows, by matrix products: half of that is not needed, and still it is faster. In
    float64 the products lose nothing that float32 features had.
    """
    rows, width = len(lips), len(sounds) - len(lips) + 1
    blocks = -(-rows // _BLOCK)
    filling = (0, 0, 0, blocks * _BLOCK - rows)
    lips = F.pad(lips.double() + _EPS, filling).unflatten(0, (blocks, _BLOCK))
    sounds = F.pad(sounds.double(), filling).unfold(0, _BLOCK + width - 1, _BLOCK)  # (blocks, D, ...)
    square = torch.cdist(lips, sounds.mT, compute_mode="use_mm_for_euclid_dist")
    columns = torch.arange(_BLOCK, device=lips.device)[:, None] + torch.arange(width, device=lips.device)
    return square.gather(2, columns.expand(blocks, -1, -1)).flatten(0, 1)[:rows]


@torch.no_grad()
def clip_features(
    network: SyncNet,
    frames: Tensor,
    waveforms: Sequence[Tensor],
    batch_size: int = 32,
    mfcc: MfccSettings = MFCC,
) -> tuple[Tensor, list[Tensor]]:
    """Features of a clip's lips and of several sounds, each ``(T, D)``; its T + 5 frames are looked at once.

    The last five frames begin no window; the shortest of frames and sounds counts.

    Args:
        network: In evaluation mode.
        frames: ``(N, 3, H, W)`` uint8 RGB, or float in [-1, 1]; face crops at 25 fps, of them the network
            sees what its `view` says.
        waveforms: ``(S,)`` each, float in [-1, 1] at 16 kHz.
        batch_size: Windows at a time.
        mfcc: As the network was trained with.

    Raises:
        ValueError: Fewer than 6 frames, another shape, type or range, or a network in training mode.
    """
    frames = as_uint8(frames)
    for waveform in waveforms:
        check_sound(waveform)
    length = min(len(frames), *(len(waveform) // SAMPLES_PER_FRAME for waveform in waveforms))
    if length < SHORTEST:
        raise ValueError(f"{length} frames with sound, lip sync needs {SHORTEST} or more")
    if network.training:
        raise ValueError("the network that judges lip sync is in training mode; call its eval()")
    device = next(network.parameters()).device
    windows = length - SYNC_FRAMES
    cepstra = [clip_cepstra(waveform.to(device).float(), mfcc)[:windows] for waveform in waveforms]
    starts = range(0, windows, batch_size)
    pieces = (frames[start : min(start + batch_size, windows) + SYNC_FRAMES - 1] for start in starts)
    with single_precision(device):
        sounds = [
            torch.cat([network.audio_features(part) for part in one.split(batch_size)]) for one in cepstra
        ]
        lip = [network.lip_track(network.view(piece.float()).to(device)) for piece in pieces]
    return torch.cat(lip), sounds


def lip_sync(
    network: SyncNet,
    frames: Tensor,
    waveforms: Sequence[Tensor],
    settings: SyncSettings = SyncSettings(),
    mfcc: MfccSettings = MFCC,
) -> list[SyncResult]:
    """Lip sync of one clip with each of several sounds; see `clip_features` and `offsets_and_distances`."""
    lip, sounds = clip_features(network, frames, waveforms, mfcc=mfcc)
    return [offsets_and_distances(lip, sound, settings) for sound in sounds]


def face_crops(frames: Tensor, boxes: np.ndarray, settings: FaceCropSettings = FaceCropSettings()) -> Tensor:
    """Cut the face out of every frame as the published script does.

    With s half the larger side of the box: from s above its centre to 1.8 s below, 1.4 s to either side; centre and s are
    smoothed by a median of 13 frames, zeros beyond the ends; grey of 110 outside the picture; stretched to a square by
    bilinear interpolation without antialiasing. The script's boxes are those of S3FD: other boxes are another protocol.
    It also keeps the crops as MPEG-4 and JPEG on their way, which is left out here.

    ``(T, 3, S, S)`` uint8 RGB of frames ``(T, 3, H, W)`` uint8 and boxes ``(T, 4)`` x0, y0, x1, y1 in pixels; rows with
    NaN (no face found) are interpolated, at the ends held.

    Raises:
        ValueError: Shapes that don't fit, fewer than 13 frames, no box at all, none for 25 frames in a row, or boxes
            without area.
    """
    pictures = frames.ndim == 4 and frames.shape[1] == 3 and frames.dtype == torch.uint8
    if not pictures or boxes.shape != (len(frames), 4):
        told = f"{tuple(frames.shape)} {frames.dtype}, {boxes.shape}"
        raise ValueError(f"frames must be (T, 3, H, W) uint8 and boxes (T, 4), got {told}")
    median, scale, square = settings.median, settings.scale, (settings.size, settings.size)
    if len(frames) < median:
        raise ValueError(f"{len(frames)} frames are too few to smooth a face track over {median}")
    x0, y0, x1, y1 = _filled(np.asarray(boxes, dtype=np.float64), settings.most_unseen).T
    half, x, y = (
        medfilt(track, median) for track in (np.maximum(y1 - y0, x1 - x0) / 2, (x0 + x1) / 2, (y0 + y1) / 2)
    )
    if half.min() * 2 * (1 + scale) < 1:
        raise ValueError("face boxes without area")
    sides = np.stack([x - half * (1 + scale), y - half, x + half * (1 + scale)], axis=1)
    corners = np.floor(np.column_stack([sides, y + half * (1 + 2 * scale)])).astype(int).tolist()
    crops = (_cut(frame, corner, settings.grey) for frame, corner in zip(frames, corners, strict=True))
    resized = [F.interpolate(crop[None].float(), square, mode="bilinear").round() for crop in crops]
    return torch.cat(resized).to(torch.uint8)


def _filled(boxes: np.ndarray, most_unseen: int) -> np.ndarray:
    """Boxes ``(T, 4)`` without gaps."""
    seen = np.flatnonzero(np.isfinite(boxes).all(axis=1))
    if not len(seen):
        raise ValueError("no face in any frame")
    if np.diff([-1, *seen, len(boxes)]).max() > most_unseen:
        raise ValueError(f"no face for {most_unseen} frames or more: the track ends there")
    every = np.arange(len(boxes))
    return np.stack([np.interp(every, seen, column[seen]) for column in boxes.T], axis=1)


def _cut(frame: Tensor, corner: Sequence[int], grey: int) -> Tensor:
    """The part of ``(3, H, W)`` in a box x0, y0, x1, y1 of whole pixels, which may reach beyond it into grey."""
    x0, y0, x1, y1 = corner
    height, width = frame.shape[1:]
    inside = frame[:, max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
    left, top = max(min(x1, 0) - x0, 0), max(min(y1, 0) - y0, 0)
    missing = (left, max(x1 - max(width, x0), 0), top, max(y1 - max(height, y0), 0))
    return F.pad(inside, missing, value=grey)
