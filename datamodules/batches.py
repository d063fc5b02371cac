"""Typed batches: what the DataModules hand to the LightningModules.

NamedTuples, because Lightning moves them between devices and the default collate keeps their type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor  # slow to import, and much that needs the constants alone needs no tensors

FPS = 25
SAMPLE_RATE = 16_000
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
WINDOW = 64
"""Frames generated per motion window; with the hint frame before them a window holds 65 motion vectors."""
CONTEXT = 16
"""Most frames on either side of a motion window whose speech and motion a model may see besides."""

POSE_NAMES = ("yaw", "pitch", "roll", "shift_x", "shift_y", "lip_opening", "lip_width", "blink")
"""What is told of a frame's pose: rotation, mean of the landmarks in the picture, lips, lids."""

SYNC_FRAMES = 5
"""Frames that a judge of lip sync sees at a time (Chung and Zisserman, ACCV-W 2016)."""

REGION_NAMES = ("mouth", "left_eye", "right_eye")
"""Parts of the face that a batch has boxes of, in this order; left is the person's."""


def window_starts(frames: int, window: int = WINDOW) -> list[int]:
    """First frames of the windows that motion of so many frames is made in.

    They follow each other, but for the last: it ends where the speech does, and what of the one before lies in it is made
    anew. Motion that is shorter than a window is one window's.
    """
    return [*range(0, frames - window, window), max(frames - window, 0)]


class FramePairBatch(NamedTuple):
    """Two frames of one clip, for the motion autoencoder.

    Attributes:
        source: ``(B, 3, H, W)`` float32 in [-1, 1].
        driving: ``(B, 3, H, W)`` float32 in [-1, 1]; another frame of the same clip, which is to be rendered.
        shown: ``(B, 3, H, W)`` float32 in [-1, 1]; whose motion is read: the driving frame, or another head's in the same
            motion.
        regions: ``(B, 3, 4)`` float32 boxes x0, y0, x1, y1 in [0, 1] of ``REGION_NAMES`` in the driving frame; all
            zeros where no landmarks are known.
        landmarks: ``(B, 2, L, 2)`` float32 landmarks x, y in [0, 1] of source and driving frame, and further points of the
            surface where they are known; NaN where not known; L = 0 where no clip of the dataset has any.
        pose: ``(B, 2, 8)`` float32 ``POSE_NAMES`` of source and driving frame, each in units of about its spread, NaN
            where not known; the last axis is 0 long where no clip of the dataset knows them.
        visible: ``(B, 2, L)`` float32, 1 where that frame shows the landmark, 0 where something hides it, NaN where unknown.
        person: ``(B, 2, s, s)`` float32 share of the person in the pixels of source and driving frame, 0 to 1, NaN where not
            known; s = 0 where no clip of the dataset knows it.
    """

    source: Tensor
    driving: Tensor
    shown: Tensor
    regions: Tensor
    landmarks: Tensor
    pose: Tensor
    visible: Tensor
    person: Tensor


class WholeClip(NamedTuple):
    """A clip from its first frame on, for what is judged as a whole.

    Attributes:
        name: Its id.
        frames: ``(T, 3, H, W)`` uint8.
        waveform: ``(640 T,)`` float32 in [-1, 1] at 16 kHz: its speech.
        audio: ``(2T, D)`` float32 audio features at 50 Hz, None where there is no latent cache.
    """

    name: str
    frames: Tensor
    waveform: Tensor
    audio: Tensor | None


class SyncWindowBatch(NamedTuple):
    """Some frames with their sound and with sound from elsewhere in the clip, for judges of lip sync.

    Attributes:
        frames: ``(B, 5, 3, H, W)`` float32 in [-1, 1].
        waveform: ``(B, 3200)`` float32 in [-1, 1] at 16 kHz: the sound of these frames.
        other: ``(B, 3200)`` sound of five frames of the same clip that overlap with these in none.
        distance: ``(B,)`` int64 frames from ``waveform`` to ``other``, positive where ``other`` is later.
    """

    frames: Tensor
    waveform: Tensor
    other: Tensor
    distance: Tensor


class MotionWindowBatch(NamedTuple):
    """A window of motion with its speech, for the statistics estimator and the diffusion model.

    Attributes:
        motion: ``(B, 65, M)`` float32 raw motion coefficients: hint frame, then 64 frames.
        audio: ``(B, 128, D)`` float32 audio features at 50 Hz of the 64 frames after the hint.
        source_motion: ``(B, M)`` raw motion of a source frame of the same clip outside the window.
        appearance: ``(B, 512)`` appearance latent of that source frame.
        previous: ``(B, 65, M)`` raw motion of the window before, the 65 frames that end at the hint; NaN where there are
            none. Whole vectors, because a std in rotated coordinates needs the covariance of the raw ones.
        valid: ``(B, 64)`` bool; False on frames past the end of the clip, which hold repeated values.
        audio_around: ``(B, 2, 32, D)`` audio features of the 16 frames that end at the hint and of the 16 after the window;
            beyond the ends of the clip the last is repeated.
    """

    motion: Tensor
    audio: Tensor
    source_motion: Tensor
    appearance: Tensor
    previous: Tensor
    valid: Tensor
    audio_around: Tensor

    @property
    def has_previous(self) -> Tensor:
        """``(B,)`` bool: whether a whole window is before this one."""
        return self.previous.isfinite().all(dim=-1).all(dim=-1)
