"""FID, KID and FVD over all clips at once: every row against the real clips, by identity, and the noise floor.

What is kept is kept by cluster, so that each can be left out afterwards. Identities are dealt into at most 30 clusters
in the order in which they come: up to 30, each is its own; beyond that some share one. So neither the number of frames
nor that of identities moves the memory beyond a bound: for 2048 features 17 MB a cluster, 0.5 GB a side, and the features
of a kernel distance, 80 MB a side. A side is the real clips, or one take of one row that is held against them.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.evaluation.intervals import INTERVALS, UNKNOWN, Interval, IntervalSettings, cluster_jackknife
from metrics.fid import (
    ENOUGH,
    KidSettings,
    distance_of_sums,
    draw_subsets,
    extract_features,
    kernel_distances,
    polynomial_kernel,
)

REAL = "real"
"""Name of the side that all others are held against."""


@dataclass(frozen=True)
class PoolSettings:
    """How the clips of many identities are pooled.

    Attributes:
        most_clusters: Clusters that identities are dealt into, at most.
    """

    most_clusters: int = 30


POOL, KID = PoolSettings(), KidSettings()


def split_halves(weights: Mapping[int, int]) -> tuple[list[int], list[int]]:
    """Two disjoint halves of about the same weight: the heaviest first, each to the half that has less so far.

    Args:
        weights: What each name weighs.
    """
    halves: tuple[list[int], list[int]] = ([], [])
    for name in sorted(weights, key=lambda name: (-weights[name], name)):
        first, second = (sum(weights[one] for one in half) for half in halves)
        halves[int(second < first)].append(name)
    return halves


def mean_of(values: Iterable[float]) -> float:
    """Mean of at least one number."""
    found = list(values)
    return sum(found) / len(found)


class _Pooled:
    """Which cluster and which clip features belong to.

    Attributes:
        clips: Number of real clips.
        identities: Identity -> cluster.
    """

    def __init__(self, settings: PoolSettings, intervals: IntervalSettings) -> None:
        self.clips = 0
        self.identities: dict[str, int] = {}
        self._most, self._intervals = settings.most_clusters, intervals

    @property
    def clusters(self) -> int:
        """Number of clusters."""
        return min(len(self.identities), self._most)

    def _place(self, identity: str, real: bool) -> int:
        self.clips += real
        return self.identities.setdefault(identity, len(self.identities) % self._most)

    def _jackknife(self, statistic: Callable[[Collection[int]], float]) -> Interval:
        """Interval of a statistic of clusters that are kept."""
        found = cluster_jackknife(statistic, [f"{k:04d}" for k in range(self.clusters)], self._intervals)
        return found if found.value is None else replace(found, n=self.clips)


class PooledFrechet(_Pooled):
    """Fréchet distance of all features of a side to all real ones, from sums in float64.

    Args:
        width: Number of features D.
        settings: How identities are pooled.
        intervals: How intervals are found.
    """

    def __init__(
        self, width: int, settings: PoolSettings = POOL, intervals: IntervalSettings = INTERVALS
    ) -> None:
        super().__init__(settings, intervals)
        # Features with a one behind them: their outer products hold the sums and the count as well.
        self._triangle = torch.ones(width + 1, width + 1, dtype=torch.bool).triu()
        self._nothing = torch.zeros(int(self._triangle.sum()), dtype=torch.float64)
        self._sides: dict[str, dict[int, Tensor]] = {REAL: {}}
        self._turns: dict[int, Tensor] = {}  # real clips, each second one together

    def add(self, features: Tensor, side: str, identity: str = "") -> None:
        """Add all features ``(N, D)`` of one clip.

        Args:
            features: Of its pictures or windows.
            side: ``real``, or the name of what is held against it.
            identity: Who is seen.
        """
        cluster = self._place(identity, side == REAL)
        rows = F.pad(features.cpu().double(), (0, 1), value=1.0)
        sums = (rows.T @ rows)[self._triangle]
        kept = self._sides.setdefault(side, {})
        kept[cluster] = kept.get(cluster, self._nothing) + sums
        if side == REAL:
            turn = self.clips % 2
            self._turns[turn] = self._turns.get(turn, self._nothing) + sums

    def count(self, side: str) -> int:
        """Number of features of a side."""
        return int(sum(float(sums[-1]) for sums in self._sides.get(side, {}).values()))

    def _distance(self, first: Iterable[Tensor], second: Iterable[Tensor]) -> float:
        whole = []
        for parts in (first, second):
            matrix = torch.zeros(self._triangle.shape, dtype=torch.float64)
            matrix[self._triangle] = sum(parts, self._nothing)
            whole.append(matrix + matrix.triu(1).T)
        sums = torch.stack(whole)
        return float(distance_of_sums(sums[:, -1, -1], sums[:, :-1, -1], sums[:, :-1, :-1]))

    def interval(self, sides: Sequence[str]) -> Interval:
        """Mean distance of these sides to the real one, by leaving out one cluster at a time.

        No value with fewer than two features on a side.
        """
        real, others = self._sides[REAL], [self._sides.get(side, {}) for side in sides]

        def statistic(kept: Collection[int]) -> float:
            there = [real[k] for k in kept if k in real]
            return mean_of(self._distance(there, [side[k] for k in kept if k in side]) for side in others)

        return self._jackknife(statistic)

    def floor(self) -> float:
        """Distance of one half of the real features to the other: by cluster, or by clip if there is only one cluster.

        NaN where a half has fewer than two features.
        """
        real = self._sides[REAL]
        if len(real) < 2:
            return self._distance(*([self._turns[t]] if t in self._turns else [] for t in (0, 1)))
        halves = split_halves({cluster: round(float(sums[-1])) for cluster, sums in real.items()})
        return self._distance(*([real[cluster] for cluster in half] for half in halves))


class _Kept:
    """A uniform draw of all features that were added, with their cluster and turn.

    Attributes:
        count: Number of features that were added.
        rows: ``(K, D)``.
        labels: ``(K, 2)`` cluster and turn.
    """

    def __init__(self, settings: KidSettings) -> None:
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._most = settings.most
        self.count = 0
        self._keys = torch.empty(0, dtype=torch.float64)
        self.rows, self.labels = torch.empty(0, 0), torch.empty(0, 2, dtype=torch.long)

    def add(self, rows: Tensor, cluster: int, turn: int) -> None:
        labels = torch.tensor([[cluster, turn]]).expand(len(rows), 2)
        keys = torch.rand(len(rows), generator=self._generator, dtype=torch.float64)
        self.rows = torch.cat([self.rows, rows]) if self.count else rows
        self.labels, self._keys = torch.cat([self.labels, labels]), torch.cat([self._keys, keys])
        self.count += len(rows)
        if len(self.rows) > self._most:
            kept = self._keys.topk(self._most, largest=False).indices.sort().values
            self.rows, self.labels, self._keys = self.rows[kept], self.labels[kept], self._keys[kept]

    def in_order(self) -> tuple[Tensor, Tensor]:
        """Rows and labels in the order that `KernelInceptionDistance` draws from."""
        order = self.rows.double().sum(dim=1).argsort()
        return self.rows[order], self.labels[order]


@dataclass(frozen=True)
class _Blocks:
    """Sums of the kernel between every two clusters in each of S subsets, G clusters.

    Attributes:
        real: ``(S, G, G)``, no feature with itself.
        generated: Likewise.
        between: ``(S, G, G)`` real against generated.
        counts: ``(2, S, G)`` real and generated features of each cluster.
    """

    real: Tensor
    generated: Tensor
    between: Tensor
    counts: Tensor

    def distance(self, kept: Collection[int]) -> float:
        """Mean over the subsets of the squared discrepancy of the features of these clusters."""
        chosen = torch.zeros(self.counts.shape[2], dtype=torch.float64)
        chosen[list(kept)] = 1.0
        xx, yy, xy = (
            torch.einsum("sij,i,j->s", part, chosen, chosen)
            for part in (self.real, self.generated, self.between)
        )
        x, y = self.counts @ chosen
        return float((xx / (x * (x - 1)) + yy / (y * (y - 1)) - 2 * xy / (x * y)).mean())


class PooledKernel(_Pooled):
    """Kernel distance of all features of a side to all real ones; of more than ``most`` on a side, so many are drawn.

    Leaving out a cluster takes its features out of every subset; so all of it costs one pass over the subsets.

    Args:
        kid: What features it is taken from.
        settings: How identities are pooled.
        intervals: How intervals are found.
    """

    def __init__(
        self,
        kid: KidSettings = KID,
        settings: PoolSettings = POOL,
        intervals: IntervalSettings = INTERVALS,
    ) -> None:
        super().__init__(settings, intervals)
        self._kid = kid
        self._sides = {REAL: _Kept(kid)}

    def add(self, features: Tensor, side: str, identity: str = "") -> None:
        """Add all features ``(N, D)`` of one clip.

        Args:
            features: Of its pictures.
            side: ``real``, or the name of what is held against it.
            identity: Who is seen.
        """
        cluster = self._place(identity, side == REAL)
        kept = self._sides.setdefault(side, _Kept(self._kid))
        kept.add(features.cpu().float(), cluster, self.clips % 2)

    def _blocks(self, side: str) -> _Blocks | None:
        if side not in self._sides:
            return None
        (real, first), (generated, second) = (self._sides[name].in_order() for name in (REAL, side))
        found = []
        for chosen, others in draw_subsets(len(real), len(generated), self._kid):
            x, y = real[chosen], generated[others]
            in_x, in_y = (
                F.one_hot(labels[rows, 0], self.clusters).double()
                for labels, rows in ((first, chosen), (second, others))
            )
            xx, yy = (polynomial_kernel(one, one).fill_diagonal_(0.0) for one in (x, y))
            found.append(
                (
                    in_x.T @ xx @ in_x,
                    in_y.T @ yy @ in_y,
                    in_x.T @ polynomial_kernel(x, y) @ in_y,
                    torch.stack([in_x.sum(dim=0), in_y.sum(dim=0)]),
                )
            )
        if not found:
            return None
        xx, yy, xy, counts = (torch.stack(parts) for parts in zip(*found, strict=True))
        return _Blocks(xx, yy, xy, counts.transpose(0, 1))

    def interval(self, sides: Sequence[str]) -> Interval:
        """Mean distance of these sides to the real one, by leaving out one cluster at a time.

        No value with fewer than two features on a side.
        """
        found = [blocks for blocks in map(self._blocks, sides) if blocks is not None]
        if not found or len(found) < len(sides):
            return UNKNOWN
        return self._jackknife(lambda kept: mean_of(blocks.distance(kept) for blocks in found))

    def floor(self) -> float:
        """Distance of one half of the real features to the other: by cluster, or by clip if there is only one cluster.

        NaN where a half has fewer than two features.
        """
        rows, labels = self._sides[REAL].in_order()
        clusters, counts = labels[:, 0].unique(return_counts=True)
        if len(clusters) < 2:
            first = labels[:, 1] == 0
        else:
            half, _ = split_halves(dict(zip(clusters.tolist(), counts.tolist(), strict=True)))
            first = torch.isin(labels[:, 0], torch.tensor(half))
        return float(kernel_distances(rows[first], rows[~first], self._kid).mean())


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
