"""Pairs of frames of one clip, as the motion autoencoder trains on."""

import contextlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from datamodules.batches import POSE_NAMES, FramePairBatch
from datamodules.clips.annotations import POSE_ARRAYS, pose_of, read_annotations, read_frames, require_frames
from datamodules.clips.augmentation import augment_pair, blur_background
from datamodules.clips.backdrops import draw_backdrop, replace_background
from datamodules.clips.clip_store import ClipFrames, DeviceFrames
from datamodules.clips.datasets import EpochIndex, item_generator
from datamodules.clips.deformation import Deformation, deform_pair, degrade_pair
from datamodules.clips.manifest import ClipRecord
from datamodules.media.pictures import to_float

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
MOST_TURN = 35.0
"""Degrees of yaw between the frames of a pair: of what lies beyond, a portrait shows too little."""
SHUT = 0.5
"""Value of ``blink`` from which lids count as shut."""


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
        frames: Access to the frames; with `DeviceFrames` items are made on their device, and annotations stay in memory.
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
        backdrop: Share of the pairs that are given another background, in clips whose annotations know the person.
    """

    def __init__(
        self,
        frames: ClipFrames | DeviceFrames,
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
        backdrop: float = 0.0,
    ) -> None:
        self.twins, self.twin_share = twins, twin_share
        self.deform, self.degrade, self.backdrop = deform, degrade, backdrop
        self.background_blur = background_blur
        self.frames, self.records = frames, list(records)
        self.device = frames.device if isinstance(frames, DeviceFrames) else None
        self._notes: dict[str, dict[str, np.ndarray]] = {}
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
        with self.device or contextlib.nullcontext():  # where tensors are made
            return self._pair(item)

    def _pair(self, item: EpochIndex) -> FramePairBatch:
        epoch, index = item
        generator = item_generator(self.seed, epoch, index)
        record = self.records[index // self.pairs_per_clip]
        source, driving = sample_pair(record.frames, generator)
        kind = generator.random() if self.blink_share or self.mouth_share else 1.0
        if kind < self.blink_share:
            driving = self._shut_frame(record, source, driving, generator)
        elif kind < self.blink_share + self.mouth_share:
            source, driving = self._opening_pair(record, source, driving, generator)
        driving = self._in_reach(record, source, driving, generator)
        images = to_float(self.frames.get(record, np.array([source, driving])))  # (2, 3, H, W)
        notes = self._annotations(record, [source, driving])
        person = self._mask(notes)
        if self.background_blur and "person" in notes:
            images = blur_background(images, person, self.background_blur)
        landmarks, visible = self._seen_points(notes)
        shown, pose = images[1], _pose(notes, self._pose)
        twin = self.twins.get(record.id)
        if twin is not None and generator.random() < self.twin_share:
            shown = to_float(self.frames.get(twin, np.array([driving])))[0]
            pose[1] = _pose(self._annotations(twin, [driving, driving]), self._pose)[1]
        pair = FramePairBatch(
            source=images[0].contiguous(),
            driving=images[1].contiguous(),
            shown=shown.contiguous(),
            regions=torch.as_tensor(notes["regions"][1]) if "regions" in notes else torch.zeros(3, 4),
            landmarks=landmarks,
            pose=pose,
            visible=visible,
            person=person,
        )
        if self.backdrop and generator.random() < self.backdrop:
            pair = replace_background(pair, draw_backdrop(self._any_frame(generator), generator))
        if self.deform and generator.random() < self.deform:
            pair = deform_pair(pair, Deformation.draw(generator), POSE_CENTRE, POSE_SPREAD)
        if self.degrade and generator.random() < self.degrade:
            pair = degrade_pair(pair, generator)
        return augment_pair(pair, generator) if self.augment else pair

    def _any_frame(self, generator: np.random.Generator) -> Tensor:
        """A frame ``(3, H, W)`` of any clip."""
        record = self.records[int(generator.integers(len(self.records)))]
        return to_float(self.frames.get(record, generator.integers(record.frames, size=1)))[0]

    def _seen_points(self, notes: dict[str, np.ndarray]) -> tuple[Tensor, Tensor]:
        """Landmarks and points of the surface ``(2, L, 2)``, and whether something hides them ``(2, L)``."""
        landmarks = torch.full((2, self._points, 2), torch.nan)
        visible = torch.full((2, self._points), torch.nan)
        for first, (name, seen) in zip((0, self._landmarks), POINT_ARRAYS, strict=True):
            last = first + notes[name].shape[1] if name in notes else first
            for known, into in ((name, landmarks), (seen, visible)):
                if known in notes:
                    into[:, first:last] = torch.as_tensor(notes[known])
        return landmarks, visible

    def _mask(self, notes: dict[str, np.ndarray]) -> Tensor:
        """Share of the person ``(2, s, s)`` in the pixels of both frames."""
        if "person" not in notes:
            return torch.full((2, self._person, self._person), torch.nan)
        known = torch.as_tensor(notes["person"])[:, None] / 255
        return F.interpolate(known, (self._person, self._person), mode="area")[:, 0]

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

    def _in_reach(self, record: ClipRecord, source: int, driving: int, generator: np.random.Generator) -> int:
        """``driving``, or a frame whose head is turned less far from the source's, in clips that know how it is turned."""
        known = self._annotations(record, range(record.frames), ("rotation",)).get("rotation")
        if known is None:
            return driving
        turn = np.abs(known[:, 0] - known[source, 0])  # (T,), NaN where no face was found
        if not turn[driving] > MOST_TURN:
            return driving
        near = np.flatnonzero(turn <= MOST_TURN)
        near = near[near != source]
        return int(generator.choice(near)) if len(near) else driving

    def _annotations(
        self, record: ClipRecord, frames: Sequence[int], names: Sequence[str] = FRAME_ANNOTATIONS
    ) -> dict[str, np.ndarray]:
        path = self.frames.clips.annotations(record)
        if path is None:
            return {}
        if self.device is None:
            return read_frames(path, names, frames)
        if record.id not in self._notes:
            known = read_annotations(path).arrays
            self._notes[record.id] = {name: known[name] for name in set(FRAME_ANNOTATIONS) & set(known)}
        held, found = self._notes[record.id], {}
        for name in set(names) & set(held):
            require_frames(path, len(held[name]), frames)
            found[name] = held[name][np.asarray(frames)].astype(np.float32)
        return found


def _pose(notes: dict[str, np.ndarray], length: int) -> Tensor:
    """``POSE_NAMES`` of two frames ``(2, length)``, centred and scaled; NaN where it is not known."""
    pose = torch.full((2, length), torch.nan)
    if (told := pose_of(notes)) is not None:
        pose[:] = torch.as_tensor((told - POSE_CENTRE) / POSE_SPREAD)
    return pose
