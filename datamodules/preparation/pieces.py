"""A shot, once it was looked at, to the pieces that clips are made of."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from datamodules.batches import FPS
from datamodules.faces.framing import SquareCrop
from datamodules.preparation.cropping import clip_crop
from datamodules.preparation.face_tracks import FaceTrack, company_share, tracks_of
from datamodules.preparation.seeing import Seen
from datamodules.preparation.settings import PreparationSettings
from datamodules.preparation.sources import Span

TOLD = FPS
"""Frames of a shot between two faces from which they are listed as unfit."""


@dataclass(frozen=True)
class Piece:
    """A run of ``frames`` frames with one face; ``first`` as ``Seen`` counts.

    ``crop`` is a square that holds it all the time, ``company`` the share of frames with another large face.
    """

    first: int
    frames: int
    track: FaceTrack
    crop: SquareCrop
    company: float


@dataclass(frozen=True)
class Unfit:
    """A run of frames that no clip can be made of; ``first`` as ``Seen`` counts, reason and detail as in ``Rejection``."""

    first: int
    frames: int
    reason: str
    detail: str


@dataclass(frozen=True)
class Cutter:
    """Cuts one span of a video, whose pictures are ``height`` x ``width``, into what ``seen`` shows to be fit."""

    seen: Seen
    span: Span
    height: int
    width: int
    settings: PreparationSettings

    @property
    def _shortest(self) -> int:
        return round(self.settings.min_seconds * FPS)

    def pieces(self) -> Iterator[Piece | Unfit]:
        """What every shot holds, or why it holds nothing."""
        for start, end in self.seen.shots():
            yield from self._pieces_of_shot(start, end)

    def _pieces_of_shot(self, start: int, end: int) -> Iterator[Piece | Unfit]:
        def unfit(reason: str, detail: str) -> Unfit:
            return Unfit(start, end - start, reason, detail)

        if end - start < self._shortest:
            yield unfit("too short", f"a shot of {(end - start) / FPS:.2f} s")
            return
        tracks = tracks_of(self.seen.faces, start, end)
        if not tracks:
            yield unfit("no face", "no face in the whole shot")
            return
        place = self._speaker_place()
        if place is not None:
            tracks = [track for track in tracks if _is_at(track, place)]
            if not tracks:
                yield unfit("another face", "no face where the dataset's speaker is")
                return
        kept = [track for track in tracks if track.length >= self._shortest]
        if not kept:
            yield unfit("face not tracked", f"a face for {max(t.length for t in tracks) / FPS:.2f} s at most")
            return
        covered: list[tuple[int, int]] = []
        for track in kept:  # the weightiest first: another one only where that is gone
            for low, high in _free(track.frames[0], track.frames[-1] + 1, covered):
                if high - low >= self._shortest:
                    covered.append((low, high))
                    yield from self._cut(track, low, high)
        for (_, low), (high, _) in pairwise([(start, start), *sorted(covered), (end, end)]):
            if high - low >= TOLD:
                yield Unfit(low, high - low, "face not tracked", "no face that stays")

    def _cut(self, track: FaceTrack, low: int, high: int) -> Iterator[Piece | Unfit]:
        """A track in equal parts that are not too long, halved where the head moves too far for one crop."""
        parts = -(-(high - low) // round(self.settings.max_seconds * FPS))
        edges = [low + (high - low) * part // parts for part in range(parts + 1)]
        waiting = list(pairwise(edges))
        while waiting:
            start, end = waiting.pop(0)
            part = track.between(start, end)
            if part is None:
                yield Unfit(start, end - start, "face not tracked", "lost all the time")
                continue
            crop = self._published_crop() or clip_crop(part.boxes(), self.height, self.width)
            if crop is not None:
                # others in the picture matter where it isn't known who speaks; else those in the crop do
                within = None if self._speaker_place() is None else crop
                yield Piece(start, end - start, part, crop, company_share(part, self.seen.faces, within))
            elif end - start >= 2 * self._shortest:
                middle = (start + end) // 2
                waiting[:0] = [(start, middle), (middle, end)]
            else:
                yield Unfit(start, end - start, "moves too far", "no square holds the head at a usual size")

    def _speaker_place(self) -> tuple[float, float, float, float] | None:
        """Edges x0, y0, x1, y1 of where the dataset says that its speaker is, if it does."""
        if self.span.face is not None:
            return self.span.face.at(self.height, self.width)
        if (crop := self._published_crop()) is not None:
            return crop.x, crop.y, crop.x + crop.side, crop.y + crop.side
        return None

    def _published_crop(self) -> SquareCrop | None:
        if self.span.crop is None or not self.settings.published_crops:
            return None
        box = self.span.crop.scaled(self.height / (self.span.crop_height or self.height))
        side = max(box.width, box.height)
        return SquareCrop(box.x + (box.width - side) / 2, box.y + (box.height - side) / 2, side)


def _free(low: int, high: int, covered: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What is left of a run of frames without those that are covered."""
    free = [(low, high)]
    for start, end in covered:
        parts = [part for a, b in free for part in ((a, min(b, start)), (max(a, end), b))]
        free = [(a, b) for a, b in parts if a < b]
    return free


def _is_at(track: FaceTrack, place: tuple[float, float, float, float]) -> bool:
    """Whether the middle of a face lies, most of the time, in a box."""
    boxes = track.boxes()
    x, y = np.median((boxes[:, :2] + boxes[:, 2:]) / 2, axis=0)
    return bool(place[0] <= x <= place[2] and place[1] <= y <= place[3])
