"""Measures in words and tables: numbers with their units, what each says, the rows of an evaluation side by side."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from experiments.report.page import Table
from metrics.evaluation.reading import SYNTHETIC
from metrics.evaluation.registry import MEASURES, Measure

ROW_TITLES = {
    "real": "real video",
    "codec": "real video through the codec",
    "autoencoder": "real motion, our autoencoder",
    "still": "still source frame",
    "generated": "generated from speech",
    "swapped": "generated from another voice's speech",
    "shuffled": "generated, held against another voice's speech",
}
VIDEO_TITLES = ROW_TITLES | {
    "autoencoder": "real motion, a model's autoencoder",
    "generated": "the method's videos",
    "shuffled": "the method's videos, held against another voice's speech",
}
"""Of anyone's videos, which nobody knows to be generated from speech."""
BEST = "mouth_lmd_best"
"""Measure whose name in results ends with the number of seeds."""
DRAWN = SYNTHETIC.partition("-")[0]
DECIMALS = {
    "dB": 1, "%": 1, "frames": 0, "°": 2, "°/s": 2, "/min": 0, "s": 2, "frames/s": 1, "eye distances": 4,
}  # fmt: skip


def number(value: float | None, unit: str = "") -> str:
    """A value as a reader wants it: rounded by its unit, shares as per cent, a dash where there is none."""
    if value is None:
        return "–"
    scaled = 100 * value if unit == "%" else value
    small = 4 if 0 < abs(value) < 0.01 else 3
    text = f"{scaled:.{DECIMALS.get(unit, small if abs(value) < 0.1 else 2)}f}"
    text = text.lstrip("-") if not float(text) else text
    return f"{text.replace('-', '−')}{'' if unit in ('%', '°') else ' '}{unit}".strip()


def interval(one: Mapping[str, Any] | None, unit: str = "", bare: bool = False) -> str:
    """An interval as ``value [low, high]``, the unit once or, ``bare``, not at all."""
    if one is None or one["value"] is None:
        return "–"
    shown = number(one["value"], unit)
    shown = _without(shown, unit) if bare else shown
    if one["low"] is None or one["high"] is None:
        return shown
    low, high = (_without(number(one[end], unit), unit) for end in ("low", "high"))
    return f"{shown} [{low},\u00a0{high}]"


def _without(text: str, unit: str) -> str:
    return text.removesuffix(unit).strip()


def counted(count: int, what: str) -> str:
    """``1 clip``, ``2 clips``, ``2 identities``."""
    many = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{count} {what if count == 1 else many}"


def measure_tables(results: Mapping[str, Any]) -> list[Table]:
    """What each measure says, and those that several rows have side by side.

    Args:
        results: Of an evaluation.
    """
    metrics, clips = results["metrics"], len(results["clips"])
    videos = "videos" in (results["run"] or {})
    titles = VIDEO_TITLES if videos else ROW_TITLES
    told, compared = [], {}
    for measure in measures_among(metrics, results["protocol"]):
        rows = {row: metrics.get(_name_of(measure, row, videos)) for row in titles}
        if measure.name not in metrics and not any(rows.values()):
            continue
        own = metrics.get(measure.name)
        same = measure.title.lower() == measure.name.replace("_", "-")
        title = measure.title if same else f"{measure.title} ({measure.name})"
        told.append([title, interval(own, measure.unit) + _of_some(own, clips), measure.meaning])
        known = {row: one for row, one in rows.items() if one and one["value"] is not None}
        if len(known) > 1:
            compared[measure] = known
    shown = [row for row in titles if any(row in of for of in compared.values())]
    body = [
        [_head(measure), *(_cell(of.get(row), measure.unit, clips) for row in shown)]
        for measure, of in compared.items()
    ]
    return [
        Table("Measures", ["measure", "value", "what it says"], told),
        Table("Side by side", ["measure", *(titles[row] for row in shown)], body),
    ]


def measures_among(names: Collection[str], protocol: Mapping[str, Any]) -> list[Measure]:
    """The measures in the order of the registry, as these results have them.

    Args:
        names: Of the values; one tells of how many seeds it is the best.
        protocol: Of the results; trembling is measured in another unit on real faces.
    """
    found = []
    for one in MEASURES.values():
        if one.name == BEST:
            one = replace(one, name=next((name for name in names if name.startswith(BEST)), BEST))
        if one.name == "jitter" and not protocol["name"].startswith(DRAWN):
            one = replace(one, unit="eye distances")
        found.append(one)
    return found


def _name_of(measure: Measure, row: str, videos: bool) -> str:
    """Name of a row's value in results: bare for the row it is meant for, of a model's reconstruction its autoencoder."""
    home = "autoencoder" if measure.family == "reconstruction" and not videos else "generated"
    return measure.name if row == home else f"{measure.name}_{row}"


def _head(measure: Measure) -> str:
    return f"{measure.title} ({measure.unit})" if measure.unit else measure.title


def _cell(one: Mapping[str, Any] | None, unit: str, clips: int) -> str:
    """A value without its unit, which the head of its row states."""
    return _without(number(one["value"] if one else None, unit), unit) + _of_some(one, clips)


def _of_some(one: Mapping[str, Any] | None, clips: int) -> str:
    """Of how many clips a value is, where it is not of all: rows side by side may be of others."""
    return f" ({one['n']} of {clips} clips)" if one and 0 < one["n"] < clips else ""


def sweep_table(rows: list[Mapping[str, Any]], protocol: Mapping[str, Any]) -> Table:
    """Measures over intensity: one row each."""
    names = set().union(*rows) if rows else set()
    measures = [one for one in measures_among(names, protocol) if one.name in names]
    body = [
        [f"{row['intensity']:g}", *(interval(row[one.name], one.unit, bare=True) for one in measures)]
        for row in rows
    ]
    return Table("Measured on the rendered frames", ["intensity", *map(_head, measures)], body)
