"""What clips give together: means and distances with their intervals, and the reasons where there are none."""

from collections.abc import Collection, Sequence

import numpy as np
import torch

from metrics.evaluation.clips import Missing, entry
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
from metrics.evaluation.loop import JudgedClip
from metrics.evaluation.protocol import Protocol
from metrics.evaluation.registry import MEASURES, Measure, is_lag, measure_of, of_kind
from metrics.evaluation.speech import suffix


def _between(rows: np.ndarray) -> float:
    value, real, shuffled = rows.mean(axis=0)
    return float((value - shuffled) / (real - shuffled)) if real != shuffled else float("nan")


def share(rows: np.ndarray, clusters: Sequence[str], protocol: Protocol, higher: bool = True) -> Interval:
    """Place of a measure between the shuffled and the real row, where the real one is better by more than chance.

    Args:
        rows: ``(N, 3)`` of clips: the method's value, the real and the shuffled one; NaN rows are left out.
        clusters: Identity of each clip; too few can't tell chance, and there is no value.
        protocol: Settings.
        higher: Whether the higher value is the better.
    """
    better = (rows[:, 1] - rows[:, 2]) * (1 if higher else -1)
    ahead = cluster_bootstrap(better, clusters, mean, protocol.intervals)
    people = len({cluster for cluster, row in zip(clusters, rows, strict=True) if np.isfinite(row).all()})
    if people < protocol.shares.fewest_identities or ahead.low is None or ahead.low <= 0:
        return UNKNOWN
    return cluster_bootstrap(rows, clusters, _between, protocol.intervals)


def motion_distance(
    measure: Measure, judged: Sequence[JudgedClip], row: str, protocol: Protocol, judges: Judges
) -> Interval:
    """Distance between the distributions of motion of a row and of the real clips that have it, each take by itself."""

    def seen(one: JudgedClip) -> bool:  # neither side may have clips that the other lacks
        lips = [*one.speech.lips["real"], *one.speech.lips.get(row, [])]
        return row in one.motion and all(np.isfinite(take).any() for take in lips)

    kept_clips = [one for one in judged if seen(one)]
    if not kept_clips:
        return UNKNOWN
    takes = len(kept_clips[0].motion[row])

    def rows_of(kept: Collection[int], side: str, take: int) -> torch.Tensor:
        return torch.from_numpy(
            np.concatenate([kept_clips[k].motion[side][take][measure.name] for k in kept])
        )

    def statistic(kept: Collection[int]) -> float:
        distances = []
        for take in range(takes if len(kept) else 0):
            metric = measure.new_metric(protocol, judges)
            metric.update(rows_of(kept, "real", 0), real=True)
            metric.update(rows_of(kept, row, take), real=False)
            distances.append(float(metric.compute()))
        return float(np.mean(distances)) if distances else float("nan")

    clusters = [one.files.identity for one in kept_clips]
    return cluster_jackknife(statistic, clusters, protocol.intervals).not_below(0)


def _removed(rows: np.ndarray) -> float:
    error, baseline = rows.sum(axis=0)
    return float(1 - error / baseline) if baseline else float("nan")


def errors_removed(judged: Sequence[JudgedClip], settings: IntervalSettings) -> dict[str, Interval]:
    """Shares of the errors at mouth and eyes of copying the source frame that the autoencoder takes away."""
    clusters, nothing, metrics = [one.files.identity for one in judged], float("nan"), {}
    for part in ("mouth", "eye") if any(one.region_sums for one in judged) else ():
        names = (f"{part}_autoencoder", f"{part}_still")
        rows = np.array([[one.region_sums.get(name, nothing) for name in names] for one in judged])
        metrics[f"{part}_error_removed"] = cluster_bootstrap(rows, clusters, _removed, settings)
    return metrics


def lag_curves(judged: Sequence[JudgedClip]) -> dict[str, list[float]]:
    """Correlation with the true lip opening at each lag, mean over clips, for each row that has one."""
    curves = {}
    for row in dict.fromkeys(row for one in judged for row in one.lag_curves):
        known = [one.lag_curves[row] for one in judged if row in one.lag_curves]
        known = [curve for curve in known if np.isfinite(curve).all()]
        if known:
            curves[row] = np.mean(known, axis=0).round(4).tolist()
    return curves


def aggregate(judged: Sequence[JudgedClip], protocol: Protocol, judges: Judges) -> dict[str, Interval]:
    """Means over clips (medians of lags) with bootstrap intervals by identity, shares, and distances of motion."""
    clusters, nothing = [one.files.identity for one in judged], float("nan")
    metrics: dict[str, Interval] = {}
    for name in dict.fromkeys(name for one in judged for name in one.values):
        values = [one.values.get(name, nothing) for one in judged]
        metrics[name] = cluster_bootstrap(
            values, clusters, median if is_lag(name) else mean, protocol.intervals
        )
    for measure in (one for one in MEASURES.values() if one.shared):
        names = (measure.name, f"{measure.name}_real", f"{measure.name}_shuffled")
        rows = np.array([[one.values.get(key, nothing) for key in names] for one in judged]).reshape(-1, 3)
        if np.isfinite(rows).all(axis=1).any():
            metrics[f"{measure.name}_share"] = share(rows, clusters, protocol, measure.better == "higher")
    for row in dict.fromkeys(row for one in judged for row in one.motion if row != "real"):
        for measure in of_kind("motion", judges):
            metrics[f"{measure.name}{suffix(row)}"] = motion_distance(measure, judged, row, protocol, judges)
    return metrics | errors_removed(judged, protocol.intervals)


def without_value(metrics: dict[str, Interval], protocol: Protocol) -> list[Missing]:
    """The measures that no clip has a value of although their judge was there, and why."""
    whys: dict[str, list[str]] = {}
    for name, one in metrics.items():
        measure = measure_of(name)
        if one.value is None and measure is not None and measure.family != "model":
            whys.setdefault(_why_unknown(name, measure, protocol), []).append(name)
    for measure in (one for one in MEASURES.values() if one.shared and one.name in metrics):
        if f"{measure.name}_share" not in metrics:
            why = "no clip has a value, the real one and the shuffled one"
            whys.setdefault(why, []).append(f"{measure.name}_share")
    return [entry("*", ", ".join(names), why) for why, names in whys.items()]


def _why_unknown(name: str, measure: Measure, protocol: Protocol) -> str:
    """Why no clip has a value of a measure, in the row that its name tells."""
    if name.endswith("_share"):
        return (
            f"fewer than {protocol.shares.fewest_identities} identities, or the real row is not better than the shuffled "
            "one by more than chance"
        )
    if name == f"{measure.name}_autoencoder" and measure.kind in ("pictures", "windows"):
        return "some clips lack this row: they would be on the real side alone"
    return measure.unknown


def clips_without_value(judged: Sequence[JudgedClip], metrics: dict[str, Interval]) -> list[Missing]:
    """The measures that others have a value of and a clip has not, and why; a row without a face is told already."""
    missing = []
    for one in judged:
        absent: dict[str, list[str]] = {}
        for name, value in one.values.items():
            measure = measure_of(name)
            if (
                measure is None
                or measure.family == "model"
                or np.isfinite(value)
                or metrics[name].value is None
            ):
                continue
            row = name.removeprefix(measure.name)
            if np.isfinite(one.values["mouth_motion" if row == "_shuffled" else f"mouth_motion{row}"]):
                absent.setdefault(measure.unknown, []).append(name)
        missing += [entry(one.files.name, ", ".join(names), why) for why, names in absent.items()]
    return missing
