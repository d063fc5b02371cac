"""What detectors find in the frames of a clip: motion, landmarks, identity, and the face held still."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from metrics.evaluation.protocol import FacelessSettings, Protocol
from metrics.motion import MotionCurves
from metrics.sharpness import hold_still

Detector = Callable[[np.ndarray], tuple[MotionCurves, np.ndarray | None]]
"""Of frames ``(T, H, W, 3)`` uint8: motion, and landmarks ``(T, 478, 3)`` in pixels where it has them."""
Embedder = Callable[[Tensor, np.ndarray], np.ndarray]
"""Unit vectors ``(T, D)`` of faces in frames ``(T, 3, H, W)`` uint8 with landmarks; NaN without a face."""


@dataclass(frozen=True)
class Detections:
    """The frames of a clip and what was detected in each; measures take it without ``raw_``, NaN where `unseen`."""

    frames: Tensor  # (T, 3, H, W) uint8
    protocol: Protocol
    raw_motion: MotionCurves  # NaN in frames without a face
    raw_landmarks: np.ndarray | None = None  # (T, 478, 3) in pixels, likewise; None without a model
    raw_embeddings: np.ndarray | None = None  # (T, D) unit vectors, likewise; None without an embedder

    def __len__(self) -> int:
        return len(self.raw_motion)

    @cached_property
    def faceless(self) -> int:
        """Number of frames without a face."""
        return int((~np.isfinite(self.raw_motion.lip_opening)).sum())

    @property
    def unseen(self) -> bool:
        """Whether too few frames show a face for measures of faces."""
        return self.faceless > self.protocol.faceless.most * len(self)

    def _trusted(self, raw: np.ndarray | None) -> np.ndarray | None:
        return raw if raw is None or not self.unseen else np.full_like(raw, np.nan)

    @cached_property
    def motion(self) -> MotionCurves:
        """Curves of motion."""
        return MotionCurves(*map(self._trusted, vars(self.raw_motion).values()))  # type: ignore[arg-type]

    @cached_property
    def landmarks(self) -> np.ndarray | None:
        """``(T, 478, 3)`` landmarks in pixels."""
        return self._trusted(self.raw_landmarks)

    @cached_property
    def embeddings(self) -> np.ndarray | None:
        """``(T, D)`` unit vectors of the face."""
        return self._trusted(self.raw_embeddings)

    @property
    def source(self) -> np.ndarray | None:
        """``(D,)`` embedding of the first frame, known even where the clip shows its face too seldom."""
        still = self.still(1).embeddings
        return None if still is None else still[0]

    @cached_property
    def still_faces(self) -> Tensor:
        """Faces ``(N, S, S)`` held still, see `hold_still`."""
        assert self.landmarks is not None
        return hold_still(self.frames, self.landmarks, self.protocol.still_face, self.protocol.landmarks)

    @property
    def still_face_frames(self) -> np.ndarray:
        """``(N,)`` which frames they are."""
        return np.flatnonzero(np.isfinite(self.landmarks).all(axis=(1, 2)))  # type: ignore[arg-type]

    @property
    def height(self) -> int:
        """Of the frames in pixels."""
        return self.frames.shape[-2]

    @property
    def width(self) -> int:
        """Of the frames in pixels."""
        return self.frames.shape[-1]

    def select(self, which: np.ndarray | slice, frames: Tensor | None = None) -> "Detections":
        """Some frames ``(N,)``, of which each was seen by itself; ``frames``: the selected ones, if they are known."""
        if frames is None:
            frames = self.frames[which if isinstance(which, slice) else torch.from_numpy(which)]
        motion = MotionCurves(*(curve[which] for curve in vars(self.raw_motion).values()))
        found = (self.raw_landmarks, self.raw_embeddings)
        return Detections(
            frames, self.protocol, motion, *(None if one is None else one[which] for one in found)
        )

    def first(self, length: int) -> "Detections":
        """The first frames."""
        return self.select(slice(length))

    def still(self, length: int) -> "Detections":
        """The first frame, standing still; takes no memory of its own."""
        return self.select(np.zeros(length, dtype=np.int64), self.frames[:1].expand(length, -1, -1, -1))

    def part(self, which: slice) -> "Detections":
        """Some frames, which are believed where the whole clip is."""
        protocol = replace(self.protocol, faceless=FacelessSettings(most=1.0))
        return Detections(self.frames, protocol, self.motion, self.landmarks, self.embeddings).select(which)
