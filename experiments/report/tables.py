"""Measures in words and tables: numbers with their units, what each says, the rows of an evaluation side by side."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from experiments.report.page import Table
from metrics.evaluation.protocol_names import SYNTHETIC
from metrics.evaluation.registry import MEASURES, Measure

Interval = Mapping[str, Any]
"""``value``, ``low``, ``high`` and ``n`` of a measure in results."""
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
DECIMALS = {
    "dB": 1, "%": 1, "frames": 0, "°": 2, "°/s": 2, "/min": 0, "s": 2, "frames/s": 1, "eye distances": 4,
}  # fmt: skip


def number(value: float | None, unit: str = "", bare: bool = False) -> str:
    """A value as a reader wants it: rounded by its unit, shares as per cent, a dash where there is none.

    ``bare`` leaves the unit away.
    """
    if value is None:
        return "–"
    scaled = 100 * value if unit == "%" else value
    small = 4 if 0 < abs(value) < 0.01 else 3
    text = f"{scaled:.{DECIMALS.get(unit, small if abs(value) < 0.1 else 2)}f}"
    text = text.lstrip("-") if not float(text) else text.replace("-", "−")
    return text if bare else f"{text}{'' if unit in ('%', '°') else ' '}{unit}".strip()


def interval(one: Interval | None, unit: str = "", bare: bool = False) -> str:
    """An interval as ``value [low, high]``, the unit once or, ``bare``, not at all."""
    shown = number(one["value"] if one else None, unit, bare)
    if one is None or None in (one["value"], one["low"], one["high"]):
        return shown
    return f"{shown} [{number(one['low'], unit, bare=True)},\u00a0{number(one['high'], unit, bare=True)}]"


def counted(count: int, what: str) -> str:
    """``1 clip``, ``2 clips``, ``2 identities``."""
    many = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{count} {what if count == 1 else many}"


def markdown_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; what a cell says means nothing else there."""
    lines = [[literal(cell) for cell in line] for line in (head, *body)]
    lines.insert(1, ["---"] * len(head))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def literal(text: str) -> str:
    """Text that Markdown shows as it is, in a cell, too."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def people_in(clips: Sequence[Mapping[str, Any]]) -> int:
    """Number of identities among the clips of results; a clip of no known one counts as another."""
    return len({clip.get("identity", clip["clip"]) for clip in clips})


def measure_tables(results: Mapping[str, Any]) -> list[Table]:
    """What each measure of an evaluation says, and those that several rows have side by side."""
    metrics, clips = results["metrics"], len(results["clips"])
    videos = "videos" in (results["run"] or {})
    titles = VIDEO_TITLES if videos else ROW_TITLES
    told, compared = [], {}
    for measure in measures_among(metrics, results["protocol"]):
        # A bare name is of the row that the measure is meant for: of a model's reconstruction its autoencoder.
        home = "autoencoder" if measure.family == "reconstruction" and not videos else "generated"
        names = {row: measure.name if row == home else f"{measure.name}_{row}" for row in titles}
        rows = {row: metrics[name] for row, name in names.items() if name in metrics}
        own = metrics.get(measure.name)
        if not rows:
            continue
        same = measure.title.lower() == measure.name.replace("_", "-")
        title = measure.title if same else f"{measure.title} ({measure.name})"
        told.append([title, interval(own, measure.unit) + _of_some(own, clips), measure.meaning])
        known = {row: one for row, one in rows.items() if one["value"] is not None}
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
    best = next((name for name in names if name.startswith(BEST)), BEST)
    drawn = protocol["name"].startswith(SYNTHETIC.partition("-")[0])
    changed = {BEST: replace(MEASURES[BEST], name=best)}
    if not drawn:
        changed["jitter"] = replace(MEASURES["jitter"], unit="eye distances")
    return [changed.get(name, one) for name, one in MEASURES.items()]


def _head(measure: Measure) -> str:
    return f"{measure.title} ({measure.unit})" if measure.unit else measure.title


def _cell(one: Interval | None, unit: str, clips: int) -> str:
    return number(one["value"] if one else None, unit, bare=True) + _of_some(one, clips)


def _of_some(one: Interval | None, clips: int) -> str:
    """Of how many clips a value is, where it is not of all: rows side by side may be of others."""
    return f" ({one['n']} of {clips} clips)" if one and 0 < one["n"] < clips else ""


def sweep_table(rows: list[dict[str, Any]], protocol: Mapping[str, Any]) -> Table:
    """Measures over the values of a sweep: one row each, without its series where there is one alone."""
    names = set().union(*rows)
    measures = [one for one in measures_among(names, protocol) if one.name in names]
    several = len({row["series"] for row in rows}) > 1
    body = [
        [
            *([row["series"]] if several else []),
            "" if row["value"] is None else f"{row['value']:g}",
            *(interval(row.get(one.name), one.unit, bare=True) for one in measures),
        ]
        for row in rows
    ]
    head = ["series", "value"] if several else [rows[0]["series"] if rows else "value"]
    return Table("Measured on the rendered frames", [*head, *map(_head, measures)], body)
