"""What clips give together: means and distances with their intervals."""

from collections.abc import Collection, Sequence

import numpy as np
import torch

from metrics.evaluation.clip_results import ClipResult, suffix
from metrics.evaluation.intervals import (
    UNKNOWN,
    Interval,
    IntervalSettings,
    cluster_bootstrap,
    cluster_jackknife,
    mean,
    median,
)
from metrics.evaluation.judges import Judges
from metrics.evaluation.protocol import Protocol
from metrics.evaluation.registry import MEASURES, Measure, is_lag, of_kind


def _between(rows: np.ndarray) -> float:
    value, real, shuffled = rows.mean(axis=0)
    return float((value - shuffled) / (real - shuffled)) if real != shuffled else float("nan")


def share(rows: np.ndarray, clusters: Sequence[str], protocol: Protocol, higher: bool = True) -> Interval:
    """Place of a measure between the shuffled and the real row, where the real one is better by more than chance.

    ``rows`` ``(N, 3)`` hold the method's value of each clip, the real and the shuffled one; those with NaN are left out. Too
    few ``clusters``, the clips' identities, can't tell chance, and there is no value.
    """
    better = (rows[:, 1] - rows[:, 2]) * (1 if higher else -1)
    ahead = cluster_bootstrap(better, clusters, mean, protocol.intervals)
    people = len({cluster for cluster, row in zip(clusters, rows, strict=True) if np.isfinite(row).all()})
    if people < protocol.shares.fewest_identities or ahead.low is None or ahead.low <= 0:
        return UNKNOWN
    return cluster_bootstrap(rows, clusters, _between, protocol.intervals)


def distribution_distance(
    measure: Measure, results: Sequence[ClipResult], row: str, protocol: Protocol, judges: Judges
) -> Interval:
    """Distance between the distributions of a row and of the real clips that have it, each take by itself."""
    clips = [
        one
        for one in results  # neither side may have clips that the other lacks
        if row in one.distributions
        and all(np.isfinite(take).any() for take in (*one.lips["real"], *one.lips.get(row, [])))
    ]
    takes = len(clips[0].distributions[row]) if clips else 0

    def distance(kept: Collection[int], take: int) -> float:
        metric = measure.new_metric(protocol, judges)
        for side, place in (("real", 0), (row, take)):
            rows = np.concatenate([clips[k].distributions[side][place][measure.name] for k in kept])
            metric.update(torch.from_numpy(rows), real=side == "real")
        return float(metric.compute())

    def statistic(kept: Collection[int]) -> float:
        return float(np.mean([distance(kept, take) for take in range(takes)])) if kept else float("nan")

    return cluster_jackknife(statistic, _people(clips), protocol.intervals).not_below(0)


def _people(results: Sequence[ClipResult]) -> list[str]:
    return [one.files.identity for one in results]


def _values(results: Sequence[ClipResult], *names: str) -> np.ndarray:
    """``(N, K)`` values of clips by name; NaN where there is none."""
    return np.array([[one.values.get(name, np.nan) for name in names] for one in results])


def _removed(rows: np.ndarray) -> float:
    error, baseline = rows.sum(axis=0)
    return float(1 - error / baseline) if baseline else float("nan")


def errors_removed(results: Sequence[ClipResult], settings: IntervalSettings) -> dict[str, Interval]:
    """Shares of the errors at mouth and eyes of copying the source frame that the autoencoder takes away."""
    metrics = {}
    for part in ("mouth", "eye") if any(one.region_sums for one in results) else ():
        names = (f"{part}_autoencoder", f"{part}_still")
        rows = np.array([[one.region_sums.get(name, np.nan) for name in names] for one in results])
        metrics[f"{part}_error_removed"] = cluster_bootstrap(rows, _people(results), _removed, settings)
    return metrics


def lag_curves(results: Sequence[ClipResult]) -> dict[str, list[float]]:
    """Correlation with the true lip opening at each lag, mean over clips, for each row that has one."""
    curves: dict[str, list[np.ndarray]] = {}
    for one in results:
        for row, curve in one.lag_curves.items():
            if np.isfinite(curve).all():
                curves.setdefault(row, []).append(curve)
    return {row: np.mean(known, axis=0).round(4).tolist() for row, known in curves.items()}


def aggregate(results: Sequence[ClipResult], protocol: Protocol, judges: Judges) -> dict[str, Interval]:
    """Means over clips (medians of lags) with bootstrap intervals by identity, shares, and distances of motion."""
    people = _people(results)
    metrics: dict[str, Interval] = {}
    for name in dict.fromkeys(name for one in results for name in one.values):
        statistic = median if is_lag(name) else mean
        metrics[name] = cluster_bootstrap(_values(results, name), people, statistic, protocol.intervals)
    for measure in (one for one in MEASURES.values() if one.shared):
        rows = _values(results, measure.name, f"{measure.name}_real", f"{measure.name}_shuffled")
        if np.isfinite(rows).all(axis=1).any():
            metrics[f"{measure.name}_share"] = share(rows, people, protocol, measure.better == "higher")
    for row in dict.fromkeys(row for one in results for row in one.distributions if row != "real"):
        for measure in of_kind("distribution", judges, protocol.task):
            metrics[f"{measure.name}{suffix(row)}"] = distribution_distance(
                measure, results, row, protocol, judges
            )
    return metrics | errors_removed(results, protocol.intervals)
