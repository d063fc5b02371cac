"""FID, KID and FVD of an evaluation: every row's pictures and windows against those of the real clips."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from metrics.evaluation.clips import ClipSet
from metrics.evaluation.intervals import UNKNOWN, Interval
from metrics.evaluation.judges import Judges
from metrics.evaluation.pooled import REAL, Pooled, PooledKernel
from metrics.evaluation.protocol import Protocol
from metrics.evaluation.registry import MEASURES
from metrics.evaluation.views import View
from metrics.fid import ENOUGH, extract_features
from metrics.fvd import draw_windows

POOLED_ROWS = ("real", "codec", "autoencoder", "generated")
"""Rows that are judged over all clips at once: every one costs a pass of the networks."""
_BATCH = 32


class RowDistances:
    """Distances of every row's pictures or windows to those of the real clips, from one pass of a feature network.

    Takes of several sampling seeds are compared each by itself, and the distances averaged: more frames would look
    better. ``distances`` are what each measure is computed by, ``kind`` what is counted: ``frames`` or ``windows``.
    """

    def __init__(self, network: nn.Module, distances: Mapping[str, Pooled], kind: str) -> None:
        self.network, self.distances, self.kind = network, distances, kind
        self._counts: dict[str, dict[str, list[int]]] = {}  # row -> its takes -> features of each clip

    def update(self, parts: Iterable[Tensor], row: str, identity: str = "", take: int = 0) -> None:
        """Add one clip: its pictures ``(N, 3, H, W)`` or windows ``(N, T, 3, H, W)`` uint8, batch by batch.

        The same ``identity`` for all leaves the distances without an interval.
        """
        side = row if row == REAL else f"{row} {take}"
        found = [extract_features(self.network, part) for part in parts]
        self._counts.setdefault(row, {}).setdefault(side, []).append(sum(map(len, found)))
        for distance in self.distances.values() if found else ():
            distance.add(torch.cat(found), side, identity)

    def compute(self) -> tuple[dict[str, Interval], list[str]]:
        """The distance of every row, none for a row that some clips lack; the noise floors; and what they stand on."""
        real, values = self._counts.get(REAL, {}).get(REAL, []), {}
        for name, distance in self.distances.items():
            for row, takes in self._counts.items():
                if row == REAL:
                    continue
                whole = all(len(clips) == len(real) for clips in takes.values())
                found = distance.interval(list(takes)) if whole else UNKNOWN
                found = found if isinstance(distance, PooledKernel) else found.not_below(0)  # KID has no bias
                values[name if row == "generated" else f"{name}_{row}"] = found
            floor = distance.floor()
            known = Interval(floor, None, None, distance.clips)
            values[f"{name}_floor"] = known if np.isfinite(floor) else UNKNOWN
        return values, self._remarks(sum(real))

    def _remarks(self, real: int) -> list[str]:
        takes = [sum(clips) for clips in self._counts.get("generated", {}).values()]
        made = min(takes, default=0)
        few = f", too few (under {ENOUGH})" if min(real, made) < ENOUGH else ""
        each = " of each take" if len(takes) > 1 else ""
        people = len(next(iter(self.distances.values())).identities) > 1
        # Halves have half the frames, so a floor lies above that of the whole.
        of = "people" if people else "clips of the only identity"
        floors = ", ".join(f"{name}_floor" for name in self.distances)
        return [
            f"{', '.join(self.distances)}: {real} real and {made} generated {self.kind}{each}{few}",
            f"{floors}: real against real, two halves of disjoint {of}",
        ]


class Pools:
    """What is judged over all clips at once: FID, KID and FVD; windows are drawn from the lengths of all clips."""

    def __init__(self, data: ClipSet, judges: Judges, protocol: Protocol) -> None:
        self.pools: dict[str, RowDistances] = {}
        networks = (("pictures", judges.inception, "frames"), ("windows", judges.i3d, "windows"))
        for kind, network, what in networks:
            if network is not None:
                width: Any = network.num_features
                measures = [one for one in MEASURES.values() if one.kind == kind]
                distances = {one.name: one.new_pool(protocol, width) for one in measures}
                self.pools[kind] = RowDistances(network, distances, what)
        self.length = protocol.fvd.length
        lengths = [clip.length() for clip in data.judged] if "windows" in self.pools else []
        self.starts = window_starts(lengths, protocol) or [[] for _ in data.judged]

    def update(self, rows: dict[str, list[View]], identity: str, place: int) -> None:
        """Add a clip's rows; last of all, as nothing can be forgotten of a clip that fails afterwards."""
        for row in POOLED_ROWS:
            for take, view in enumerate(rows.get(row, [])):
                if "pictures" in self.pools:
                    self.pools["pictures"].update(view.frames.split(_BATCH), row, identity, take)
                if "windows" in self.pools:
                    ends = ((start, start + self.length) for start in self.starts[place])
                    parts = [view.frames[None, start:end] for start, end in ends if end <= len(view)]
                    self.pools["windows"].update(parts, row, identity, take)


def window_starts(lengths: Sequence[int], protocol: Protocol) -> list[list[int]]:
    """First frames of the windows for FVD in clips of so many frames."""
    starts: list[list[int]] = [[] for _ in lengths]
    most = protocol.reading.max_frames
    lengths = [min(length, most) if most else length for length in lengths]
    if lengths and max(lengths) >= protocol.fvd.length:
        for clip, start in draw_windows(lengths, protocol.fvd):
            starts[clip].append(start)
    return starts
