"""Results held against each other: measure by measure, where its hash and the data agree, and by more than chance."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.report.tables import BEST, VIDEO_TITLES, Interval, measures_among
from metrics.evaluation.intervals import cluster_bootstrap, mean
from metrics.evaluation.protocol import FEWEST_IDENTITIES as FEWEST
from metrics.evaluation.registry import MEASURES, Measure, is_lag, measure_of

SHARED_ROWS = ("real", "codec", "still")
"""Rows beside every method that are made of the data alone, and so are the same."""
OWN_ROWS = ("autoencoder", "swapped", "shuffled")
"""Rows that each method has of its own."""
_MOST_NAMED = 4


@dataclass(frozen=True)
class Entry:
    """The results of a method."""

    name: str  # that no other entry of a leaderboard has
    results: Mapping[str, Any]  # content of results.json
    folder: Path  # where that file lies

    @property
    def protocol(self) -> Mapping[str, Any]:
        """By what it was judged."""
        return self.results["protocol"]

    @property
    def clips(self) -> dict[str, Mapping[str, Any]]:
        """Values of each clip, by the clip's name."""
        return {clip["clip"]: clip for clip in self.results["clips"]}

    @property
    def people(self) -> int:
        """Number of identities that were judged."""
        return len({clip["identity"] for clip in self.clips.values()})

    def interval(self, name: str) -> Interval | None:
        """Of a measure by its name in results; None where it has no value."""
        found = self.results["metrics"].get(name)
        return None if found is None or found["value"] is None else found


@dataclass(frozen=True)
class Line:
    """An entry in the ranking by a measure."""

    entry: Entry
    interval: Interval
    rank: int | None = None  # 1 + number of those that are better by more than chance; None: it is not ranked
    why: str = ""  # why it is not ranked where others are
    # by how much it is worse than the best, with the ends of an interval where its clips have values; None: it is the
    # best, or not ranked
    behind: Interval | None = None


@dataclass(frozen=True)
class Ranking:
    """The entries by a measure."""

    measure: Measure
    target: float | None  # what the value should be near to, of a measure that is best as on real video
    lines: tuple[Line, ...]  # by rank, then by value; those that are not ranked last
    # ceilings and floors by row and, of rows that each method has of its own, the entry's name
    marked: Mapping[tuple[str, str], Interval]

    @property
    def ranks(self) -> bool:
        """Whether anything is ranked by it."""
        return any(line.rank is not None for line in self.lines)


@dataclass(frozen=True)
class Board:
    """The entries of the same data."""

    entries: tuple[Entry, ...]
    rankings: tuple[Ranking, ...]
    notes: tuple[str, ...]
    apart: str = ""  # how its data differ from those of the first board

    def mean_ranks(self) -> tuple[list[str], dict[str, float]]:
        """Titles of the measures that rank all entries, shares left out; and each entry's mean rank over them."""
        whole = [
            one
            for one in self.rankings
            if not one.measure.base and all(line.rank is not None for line in one.lines)
        ]
        ranks: dict[str, list[int]] = {entry.name: [] for entry in self.entries}
        for line in (line for one in whole for line in one.lines):
            ranks[line.entry.name].append(line.rank or 0)
        means = {name: float(np.mean(found)) for name, found in ranks.items() if found}
        return [one.measure.title for one in whole], means


def row_title(row: str, method: str) -> str:
    """What a marked row is called; ``method`` is empty where it is every method's."""
    title = VIDEO_TITLES[row].replace("the method's videos", "its videos")
    return f"{method}: {title}" if method else title


def make_boards(entries: Sequence[Entry]) -> list[Board]:
    """A board for each set of data, the one with most entries first."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.protocol["data"], []).append(entry)
    ordered = sorted(groups.values(), key=len, reverse=True)
    return [
        _board(group, _other_data(ordered[0][0], group[0]) if place else "")
        for place, group in enumerate(ordered)
    ]


def _board(entries: Sequence[Entry], apart: str) -> Board:
    names: dict[str, Measure] = {}
    for entry in entries:
        known = measures_among(entry.results["metrics"], entry.protocol)
        names |= {one.name: one for one in known if entry.interval(one.name) is not None}
    order = list(MEASURES)
    measures = sorted(names.values(), key=lambda one: (order.index(_base_name(one)), one.name))
    notes = []
    people = max(entry.people for entry in entries)
    if people < FEWEST:
        notes.append(
            f"{people} identities, fewer than {FEWEST}: no difference is told from chance, so all are on a par and stand in "
            "the order of their values"
        )
    files = [entry.protocol.get("files") for entry in entries]
    others = [entry.name for entry, hash in zip(entries, files, strict=True) if hash != files[0]]
    if others:
        notes.append(
            f"the same clips as those of {entries[0].name}, but stored in other bytes: {', '.join(others)}"
        )
    rankings = (rank(measure, entries) for measure in measures)
    return Board(tuple(entries), tuple(rankings), tuple(notes), apart)


def _base_name(measure: Measure) -> str:
    return BEST if measure.name.startswith(BEST) else measure.name


def rank(measure: Measure, entries: Sequence[Entry]) -> Ranking:
    """Rank entries of the same data by a measure, as far as its hash is the same and they have values of all clips."""
    known = [(entry, found) for entry in entries if (found := entry.interval(measure.name)) is not None]
    hashes = [entry.protocol["measures"].get(_base_name(measure)) for entry, _ in known]
    usual = Counter(one for one in hashes if one is not None).most_common(1)
    alike = [entry for (entry, _), one in zip(known, hashes, strict=True) if usual and one == usual[0][0]]
    most = max((found["n"] for entry, found in known if entry in alike), default=0)
    target = _target(measure, alike)
    ranked, rest = [], []
    for entry, found in known:
        why = ""
        if entry not in alike:
            why = (
                f"not ranked: {_other_settings(alike[0], entry, measure)}" if alike else "not ranked: no hash"
            )
        elif found["n"] < most:
            why = f"not ranked: {found['n']} of {most} clips"
        if why or measure.better == "none" or (measure.better == "real" and target is None):
            rest.append(Line(entry, found, why=why))
        else:
            ranked.append(Line(entry, found))
    rest += [
        Line(entry, {"value": None, "low": None, "high": None, "n": 0}, why=_why_missing(measure, entry))
        for entry in entries
        if entry.interval(measure.name) is None
    ]
    ranked.sort(key=lambda line: _badness(measure, line.interval["value"], target))
    lines = _with_ranks(measure, ranked, target)
    return Ranking(measure, target, (*lines, *rest), _marked(measure, alike or [one for one, _ in known]))


def _target(measure: Measure, entries: Sequence[Entry]) -> float | None:
    """The real row's value; else 1 of a share of the real detail, and 0 of a lag."""
    if measure.better != "real":
        return None
    reals = [real["value"] for entry in entries if (real := entry.interval(f"{measure.name}_real"))]
    if reals:
        return reals[0]
    return 1.0 if measure.unit == "%" else 0.0 if is_lag(measure.name) else None


def _badness(measure: Measure, value: float, target: float | None) -> float:
    """The less, the better."""
    if target is not None:
        return abs(value - target)
    return -value if measure.better == "higher" else value


def _with_ranks(measure: Measure, lines: Sequence[Line], target: float | None) -> list[Line]:
    found = []
    for line in lines:
        before = [_behind(measure, line, other, target) for other in lines if other is not line]
        rank = 1 + sum(worse for _, worse in before)
        behind = _behind(measure, line, lines[0], target)[0] if line is not lines[0] else None
        found.append(replace(line, rank=rank, behind=behind))
    return sorted(found, key=lambda line: line.rank or 0)  # of equal rank as they were


def _behind(measure: Measure, line: Line, other: Line, target: float | None) -> tuple[Interval, bool]:
    """By how much an entry is worse than another, and whether that is more than chance."""
    values = [_badness(measure, one.interval["value"], target) for one in (line, other)]
    plain = {"value": values[0] - values[1], "low": None, "high": None, "n": 0}
    pairs = _pairs(measure, line.entry, other.entry)
    if pairs is None:  # of distances over all clips: intervals that don't touch
        ends = [one.interval[key] for one in (line, other) for key in ("low", "high")]
        apart = None not in ends and (ends[0] > ends[3] or ends[1] < ends[2])
        people = min(line.entry.people, other.entry.people)
        return plain, apart and values[0] > values[1] and people >= FEWEST
    rows, seen = pairs
    rows[:, 2] = 0 if target is None else np.where(np.isnan(rows[:, 2]), target, rows[:, 2])
    middle = np.median if is_lag(measure.name) else np.mean

    def worse(rows: np.ndarray) -> float:
        own, others, real = middle(rows, axis=0)
        aim = None if target is None else real
        return float(_badness(measure, own, aim) - _badness(measure, others, aim))

    if target is None and middle is np.mean:  # the same numbers in one step
        sign = -1 if measure.better == "higher" else 1
        found = cluster_bootstrap(sign * (rows[:, 0] - rows[:, 1]), seen, mean)
    else:
        found = cluster_bootstrap(rows, seen, worse)
    told = {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
    return told, found.low is not None and found.low > 0 and len(set(seen)) >= FEWEST


def _pairs(measure: Measure, own: Entry, other: Entry) -> tuple[np.ndarray, list[str]] | None:
    """``(N, 3)`` values of the clips that both have: own, other's, real (NaN without); and who is seen. None: no values."""
    mine, theirs = own.clips, other.clips
    names = [measure.name, measure.name, f"{measure.name}_real"]
    rows, people = [], []
    for name in (name for name in mine if name in theirs):
        values = [
            clip.get(key) for clip, key in zip((mine[name], theirs[name], mine[name]), names, strict=True)
        ]
        if None not in values[:2]:
            rows.append([np.nan if value is None else float(value) for value in values])
            people.append(mine[name]["identity"])
    return (np.array(rows), people) if rows else None


def _why_missing(measure: Measure, entry: Entry) -> str:
    for one in entry.results["missing"]:
        told = isinstance(one, dict) and one.get("clip") == "*"
        if told and measure.name in str(one.get("what")).split(", "):
            return f"no value: {one.get('why')}"
    return "no value"


def _marked(measure: Measure, entries: Sequence[Entry]) -> dict[tuple[str, str], Interval]:
    """Ceilings and floors: those of the data once; a method's own by its name, or once if they are the same of all."""
    found: dict[tuple[str, str], Interval] = {}
    for row in (*SHARED_ROWS, *OWN_ROWS):
        if measure_of(f"{measure.name}_{row}") is not MEASURES[_base_name(measure)]:
            continue
        known = {entry.name: one for entry in entries if (one := entry.interval(f"{measure.name}_{row}"))}
        first = next(iter(known.values()), None)
        if first is not None and (row in SHARED_ROWS or 1 < len(known) == [*known.values()].count(first)):
            found[row, ""] = first
        else:
            found |= {(row, name): one for name, one in known.items()}
    return found


def _changes(first: Mapping[str, Any], other: Mapping[str, Any], groups: Sequence[str]) -> list[str]:
    """Settings of some groups that differ: ``sync.minimum_frames 100 / 50``."""
    told = []
    for group in groups:
        one, two = ((side.get("settings") or {}).get(group) or {} for side in (first, other))
        keys = [key for key in {**one, **two} if one.get(key) != two.get(key)]
        told += [f"{group}.{key} {_shown(two, key)} instead of {_shown(one, key)}" for key in keys]
    return told


def _shown(settings: Mapping[str, Any], key: str) -> str:
    return f"{settings.get(key, 'unknown')!s:.40}"


def _shortened(told: Sequence[str]) -> str:
    more = len(told) - _MOST_NAMED
    return ", ".join(told[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _other_settings(first: Entry, other: Entry, measure: Measure) -> str:
    """Why the hashes of a measure differ: settings, else judges, else what computes it."""
    told = _changes(first.protocol, other.protocol, measure.settings)
    tasks = [(entry.protocol.get("settings") or {}).get("task") for entry in (first, other)]
    if tasks[0] != tasks[1] and measure.family in ("identity", "sync", "motion"):
        told.insert(0, f"task {tasks[1]} instead of {tasks[0]}")
    if not told:
        judges = [(entry.results["run"] or {}).get("judges") or {} for entry in (first, other)]
        names = [name for name in {**judges[0], **judges[1]} if judges[0].get(name) != judges[1].get(name)]
        told = [f"judge {name}" for name in names] if measure.judges else []
    return _shortened(told) or "another version of the measure, by its hash"


def _other_data(first: Entry, other: Entry) -> str:
    """How the data of two entries differ, as far as their results tell."""
    told = _changes(first.protocol, other.protocol, ["reading"])
    if first.protocol["name"] != other.protocol["name"]:
        told.insert(0, f"protocol {other.protocol['name']} instead of {first.protocol['name']}")
    lacks, more = set(first.clips) - set(other.clips), set(other.clips) - set(first.clips)
    told += [f"{len(clips)} clips {what}" for clips, what in ((lacks, "fewer"), (more, "more")) if clips]
    return (
        _shortened(told)
        or "clips of these names that were cut otherwise (source, start, crop, length or identity)"
    )
