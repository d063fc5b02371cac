"""What judges of single frames see in a clip: motion, landmarks, identity, and the face held still."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from metrics.evaluation.protocol import FacelessSettings, Protocol
from metrics.motion import MotionCurves
from metrics.sharpness import hold_still

Watch = Callable[[np.ndarray], tuple[MotionCurves, np.ndarray | None]]
"""Looks at frames ``(T, H, W, 3)`` uint8: curves, and landmarks ``(T, 478, 3)`` in pixels where it has them."""
Embed = Callable[[Tensor, np.ndarray], np.ndarray]
"""Unit vectors ``(T, D)`` of faces in frames ``(T, 3, H, W)`` uint8 with landmarks; NaN without a face."""


@dataclass(frozen=True)
class View:
    """The frames of one clip and what judges see in them."""

    frames: Tensor  # (T, 3, H, W) uint8
    protocol: Protocol
    seen: MotionCurves  # motion as it was seen; NaN without a face
    seen_points: np.ndarray | None = None  # (T, 478, 3) landmarks in pixels, likewise; None without a model
    seen_embeddings: np.ndarray | None = None  # (T, D) unit vectors, likewise; None without an embedder

    def __len__(self) -> int:
        return len(self.seen)

    @cached_property
    def faceless(self) -> int:
        """Number of frames without a face."""
        return int((~np.isfinite(self.seen.lip_opening)).sum())

    @property
    def unseen(self) -> bool:
        """Whether too few frames show a face for measures of faces; then all of the following are NaN."""
        return self.faceless > self.protocol.faceless.most * len(self)

    def _trusted(self, seen: np.ndarray) -> np.ndarray:
        return np.full_like(seen, np.nan) if self.unseen else seen

    @cached_property
    def curves(self) -> MotionCurves:
        """Motion."""
        return MotionCurves(*map(self._trusted, vars(self.seen).values()))

    @cached_property
    def points(self) -> np.ndarray | None:
        """Landmarks."""
        return None if self.seen_points is None else self._trusted(self.seen_points)

    @cached_property
    def embeddings(self) -> np.ndarray | None:
        """Embeddings of the face."""
        return None if self.seen_embeddings is None else self._trusted(self.seen_embeddings)

    @property
    def source(self) -> np.ndarray | None:
        """``(D,)`` embedding of the first frame, known even where the clip shows its face too seldom."""
        still = self.still(1).embeddings
        return None if still is None else still[0]

    @property
    def known_points(self) -> np.ndarray:
        """Landmarks, where a face model looks."""
        assert self.points is not None
        return self.points

    @cached_property
    def held_still(self) -> Tensor:
        """Faces ``(N, S, S)`` held still, see `hold_still`."""
        return hold_still(self.frames, self.known_points, self.protocol.still_face, self.protocol.landmarks)

    @property
    def held_places(self) -> np.ndarray:
        """``(N,)`` which frames they are."""
        return np.flatnonzero(np.isfinite(self.known_points).all(axis=(1, 2)))

    @property
    def height(self) -> int:
        """Of the frames in pixels."""
        return self.frames.shape[-2]

    @property
    def width(self) -> int:
        """Of the frames in pixels."""
        return self.frames.shape[-1]

    def take(self, indices: np.ndarray) -> "View":
        """The view of these frames ``(N,)``, which each judge saw by itself."""
        return self._some(self.frames[torch.from_numpy(indices)], indices)

    def first(self, length: int) -> "View":
        """The view of the first frames."""
        return self if length == len(self) else self.take(np.arange(length))

    def still(self, length: int) -> "View":
        """The view of the first frame, standing still; takes no memory of its own."""
        return self._some(self.frames[:1].expand(length, -1, -1, -1), np.zeros(length, dtype=np.int64))

    def part(self, which: slice) -> "View":
        """A part of the view that is believed where the whole one is."""
        protocol = replace(self.protocol, faceless=FacelessSettings(most=1.0))
        return View(self.frames, protocol, self.curves, self.points, self.embeddings)._some(
            self.frames[which], which
        )

    def _some(self, frames: Tensor, which: np.ndarray | slice) -> "View":
        curves = MotionCurves(*(curve[which] for curve in vars(self.seen).values()))
        others = (self.seen_points, self.seen_embeddings)
        return View(frames, self.protocol, curves, *(None if one is None else one[which] for one in others))


def look(frames: np.ndarray, protocol: Protocol, watch: Watch, embed: Embed | None = None) -> View:
    """Look at frames ``(T, H, W, 3)`` uint8 with the judges of single frames."""
    curves, points = watch(frames)
    images = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    embeddings = embed(images, points) if embed is not None and points is not None else None
    return View(images, protocol, curves, points, embeddings)
