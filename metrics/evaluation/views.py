"""What judges of single frames see in a clip: motion, landmarks, identity, and the face held still."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from metrics.landmarks import FACE, LandmarkSettings
from metrics.motion import MotionCurves
from metrics.sharpness import StillFaceSettings, hold_still

Watch = Callable[[np.ndarray], tuple[MotionCurves, np.ndarray | None]]
"""Looks at frames ``(T, H, W, 3)`` uint8: curves, and landmarks ``(T, 478, 3)`` in pixels where it has them."""
Embed = Callable[[Tensor, np.ndarray], np.ndarray]
"""Unit vectors ``(T, D)`` of faces in frames ``(T, 3, H, W)`` uint8 with landmarks; NaN without a face."""


@dataclass(frozen=True)
class FacelessSettings:
    """When too few frames show a face: what is left of a face that comes and goes would look better than the whole.

    Attributes:
        most: Share of a clip's frames without a face beyond which its measures of faces have no value.
    """

    most: float = 0.1


FACELESS = FacelessSettings()


@dataclass(frozen=True)
class View:
    """The frames of one clip and what judges see in them.

    Attributes:
        frames: ``(T, 3, H, W)`` uint8.
        seen: Motion as it was seen; NaN without a face.
        seen_points: ``(T, 478, 3)`` landmarks in pixels, likewise; None where no face model looks.
        seen_embeddings: ``(T, D)`` unit vectors, likewise; None without an embedder.
        settings: When too few frames show a face.
    """

    frames: Tensor
    seen: MotionCurves
    seen_points: np.ndarray | None = None
    seen_embeddings: np.ndarray | None = None
    settings: FacelessSettings = FACELESS
    _held: dict[object, Tensor] = field(default_factory=dict, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def faceless(self) -> int:
        """Number of frames without a face."""
        return int((~np.isfinite(self.seen.lip_opening)).sum())

    @property
    def unseen(self) -> bool:
        """Whether too few frames show a face for measures of faces."""
        return self.faceless > self.settings.most * len(self)

    @property
    def curves(self) -> MotionCurves:
        """Motion; NaN throughout where too few frames show a face."""
        return MotionCurves(*(self._trusted(curve) for curve in vars(self.seen).values()))

    @property
    def points(self) -> np.ndarray | None:
        """Landmarks, likewise."""
        return None if self.seen_points is None else self._trusted(self.seen_points)

    @property
    def embeddings(self) -> np.ndarray | None:
        """Embeddings, likewise."""
        return None if self.seen_embeddings is None else self._trusted(self.seen_embeddings)

    def _trusted(self, values: np.ndarray) -> np.ndarray:
        return np.full_like(values, np.nan) if self.unseen else values

    def held_still(self, settings: StillFaceSettings, landmarks: LandmarkSettings = FACE) -> Tensor:
        """The faces ``(N, S, S)`` held still, see `hold_still`; kept, as several measures look at them."""
        key = (settings, landmarks)
        if key not in self._held:
            assert self.points is not None
            self._held[key] = hold_still(self.frames, self.points, settings, landmarks)
        return self._held[key]

    def take(self, indices: np.ndarray) -> "View":
        """The view of these frames ``(N,)``, which each judge saw by itself."""
        return self._some(self.frames[torch.from_numpy(indices)], indices)

    def first(self, length: int) -> "View":
        """The view of the first frames."""
        return self if length == len(self) else self.take(np.arange(length))

    def still(self, length: int) -> "View":
        """The view of the first frame, standing still; takes no memory of its own."""
        return self._some(self.frames[:1].expand(length, -1, -1, -1), np.zeros(length, dtype=np.int64))

    def _some(self, frames: Tensor, indices: np.ndarray) -> "View":
        curves = MotionCurves(*(curve[indices] for curve in vars(self.seen).values()))
        others = (self.seen_points, self.seen_embeddings)
        points, embeddings = (None if one is None else one[indices] for one in others)
        return View(frames, curves, points, embeddings, self.settings)


def look(
    frames: np.ndarray, watch: Watch, embed: Embed | None = None, settings: FacelessSettings = FACELESS
) -> View:
    """Look at frames ``(T, H, W, 3)`` uint8 with the judges of single frames."""
    curves, points = watch(frames)
    images = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    embeddings = embed(images, points) if embed is not None and points is not None else None
    return View(images, curves, points, embeddings, settings)
