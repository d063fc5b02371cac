"""What the results of an ablation study say: each row's value and its paired difference to the full model, with intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.ablation.plan import CONTROL, FULL
from experiments.report.tables import people_in
from metrics.evaluation.comparison import crossed_interval, seed_interval
from metrics.evaluation.intervals import UNKNOWN, Interval
from metrics.evaluation.protocol import FEWEST_IDENTITIES
from metrics.evaluation.registry import MEASURES, is_lag


@dataclass(frozen=True)
class MemberResult:
    """What is known of one trained model of a row.

    Attributes:
        seed: of its training.
        results: content of its ``results.json``; None if there is none.
        failure: why there is none.
        cost: ``parameters`` of what was trained anew, ``minutes`` that it took, ``commits`` of the code by stage.
        sheets: pictures of its clips.
    """

    seed: int
    results: dict[str, Any] | None
    failure: str = ""
    cost: dict[str, Any] = field(default_factory=dict)
    sheets: tuple[Path, ...] = ()


@dataclass(frozen=True)
class RowResult:
    """What is known of a row."""

    name: str
    group: str
    claim: str
    members: tuple[MemberResult, ...]

    def known(self) -> list[dict[str, Any]]:
        """Results of the models that have some, in the order of their seeds."""
        return [one.results for one in self.members if one.results is not None]

    def failures(self) -> list[str]:
        """What failed, by seed."""
        return [f"seed {one.seed}: {one.failure}" for one in self.members if one.results is None]


@dataclass(frozen=True)
class Cell:
    """A measure of a row: its value, and its difference to the full model of the group."""

    value: Interval
    difference: Interval
    by_seeds: bool  # whether the intervals are over seeds alone
    people: int  # that have a value
    seeds: int  # likewise

    def differs(self, control: "Cell | None" = None) -> bool:
        """Whether the difference is told from chance.

        Its interval leaves 0 out, over several training seeds and enough identities, and it is larger than that of A/A.
        """
        value, low, high = self.difference.value, self.difference.low, self.difference.high
        if value is None or low is None or high is None or low <= 0 <= high:
            return False
        chance = control.difference.value if control else None
        enough = self.people >= FEWEST_IDENTITIES and self.seeds > 1
        return enough and (chance is None or abs(value) > abs(chance))


def measures_of(rows: Sequence[RowResult]) -> list[str]:
    """Names of the measures that any row has a value of, in the order of the registry; what is none of ours stays out."""
    found = {
        name
        for row in rows
        for one in row.known()
        for name, metric in one["metrics"].items()
        if metric["value"] is not None
    }
    return [name for name in MEASURES if name in found and not MEASURES[name].base]


def compare(row: RowResult, full: RowResult, name: str) -> Cell:
    """Measure ``name`` of a row against the full model of its group; seeds are paired by their place.

    No difference is known between results whose hashes of the measure differ.
    """
    median = is_lag(name)
    known = [*row.known(), *full.known()]
    alike = len({one["protocol"].get("measures", {}).get(name) for one in known}) == 1
    identities = {clip["clip"]: clip["identity"] for one in known for clip in one["clips"]}
    clips = sorted(identities)
    if any(name in clip for one in known for clip in one["clips"]):
        seen = [identities[clip] for clip in clips]
        mine, theirs = (_values(one, clips, name) for one in (row, full))
        count = min(len(mine), len(theirs))
        pairs = mine[:count] - theirs[:count]
        value, difference = (crossed_interval(one, seen, median=median) for one in (mine, pairs))
        counted = pairs if row is not full else mine
        people = len({who for who, column in zip(seen, counted.T, strict=True) if np.isfinite(column).any()})
        seeds = int(np.isfinite(counted).any(axis=1).sum())
        by_seeds = False
    else:
        values, base = _pooled(row, name), _pooled(full, name)
        both = [mine - theirs for mine, theirs in zip(values, base, strict=False)]
        value, difference = (seed_interval([v for v in one if np.isfinite(v)]) for one in (values, both))
        people, seeds, by_seeds = len(set(identities.values())), difference.n, True
    return Cell(value, difference if alike and row is not full else UNKNOWN, by_seeds, people, seeds)


def _pooled(row: RowResult, name: str) -> list[float]:
    """A value of each model, NaN where there is none."""
    results = [one.results["metrics"] if one.results else {} for one in row.members]
    found = [metrics.get(name, {}).get("value") for metrics in results]
    return [math.nan if value is None else value for value in found]


def _values(row: RowResult, clips: Sequence[str], name: str) -> np.ndarray:
    """``(S, N)`` values of each model and clip, NaN where there is none."""
    values = np.full((len(row.members), len(clips)), np.nan)
    for place, one in enumerate(row.members):
        of = {clip["clip"]: clip.get(name) for clip in one.results["clips"]} if one.results else {}
        values[place] = [math.nan if of.get(clip) is None else of[clip] for clip in clips]
    return values


def study_table(rows: Sequence[RowResult], task: str) -> dict[str, Any]:
    """All cells as plain data, with each row's claim, cost and failures.

    Returns:
        ``{"task", "protocol", "judged", "measures": [NAME], "videos": {ROW: {NAME: interval}}, "rows": [{"row", "title",
            "group", "claim", "seeds", "failures", "cost", "code", "measures": {NAME: {"value", "difference", "differs",
            "by_seeds"}}, "by_yaw": {DEGREES: {NAME: mean over the seeds}}}]}``; ``videos`` has the rows that are no model's.
    """
    names = measures_of(rows)
    found = []
    several = len({row.group for row in rows}) > 1
    for row in rows:
        full, control = (
            next((one for one in rows if one.name == name and one.group == row.group), None)
            for name in (FULL, CONTROL)
        )
        assert full is not None  # every group has one
        cells = {name: compare(row, full, name) for name in names} if row.known() else {}
        told = {}
        for name, cell in cells.items():
            chance = None if control is None or control is row else compare(control, full, name)
            told[name] = {**asdict(cell), "differs": cell.differs(chance)}
        found.append(
            {
                "row": row.name,
                "title": f"{row.name} ({row.group})" if several else row.name,
                "group": row.group,
                "claim": row.claim,
                "seeds": [one.seed for one in row.members if one.results is not None],
                "failures": row.failures(),
                "cost": _cost(row),
                "code": _commits(row),
                "measures": told,
                "by_yaw": _by_yaw(row),
            }
        )
    first = next((one for row in rows for one in row.known()), None)
    return {
        "task": task,
        "protocol": "" if first is None else first["protocol"]["name"],
        "judged": None if first is None else _judged(first),
        "measures": names,
        "videos": {} if first is None else _videos(first, names),
        "rows": found,
    }


def _judged(results: Mapping[str, Any]) -> dict[str, int]:
    return {"clips": len(results["clips"]), "identities": people_in(results["clips"])}


def _videos(results: Mapping[str, Any], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Values of real videos and of the still source, which are the same beside every model."""
    rows = {
        row: {name: results["metrics"].get(f"{name}_{row}") for name in names} for row in ("real", "still")
    }
    return {
        row: {name: one for name, one in cells.items() if one and one["value"] is not None}
        for row, cells in rows.items()
        if any(one and one["value"] is not None for one in cells.values())
    }


def _by_yaw(row: RowResult) -> dict[str, dict[str, float]]:
    """Mean over the seeds of what `YawDistances` says of each bin; empty where results have none."""
    tables = [one["by_yaw"] for one in row.known() if "by_yaw" in one]
    return {
        degrees: {
            name: float(np.mean([table[degrees][name] for table in tables if name in table.get(degrees, {})]))
            for name in measures
        }
        for degrees, measures in (tables[0] if tables else {}).items()
    }


def _commits(row: RowResult) -> list[str]:
    """By which code its models were trained, each commit once."""
    commits = [commit for one in row.members for commit in one.cost.get("commits", {}).values()]
    return list(dict.fromkeys(str(commit)[:7] for commit in commits))


def _cost(row: RowResult) -> dict[str, float]:
    """Mean over the seeds: parameters, minutes of training, milliseconds a frame."""
    cost = {}
    for name in ("parameters", "minutes"):
        values = [one.cost[name] for one in row.members if name in one.cost]
        if values:
            cost[name] = float(np.mean(values))
    speeds = [
        one["metrics"]["fps"]["value"] for one in row.known() if one["metrics"].get("fps", {}).get("value")
    ]
    if speeds:
        cost["ms_per_frame"] = float(np.mean([1000 / speed for speed in speeds]))
    return cost
