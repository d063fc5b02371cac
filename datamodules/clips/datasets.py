"""Plain torch datasets over prepared clips, and the sampler that tells them the epoch.

What a dataset returns is a pure function of (seed, epoch, index): the same on every machine, with any number
of workers, on any rank. The epoch travels inside the index, so that long-lived workers see it too.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from datamodules.batches import (
    CONTEXT,
    SYNC_FRAMES,
    WINDOW,
    MotionWindowBatch,
    SyncWindowBatch,
)
from datamodules.clips.augmentation import change_voice
from datamodules.clips.clip_store import ClipFrames, ClipSounds
from datamodules.clips.manifest import ClipRecord
from datamodules.errors import UserError
from datamodules.media.audio import MEL_DIM
from datamodules.media.pictures import to_float

VECTORS = WINDOW + 1
"""Motion vectors of a window: the hint and the generated frames."""
EpochIndex = tuple[int, int]


class EpochSampler(DistributedSampler[EpochIndex]):
    """Yields (epoch, index) for the share of the dataset that belongs to one of ``ranks`` processes.

    A ``DistributedSampler``, so that Lightning leaves it in place and calls ``set_epoch``. Where the ranks do not divide the
    dataset, the last few indices are served twice. Without ``shuffle`` every epoch is the same epoch 0 (validation).
    """

    def __init__(self, dataset: Dataset, shuffle: bool, seed: int = 0, rank: int = 0, ranks: int = 1) -> None:
        super().__init__(dataset, num_replicas=ranks, rank=rank, shuffle=shuffle, seed=seed)
        self._started: tuple[int, int] | None = None

    def resume(self, epoch: int, items: int) -> None:
        """Begin within an epoch: of this one the first ``items`` have been served before."""
        self.set_epoch(epoch)
        self._started = epoch, items

    def __iter__(self) -> Iterator[EpochIndex]:
        """Pairs of epoch and index; the length of the sampler stays that of a whole epoch."""
        epoch = self.epoch if self.shuffle else 0
        started, served = self._started or (epoch, 0)
        for index in islice(super().__iter__(), served if epoch == started else 0, None):
            yield epoch, int(index)  # type: ignore[call-overload]


def item_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random source of one item; all three numbers are >= 0."""
    return np.random.default_rng((seed, epoch, index))


def sample_source(frames: int, start: int, generator: np.random.Generator) -> int:
    """Draw a source frame outside the ``VECTORS`` frames from ``start``; frame 0 if there is none."""
    outside = frames - min(VECTORS, frames - start)
    if outside == 0:
        return 0
    position = int(generator.integers(outside))
    return position if position < start else position + VECTORS


def cut_window(latents: dict[str, Tensor], start: int, source: int) -> MotionWindowBatch:
    """One motion window of a clip, float32 without a batch axis; past the end of the clip the last frame is repeated.

    Args:
        latents: ``motion`` (T, M), ``appearance`` (T, A) and ``audio`` (2T, D) of the clip.
        start: Frame of the hint.
        source: Frame that motion and appearance of the source are taken from.
    """
    motion, audio = latents["motion"].float(), latents["audio"]
    frames = len(motion)

    def heard(first: int, count: int) -> Tensor:
        """Two audio features of each of so many frames, ``(2 count, D)``."""
        held = torch.arange(first, first + count).clamp(0, frames - 1)
        return audio[(held[:, None] * 2 + torch.arange(2)).flatten()].float()

    wanted = torch.arange(start, start + VECTORS)
    before = torch.arange(start - WINDOW, start + 1)
    around = [heard(start - CONTEXT + 1, CONTEXT), heard(start + VECTORS, CONTEXT)]
    return MotionWindowBatch(
        motion=motion[wanted.clamp(max=frames - 1)],
        audio=heard(start + 1, WINDOW),
        audio_around=torch.stack(around),
        source_motion=motion[source].clone(),
        appearance=latents["appearance"][source].float().clone(),
        previous=torch.where(before[:, None] >= 0, motion[before.clamp(min=0)], torch.nan),
        valid=wanted[1:] < frames,
    )


class Latents(Protocol):
    """What a ``LatentCache`` is to this room: gives the latents of a clip by its id, see `cut_window`."""

    def load(self, clip: str) -> dict[str, Tensor]: ...  # noqa: D102
    def require_finite(self, clip: str, *values: Tensor) -> None: ...  # noqa: D102


class MotionWindowDataset(Dataset[MotionWindowBatch]):
    """Motion windows from the latent cache.

    Args:
        latents: Of the clips.
        records: Clips to draw from; those without sound are left out.
        windows_per_clip: Windows drawn from each clip in an epoch, their starts uniform over the clip; None
            takes fixed windows one after the other, as many as are whole (one of a clip that is too short).
        seed: >= 0.
        augment: Whether to change the voice of log-mel sound; other audio features stay as they are.
    """

    def __init__(
        self,
        latents: Latents,
        records: Sequence[ClipRecord],
        windows_per_clip: int | None,
        seed: int = 0,
        augment: bool = False,
    ) -> None:
        self.latents, self.records = latents, [record for record in records if record.audio is not None]
        if records and not self.records:
            raise UserError(
                "none of the clips has sound: nothing to learn speech from; prepare clips with sound"
            )
        self.windows_per_clip, self.seed, self.augment = windows_per_clip, seed, augment
        self._fixed = [
            (clip, start)
            for clip, record in enumerate(self.records)
            for start in range(0, max(record.frames - WINDOW, 1), WINDOW)
        ]

    def __len__(self) -> int:
        if self.windows_per_clip is None:
            return len(self._fixed)
        return len(self.records) * self.windows_per_clip

    def __getitem__(self, item: EpochIndex) -> MotionWindowBatch:
        """One window without a batch axis."""
        epoch, index = item
        generator = item_generator(self.seed, epoch, index)
        if self.windows_per_clip is None:
            clip, start = self._fixed[index]
        else:
            clip = index // self.windows_per_clip
            start = int(generator.integers(max(self.records[clip].frames - WINDOW, 1)))
        record = self.records[clip]
        source = sample_source(record.frames, start, generator)
        window = cut_window(self.latents.load(record.id), start, source)
        past = window.previous[max(0, WINDOW - start) :]  # what is before the clip is NaN
        read = (
            window.motion,
            window.audio,
            window.audio_around,
            window.source_motion,
            window.appearance,
            past,
        )
        self.latents.require_finite(record.id, *read)
        if self.augment and window.audio.shape[1] == MEL_DIM:
            before, after = window.audio_around
            changed = change_voice(torch.cat([before, window.audio, after]), generator)
            before, audio, after = changed.split([2 * CONTEXT, 2 * WINDOW, 2 * CONTEXT])
            return window._replace(audio=audio, audio_around=torch.stack([before, after]))
        return window


def sample_sync_starts(frames: int, generator: np.random.Generator) -> tuple[int, int]:
    """Draw the first frames of two runs of ``SYNC_FRAMES`` frames without a common one; a clip has twice as many at least."""
    starts = np.arange(frames - SYNC_FRAMES + 1)
    possible = starts[(starts >= SYNC_FRAMES) | (starts <= starts[-1] - SYNC_FRAMES)]
    start = int(generator.choice(possible))
    return start, int(generator.choice(starts[np.abs(starts - start) >= SYNC_FRAMES]))


class SyncWindowDataset(Dataset[SyncWindowBatch]):
    """Frames with their own and with other sound of one clip per item.

    Args:
        frames: Access to the frames.
        records: Clips to draw from; those without sound or too short for two windows are left out.
        windows_per_clip: Items of each clip in an epoch.
        seed: >= 0.

    Raises:
        UserError: No clip is left.
    """

    def __init__(
        self, frames: ClipFrames, records: Sequence[ClipRecord], windows_per_clip: int, seed: int = 0
    ) -> None:
        self.frames = frames
        self.records = [r for r in records if r.audio is not None and r.frames >= 2 * SYNC_FRAMES]
        if not self.records:
            raise UserError(
                f"{frames.root}: no clip has sound and {2 * SYNC_FRAMES} frames, which lip sync is judged on"
            )
        self.windows_per_clip = windows_per_clip
        self.seed = seed
        self.sounds = ClipSounds(frames.clips)

    def __len__(self) -> int:
        return len(self.records) * self.windows_per_clip

    def __getitem__(self, item: EpochIndex) -> SyncWindowBatch:
        """One window without a batch axis."""
        epoch, index = item
        record = self.records[index // self.windows_per_clip]
        start, other = sample_sync_starts(record.frames, item_generator(self.seed, epoch, index))
        images = to_float(self.frames.get(record, np.arange(start, start + SYNC_FRAMES)))
        own, shifted = (self.sounds.get(record, first, SYNC_FRAMES) for first in (start, other))
        return SyncWindowBatch(
            images.contiguous(), torch.from_numpy(own), torch.from_numpy(shifted), torch.tensor(other - start)
        )
