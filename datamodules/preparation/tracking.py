"""Faces of a video over time: the one that a clip is about, and who else is there."""

from dataclasses import dataclass

import numpy as np

from datamodules.faces.finding import FaceBox
from datamodules.faces.framing import SquareCrop
from datamodules.preparation.detection import FaceDetection

OVERLAP = 0.3
"""Least intersection over union of a face's boxes in neighbouring frames."""
LONGEST_GAP = 5
"""Frames that a face may be lost for without being another one."""
LARGE_SHARE = 0.5
"""A second face of at least this share of the main one's side counts."""


@dataclass(frozen=True)
class FaceTrack:
    """One person's face in the frames that it was seen in, whose numbers rise, with gaps of ``LONGEST_GAP`` at most."""

    frames: list[int]
    faces: list[FaceDetection]

    @property
    def weight(self) -> float:
        """How much of the shot it is: sides of its boxes, summed up."""
        return sum(face.box.side for face in self.faces)

    @property
    def length(self) -> int:
        """Frames from its first to its last one."""
        return self.frames[-1] + 1 - self.frames[0]

    def between(self, start: int, end: int) -> "FaceTrack | None":
        """What lies in the frames from ``start`` to before ``end``; None where the face is in none of them."""
        inside = [i for i, number in enumerate(self.frames) if start <= number < end]
        if not inside:
            return None
        return FaceTrack([self.frames[i] for i in inside], [self.faces[i] for i in inside])

    def boxes(self) -> np.ndarray:
        """``(T, 4)`` x0, y0, x1, y1 from its first to its last frame, gaps filled along straight lines."""
        known = np.array([face.box for face in self.faces], dtype=float)
        every = np.arange(self.frames[0], self.frames[-1] + 1)
        return np.stack([np.interp(every, self.frames, column) for column in known.T], axis=1)


def track_faces(detected: list[list[FaceDetection]], first: int, last: int) -> list[FaceTrack]:
    """Link the faces of the frames ``first`` to ``last`` (exclusive) to tracks, the weightiest first."""
    tracks: list[FaceTrack] = []
    for number in range(first, last):
        free = [track for track in tracks if 0 < number - track.frames[-1] <= LONGEST_GAP + 1]
        faces = list(enumerate(detected[number]))
        pairs = [(_overlap(t.faces[-1].box, face.box), i, j) for i, t in enumerate(free) for j, face in faces]
        taken_tracks: set[int] = set()
        taken_faces: set[int] = set()
        for overlap, i, j in sorted(pairs, reverse=True):
            if overlap < OVERLAP or i in taken_tracks or j in taken_faces:
                continue
            free[i].frames.append(number)
            free[i].faces.append(detected[number][j])
            taken_tracks.add(i)
            taken_faces.add(j)
        tracks += [
            FaceTrack([number], [face]) for j, face in enumerate(detected[number]) if j not in taken_faces
        ]
    return sorted(tracks, key=lambda track: -track.weight)


def company_share(
    track: FaceTrack, detected: list[list[FaceDetection]], crop: SquareCrop | None = None
) -> float:
    """Share of a track's frames in which another large face is there, with its middle in ``crop`` where that is given."""
    crowded = 0
    for number, face in zip(track.frames, track.faces, strict=True):
        others = [other for other in detected[number] if other is not face and _is_in(other.box, crop)]
        crowded += any(other.box.side >= LARGE_SHARE * face.box.side for other in others)
    return crowded / len(track.frames)


def _is_in(box: FaceBox, crop: SquareCrop | None) -> bool:
    if crop is None:
        return True
    x, y = (box.x0 + box.x1) / 2 - crop.x, (box.y0 + box.y1) / 2 - crop.y
    return min(x, y) >= 0 and max(x, y) <= crop.side


def _overlap(one: FaceBox, other: FaceBox) -> float:
    """Intersection over union."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    areas = [(box.x1 - box.x0) * (box.y1 - box.y0) for box in (one, other)]
    return common / (sum(areas) - common)
