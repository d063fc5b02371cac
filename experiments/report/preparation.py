"""The report of a preparation: what became of every video, as ``preparation.json`` and ``preparation.html``."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.batches import FPS
from datamodules.clips.manifest import SPLITS, ClipRecord
from datamodules.media.video import VideoReader
from datamodules.preparation.run import Prepared
from datamodules.preparation.sources import Availability, Rejection
from experiments.pictures import contact_sheet, spread
from experiments.report.figures import INK, figure_svg, new_figure
from experiments.report.page import Section, Table, write_page
from experiments.results import write_json

MOST_ROWS = 300
"""Videos and missing originals that the page lists by name; the JSON lists all."""
SHEET_CLIPS, SHEET_FRAMES = 16, 6
BINS = 12
HISTOGRAMS: dict[str, Callable[[ClipRecord], float | None]] = {
    "length in seconds": lambda clip: clip.frames / FPS,
    "side of the face in pixels of the source": lambda clip: clip.quality.get("face"),
    "loudness in dB of full scale": lambda clip: clip.quality.get("loudness"),
    "sharpness": lambda clip: clip.quality.get("sharpness"),
    "yaw, middle of its range in degrees": lambda clip: _of_range(clip, "yaw", np.mean),
    "yaw, width of its range in degrees": lambda clip: _of_range(clip, "yaw", np.ptp),
    "pitch, middle of its range in degrees": lambda clip: _of_range(clip, "pitch", np.mean),
    "roll, middle of its range in degrees": lambda clip: _of_range(clip, "roll", np.mean),
}


def _of_range(clip: ClipRecord, angle: str, what: Callable[[Any], Any]) -> float | None:
    return float(what(limits)) if (limits := clip.quality.get(angle)) else None


def write_preparation_report(prepared: Prepared, found: Availability, output: Path, what: str) -> Path:
    """Write both files, and a contact sheet of the crops, into the dataset's folder; returns the path of the page.

    Args:
        prepared: What was made.
        found: Of what, and remarks, such as what is inconsistent in annotation files.
        output: Folder of the dataset.
        what: What was prepared, in words.
    """
    facts = _facts(prepared, found)
    write_json(output / "preparation.json", facts)
    sections = _sections(facts, prepared.rejections)
    if prepared.records:
        sections[0].pictures.append((_sheet(prepared.records, output), "frames of some clips"))
    return write_page(sections, output / "preparation.html", "Prepared videos", f"{what}.")


def _facts(prepared: Prepared, found: Availability) -> dict[str, Any]:
    """All figures of the report, as plain values."""
    records, outcomes = prepared.records, prepared.outcomes
    times: Counter[str] = Counter()
    for outcome in outcomes.values():
        times.update(outcome.times)
    people = {split: [record.identity for record in records if record.split == split] for split in SPLITS}
    return {
        "videos": {
            "there": len(found.sources),
            "finished": len(outcomes),
            "with clips": len({record.source for record in records}),
            "left": prepared.missing,
        },
        "clips": len(records),
        "listed clips that are not there": found.missing,
        "hours": _seconds(records) / 3600,
        "hours_seen": sum(outcome.seconds for outcome in outcomes.values()) / 3600,
        "identities": len({record.identity for record in records}),
        "splits": {
            split: {"clips": len(names), "identities": len(set(names))} for split, names in people.items()
        },
        "rejected": prepared.reasons(),
        "seconds_of_work": times,
        "histograms": {name: _histogram([*map(read, records)]) for name, read in HISTOGRAMS.items()},
        "notes": found.notes,
        "by_video": [
            {
                "video": source.name,
                "clips": len(outcomes[source.id].records),
                "seconds": round(_seconds(outcomes[source.id].records), 2),
                "rejected": [f"{one.reason}: {one.detail}" for one in outcomes[source.id].rejections],
            }
            for source in found.sources
            if source.id in outcomes
        ],
    }


def _seconds(records: Sequence[ClipRecord]) -> float:
    return sum(record.frames for record in records) / FPS


def _histogram(read: Sequence[float | None]) -> dict[str, Any]:
    values = [value for value in read if value is not None]
    if not values:
        return {"clips": 0}
    counts, edges = np.histogram(values, bins=BINS)
    return {
        "clips": len(values),
        "median": float(np.median(values)),
        "counts": counts.tolist(),
        "edges": [round(float(edge), 4) for edge in edges],
    }


def _sheet(records: Sequence[ClipRecord], output: Path) -> Path:
    """Frames of some clips, evenly spread over the manifest."""
    rows = {}
    for number in np.unique(np.linspace(0, len(records) - 1, SHEET_CLIPS).astype(int)):
        frames = spread(np.arange(records[number].frames), SHEET_FRAMES)
        rows[records[number].id] = VideoReader(output / records[number].video).get(frames)
    return contact_sheet(rows, output / "preparation.png", tile=112)


def _sections(facts: dict[str, Any], rejections: Sequence[Rejection]) -> list[Section]:
    absent, videos = facts["listed clips that are not there"], facts["videos"]
    kept = {
        "listed clips that are not there": len(absent),
        **{f"videos {name}": videos[name] for name in ("there", "finished", "with clips")},
        "clips": facts["clips"],
        "hours of clips": f"{facts['hours']:.2f}",
        "hours looked at": f"{facts['hours_seen']:.2f}",
        "identities": facts["identities"],
    }
    told = {name: str(value) for name, value in kept.items()}
    splits = [[name, str(n["clips"]), str(n["identities"])] for name, n in facts["splits"].items()]
    table = Table("Splits", ["split", "clips", "identities"], splits)
    lost = Section("What was not kept, and why", "" if rejections else "Nothing was rejected.")
    if rejections:
        lost.tables.append(_reasons(facts["rejected"], rejections))
    sections = [Section("What was kept", facts=told, tables=[table]), lost]
    figures = [
        (_bars(one), f"{name}: {one['clips']} clips, median {one['median']:.4g}")
        for name, one in facts["histograms"].items()
        if one["clips"]
    ]
    if figures:
        sections.append(Section("What the clips are like", figures=figures))
    rows = [[one["video"], str(one["clips"]), "; ".join(one["rejected"]) or "–"] for one in facts["by_video"]]
    table = Table("", ["video", "clips kept", "rejected parts"], rows[:MOST_ROWS])
    sections.append(Section("Every video", tables=[table], notes=_more(rows)))
    if times := facts["seconds_of_work"]:
        total = sum(times.values()) or 1.0
        shares = {name: f"{seconds:.0f} s, {seconds / total:.0%}" for name, seconds in times.items()}
        sections.append(Section("Where the time went", facts=shares))
    if remarks := [f"listed, but not there: {name}" for name in absent] + facts["notes"]:
        sections.append(Section("Remarks", notes=remarks[:MOST_ROWS] + _more(remarks)))
    return sections


def _more(items: Sequence[Any]) -> list[str]:
    """How many the page leaves out."""
    return [f"{len(items) - MOST_ROWS} more stand in preparation.json"] if len(items) > MOST_ROWS else []


def _reasons(counts: dict[str, int], rejections: Sequence[Rejection]) -> Table:
    """How often each reason, how long in all, and one example."""
    rows = []
    for reason, count in counts.items():
        group = [one for one in rejections if one.reason == reason]
        known = [one.end - one.start for one in group if one.end is not None]
        length = f"{sum(known) / 60:.1f} min" if known else "–"
        rows.append([reason, str(count), length, f"{group[0].source}: {group[0].detail}"])
    return Table("Parts of videos", ["reason", "parts", "length", "such as"], rows)


def _bars(histogram: dict[str, Any]) -> str:
    figure = new_figure(5.0, 1.8)
    axis, edges = figure.subplots(), histogram["edges"]
    axis.bar(edges[:-1], histogram["counts"], width=np.diff(edges), align="edge", color=INK, alpha=0.8)
    axis.set_ylabel("clips")
    return figure_svg(figure)
