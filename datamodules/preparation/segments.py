"""A video's shots, in which faces were detected, to the segments that clips are made of."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from datamodules.batches import FPS
from datamodules.faces.framing import SquareCrop, clip_framing
from datamodules.preparation.detection import Detections
from datamodules.preparation.settings import PreparationSettings
from datamodules.preparation.sources import Span
from datamodules.preparation.tracking import FaceTrack, company_share, track_faces

TOLD = FPS
"""Frames of a shot between two faces from which they are listed as unfit."""


@dataclass(frozen=True)
class Segment:
    """A run of ``frames`` frames with one face; ``first`` as ``Detections`` counts.

    ``crop`` is a square that holds it all the time, ``company`` the share of frames with another large face.
    """

    first: int
    frames: int
    track: FaceTrack
    crop: SquareCrop
    company: float


@dataclass(frozen=True)
class Unfit:
    """Frames that no clip can be made of, numbered as in `Segment`; reason and detail as in ``Rejection``."""

    first: int
    frames: int
    reason: str
    detail: str


class Segmenter:
    """Cuts one span of a video, whose pictures are ``height`` x ``width``, into the segments that its detections allow.

    Where the dataset says that its speaker is in the box ``speaker`` (edges x0, y0, x1, y1), other faces don't count.
    """

    def __init__(
        self, detections: Detections, span: Span, height: int, width: int, settings: PreparationSettings
    ) -> None:
        self.detections, self.height, self.width = detections, height, width
        self.shortest = round(settings.min_seconds * FPS)
        self.longest = round(settings.max_seconds * FPS)
        self.crop = _published_crop(span, height) if settings.published_crops else None
        self.speaker: tuple[float, float, float, float] | None = None
        if span.face is not None:
            self.speaker = span.face.at(height, width)
        elif self.crop is not None:
            x, y, side = self.crop
            self.speaker = x, y, x + side, y + side

    def segments(self) -> Iterator[Segment | Unfit]:
        """What every shot holds, or why it holds nothing."""
        for start, end in self.detections.shots():
            yield from self._segments_of_shot(start, end)

    def _segments_of_shot(self, start: int, end: int) -> Iterator[Segment | Unfit]:
        tracks = track_faces(self.detections.faces, start, end)
        near = tracks if self.speaker is None else [one for one in tracks if _is_at(one, self.speaker)]
        kept = [track for track in near if track.length >= self.shortest]
        problem = None
        if end - start < self.shortest:
            problem = "too short", f"a shot of {(end - start) / FPS:.2f} s"
        elif not tracks:
            problem = "no face", "no face in the whole shot"
        elif not near:
            problem = "another face", "no face where the dataset's speaker is"
        elif not kept:
            longest = max(track.length for track in near)
            problem = "face not tracked", f"a face for {longest / FPS:.2f} s at most"
        if problem is not None:
            yield Unfit(start, end - start, *problem)
            return
        covered: list[tuple[int, int]] = []
        for track in kept:  # the weightiest first: another one only where that is gone
            for low, high in _free(track.frames[0], track.frames[-1] + 1, covered):
                if high - low >= self.shortest:
                    covered.append((low, high))
                    yield from self._cut(track, low, high)
        for (_, low), (high, _) in pairwise([(start, start), *sorted(covered), (end, end)]):
            if high - low >= TOLD:
                yield Unfit(low, high - low, "face not tracked", "no face that stays")

    def _cut(self, track: FaceTrack, low: int, high: int) -> Iterator[Segment | Unfit]:
        """A track in equal parts that are not too long, halved where the head moves too far for one crop."""
        parts = -(-(high - low) // self.longest)
        edges = [low + (high - low) * part // parts for part in range(parts + 1)]
        waiting = list(pairwise(edges))
        while waiting:
            start, end = waiting.pop(0)
            part = track.between(start, end)
            if part is None:
                yield Unfit(start, end - start, "face not tracked", "lost all the time")
                continue
            crop = self.crop or clip_framing(part.boxes(), self.height, self.width)
            if crop is not None:
                # others in the picture matter where it isn't known who speaks; else those in the crop do
                within = None if self.speaker is None else crop
                company = company_share(part, self.detections.faces, within)
                yield Segment(start, end - start, part, crop, company)
            elif end - start >= 2 * self.shortest:
                middle = (start + end) // 2
                waiting[:0] = [(start, middle), (middle, end)]
            else:
                yield Unfit(start, end - start, "moves too far", "no square holds the head at a usual size")


def _published_crop(span: Span, height: int) -> SquareCrop | None:
    """The square about a span's published crop in pictures of ``height`` pixels."""
    if span.crop is None:
        return None
    box = span.crop.scaled(height / (span.crop_height or height))
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
