"""What the points of a sweep say together: differences, monotony, the trade-off, following of statistics."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.sweep.following import following_of, scaled_blocks
from experiments.sweep.plan import Point, Series, SweepPlan
from experiments.sweep.points import MEASURED, PointMeter
from metrics.evaluation.clips import ClipFiles
from metrics.evaluation.intervals import Interval, IntervalSettings, cluster_bootstrap
from metrics.evaluation.registry import is_lag
from metrics.trade_off import MotionCurve, at_equal_motion, common_levels, pareto_front, rank_correlation

QUALITIES = {
    "csim": True, "lip_corr_zero": True, "av_corr_zero": True, "lse_c": True, "jitter": False, "sharpness": True,
    "fid": False, "fd_efficientnet_lite0": False, "fvd": False,
}  # fmt: skip
"""Measures that motion is traded for -> whether higher is better. Sharpness counts as lost detail below the real clip's."""
FALLING = ("csim", "lip_corr_zero", "av_corr_zero", "lse_c", "lse_d")
"""Identity and sync, of which it is told from which value on they are worse than at the reference."""
LOWER = ("lse_d", "jitter", "flicker")
"""Measures of which lower is better."""
Values = dict[str, np.ndarray]
"""Measure -> value of each clip ``(N,)``, NaN where it has none."""


class Sweep:
    """The measured points of a plan.

    Args:
        plan: What was asked for.
        meter: Has measured all its points.
        clips: Those that have every point.
    """

    def __init__(self, plan: SweepPlan, meter: PointMeter, clips: Sequence[ClipFiles]) -> None:
        self.plan, self.meter, self.clips = plan, meter, clips
        self.people = [files.identity for files in clips]
        self.motion = motion_of(plan)
        self.settings: IntervalSettings = meter.evaluated.protocol.intervals
        self.values: dict[Point, Values] = {point: self._values(point) for point in plan.all}
        metrics: dict[str, dict[str, Interval]] = {}
        for point in plan.all:
            key = meter.key(point)
            metrics[key] = metrics.get(key) or meter.metrics(point, clips)
        self.metrics = {point: metrics[meter.key(point)] for point in plan.all}

    def _values(self, point: Point) -> Values:
        records = self.meter.records(point, self.clips)
        return {
            name: np.array([record.values.get(name, np.nan) for record in records], float)
            for name in MEASURED
            if any(name in record.values for record in records)
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row a point: ``series``, ``value`` and every measure with its interval."""
        return [
            {"series": point.series, "value": point.value, **intervals_of(metrics)}
            for point, metrics in self.metrics.items()
        ]

    def real(self) -> dict[str, Any]:
        """The measures of the real clips."""
        metrics = next(iter(self.metrics.values()))
        bare = {name: metrics[f"{name}_real"] for name in MEASURED if f"{name}_real" in metrics}
        return intervals_of(bare)

    def _difference(self, later: Point, earlier: Point, name: str) -> Interval:
        """Paired by clip, with its interval by identity."""
        differences = self.values[later][name] - self.values[earlier][name]
        return cluster_bootstrap(differences, self.people, settings=self.settings)

    def _names(self, points: Sequence[Point]) -> list[str]:
        """Measures that clips have at all of some points and that differences of make sense."""
        return [
            name for name in MEASURED if all(name in self.values[one] for one in points) and not is_lag(name)
        ]

    def differences(self) -> list[dict[str, Any]]:
        """Of each value of a series to its reference: paired by clip, with intervals by identity."""
        rows = []
        for one in self.plan.series:
            base = _reference(one)
            for point in one.points if base else ():
                if point is not base:
                    found = {name: self._difference(point, base, name) for name in self._names(one.points)}  # type: ignore[arg-type]
                    rows.append({"series": one.name, "value": point.value, **intervals_of(found)})
        return rows

    def answers(self) -> list[dict[str, Any]]:
        """How each measure of each series answers to its value, judged by paired differences.

        ``word``: ``rises`` or ``falls`` (from first to last, without a step back beyond its interval), ``rises and falls``
        or ``unclear``; ``rank_correlation`` of value and mean; ``steps_up`` and ``steps_down``: values at which it is beyond
        the interval higher or lower than at the value before; ``worse_from``: first value over the reference at which
        identity or sync is worse than there.
        """
        return [
            {"series": one.name, "measure": name, **self._answer(one, name)}
            for one in self.plan.series
            if len(one.points) > 1
            for name in self._names(one.points)
        ]

    def _answer(self, one: Series, name: str) -> dict[str, Any]:
        steps = [
            (later.value, _side(self._difference(later, earlier, name)))
            for earlier, later in zip(one.points, one.points[1:], strict=False)
        ]
        up, down = ([value for value, side in steps if side == sign] for sign in (1, -1))
        whole = _side(self._difference(one.points[-1], one.points[0], name))
        word = {1: "rises", -1: "falls", 0: "unclear"}[whole]
        if up and down:
            word = "rises and falls"
        elif (up or down) and not whole:
            word = "rises" if up else "falls"
        means = [
            float(np.nanmean(self.values[point][name])) if _known(self.values[point][name]) else np.nan
            for point in one.points
        ]
        base = _reference(one)
        worse = None
        if base and name in FALLING:
            bad = 1 if name in LOWER else -1
            over = (point for point in one.points if point.value > base.value)  # type: ignore[operator]
            worse = next((p.value for p in over if _side(self._difference(p, base, name)) == bad), None)
        return {
            "word": word,
            "rank_correlation": rank_correlation([point.value for point in one.points], means),  # type: ignore[misc]
            "steps_up": up,
            "steps_down": down,
            "worse_from": worse,
        }

    def trade_off(self) -> dict[str, Any]:
        """Quality against measured motion: the front of all points, and the series at equal motion, by measure."""
        found: dict[str, Any] = {}
        for name, higher in QUALITIES.items():
            points = [point for point in self.plan.all if {name, self.motion} <= set(self.metrics[point])]
            sides = [[self.metrics[point][key].value for point in points] for key in (self.motion, name)]
            motion, quality = (np.array(side, float) for side in sides)
            if not np.isfinite(quality).any():
                continue
            front = pareto_front(motion.tolist(), quality.tolist(), higher)
            found[name] = {
                "higher_is_better": higher,
                "motion": self.motion,
                "front": [{"series": points[i].series, "value": points[i].value} for i in front],
                "at_equal_motion": self._at_equal_motion(name, higher),
            }
        return found

    def _at_equal_motion(self, name: str, higher: bool) -> list[dict[str, Any]]:
        """Levels of motion that at least two series reach, of the clips that are known at every value of each.

        A value at which no clip has the measure is left out, and a series of fewer than two others.
        """
        sides: dict[str, np.ndarray] = {}  # (2, V, N)
        for one in self.plan.series:
            values = [self.values[point] for point in one.points]
            both = [np.stack([of[self.motion], of[name]]) for of in values if {self.motion, name} <= set(of)]
            kept = [side for side in both if np.isfinite(side).any(axis=1).all()]
            if len(kept) > 1:
                sides[one.name] = np.stack(kept, axis=1)
        if len(sides) < 2:
            return []
        known = np.isfinite(np.concatenate([*sides.values()], axis=1)).all(axis=(0, 1)).nonzero()[0]
        if not len(known):
            return []
        curves = {series: MotionCurve(*side[..., known]) for series, side in sides.items()}
        people = [self.people[place] for place in known]
        levels = at_equal_motion(curves, people, common_levels(curves), higher, self.settings)
        return [{**dataclasses.asdict(level), "clear": level.clear} for level in levels]

    def following(self) -> list[dict[str, Any]]:
        """Requested against realised std of each series that scales statistics, see `following_of`."""
        if not self.plan.following:
            return []
        model, found = self.meter.evaluated.model, []
        blocks = model.basis.blocks or {"all": slice(None)}
        for one in self.plan.series:
            scaled = scaled_blocks(one, blocks, model.diffusion.by_construction)
            stds = {p.value: [r.stds for r in self.meter.records(p, self.clips)] for p in one.points}
            if scaled and all(std for clips in stds.values() for std in clips):
                told = following_of(stds, self.people, blocks, scaled, self.settings)  # type: ignore[arg-type]
                found.append({"series": one.name, **told})
        return found


def intervals_of(metrics: Mapping[str, Interval]) -> dict[str, Any]:
    """The measures of a row as plain data, in their order."""
    return {name: dataclasses.asdict(metrics[name]) for name in MEASURED if name in metrics}


def motion_of(plan: SweepPlan) -> str:
    """The measure of motion that qualities are held against: the mouth's where a series moves nothing else."""
    alone = any(one.axis == ("mouth_intensity",) for one in plan.series)
    return "mouth_motion" if alone else "head_motion"


def _reference(one: Series) -> Point | None:
    return next((point for point in one.points if point.value == one.reference), None)


def _known(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).any())


def _side(difference: Interval) -> int:
    """1 or -1 where the interval lies above or below 0, else 0."""
    if difference.low is None or difference.high is None:
        return 0
    return int(difference.low > 0) - int(difference.high < 0)
