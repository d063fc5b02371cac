"""Fréchet and kernel distances over all clips at once, with intervals by identity and the noise floor of real clips.

What is kept is kept by cluster, so that each can be left out afterwards. Identities are dealt into at most 30 clusters
in the order in which they come: up to 30, each is its own; beyond that some share one. So neither the number of frames
nor that of identities moves the memory beyond a bound: for 2048 features 17 MB a cluster, 0.5 GB a side, and the features
of a kernel distance, 80 MB a side. A side is the real clips, or one take of one row that is held against them.
"""

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from torch import Tensor
from torch.nn import functional as F

from metrics.evaluation.intervals import INTERVALS, UNKNOWN, Interval, IntervalSettings, cluster_jackknife
from metrics.fid import (
    FeatureDraw,
    KidSettings,
    distance_of_sums,
    draw_subsets,
    kernel_distances,
    polynomial_kernel,
)

REAL = "real"
"""Name of the side that all others are held against."""


@dataclass(frozen=True)
class PoolSettings:
    """How the clips of many identities are pooled."""

    most_clusters: int = 30  # clusters that identities are dealt into, at most


POOL, KID = PoolSettings(), KidSettings()


def split_halves(weights: Mapping[int, int]) -> tuple[list[int], list[int]]:
    """Two disjoint halves of names of about the same weight: the heaviest first, each to the half that has less so far."""
    halves: tuple[list[int], list[int]] = ([], [])
    for name in sorted(weights, key=lambda name: (-weights[name], name)):
        first, second = (sum(weights[one] for one in half) for half in halves)
        halves[int(second < first)].append(name)
    return halves


class FeaturePool(ABC):
    """A distance of the features of a side to the real ones.

    Attributes:
        clips: Number of real clips.
        identities: Identity -> cluster.
        positive: Whether it is never negative.
    """

    positive = True

    def __init__(self, settings: PoolSettings, intervals: IntervalSettings) -> None:
        self.clips = 0
        self.identities: dict[str, int] = {}
        self._most, self._intervals = settings.most_clusters, intervals

    @property
    def clusters(self) -> int:
        """Number of clusters."""
        return min(len(self.identities), self._most)

    def add(self, features: Tensor, side: str, identity: str = "") -> None:
        """Add all features ``(N, D)`` of one clip, of its pictures or windows, to a side; ``identity`` is seen in it."""
        self.clips += side == REAL
        cluster = self.identities.setdefault(identity, len(self.identities) % self._most)
        self._keep(features.cpu(), side, cluster)

    def interval(self, sides: Sequence[str]) -> Interval:
        """Mean distance of these sides to the real one, by leaving out one cluster at a time.

        No value with fewer than two features on a side.
        """
        distances = [self._distance_to(side) for side in sides]
        names = [f"{cluster:04d}" for cluster in range(self.clusters)]
        found = cluster_jackknife(
            lambda kept: fmean(distance(kept) for distance in distances), names, self._intervals
        )
        found = found if found.value is None else replace(found, n=self.clips)
        return found.not_below(0) if self.positive else found

    def floor_interval(self) -> Interval:
        """The floor as a value without an interval."""
        floor = self.floor()
        return Interval(floor, None, None, self.clips) if math.isfinite(floor) else UNKNOWN

    @abstractmethod
    def floor(self) -> float:
        """Distance of one half of the real features to the other: by cluster, or by clip if there is only one cluster.

        NaN where a half has fewer than two features.
        """

    @abstractmethod
    def _keep(self, features: Tensor, side: str, cluster: int) -> None: ...

    @abstractmethod
    def _distance_to(self, side: str) -> Callable[[Collection[int]], float]:
        """What gives the distance of a side for the clusters that are kept."""


class FrechetPool(FeaturePool):
    """Fréchet distance of all features of a side to all real ones, from sums in float64; ``width``: number D of features."""

    def __init__(
        self, width: int, settings: PoolSettings = POOL, intervals: IntervalSettings = INTERVALS
    ) -> None:
        super().__init__(settings, intervals)
        # Features with a one behind them: their outer products hold the sums and the count as well.
        self._triangle = torch.ones(width + 1, width + 1, dtype=torch.bool).triu()
        self._sides: dict[str, dict[int, Tensor]] = defaultdict(dict)  # sums by cluster
        self._turns: dict[int, Tensor] = {}  # real clips, each second one together

    def _keep(self, features: Tensor, side: str, cluster: int) -> None:
        rows = F.pad(features.double(), (0, 1), value=1.0)
        sums = (rows.T @ rows)[self._triangle]
        self._sides[side][cluster] = self._sides[side].get(cluster, 0.0) + sums
        if side == REAL:
            turn = self.clips % 2
            self._turns[turn] = self._turns.get(turn, 0.0) + sums

    def _distance(self, *sides: Iterable[Tensor]) -> float:
        whole = torch.zeros(2, *self._triangle.shape, dtype=torch.float64)
        for matrix, parts in zip(whole, sides, strict=True):
            matrix[self._triangle] = sum(parts)
            matrix += matrix.triu(1).T
        return float(distance_of_sums(whole[:, -1, -1], whole[:, :-1, -1], whole[:, :-1, :-1]))

    def _distance_to(self, side: str) -> Callable[[Collection[int]], float]:
        sides = self._sides[REAL], self._sides[side]
        return lambda kept: self._distance(*([sums[k] for k in kept if k in sums] for sums in sides))

    def floor(self) -> float:
        """See `FeaturePool.floor`."""
        sums, halves = self._sides[REAL], split_halves({k: int(s[-1]) for k, s in self._sides[REAL].items()})
        if len(sums) < 2:
            sums, halves = self._turns, ([0], [1])
        return self._distance(*([sums[k] for k in half if k in sums] for half in halves))


class KernelPool(FeaturePool):
    """Kernel distance of all features of a side to all real ones; of more than ``most`` on a side, so many are drawn.

    Leaving out a cluster takes its features out of every subset; so all of it costs one pass over the subsets.
    """

    positive = False  # it has no bias, and so lies about 0 where nothing differs

    def __init__(
        self, kid: KidSettings = KID, settings: PoolSettings = POOL, intervals: IntervalSettings = INTERVALS
    ) -> None:
        super().__init__(settings, intervals)
        self._kid = kid
        self._sides: dict[str, FeatureDraw] = defaultdict(lambda: FeatureDraw(kid, labels=2))

    def _keep(self, features: Tensor, side: str, cluster: int) -> None:
        self._sides[side].add(features.float(), cluster, self.clips % 2)

    def _distance_to(self, side: str) -> Callable[[Collection[int]], float]:
        (real, first), (made, second) = (self._sides[name].in_order() for name in (REAL, side))
        sums, counts = [], []  # (3, G, G) sums of the kernel between clusters in each subset, (2, G) features
        for chosen, others in draw_subsets(len(real), len(made), self._kid):
            x, y = real[chosen], made[others]
            in_x, in_y = (
                F.one_hot(labels[:, 0], self.clusters).double() for labels in (first[chosen], second[others])
            )
            xx, yy = (polynomial_kernel(one, one).fill_diagonal_(0.0) for one in (x, y))
            xy = polynomial_kernel(x, y)
            sums.append(torch.stack([in_x.T @ xx @ in_x, in_y.T @ yy @ in_y, in_x.T @ xy @ in_y]))
            counts.append(torch.stack([in_x.sum(dim=0), in_y.sum(dim=0)]))
        if not sums:
            return lambda kept: math.nan
        blocks, numbers = torch.stack(sums, dim=1), torch.stack(counts, dim=1)

        def distance(kept: Collection[int]) -> float:
            there = torch.zeros(self.clusters, dtype=torch.float64)
            there[list(kept)] = 1.0
            xx, yy, xy = torch.einsum("ksij,i,j->ks", blocks, there, there)
            x, y = numbers @ there
            return float((xx / (x * (x - 1)) + yy / (y * (y - 1)) - 2 * xy / (x * y)).mean())

        return distance

    def floor(self) -> float:
        """See `FeaturePool.floor`."""
        rows, labels = self._sides[REAL].in_order()
        clusters, counts = labels[:, 0].unique(return_counts=True)
        if len(clusters) < 2:
            first = labels[:, 1] == 0
        else:
            half, _ = split_halves(dict(zip(clusters.tolist(), counts.tolist(), strict=True)))
            first = torch.isin(labels[:, 0], torch.tensor(half))
        return float(kernel_distances(rows[first], rows[~first], self._kid).mean())
