"""The tables of a sweep: sweep.csv for machines, sweep.md for people."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report.tables import interval, markdown_table, measures_among, number
from metrics.evaluation.protocol import FEWEST_IDENTITIES as FEW
from metrics.evaluation.registry import MEASURES, Measure

PARTS = ("value", "low", "high", "n")


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a row: ``series``, ``value``, then each measure as ``NAME``, ``NAME_low``, ``NAME_high``, ``NAME_n``."""
    names = list(dict.fromkeys(name for row in rows for name in row if name not in ("series", "value")))
    heads = [name if part == "value" else f"{name}_{part}" for name in names for part in PARTS]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["series", "value", *heads])
    for row in rows:
        cells = [row.get(name, {}).get(part) for name in names for part in PARTS]
        writer.writerow([row["series"], row["value"], *cells])
    return buffer.getvalue()


def value_text(value: float | None) -> str:
    """A swept value as people write it; empty where there is none."""
    return "" if value is None else f"{value:g}"


def markdown_text(sweep: Mapping[str, Any]) -> str:
    """All tables of a sweep, what they say first in words."""
    run, protocol = sweep["run"], sweep["protocol"]
    people, seeds = run["identities"], run["seeds"]
    clips = max(
        (one["n"] for row in sweep["rows"] for one in row.values() if isinstance(one, dict)), default=0
    )
    lead = (
        f"{clips} clips of {people} identities, sampling seeds {', '.join(map(str, seeds))}; protocol {protocol['name']} "
        f"({protocol['hash']}). In brackets: 95 % interval by a bootstrap over identities (of distances over all clips a "
        "jackknife); differences are paired by clip."
    )
    if people < FEW:
        lead += f" Under {FEW} identities intervals tell little: what they exclude may be luck."
    measures = {
        one.name: one
        for one in measures_among({name for row in sweep["rows"] for name in row}, protocol)
        if any(one.name in row for row in sweep["rows"])
    }
    parts = [
        "# Sweep",
        lead,
        *_answers(sweep, measures),
        *_equal_motion(sweep, measures),
        *_fronts(sweep, measures),
        *_following(sweep),
        *_rows(sweep, measures),
        *_differences(sweep, measures),
    ]
    if sweep["missing"]:
        parts += [
            "## Missing",
            *(f"- {one['clip']}: {one['what']} ({one['why']})" for one in sweep["missing"]),
        ]
    return "\n\n".join(parts) + "\n"


def _title(measure: Measure | None, name: str) -> str:
    if measure is None:
        return name
    return f"{measure.title} ({measure.unit})" if measure.unit else measure.title


def _rows(sweep: Mapping[str, Any], measures: Mapping[str, Measure]) -> list[str]:
    head = ["series", "value", *(_title(one, name) for name, one in measures.items())]
    real = [{"series": "real clips", "value": None, **sweep["real"]}] if sweep.get("real") else []
    body = [
        [
            row["series"],
            value_text(row["value"]),
            *(interval(row.get(n), m.unit, bare=True) for n, m in measures.items()),
        ]
        for row in [*sweep["rows"], *real]
    ]
    return ["## Measured on the rendered frames", markdown_table(head, body)]


def _differences(sweep: Mapping[str, Any], measures: Mapping[str, Measure]) -> list[str]:
    rows = sweep["differences"]
    names = [name for name in measures if any(name in row for row in rows)]
    if not names:
        return []
    head = ["series", "value", *(_title(measures[name], name) for name in names)]
    body = [
        [
            row["series"],
            value_text(row["value"]),
            *(interval(row.get(n), measures[n].unit, bare=True) for n in names),
        ]
        for row in rows
    ]
    return ["## Difference to the reference, clip by clip", markdown_table(head, body)]


def _answers(sweep: Mapping[str, Any], measures: Mapping[str, Measure]) -> list[str]:
    body = []
    for one in sweep["answers"]:
        worse = value_text(one["worse_from"]) or "–"
        cells = [number(one["rank_correlation"]), _list(one["steps_up"]), _list(one["steps_down"]), worse]
        body.append(
            [one["series"], _title(measures.get(one["measure"]), one["measure"]), one["word"], *cells]
        )
    if not body:
        return []
    text = (
        "A measure rises or falls if its last value differs from its first, or a step from its neighbour, beyond the "
        "interval; steps back beyond the interval are told. Worse from: the first value above the reference at which "
        "identity or sync is worse than there, beyond the interval."
    )
    head = [
        "series",
        "measure",
        "with the value it",
        "rank correlation",
        "steps up at",
        "steps down at",
        "worse from",
    ]
    return ["## Monotone or not", text, markdown_table(head, body)]


def _list(values: Sequence[float]) -> str:
    return ", ".join(map(value_text, values)) or "–"


def _equal_motion(sweep: Mapping[str, Any], measures: Mapping[str, Measure]) -> list[str]:
    people = sweep["run"]["identities"]
    levels = [level for found in sweep["trade_off"].values() for level in found["at_equal_motion"]]
    known = {name for level in levels for name in level["quality"]}
    body, series = [], [name for name in sweep["axes"] if name in known]
    for name, found in sweep["trade_off"].items():
        unit = measures[name].unit
        for level in found["at_equal_motion"]:
            best = level["best"] or "–"
            if level["second"]:
                how = "clearly" if level["clear"] and people >= FEW else "within noise"
                best = f"{best}, {how} ahead of {level['second']} by {interval(level['margin'], unit)}"
            cells = [interval(level["quality"].get(one), unit, bare=True) for one in series]
            body.append(
                [
                    _title(measures[name], name),
                    number(level["motion"], MEASURES[found["motion"]].unit),
                    *cells,
                    best,
                ]
            )
    if not body:
        return []
    text = (
        "Each way of controlling motion, interpolated at the same measured motion; a dash where it doesn't move so much "
        "or so little. Margins are paired, by a bootstrap over identities."
    )
    return [
        "## At equal measured motion",
        text,
        markdown_table(["measure", "motion", *series, "best"], body),
    ]


def _fronts(sweep: Mapping[str, Any], measures: Mapping[str, Measure]) -> list[str]:
    body = [
        [
            _title(measures[name], name),
            ", ".join(f"{one['series']} {value_text(one['value'])}".strip() for one in found["front"]),
        ]
        for name, found in sweep["trade_off"].items()
    ]
    text = "Points that no other beats in both motion and the measure, from little motion to much."
    return ["## Trade-off front", text, markdown_table(["measure", "on the front"], body)] if body else []


def _following(sweep: Mapping[str, Any]) -> list[str]:
    body, talk = [], []
    for one in sweep["following"]:
        for space, blocks in one["blocks"].items():
            for block, line in blocks.items():
                shown = [interval(line["slope"]), number(line["r2"]), number(line["saturation"])]
                body.append([one["series"], block, space, *shown])
        for space, found in one["cross_talk"].items():
            told = ", ".join(f"{block} {number(value, '%')}" for block, value in found.items())
            talk.append(f"- {one['series']}, {space}: {told}")
    if not body:
        return []
    text = (
        "Std that was asked of each window against the std that it has, in the basis (per block: RMS over its dimensions): "
        "of the sampled motion, and of the rendered frames encoded again. Slope 1: followed; saturation 1: large requests "
        "bring nothing more, below 0: they are followed better than small ones. Requests: 0.25 to 2 times the estimated std."
    )
    head = ["series", "block", "of", "slope", "R²", "saturation"]
    parts = ["## Following of statistics", text, markdown_table(head, body)]
    return (
        [*parts, "Change of the other blocks when the request was doubled:", "\n".join(talk)]
        if talk
        else parts
    )
