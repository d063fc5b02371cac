"""Plain torch datasets over prepared clips, and the sampler that tells them the epoch.

What a dataset returns is a pure function of (seed, epoch, index): the same on every machine, with any number
of workers, on any rank. The epoch travels inside the index, so that long-lived workers see it too.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from datamodules.batches import (
    POSE_NAMES,
    SYNC_FRAMES,
    WINDOW,
    FramePairBatch,
    MotionWindowBatch,
    SyncWindowBatch,
)
from datamodules.clips.annotations import POSE_ARRAYS, pose_of, read_frames
from datamodules.clips.augmentation import augment_pair, blur_background, change_voice
from datamodules.clips.clip_store import ClipFrames, ClipSounds
from datamodules.clips.deformation import Deformation, deform_pair, degrade_pair
from datamodules.clips.manifest import ClipRecord
from datamodules.errors import UserError
from datamodules.media.audio import MEL_DIM
from datamodules.media.pictures import to_float

VECTORS = WINDOW + 1
"""Motion vectors of a window: the hint and the generated frames."""
POINT_ARRAYS = (("landmarks", "visible"), ("surface", "surface_visible"))
"""Annotations that are points, and which of them nothing hides."""
FRAME_ANNOTATIONS = (
    "regions", "rotation", "lip_opening", "lip_width", "blink", "person", *(one for names in POINT_ARRAYS for one in names),
)  # fmt: skip
POSE_CENTRE = np.array([0, 0, 0, 0.5, 0.57, 0.1, 0.55, 0.2], dtype=np.float32)
POSE_SPREAD = np.array([8, 5, 5, 0.05, 0.05, 0.1, 0.08, 0.3], dtype=np.float32)
"""Fixed centre and spread of ``POSE_NAMES``, so that all of them weigh about the same in a loss."""
LIP_SHARE = 0.2
"""Share of a clip's frames that count as those with the least, or the most, open lips."""
MIN_PAIR_DISTANCE = 10
"""Frames between the two frames of a pair where the clip is long enough."""
SHUT = 0.5
"""Value of ``blink`` from which lids count as shut."""

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


def sample_pair(frames: int, generator: np.random.Generator) -> tuple[int, int]:
    """Draw source and driving frame of a clip, ``MIN_PAIR_DISTANCE`` apart or, in short clips, as far as there is."""
    source = int(generator.integers(frames))
    distance = np.abs(np.arange(frames) - source)
    candidates = np.flatnonzero(distance >= min(MIN_PAIR_DISTANCE, int(distance.max())))
    return source, int(generator.choice(candidates))


class FramePairDataset(Dataset[FramePairBatch]):
    """Two frames of one clip per item, as the motion autoencoder trains on.

    Points, pose and masks have one shape in all items, so that any clips share a batch: as many landmarks as the clip with
    the most of them, then as many points of the surface, NaN where a clip has fewer or its annotations don't know them.

    Args:
        frames: Access to the frames.
        records: Clips to draw from.
        pairs_per_clip: Items of each clip in an epoch.
        seed: >= 0.
        augment: Whether to change colour and side of each pair.
        blink_share: Share of the driving frames that are drawn from those with shut lids, in clips whose annotations know
            them: lids are shut in few frames, and a short training hardly sees one.
        mouth_share: Share of the pairs that lead from a frame among the clip's ``LIP_SHARE`` with the least open lips to one
            among those with the most open, in clips whose annotations know them. Portraits have shut mouths, and uniform
            pairs seldom ask to open one.
        background_blur: Pixels of the Gaussian that blurs both frames outside the person, an odd number, in clips whose
            annotations know the person; 0 = none.
        twins: Clips of the same motion on another head, by the ids of those that they belong to.
        twin_share: Share of the pairs of such clips whose motion is read off the twin: one head in another's motion.
        deform: Share of the pairs whose faces are given another place and shape, alike in all frames (see `deform_pair`).
        degrade: Share of the pairs that look as from a worse camera (see `degrade_pair`).
    """

    def __init__(
        self,
        frames: ClipFrames,
        records: Sequence[ClipRecord],
        pairs_per_clip: int,
        seed: int = 0,
        augment: bool = False,
        blink_share: float = 0.0,
        mouth_share: float = 0.0,
        background_blur: int = 0,
        twins: Mapping[str, ClipRecord] = MappingProxyType({}),
        twin_share: float = 0.0,
        deform: float = 0.0,
        degrade: float = 0.0,
    ) -> None:
        self.twins, self.twin_share = twins, twin_share
        self.deform, self.degrade = deform, degrade
        self.background_blur = background_blur
        self.frames, self.records = frames, list(records)
        self.pairs_per_clip, self.seed, self.augment = pairs_per_clip, seed, augment
        self.blink_share, self.mouth_share = blink_share, mouth_share
        shapes = [frames.clips.shapes(record) for record in self.records]
        self._landmarks, surface = (
            max((s[name][1] for s in shapes if name in s), default=0) for name, _ in POINT_ARRAYS
        )
        self._points = self._landmarks + surface
        self._person = max((s["person"][1] for s in shapes if "person" in s), default=0)
        self._pose = len(POSE_NAMES) if any(set(POSE_ARRAYS) <= set(s) for s in shapes) else 0

    def __len__(self) -> int:
        return len(self.records) * self.pairs_per_clip

    def __getitem__(self, item: EpochIndex) -> FramePairBatch:
        """One pair without a batch axis."""
        epoch, index = item
        generator = item_generator(self.seed, epoch, index)
        record = self.records[index // self.pairs_per_clip]
        source, driving = sample_pair(record.frames, generator)
        kind = generator.random() if self.blink_share or self.mouth_share else 1.0
        if kind < self.blink_share:
            driving = self._shut_frame(record, source, driving, generator)
        elif kind < self.blink_share + self.mouth_share:
            source, driving = self._opening_pair(record, source, driving, generator)
        images = to_float(self.frames.get(record, np.array([source, driving])))  # (2, 3, H, W)
        notes = self._annotations(record, [source, driving])
        regions = torch.from_numpy(notes["regions"][1]) if "regions" in notes else torch.zeros(3, 4)
        landmarks, visible = (
            torch.full((2, self._points, 2), torch.nan),
            torch.full((2, self._points), torch.nan),
        )
        for first, (name, seen) in zip((0, self._landmarks), POINT_ARRAYS, strict=True):
            last = first + notes[name].shape[1] if name in notes else first
            for known, into in ((name, landmarks), (seen, visible)):
                if known in notes:
                    into[:, first:last] = torch.from_numpy(notes[known])
        pose = torch.full((2, self._pose), torch.nan)
        if (told := pose_of(notes)) is not None:
            pose[:] = torch.from_numpy((told - POSE_CENTRE) / POSE_SPREAD)
        person = torch.full((2, self._person, self._person), torch.nan)
        if "person" in notes:
            person[:] = torch.from_numpy(notes["person"]) / 255
            if self.background_blur:
                images = blur_background(images, person, self.background_blur)
        source_image, target = (image.contiguous() for image in images)
        pair = FramePairBatch(
            source_image,
            target,
            self._shown(record, driving, target, generator),
            regions,
            landmarks,
            pose,
            visible,
            person,
        )
        if self.deform and generator.random() < self.deform:
            pair = deform_pair(pair, Deformation.draw(generator), POSE_CENTRE, POSE_SPREAD)
        if self.degrade and generator.random() < self.degrade:
            pair = degrade_pair(pair, generator)
        return augment_pair(pair, generator) if self.augment else pair

    def _shown(
        self, record: ClipRecord, frame: int, driving: torch.Tensor, generator: np.random.Generator
    ) -> torch.Tensor:
        """The frame whose motion is read: the driving one, or at times that of the clip's twin."""
        twin = self.twins.get(record.id)
        if twin is None or generator.random() >= self.twin_share:
            return driving
        return to_float(self.frames.get(twin, np.array([frame])))[0].contiguous()

    def _shut_frame(
        self, record: ClipRecord, source: int, otherwise: int, generator: np.random.Generator
    ) -> int:
        """Draw a frame with shut lids that is not the source; ``otherwise`` where there is none."""
        lids = self._annotations(record, range(record.frames), ("blink",)).get("blink", np.zeros(0))
        shut = np.flatnonzero(lids >= SHUT)
        shut = shut[shut != source]
        return int(generator.choice(shut)) if len(shut) else otherwise

    def _opening_pair(
        self, record: ClipRecord, source: int, driving: int, generator: np.random.Generator
    ) -> tuple[int, int]:
        """Draw a frame with shut and one with open lips; ``source`` and ``driving`` where lips aren't known."""
        lips = self._annotations(record, range(record.frames), ("lip_opening",)).get("lip_opening")
        if lips is None or not np.isfinite(lips).any():
            return source, driving
        shut, wide = np.nanquantile(lips, [LIP_SHARE, 1 - LIP_SHARE])
        if not shut < wide:
            return source, driving
        source, driving = (generator.choice(np.flatnonzero(c)) for c in (lips <= shut, lips >= wide))
        return int(source), int(driving)

    def _annotations(
        self, record: ClipRecord, frames: Sequence[int], names: Sequence[str] = FRAME_ANNOTATIONS
    ) -> dict[str, np.ndarray]:
        path = self.frames.clips.annotations(record)
        return {} if path is None else read_frames(path, names, frames)


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
    wanted = torch.arange(start, start + VECTORS)
    held = wanted.clamp(max=frames - 1)
    steps = (held[1:, None] * 2 + torch.arange(2)).flatten()  # two audio features a frame
    has_previous = start >= WINDOW
    before = (
        motion[start - WINDOW : start + 1].clone() if has_previous else torch.zeros(VECTORS, motion.shape[1])
    )
    return MotionWindowBatch(
        motion=motion[held],
        audio=audio[steps].float(),
        source_motion=motion[source].clone(),
        appearance=latents["appearance"][source].float().clone(),
        previous=before,
        has_previous=torch.tensor(has_previous),
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
        self.latents.require_finite(
            record.id, window.motion, window.audio, window.source_motion, window.appearance, window.previous
        )
        if self.augment and window.audio.shape[1] == MEL_DIM:
            return window._replace(audio=change_voice(window.audio, generator))
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
