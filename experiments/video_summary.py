"""What clips give together: means with bootstrap intervals by identity, and distances over all frames at once."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch

from experiments.video_closure import closures
from experiments.video_judges import Judges
from experiments.video_pairs import Missing, entry
from experiments.video_rows import Judged
from metrics.bootstrap import Interval, cluster_bootstrap, cluster_jackknife, mean, median
from metrics.distributions import (
    FEW_FRAMES,
    BlinkIntervalDistance,
    HeadSpectrumDistance,
    HeadVelocityDistance,
    MotionFrechetDistance,
)
from metrics.protocol import MEASURES

DISTANCES = {
    "motion_frechet": (MotionFrechetDistance, "features"),
    "head_velocity_distance": (HeadVelocityDistance, "speed"),
    "head_spectrum_distance": (HeadSpectrumDistance, "spectrum"),
    "blink_interval_distance": (BlinkIntervalDistance, "intervals"),
}
FLOORED = ("av_corr", "lse_d", "lse_c", "lip_closure")
"""Measures that are also given between the shuffled (0) and the real row (1)."""


def _pooled_motion(judged: Sequence[Judged], row: str) -> dict[str, Interval]:
    """Distances between the distributions of motion of a row and of the real clips that have it."""
    judged = [one for one in judged if row in one.motion]
    clusters = [one.pair.identity for one in judged]
    found = {}
    for name, (metric_class, part) in DISTANCES.items():

        def statistic(kept: Collection[int], metric_class: Any = metric_class, part: str = part) -> float:
            metric = metric_class()
            for index in kept:
                motion = judged[index].motion
                for real, samples in ((True, motion["real"]), (False, motion[row])):
                    for sample in samples:
                        metric.update(torch.from_numpy(getattr(sample, part)), real=real)
            return float(metric.compute()) if len(kept) else float("nan")

        suffix = "" if row == "generated" else f"_{row}"
        found[f"{name}{suffix}"] = cluster_jackknife(statistic, clusters)
    return found


def _between(rows: np.ndarray) -> float:
    value, real, shuffled = rows.mean(axis=0)
    return float((value - shuffled) / (real - shuffled)) if real != shuffled else float("nan")


def aggregate(judged: Sequence[Judged]) -> dict[str, Interval]:
    """Means over clips (medians of lags) with bootstrap intervals by identity, and distances of motion."""
    if not judged:
        return {}
    clusters = [one.pair.identity for one in judged]
    metrics = {}
    nothing = float("nan")
    for name in dict.fromkeys(name for one in judged for name in one.values):
        statistic = median if name.startswith(("av_lag", "av_offset")) else mean
        metrics[name] = cluster_bootstrap(
            [one.values.get(name, nothing) for one in judged], clusters, statistic
        )
    for name in FLOORED:
        names = (name, f"{name}_real", f"{name}_shuffled")
        rows = np.array([[one.values.get(key, nothing) for key in names] for one in judged])
        if np.isfinite(rows).all(axis=1).any():
            metrics[f"{name}_share"] = cluster_bootstrap(rows, clusters, _between)
    for row in dict.fromkeys(row for one in judged for row in one.motion if row != "real"):
        metrics.update(_pooled_motion(judged, row))
    return metrics


def summarise(
    judged: Sequence[Judged], judges: Judges
) -> tuple[dict[str, Interval], list[Missing], list[str]]:
    """Everything that clips give together.

    Args:
        judged: The clips; lip closure, which needs all of them, is added to the values of each.
        judges: That judged them.

    Returns:
        Measures by name, what is missing, and remarks on what the values stand on.
    """
    if not judged:
        return {}, [], []
    missing = _add_closures(judged)
    metrics = aggregate(judged)
    few = sum(len(sample.features) for one in judged for sample in one.motion["generated"])
    notes = [f"motion_frechet: {few} frames, too few"] if few < FEW_FRAMES else []
    notes += _add_pooled(metrics, judges)
    return metrics, missing + _without_value(metrics, judges), notes


def _add_closures(judged: Sequence[Judged]) -> list[Missing]:
    """Add ``lip_closure`` to every clip whose phones are known; returns what is missing."""
    found, missing = closures([one.heard for one in judged], [one.pair.phones for one in judged])
    for one, values in zip(judged, found, strict=True):
        one.values.update(values)
    return missing


def _add_pooled(metrics: dict[str, Interval], judges: Judges) -> list[str]:
    """Add what is judged over all frames at once; returns remarks on what it stands on."""
    notes: list[str] = []
    for pooled in (judges.images, judges.windows):
        if pooled is not None:
            values, remarks = pooled.compute()
            metrics.update(values)
            notes += remarks
    return notes


def _without_value(metrics: dict[str, Interval], judges: Judges) -> list[Missing]:
    """The measures that no clip has a value of although their judge was there."""
    told = {name for what, _ in judges.missing for name in what.split(", ")}
    unknown = [name for name, one in metrics.items() if one.value is None and name in MEASURES]
    return [entry("*", name, "no clip has a value") for name in unknown if name not in told]
