"""FID, FVD and their like of the points of a sweep, from features that were kept: as an evaluation has them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from metrics.evaluation.clips import ClipFiles
from metrics.evaluation.feature_pools import REAL
from metrics.evaluation.intervals import Interval
from metrics.evaluation.judges import Judges
from metrics.evaluation.picture_distances import FeatureNetworks
from metrics.evaluation.protocol import Protocol

Features = dict[str, np.ndarray]
"""Slot of a judge of pictures -> features ``(N, D)``."""


class PooledFeatures:
    """Features of the frames of clips, and the distances of points by them; ``clips`` are all that are judged."""

    def __init__(self, judges: Judges, protocol: Protocol, clips: Sequence[ClipFiles]) -> None:
        self.networks = FeatureNetworks(judges, protocol, clips)

    def of(self, frames: Tensor, clip: str) -> Features:
        """Features of frames ``(T, 3, H, W)`` uint8 of a clip; a network that sees none is left out."""
        found = {slot: self.networks.features(slot, frames, clip) for slot in self.networks.networks}
        return {slot: one.cpu().numpy() for slot, one in found.items() if one is not None}

    def distances(
        self, people: Sequence[str], real: Sequence[Features], takes: Sequence[Sequence[Features]]
    ) -> dict[str, Interval]:
        """Distances of a point by measure: of clips of these people, their real features and those of each take."""
        found = {}
        for slot in self.networks.networks:
            for name, pool in self.networks.new_pools(slot).items():
                for identity, own, made in zip(people, real, takes, strict=True):
                    for side, one in {REAL: own, **{f"take {k}": one for k, one in enumerate(made)}}.items():
                        if slot in one:
                            pool.add(torch.from_numpy(one[slot]), side, identity)
                found[name] = pool.interval([f"take {k}" for k in range(len(takes[0]))])
        return found
