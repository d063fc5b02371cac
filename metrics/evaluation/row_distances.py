"""FID, KID and FVD of an evaluation: every row's pictures and windows against those of the real clips."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from metrics.evaluation.clips import ClipSet
from metrics.evaluation.intervals import UNKNOWN, Interval
from metrics.evaluation.judges import Judges
from metrics.evaluation.pooled import REAL, PooledFrechet, PooledKernel
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
    better.

    Args:
        network: Maps uint8 pictures, or windows of them, to features; see `extract_features`.
        distances: Name of each measure and what it is computed by.
        kind: What is counted, for remarks: ``frames`` or ``windows``.
    """

    def __init__(
        self, network: nn.Module, distances: Mapping[str, PooledFrechet | PooledKernel], kind: str
    ) -> None:
        self.network, self.distances, self.kind = network, distances, kind
        self._sides: dict[str, dict[str, int]] = {}  # row -> its takes -> clips that have it
        self._counts: dict[str, int] = {}

    def update(self, parts: Iterable[Tensor], row: str, identity: str = "", take: int = 0) -> None:
        """Add one clip.

        Args:
            parts: Its pictures ``(N, 3, H, W)`` or windows ``(N, T, 3, H, W)`` uint8, batch by batch.
            row: ``real``, ``generated`` or another.
            identity: Who is seen; the same word for all leaves the distances without an interval.
            take: Which sampling seed.
        """
        side = row if row == REAL else f"{row} {take}"
        takes = self._sides.setdefault(row, {})
        takes[side] = takes.get(side, 0) + 1
        found = [extract_features(self.network, part) for part in parts]
        if found:
            features = torch.cat(found)
            self._counts[side] = self._counts.get(side, 0) + len(features)
            for distance in self.distances.values():
                distance.add(features, side, identity)

    def compute(self) -> tuple[dict[str, Interval], list[str]]:
        """The distance of every row, none for a row that some clips lack; the noise floors; and what they stand on."""
        rows = {row: takes for row, takes in self._sides.items() if row != REAL}
        real = sum(self._sides.get(REAL, {}).values())
        values = {}
        for name, distance in self.distances.items():
            for row, takes in rows.items():
                whole = all(clips == real for clips in takes.values())
                found = distance.interval(list(takes)) if whole else UNKNOWN
                found = found if isinstance(distance, PooledKernel) else found.not_below(0)  # KID has no bias
                values[name if row == "generated" else f"{name}_{row}"] = found
            floor = distance.floor()
            values[f"{name}_floor"] = (
                Interval(floor, None, None, distance.clips) if np.isfinite(floor) else UNKNOWN
            )
        return values, self._remarks()

    def _remarks(self) -> list[str]:
        takes = self._sides.get("generated", {})
        counts = (self._counts.get(REAL, 0), min([self._counts.get(take, 0) for take in takes], default=0))
        few = f", too few (under {ENOUGH})" if min(counts) < ENOUGH else ""
        each = " of each take" if len(takes) > 1 else ""
        people = len(next(iter(self.distances.values())).identities) > 1
        # Halves have half the frames, so a floor lies above that of the whole.
        of = "people" if people else "clips of the only identity"
        floors = ", ".join(f"{name}_floor" for name in self.distances)
        return [
            f"{', '.join(self.distances)}: {counts[0]} real and {counts[1]} generated {self.kind}{each}{few}",
            f"{floors}: real against real, two halves of disjoint {of}",
        ]


class Pools:
    """What is judged over all clips at once: FID, KID and FVD.

    Args:
        data: All clips, whose lengths the windows are drawn from.
        judges: At hand.
        protocol: Settings.
    """

    def __init__(self, data: ClipSet, judges: Judges, protocol: Protocol) -> None:
        self.pools: dict[str, RowDistances] = {}
        for kind, network, what in (
            ("pictures", judges.inception, "frames"),
            ("windows", judges.i3d, "windows"),
        ):
            if network is not None:
                width: Any = network.num_features
                distances = {
                    one.name: one.new_pool(protocol, width) for one in MEASURES.values() if one.kind == kind
                }
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
