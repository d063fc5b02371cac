"""FID, KID, FVD and their like of an evaluation: every row's pictures and windows against those of the real clips."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from metrics.evaluation.clips import ClipFiles
from metrics.evaluation.detections import Detections
from metrics.evaluation.feature_pools import REAL, FeaturePool
from metrics.evaluation.intervals import UNKNOWN, Interval
from metrics.evaluation.judges import Judges
from metrics.evaluation.protocol import Protocol
from metrics.evaluation.registry import MEASURES
from metrics.fid import ENOUGH, extract_features
from metrics.fvd import draw_windows

POOLED_ROWS = (REAL, "codec", "autoencoder", "generated")
"""Rows that are judged over all clips at once: every one costs a pass of the networks."""
KINDS = ("pictures", "windows")
"""What a network of features sees."""
_BATCH = 32


def window_starts(lengths: Sequence[int], protocol: Protocol) -> list[list[int]]:
    """First frames of the windows for FVD in clips of so many frames."""
    starts: list[list[int]] = [[] for _ in lengths]
    most = protocol.reading.max_frames
    lengths = [min(length, most) if most else length for length in lengths]
    if lengths and max(lengths) >= protocol.fvd.length:
        for clip, start in draw_windows(lengths, protocol.fvd):
            starts[clip].append(start)
    return starts


class FeatureNetworks:
    """The networks of features at hand, by the slots of their judges, and what they make of the frames of clips.

    Windows are drawn from all of the ``clips``.
    """

    def __init__(self, judges: Judges, protocol: Protocol, clips: Sequence[ClipFiles]) -> None:
        self.protocol = protocol
        measures = [one for one in MEASURES.values() if one.kind in KINDS]
        networks = {one.judges[0]: getattr(judges, one.judges[0]) for one in measures}
        self.networks: dict[str, nn.Module] = {slot: one for slot, one in networks.items() if one is not None}
        self.kinds = {one.judges[0]: one.kind for one in measures}  # slot -> what its network sees
        self.measures = {slot: [m for m in measures if m.judges[0] == slot] for slot in self.networks}
        clips = clips if judges.i3d is not None else ()
        starts = window_starts([clip.probed()[0] for clip in clips], protocol)
        self.starts = dict(zip([clip.name for clip in clips], starts, strict=True))

    def new_pools(self, slot: str) -> dict[str, FeaturePool]:
        """An empty pool for each measure by a slot's network."""
        width: Any = self.networks[slot].num_features
        return {one.name: one.new_pool(self.protocol, width) for one in self.measures[slot]}

    def features(self, slot: str, frames: Tensor, clip: str) -> Tensor | None:
        """Features ``(N, D)`` by a slot's network of frames ``(T, 3, H, W)`` uint8 of a clip; None where it sees none."""
        network = self.networks[slot]
        found = [extract_features(network, part) for part in self._shown(slot, frames, clip)]
        return torch.cat(found) if found else None

    def _shown(self, slot: str, frames: Tensor, clip: str) -> Iterable[Tensor]:
        """What a network sees of a clip, batch by batch: pictures ``(N, 3, H, W)`` or windows ``(1, T, 3, H, W)``."""
        if self.kinds[slot] == "pictures":
            return frames.split(_BATCH)
        ends = ((start, start + self.protocol.fvd.length) for start in self.starts[clip])
        return [frames[None, start:end] for start, end in ends if end <= len(frames)]


class PictureDistances:
    """Distances of every row to the real clips, from one pass of each network.

    Takes of several sampling seeds are compared each by itself, and the distances averaged: more frames would look
    better. Windows are drawn from all of the ``clips``.
    """

    def __init__(self, judges: Judges, protocol: Protocol, clips: Sequence[ClipFiles]) -> None:
        self.networks = FeatureNetworks(judges, protocol, clips)
        # slot -> measure -> its distance
        self.pools = {slot: self.networks.new_pools(slot) for slot in self.networks.networks}
        # slot -> row -> its takes -> features of each clip
        self._counts: dict[str, dict[str, dict[str, list[int]]]] = {slot: {} for slot in self.pools}

    def add(self, rows: Mapping[str, Sequence[Detections]], files: ClipFiles) -> None:
        """Add the rows of one of the clips."""
        for row in POOLED_ROWS:
            for take, one in enumerate(rows.get(row, ())):
                side = row if row == REAL else f"{row} {take}"
                for slot, pools in self.pools.items():
                    found = self.networks.features(slot, one.frames, files.name)
                    counts = self._counts[slot].setdefault(row, {}).setdefault(side, [])
                    counts.append(0 if found is None else len(found))
                    if found is not None:
                        for pool in pools.values():
                            pool.add(found, side, files.identity)

    def compute(self) -> tuple[dict[str, Interval], list[str]]:
        """The distance of every row, none for a row that some clips lack; the noise floors; and what they stand on."""
        values, notes = {}, []
        for slot, pools in self.pools.items():
            counts = self._counts[slot]
            real = counts.get(REAL, {}).get(REAL, [])
            for name, pool in pools.items():
                for row, takes in counts.items():
                    if row != REAL:
                        whole = all(len(clips) == len(real) for clips in takes.values())
                        found = pool.interval(list(takes)) if whole else UNKNOWN
                        values[name if row == "generated" else f"{name}_{row}"] = found
                values[f"{name}_floor"] = pool.floor_interval()
            notes += self._notes(slot, sum(real))
        return values, notes

    def _notes(self, slot: str, real: int) -> list[str]:
        takes = [sum(clips) for clips in self._counts[slot].get("generated", {}).values()]
        made, names = min(takes, default=0), self.pools[slot]
        few = f", too few (under {ENOUGH})" if min(real, made) < ENOUGH else ""
        each = " of each take" if len(takes) > 1 else ""
        what = "frames" if self.networks.kinds[slot] == "pictures" else "windows"
        # Halves have half the frames, so a floor lies above that of the whole.
        people = len(next(iter(names.values())).identities) > 1
        of = "people" if people else "clips of the only identity"
        floors = ", ".join(f"{name}_floor" for name in names)
        return [
            f"{', '.join(names)}: {real} real and {made} generated {what}{each}{few}",
            f"{floors}: real against real, two halves of disjoint {of}",
        ]
