"""FID, KID and FVD of the points of a sweep, from features that were kept: as an evaluation has them, point by point."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from metrics.evaluation.clips import ClipFiles
from metrics.evaluation.feature_pools import REAL
from metrics.evaluation.intervals import Interval
from metrics.evaluation.judges import Judges
from metrics.evaluation.picture_distances import window_starts
from metrics.evaluation.protocol import Protocol
from metrics.evaluation.registry import MEASURES
from metrics.fid import extract_features

_BATCH = 32
Features = dict[str, np.ndarray]
"""Kind (``pictures``, ``windows``) -> features ``(N, D)``."""


class PooledFeatures:
    """Features of the frames of clips, and the distances of points by them; ``clips`` are all that are judged."""

    def __init__(self, judges: Judges, protocol: Protocol, clips: Sequence[ClipFiles]) -> None:
        networks = {"pictures": judges.inception, "windows": judges.i3d}
        self.networks = {kind: network for kind, network in networks.items() if network is not None}
        self.protocol = protocol
        known = clips if judges.i3d is not None else ()
        starts = window_starts([clip.probed()[0] for clip in known], protocol)
        self.starts = dict(zip([clip.name for clip in known], starts, strict=True))

    def of(self, frames: Tensor, clip: str) -> Features:
        """Features of frames ``(T, 3, H, W)`` uint8 of a clip; a kind that has none is left out."""
        found = {}
        for kind, network in self.networks.items():
            if kind == "pictures":
                parts = list(frames.split(_BATCH))
            else:
                length = self.protocol.fvd.length
                starts = [start for start in self.starts[clip] if start + length <= len(frames)]
                parts = [frames[None, start : start + length] for start in starts]
            if parts:
                found[kind] = torch.cat([extract_features(network, part) for part in parts]).cpu().numpy()
        return found

    def distances(
        self, people: Sequence[str], real: Sequence[Features], takes: Sequence[Sequence[Features]]
    ) -> dict[str, Interval]:
        """Distances of a point by measure: of clips of these people, their real features and those of each take."""
        found = {}
        for kind, network in self.networks.items():
            for measure in (one for one in MEASURES.values() if one.kind == kind):
                pool = measure.new_pool(self.protocol, network.num_features)  # type: ignore[arg-type]
                for identity, own, made in zip(people, real, takes, strict=True):
                    for side, one in {REAL: own, **{f"take {k}": one for k, one in enumerate(made)}}.items():
                        if kind in one:
                            pool.add(torch.from_numpy(one[kind]), side, identity)
                found[measure.name] = pool.interval([f"take {k}" for k in range(len(takes[0]))])
        return found
