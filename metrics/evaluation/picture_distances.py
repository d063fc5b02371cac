"""FID, KID and FVD of an evaluation: every row's pictures and windows against those of the real clips."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

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


class PictureDistances:
    """FID, KID and FVD of every row against the real clips, from one pass of each network.

    Takes of several sampling seeds are compared each by itself, and the distances averaged: more frames would look
    better. Windows are drawn from all of the ``clips``.
    """

    def __init__(self, judges: Judges, protocol: Protocol, clips: Sequence[ClipFiles]) -> None:
        networks = {"pictures": judges.inception, "windows": judges.i3d}
        self.networks = {kind: network for kind, network in networks.items() if network is not None}
        self.pools: dict[str, dict[str, FeaturePool]] = {  # kind -> measure -> its distance
            kind: {
                one.name: one.new_pool(protocol, network.num_features)  # type: ignore[arg-type]
                for one in MEASURES.values()
                if one.kind == kind
            }
            for kind, network in self.networks.items()
        }
        self.length = protocol.fvd.length
        clips = clips if judges.i3d is not None else ()
        starts = window_starts([clip.probed()[0] for clip in clips], protocol)
        self.starts = dict(zip([clip.name for clip in clips], starts, strict=True))
        # kind -> row -> its takes -> features of each clip
        self._counts: dict[str, dict[str, dict[str, list[int]]]] = {kind: {} for kind in self.networks}

    def add(self, rows: Mapping[str, Sequence[Detections]], files: ClipFiles) -> None:
        """Add the rows of one of the clips."""
        for row in POOLED_ROWS:
            for take, one in enumerate(rows.get(row, ())):
                side = row if row == REAL else f"{row} {take}"
                for kind, network in self.networks.items():
                    shown = self._shown(kind, one.frames, files.name)
                    found = [extract_features(network, part) for part in shown]
                    counts = self._counts[kind].setdefault(row, {}).setdefault(side, [])
                    counts.append(sum(map(len, found)))
                    for pool in self.pools[kind].values() if found else ():
                        pool.add(torch.cat(found), side, files.identity)

    def _shown(self, kind: str, frames: Tensor, clip: str) -> Iterable[Tensor]:
        """What a network sees of a clip, batch by batch: pictures ``(N, 3, H, W)`` or windows ``(1, T, 3, H, W)``."""
        if kind == "pictures":
            return frames.split(_BATCH)
        ends = ((start, start + self.length) for start in self.starts[clip])
        return [frames[None, start:end] for start, end in ends if end <= len(frames)]

    def compute(self) -> tuple[dict[str, Interval], list[str]]:
        """The distance of every row, none for a row that some clips lack; the noise floors; and what they stand on."""
        values, notes = {}, []
        for kind, pools in self.pools.items():
            counts = self._counts[kind]
            real = counts.get(REAL, {}).get(REAL, [])
            for name, pool in pools.items():
                for row, takes in counts.items():
                    if row != REAL:
                        whole = all(len(clips) == len(real) for clips in takes.values())
                        found = pool.interval(list(takes)) if whole else UNKNOWN
                        values[name if row == "generated" else f"{name}_{row}"] = found
                values[f"{name}_floor"] = pool.floor_interval()
            notes += self._notes(kind, sum(real))
        return values, notes

    def _notes(self, kind: str, real: int) -> list[str]:
        takes = [sum(clips) for clips in self._counts[kind].get("generated", {}).values()]
        made, names = min(takes, default=0), self.pools[kind]
        few = f", too few (under {ENOUGH})" if min(real, made) < ENOUGH else ""
        each = " of each take" if len(takes) > 1 else ""
        what = "frames" if kind == "pictures" else kind
        # Halves have half the frames, so a floor lies above that of the whole.
        people = len(next(iter(names.values())).identities) > 1
        of = "people" if people else "clips of the only identity"
        floors = ", ".join(f"{name}_floor" for name in names)
        return [
            f"{', '.join(names)}: {real} real and {made} generated {what}{each}{few}",
            f"{floors}: real against real, two halves of disjoint {of}",
        ]
