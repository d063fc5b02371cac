"""The tables of an ablation study: ablations.csv for machines, ablations.md for people, and the sections of its page."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.ablation.analysis import RowResult
from experiments.ablation.plan import CONTROL, FULL
from experiments.report.page import Section, Table
from experiments.report.tables import ROW_TITLES, counted, interval, markdown_table, measures_among, number
from metrics.evaluation.protocol import FEWEST_IDENTITIES
from metrics.evaluation.registry import Measure

SHOWN = {
    "generation": (
        "lip_corr_zero", "av_corr_zero", "lse_d", "lse_c", "lip_closure", "csim", "head_motion", "mouth_motion",
        "blink_rate", "jitter", "edge_step_ratio", "sharpness", "head_velocity_distance", "head_spectrum_distance", "fid",
        "fvd",
    ),
    "reconstruction": (
        "psnr", "ssim", "l1", "lpips", "mouth_error_removed", "eye_error_removed", "sharpness", "akd", "aed", "lmd", "csim",
        "lse_c", "lip_closure", "head_motion", "mouth_motion", "blink_rate", "blinks_followed", "jitter", "fid",
    ),
}  # fmt: skip
"""Measures of the tables in text, by task, as far as their judges are there; the CSV file has all."""

BY_YAW = {
    "psnr": "PSNR ↑ (dB)",
    "features": "Feature distance ↓",
    "sharpness": "Sharpness ≈ 1",
    "mouth_error_removed": "Mouth error removed ↑",
    "eyes_error_removed": "Eye error removed ↑",
}
"""Measures of the table by yaw distance, see `experiments.yaw_distance.YawDistances`, and their titles."""


def tables(table: dict[str, Any]) -> list[Table]:
    """The tables in text: values, differences to the full model, claims and cost."""
    known = {one.name: one for one in measures_among(table["measures"], {"name": table["protocol"]})}
    shown = [known[name] for name in SHOWN[table["task"]] if name in table["measures"]]
    rows, videos = table["rows"], table["videos"]
    others = [row for row in rows if row["row"] != FULL]
    values = [
        [
            _head(measure),
            *(_value(row, measure) for row in rows),
            *(interval(cells.get(measure.name), measure.unit, bare=True) for cells in videos.values()),
        ]
        for measure in shown
    ]
    differences = [[_head(measure), *(_difference(row, measure) for row in others)] for measure in shown]
    costs = [[row["title"], *_cost_cells(row), row["claim"] or _meaning(row["row"])] for row in rows]
    several = any(len(row["seeds"]) > 1 for row in rows)
    what = "95 % interval over " + (
        "training seeds and identities" if several else "identities; one training seed"
    )
    what += "; † over training seeds alone" if several else ""
    return [
        Table(
            f"Values{_of(table['judged'])} [{what}]",
            ["measure", *(row["title"] for row in rows), *(ROW_TITLES[row] for row in videos)],
            values,
        ),
        Table(
            "Difference to the full model. A/A is the full model with other seeds: a difference of that size means nothing. "
            "* told from chance: the interval leaves 0 out, over two training seeds and "
            f"{FEWEST_IDENTITIES} identities or more, and the difference is larger than that of A/A",
            ["measure", *(row["title"] for row in others)],
            differences,
        ),
        *_by_yaw(rows),
        Table(
            "Rows and their cost, the mean over seeds",
            ["row", "seeds", "parameters trained anew", "minutes of training", "ms a frame", "code", "claim"],
            costs,
        ),
    ]


def _by_yaw(rows: Sequence[dict[str, Any]]) -> list[Table]:
    """The table of how well frames are made that turn away from the source; none where no head's turn is known."""
    known = next((row["by_yaw"] for row in rows if row["by_yaw"]), None)
    if known is None:
        return []
    lines = [
        [
            degrees,
            title,
            *(_plain(row["by_yaw"].get(degrees, {}).get(name)) for row in rows),
            _plain(known[degrees].get(f"{name}_copy")),
        ]
        for name, title in BY_YAW.items()
        for degrees in known
        if any(name in row["by_yaw"].get(degrees, {}) for row in rows)
    ]
    caption = "By degrees of yaw between source and frame, the frames of all clips pooled, mean over seeds"
    head = ["degrees", "measure", *(row["title"] for row in rows), "source frame copied"]
    return [Table(caption, head, lines)]


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}" if value >= 10 else f"{value:.3f}"


def _of(judged: Mapping[str, int] | None) -> str:
    """Of how many clips values are."""
    if judged is None:
        return ""
    return f" of {counted(judged['clips'], 'clip')} of {counted(judged['identities'], 'identity')}"


def _meaning(row: str) -> str:
    return {
        FULL: "the full model",
        CONTROL: "the full model with other seeds: a difference that means nothing",
    }[row]


def _head(measure: Measure) -> str:
    """Title with the unit and the good direction."""
    arrow = {"higher": " ↑", "lower": " ↓", "real": " ≈ real"}.get(measure.better, "")
    return f"{measure.title}{arrow}" + (f" ({measure.unit})" if measure.unit else "")


def _value(row: dict[str, Any], measure: Measure) -> str:
    cell = row["measures"].get(measure.name)
    if cell is None:
        return "failed" if row["failures"] and not row["seeds"] else "–"
    return interval(cell["value"], measure.unit, bare=True) + ("†" if cell["by_seeds"] else "")


def _difference(row: dict[str, Any], measure: Measure) -> str:
    cell = row["measures"].get(measure.name)
    if cell is None or cell["difference"]["value"] is None:
        return _value(row, measure) if cell is None else "–"
    one = cell["difference"]
    told = [_signed(one[key], measure.unit) for key in ("value", "low", "high") if one[key] is not None]
    text = told[0] + (f" [{told[1]}, {told[2]}]" if len(told) == 3 else "")
    return text + ("†" if cell["by_seeds"] else "") + (" *" if cell["differs"] else "")


def _signed(value: float, unit: str) -> str:
    text = number(value, unit, bare=True)
    return text if text.startswith("−") or not float(text) else f"+{text}"


def _cost_cells(row: dict[str, Any]) -> list[str]:
    cost = row["cost"]
    parameters = f"{cost['parameters'] / 1e6:.2f} M" if "parameters" in cost else "–"
    others = [f"{cost[name]:.1f}" if name in cost else "–" for name in ("minutes", "ms_per_frame")]
    return [", ".join(map(str, row["seeds"])) or "–", parameters, *others, ", ".join(row["code"]) or "–"]


def markdown(table: dict[str, Any], lead: str) -> str:
    """The tables as Markdown, under a text that says how they were made; what failed stands below."""
    parts = [lead]
    for one in tables(table):
        parts += [f"**{one.caption}**", markdown_table(one.head, one.rows)]
    failures = [f"- {row['title']}, {why}" for row in table["rows"] for why in row["failures"]]
    if failures:
        parts.append("\n".join(["**Failed**", "", *failures]))
    return "\n\n".join(parts) + "\n"


def csv_text(table: dict[str, Any]) -> str:
    """Every cell as a line of CSV: row, group, measure, value and difference with their intervals, n."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    keys = ("value", "low", "high")
    writer.writerow(
        ["row", "group", "measure", *keys, *(f"difference_{key}" for key in keys), "differs", "over", "n"]
    )
    for row in table["rows"]:
        for name, cell in row["measures"].items():
            numbers = [cell[part][key] for part in ("value", "difference") for key in keys]
            over = "seeds" if cell["by_seeds"] else "seeds and identities"
            writer.writerow(
                [row["row"], row["group"], name, *numbers, cell["differs"], over, cell["value"]["n"]]
            )
    return out.getvalue()


def sections(table: dict[str, Any], lead: str, rows: Sequence[RowResult]) -> list[Section]:
    """The page: the tables, then the same clips of every row one below the other."""
    failures = [f"{row['title']}, {why}" for row in table["rows"] for why in row["failures"]]
    pages = [Section("Ablations", lead, tables=tables(table), notes=failures)]
    pictures = Section(
        "The same clips",
        "Of each row the first seed: the true frames, real motion, speech. One clip after the other.",
    )
    names = dict.fromkeys(path.name for row in rows for path in row.members[0].sheets)
    for name in names:
        for row in rows:
            pictures.pictures += [
                (path, f"{row.name} ({row.group}): {path.stem.removeprefix('sheet_')}")
                for path in row.members[0].sheets
                if path.name == name
            ]
    return [*pages, pictures] if pictures.pictures else pages
